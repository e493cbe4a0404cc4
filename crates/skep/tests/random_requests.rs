//! Ten thousand requests that a seed draws, to the code that skep-net runs, in namespaces of the test's own: some of what
//! is asked is right, and most is not quite. What others have stays theirs, and all that the user was given can be
//! taken back. No machine is started here.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use skep_core::model::NetworkRecord;
use skep_net::network::claims::{self, Claims, STATE};
use skep_net::network::{Network, RootNetwork};
use skep_net::privileged_helper::{PROTOCOL, serve};
use skep_store::Owner;
use skep_testkit::host::{can_run_machines, in_namespaces, links, set_up_for_users};

/// Tells a process that it is in the namespaces.
const INSIDE: &str = "SKEP_TEST_INSIDE";

const ALICE: u32 = 1000;
const MALLORY: u32 = 1001;

/// What can be done for a user.
const KINDS: [&str; 9] = [
    "hello",
    "ensure-bridge",
    "ensure-firewall",
    "remove-link",
    "remove-firewall",
    "restore-forwarding",
    "tap",
    "loose-tap",
    "names",
];

#[test]
fn ten_thousand_random_requests_do_no_harm() {
    if std::env::var_os(INSIDE).is_some() {
        set_up_for_users();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(story());
    }
    if can_run_machines() {
        let mut inside = in_namespaces("ten_thousand_random_requests_do_no_harm", (INSIDE, "1"));
        assert!(inside.status().unwrap().success());
    }
}

