//! A member of group `skep` who misbehaves holds up neither other users nor root, gets nothing that is not due, and
//! leaves nothing. Requests go to the program that sudo would start, in namespaces of the test's own. No machine is
//! started here.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use skep_core::model::NetworkRecord;
use skep_core::observed::HostsEntry;
use skep_net::hosts::Names;
use skep_net::network::claims::{self, STATE};
use skep_net::network::{Error, Network, RootNetwork};
use skep_net::privileged_helper::{HelperNetwork, PATH, PROTOCOL};
use skep_store::Owner;
use skep_sys::Lock;
use skep_testkit::host::{can_run_machines, in_namespaces, links, run, set_up_for_users};

const SKEP: &str = env!("CARGO_BIN_EXE_skep");
const PROGRAM: &str = "/var/lib/skep-test/skep-net";

/// Tells a process that it is in the namespaces.
const INSIDE: &str = "SKEP_TEST_INSIDE";
const HOSTS: &str = "/etc/hosts";

/// How long others may wait for an answer. An idle host takes a tenth of a second; what is looked for here are
/// waits without an end and waits for the limits of skep-net, half a minute and more.
const BOUND: Duration = Duration::from_secs(20);

#[test]
fn a_hostile_user_holds_up_nobody_and_leaves_nothing() {
    if std::env::var_os(INSIDE).is_some() {
        set_up_for_users();
        std::fs::create_dir(Path::new(PROGRAM).parent().unwrap()).unwrap();
        std::fs::copy(SKEP, PROGRAM).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(story());
    }
    if can_run_machines() {
        let test = "a_hostile_user_holds_up_nobody_and_leaves_nothing";
        assert!(in_namespaces(test, (INSIDE, "1")).status().unwrap().success());
    }
}

async fn story() {
    let before = (links(), read(HOSTS));
    let others = Others::begin().await;
    suspends(&others).await;
    sends_half_and_reads_nothing(&others).await;
    floods(&others).await;
    keeps_taps(&others).await;
    takes_names(&others).await;
    takes_subnets(&others).await;
    others.end().await;
    assert_eq!((links(), read(HOSTS)), before, "nothing is left");
}

/// Who is to be served whatever the hostile user does.
struct Others {
    alice: HelperNetwork,
    hers: (NetworkRecord, Owner),
    roots: (NetworkRecord, Owner),
}

impl Others {
    async fn begin() -> Self {
        let network = |bridge: &str, subnet: &str| NetworkRecord {
            subnet: subnet.parse().unwrap(),
            bridge: bridge.into(),
        };
        let others = Self {
            alice: helper_of("alice"),
            hers: (network("skep-hers", "10.193.200.0/24"), owner("hers", id("alice"))),
            roots: (network("skep-roots", "10.193.201.0/24"), owner("roots", 0)),
        };
        others.are_served("at rest").await;
        others
    }

    /// Has a user and root do something that takes the lock of all.
    async fn are_served(&self, when: &str) {
        let began = Instant::now();
        let work = async {
            self.alice.ensure_bridge(&self.hers.0, &self.hers.1).await.unwrap();
            let alice = began.elapsed();
            RootNetwork.ensure_bridge(&self.roots.0, &self.roots.1).await.unwrap();
            alice
        };
        let done = tokio::time::timeout(BOUND, work).await;
        let alice = done.unwrap_or_else(|_| panic!("{when}: no answer after {BOUND:?}"));
        eprintln!("{when}: a user after {alice:?}, root after {:?}", began.elapsed() - alice);
    }

    async fn end(self) {
        RootNetwork.remove_link(&self.roots.0.bridge).await.unwrap();
        self.alice.remove_link(&self.hers.0.bridge).await.unwrap();
    }
}