async fn story() {
    let hosts = hosts();
    let hers = request(
        r#"{"ensure-bridge": {"network": {"subnet": "10.193.200.0/24", "bridge": "skep-hers"},
        "cluster": "hers", "store": "/m"}}"#,
    );
    assert_eq!(ask(&hers, ALICE).await, "\"done\"");
    let (network, owner) = (
        NetworkRecord { subnet: "10.193.201.0/24".parse().unwrap(), bridge: "skep-roots".into() },
        Owner { cluster: "roots".parse().unwrap(), store: "/m".into(), user: 0 },
    );
    RootNetwork.ensure_bridge(&network, &owner).await.unwrap();
    let theirs = (links(), claims::read(Path::new(STATE)).unwrap());

    let mut random = Random(0x5eed);
    let (mut done, mut refused, mut kinds) = (0, 0, BTreeSet::new());
    for number in 0..10_000 {
        let text = random.request();
        let answer = ask(&text, MALLORY).await;
        if answer == "\"done\"" {
            done += 1;
            kinds.extend(KINDS.iter().filter(|kind| text.contains(&format!("\"{kind}\""))));
        }
        refused += u32::from(answer.contains("\"refused\"") || answer.contains("\"taken\""));
        assert!(!answer.is_empty() && !answer.contains("\"failed\""), "{text}: {answer}");
        if number % 500 == 0 {
            are_unharmed(&theirs);
        }
    }
    are_unharmed(&theirs);
    eprintln!("{done} requests were done, {refused} refused");
    assert_eq!(kinds, KINDS.into(), "each kind of request was right at least once");
    assert!(done > 100 && refused > 5000, "{done} were done, {refused} refused");

    for (bridge, claim) in claims::read(Path::new(STATE)).unwrap() {
        if claim.user == MALLORY {
            for act in ["remove-firewall", "remove-link"] {
                let text = request(&format!(r#"{{"{act}": "{bridge}"}}"#));
                assert_eq!(ask(&text, MALLORY).await, "\"done\"");
            }
        }
    }
    assert_eq!((links(), claims::read(Path::new(STATE)).unwrap()), theirs, "nothing else is left");
    assert_eq!(self::hosts(), hosts, "nor are names");
}

/// Looks whether what others have is there, and nothing that nobody may have.
fn are_unharmed((their_links, their_claims): &(Vec<String>, Claims)) {
    let now = claims::read(Path::new(STATE)).unwrap();
    for (bridge, claim) in their_claims {
        assert_eq!(now.get(bridge), Some(claim));
    }
    let own = |bridge: &str| now.get(bridge).is_some_and(|claim| claim.user == MALLORY);
    let links = links();
    assert!(their_links.iter().all(|link| links.contains(link)), "{links:?}");
    for link in links {
        assert!(their_links.contains(&link) || own(&link), "{link}");
    }
    let pool: ipnet::Ipv4Net = "10.193.0.0/16".parse().unwrap();
    assert!(now.values().all(|claim| pool.contains(&claim.subnet)));
    let names = hosts().lines().filter(|line| line.contains(".example")).count();
    assert!(names <= 64, "{names} names");
}

/// Returns an answer; a descriptor that comes with it is closed at once.
async fn ask(text: &str, user: u32) -> String {
    let (mut near, far) = UnixStream::pair().unwrap();
    near.write_all(text.as_bytes()).unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    serve(far.as_fd(), user, Path::new(STATE), "1").await.unwrap();
    drop(far);
    let mut answer = String::new();
    near.read_to_string(&mut answer).unwrap();
    answer
}

fn request(act: &str) -> String {
    format!(r#"{{"protocol": {PROTOCOL}, "act": {act}}}"#)
}

fn hosts() -> String {
    std::fs::read_to_string("/etc/hosts").unwrap()
}

/// A sequence of numbers that is the same each time (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    fn request(&mut self) -> String {
        let bridge = self.one_of(&[
            "skep-m0",
            "skep-m1",
            "skep-m2",
            "skep-m3",
            "skep-hers",
            "skep-roots",
            "lo",
            "skep-",
            "skep-../x",
        ]);
        let subnet = self.one_of(&[
            "10.193.9.0/24",
            "10.193.10.0/24",
            "10.193.11.0/25",
            "10.193.200.0/24",
            "10.193.201.128/25",
            "10.0.0.0/8",
            "0.0.0.0/0",
            "127.0.0.0/24",
            "10.193.9.7/24",
        ]);
        let cluster = self.one_of(&["m", "m2", "hers", "../x", ""]);
        let store = self.one_of(&["/m", "/", "relative", "/etc"]);
        // Half of them are about one network that can be had, so that much of what is asked of it can be done.
        let (bridge, subnet, cluster, store) = match self.below(2) {
            0 => ("skep-m1", "10.193.9.0/24", "m", "/m"),
            _ => (bridge, subnet, cluster, store),
        };
        let place = format!(
            r#"{{"network": {{"subnet": "{subnet}", "bridge": "{bridge}"}}, "cluster": "{cluster}", "store": "{store}"}}"#
        );
        let tap = self.one_of(&["skt0ac10902", "skt0ac10903", "skt0ac1c802", "eth0", "skt%d"]);
        let name = self.one_of(&["a.example", "b.example", "localhost", "a b", "a\\n127.0.0.1 b"]);
        let to = self.one_of(&["10.193.9.2", "10.193.200.2", "127.0.0.1", "::1"]);
        let act = match self.below(9) {
            0 => "\"hello\"".to_owned(),
            1 => "\"look\"".to_owned(),
            2 => format!(r#"{{"ensure-bridge": {place}}}"#),
            3 => {
                let hosts = self.one_of(&["", "\"192.0.2.7\"", "\"10.193.200.2\"", "\"::1\""]);
                let peers = self.one_of(&["", "\"m\", \"m2\"", "\"hers\"", "\"../x\""]);
                format!(
                    r#"{{"ensure-firewall": {{"place": {place}, "hosts": [{hosts}], "peers": [{peers}]}}}}"#
                )
            }
            4 => format!(r#"{{"remove-link": "{bridge}"}}"#),
            5 => format!(r#"{{"remove-firewall": "{bridge}"}}"#),
            6 => format!(r#"{{"tap": {{"name": "{tap}", "place": {place}}}}}"#),
            7 => format!(
                r#"{{"names": {{"cluster": "{cluster}", "store": "{store}", "names": [{{"name": "{name}", "address": "{to}"}}]}}}}"#
            ),
            _ => self
                .one_of(&[
                    "\"loose-tap\"",
                    "\"ensure-forwarding\"",
                    "\"restore-forwarding\"",
                    "\"turn\"",
                ])
                .to_owned(),
        };
        let text = format!(r#"{{"protocol": {PROTOCOL}, "act": {act}}}"#);
        // One in nine comes as it is; each of those takes a few programs.
        match self.below(9) {
            0 => text,
            _ => self.damaged(text),
        }
    }

    /// Changes a text in one to three places; it stays text.
    fn damaged(&mut self, text: String) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        for _ in 0..=self.below(3) {
            let at = self.below(chars.len().max(1));
            match self.below(5) {
                0 => chars.truncate(at),
                1 if at < chars.len() => drop(chars.remove(at)),
                2 => chars.insert(
                    at.min(chars.len()),
                    ['"', '{', '}', '\\', '\0', '9', 'é'][self.below(7)],
                ),
                3 => chars.extend_from_within(..at.min(chars.len())),
                _ if at < chars.len() => {
                    chars[at] = ['a', '0', '-', '/', '[', ']', ','][self.below(7)]
                }
                _ => {}
            }
        }
        chars.into_iter().collect()
    }
}