/// Stops its own request with Ctrl-Z while that waits for the lock, which it is then given.
async fn suspends(others: &Others) {
    let keys = Path::new("/var/lib/skep-test/keys");
    run(&format!("mkfifo -m 666 {}", keys.display()));
    let held = Lock::try_take(&claims::lock_file(Path::new(STATE))).unwrap();

    let (mut near, far) = UnixStream::pair().unwrap();
    near.write_all(&request(r#"{"ensure-bridge": PLACE}"#, "skep-m", "10.193.9.0/24")).unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    // The socket is the third descriptor, as the first is the keyboard of a terminal that script(1) makes.
    // A job of a shell that stays: the kernel stops no other. It stays even if what it waits for is stopped, too, as
    // the key is pressed until the first stop is seen.
    let job = format!("set -m; {} <&3; while :; do sleep 600; done", words_of("mallory").join(" "));
    let line = format!("exec 3<&0 0<\"$1\"; exec script -qec '{job}' /dev/null");
    let mut terminal = Command::new("sh")
        .args(["-c", &line, "sh"])
        .arg(keys)
        .stdin(Stdio::from(OwnedFd::from(far)))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut keyboard = std::fs::File::options().read(true).write(true).open(keys).unwrap();
    until("its request waits for the lock", lock_is_waited_for);
    until("it is suspended", || {
        keyboard.write_all(b"\x1a").unwrap();
        is_suspended()
    });

    drop(held);
    others.are_served("a request is suspended").await;
    // What it asked for is done as well.
    near.set_read_timeout(Some(BOUND)).unwrap();
    // There is no end of it yet, as the suspended process has the socket as well.
    let mut answer = [0; 6];
    near.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\"done\"");
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    until("its processes end with the terminal", || !is_suspended());
    let mallory = helper_of("mallory");
    mallory.remove_link("skep-m").await.unwrap();
}

/// Tells whether a process waits for the lock of all.
fn lock_is_waited_for() -> bool {
    let inode = std::fs::metadata(claims::lock_file(Path::new(STATE))).unwrap().ino();
    let waits = |line: &str| line.contains("-> FLOCK") && line.contains(&format!(":{inode} "));
    read("/proc/locks").lines().any(waits)
}

/// Tells whether a process of skep-net's is stopped.
fn is_suspended() -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.into_iter().any(|entry| {
        let file =
            |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let state = file("stat").rsplit_once(") ").map(|(_, rest)| rest.starts_with('T'));
        state == Some(true) && file("cmdline").contains(PROGRAM)
    })
}

async fn sends_half_and_reads_nothing(others: &Others) {
    let whole = request(r#"{"ensure-bridge": PLACE}"#, "skep-m", "10.193.9.0/24");
    let half = &whole[..whole.len() / 2];
    let mut halves: Vec<_> = (0..20).map(|_| Call::begin("mallory", half, false)).collect();
    others.are_served("twenty requests are half").await;
    for half in &mut halves {
        half.near.shutdown(Shutdown::Write).unwrap();
        let answer = half.answer();
        // Nothing, if it was waited for as long as a request may take to come.
        let ends = ["{\"refused\":\"it is not a request", "\"busy\""];
        assert!(answer.is_empty() || ends.iter().any(|end| answer.starts_with(end)), "{answer}");
    }
    let queue = Path::new(STATE).join("queue");
    let place = |n| Lock::try_take(&queue.join(format!("{}.{n}", id("mallory")))).unwrap();
    let places: Vec<_> = (0..16).map(place).collect();
    let mut one_more = Call::begin("mallory", &whole, true);
    assert_eq!(one_more.answer(), r#""busy""#, "a user has so many requests at once");
    others.are_served("a user has all requests that one may have").await;
    places.into_iter().for_each(Lock::remove);

    let mut unread: Vec<_> =
        (0..8).map(|_| Call::begin("mallory", &request("\"look\"", "", ""), true)).collect();
    others.are_served("eight answers are not read").await;
    for call in &mut unread {
        until("it ends unread", || call.child.try_wait().unwrap().is_some());
    }
    // A socket that takes no answer at all.
    let mut deaf = Call::begin("mallory", &request("\"look\"", "", ""), true);
    deaf.near.shutdown(Shutdown::Read).unwrap();
    others.are_served("an answer is not taken").await;
    until("it ends all the same", || deaf.child.try_wait().unwrap().is_some());
}

async fn floods(others: &Others) {
    let call = |n: u32| {
        let subnet = format!("10.193.{}.0/24", 10 + n % 4);
        let act = match n % 3 {
            0 => r#"{"ensure-bridge": PLACE}"#,
            1 => "\"look\"",
            _ => r#"{"remove-firewall": "BRIDGE"}"#,
        };
        Call::begin("mallory", &request(act, &format!("skep-m{}", n % 4), &subnet), true)
    };
    let mut calls: Vec<_> = (0..24).map(call).collect();
    for _ in 0..3 {
        others.are_served("two dozen requests come at once").await;
    }
    for call in &mut calls {
        let answer = call.answer();
        assert!(
            ["\"done\"", "\"busy\"", "{\"seen\""].iter().any(|it| answer.starts_with(it)),
            "{answer}"
        );
    }
    let mallory = helper_of("mallory");
    for n in 0..4 {
        mallory.remove_firewall(&format!("skep-m{n}")).await.unwrap();
        mallory.remove_link(&format!("skep-m{n}")).await.unwrap();
    }
    assert_eq!(links(), ["lo", "skep-hers", "skep-roots"]);
}

async fn keeps_taps(others: &Others) {
    let mallory = helper_of("mallory");
    let mut kept = Vec::new();
    let refused = loop {
        match mallory.detached_tap().await {
            Ok(tap) => kept.push(tap),
            Err(error) => break error.to_string(),
        }
        assert!(kept.len() < 20, "there is no limit");
    };
    assert!(refused.contains("at most"), "{refused}");
    assert_eq!(kept.len(), 8);
    drop(others.alice.detached_tap().await.unwrap());
    drop(kept);

    // A node's tap that its holder had stay, and then gave the network back: as ioctl(2) TUNSETPERSIST does.
    run("ip tuntap add dev skt0ac1c802 mode tap user 1001");
    let tap = others.alice.tap("skt0ac1c802", &others.hers.0, &others.hers.1).await.unwrap();
    drop(tap);
    // A node's tap that is still held when its network goes.
    let (network, owner) = place_of("m", "skep-m", "10.193.9.0/24");
    mallory.ensure_bridge(&network, &owner).await.unwrap();
    let held = mallory.tap("skt0ac10902", &network, &owner).await.unwrap();
    mallory.remove_link("skep-m").await.unwrap();
    assert_eq!(links(), ["lo", "skep-hers", "skep-roots"], "the tap went with its network");
    let of_alice = Owner { cluster: "next".parse().unwrap(), ..others.hers.1.clone() };
    others.alice.ensure_bridge(&network, &of_alice).await.unwrap();
    drop(others.alice.tap("skt0ac10902", &network, &of_alice).await.unwrap());
    others.alice.remove_link("skep-m").await.unwrap();
    drop(held);
}

async fn takes_names(others: &Others) {
    let mallory = helper_of("mallory");
    let (network, owner) = place_of("m", "skep-m", "10.193.9.0/24");
    mallory.ensure_bridge(&network, &owner).await.unwrap();
    let entry = |n: usize, to: &NetworkRecord| HostsEntry {
        name: format!("n{n}.example"),
        address: to.node_address(0),
    };
    let write = async |owner: &Owner, entries: &[HostsEntry]| {
        let written = mallory.write(Path::new(HOSTS), owner, entries).await;
        written.map_err(|error| skep_sys::chain(&error))
    };
    let hers = write(&owner, &[entry(0, &others.hers.0)]).await.unwrap_err();
    assert!(hers.contains("is no node's address"), "{hers}");
    let none = Owner { cluster: "none".parse().unwrap(), ..owner.clone() };
    let error = write(&none, &[entry(71, &network)]).await.unwrap_err();
    assert!(error.contains("is no node's address"), "{error}");
    let many: Vec<_> = (0..65).map(|n| entry(n, &network)).collect();
    let error = write(&owner, &many).await.unwrap_err();
    assert!(error.contains("at most"), "{error}");
    write(&owner, &many[..40]).await.unwrap();
    write(&owner, &many[..64]).await.unwrap();

    let (second, of_second) = place_of("m2", "skep-m2", "10.193.10.0/24");
    mallory.ensure_bridge(&second, &of_second).await.unwrap();
    let error = write(&of_second, &[entry(70, &second)]).await.unwrap_err();
    assert!(error.contains("at most"), "{error}");
    mallory.remove_link("skep-m2").await.unwrap();
    assert!(read(HOSTS).contains("n63.example"));
    mallory.remove_link("skep-m").await.unwrap();
    assert!(!read(HOSTS).contains("example"), "they go with the network: {}", read(HOSTS));
}

async fn takes_subnets(others: &Others) {
    let mallory = helper_of("mallory");
    let (wide, owner) = place_of("m", "skep-m", "10.193.12.0/23");
    let error = refusal(mallory.ensure_bridge(&wide, &owner).await);
    assert!(error.contains("too large: a user's network"), "{error}");
    let place =
        |n: u8| place_of(&format!("m{n}"), &format!("skep-m{n}"), &format!("10.193.{n}.0/24"));
    for n in 0..16 {
        let (network, owner) = place(n);
        mallory.ensure_bridge(&network, &owner).await.unwrap();
    }
    let (network, owner) = place(16);
    let error = refusal(mallory.ensure_bridge(&network, &owner).await);
    assert!(error.contains("one user's networks can have"), "{error}");
    // Root's network has no bridge, as after a restart of the host, and is still root's.
    run("ip link delete skep-roots");
    let (roots, owner) = place_of("m", "skep-roots", "10.193.201.0/24");
    let error = refusal(mallory.ensure_bridge(&roots, &owner).await);
    assert!(error.contains("belongs to another"), "{error}");
    others.are_served("a user has all that one may have").await;
    for n in 0..16 {
        mallory.remove_link(&format!("skep-m{n}")).await.unwrap();
    }
}

/// A request that goes its own ways.
struct Call {
    child: Child,
    near: UnixStream,
}

impl Call {
    fn begin(user: &str, bytes: &[u8], is_whole: bool) -> Self {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(bytes).unwrap();
        if is_whole {
            near.shutdown(Shutdown::Write).unwrap();
        }
        let words = words_of(user);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.stdin(Stdio::from(OwnedFd::from(far))).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child: command.spawn().unwrap(), near }
    }

    fn answer(&mut self) -> String {
        self.near.set_read_timeout(Some(3 * BOUND)).unwrap();
        let mut answer = String::new();
        self.near.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let _ = self.child.wait();
    }
}

fn request(act: &str, bridge: &str, subnet: &str) -> Vec<u8> {
    let place = format!(
        r#"{{"network": {{"subnet": "{subnet}", "bridge": "{bridge}"}}, "cluster": "m", "store": "/m"}}"#
    );
    let act = act.replace("PLACE", &place).replace("BRIDGE", bridge);
    format!(r#"{{"protocol": {PROTOCOL}, "act": {act}}}"#).into_bytes()
}

fn place_of(cluster: &str, bridge: &str, subnet: &str) -> (NetworkRecord, Owner) {
    let network = NetworkRecord { subnet: subnet.parse().unwrap(), bridge: bridge.into() };
    (network, owner(cluster, id("mallory")))
}

fn owner(cluster: &str, user: u32) -> Owner {
    Owner { cluster: cluster.parse().unwrap(), store: "/m".into(), user }
}

fn helper_of(user: &str) -> HelperNetwork {
    HelperNetwork::through(words_of(user))
}

/// Returns what sudo would run for a user.
fn words_of(user: &str) -> Vec<String> {
    let user = format!("SUDO_UID={}", id(user));
    ["env", "-i", &user, &format!("PATH={PATH}"), PROGRAM].map(str::to_owned).into()
}

fn id(user: &str) -> u32 {
    if user == "alice" { 1000 } else { 1001 }
}

fn read(file: impl Into<PathBuf>) -> String {
    std::fs::read_to_string(file.into()).unwrap()
}

fn refusal<T>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Refused(reason) | Error::Taken(reason)) => reason,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it was done"),
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + 3 * BOUND;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not after {:?}", 3 * BOUND);
        // wait: other processes do it, and nothing tells when.
        std::thread::sleep(Duration::from_millis(50));
    }
}
