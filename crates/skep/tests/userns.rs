//! A network in a namespace of the user's own, with real packets: nothing of it is on the host, connections and
//! taps come out of it, ports of the loopback lead into it, and it goes with its last bridge.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use skep_core::model::{Admits, NetworkRecord, Publication};
use skep_net::network::Network;
use skep_net::userns::UsernsNetwork;
use skep_store::{Owner, Store};
use skep_sys::Dial;
use skep_testkit::host::can_run_machines;

const NAME: &str = "a_network_of_ones_own_is_nowhere_else";
const SERVE: &str = "SKEP_TEST_SERVE";
const NODE: Ipv4Addr = Ipv4Addr::new(10, 193, 0, 1);
const ENGINE: u16 = 2376;
const PAGE: u16 = 18080;

#[test]
fn a_network_of_ones_own_is_nowhere_else() {
    if std::env::var_os(SERVE).is_some() {
        return serve();
    }
    if !can_run_machines() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(story());
}

fn owner(store: &Path, cluster: &str) -> Owner {
    Owner::of(&Store::new(store.into()).cluster(&cluster.parse().unwrap()))
}

async fn story() {
    let store = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_skep");
    assert!(UsernsNetwork::of_store(store.path(), program.into()).is_none());
    let userns = UsernsNetwork::for_store(store.path(), program.into()).unwrap();
    let subnet = "10.193.0.0/24".parse().unwrap();
    let network = NetworkRecord { subnet, bridge: "skep-test".into() };
    let owner = owner(store.path(), "test");
    assert!(!userns.look().await.unwrap().has_bridge(&network));

    // Twice, as by an `up` that is done again.
    for _ in 0..2 {
        userns.ensure_bridge(&network, &owner).await.unwrap();
        userns.ensure_firewall(&network, &owner, &Admits::default()).await.unwrap();
    }
    let seen = userns.look().await.unwrap();
    assert!(seen.has_bridge(&network) && seen.has_firewall(&network), "{seen:?}");
    let tap = userns.tap("skt0ac10001", &network, &owner).await.unwrap();
    for link in ["skep-test", "skt0ac10001"] {
        assert!(!Path::new("/sys/class/net").join(link).exists(), "{link} is on this host");
    }
    let seen = userns.look().await.unwrap();
    assert!(seen.has_link("skt0ac10001"));

    // The bridge's own address stands in for a node's.
    let mut server = start_server(&userns);
    let dial = |port| userns.dial(SocketAddrV4::new(NODE, port));
    let mut stream = dial(ENGINE).await.unwrap().into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    assert_eq!(said(&mut stream), "engine");
    let refused = dial(9).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    // What is not of the namespace is on this host.
    let here = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let SocketAddr::V4(at) = here.local_addr().unwrap() else { unreachable!() };
    let stream = userns.dial(at).await.unwrap();
    assert_eq!(here.accept().unwrap().1, stream.local_addr().unwrap());

    let publication = Publication { ports: vec![PAGE], to: NODE };
    userns.publish(&network, &owner, Some(&publication)).await.unwrap();
    assert_eq!(userns.published(&network, &owner).await, Some(publication.label()));
    assert_eq!(said(&mut connected(Ipv4Addr::LOCALHOST, PAGE)), "page");
    assert_eq!(said(&mut connected(userns.host_address(NODE), ENGINE)), "engine");
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let ports = vec![PAGE, taken.local_addr().unwrap().port()];
    let publication = Publication { ports, to: NODE };
    let refused = userns.publish(&network, &owner, Some(&publication)).await.unwrap_err();
    let port = publication.ports[1];
    assert!(refused.to_string().contains(&format!("port {port} of 127.0.0.1")), "{refused}");
    userns.publish(&network, &owner, None).await.unwrap();
    assert_eq!(userns.published(&network, &owner).await, None);

    drop(tap);
    server.kill().unwrap();
    server.wait().unwrap();
    let marks = store.path().to_string_lossy().into_owned();
    assert_eq!(processes_with(&marks).len(), 1, "who forwards");
    userns.remove_firewall(&network.bridge).await.unwrap();
    userns.remove_link(&network.bridge).await.unwrap();
    assert_eq!(processes_with(&marks), Vec::<String>::new());
    assert!(UsernsNetwork::of_store(store.path(), program.into()).is_none(), "nothing is left");
    userns.end_if_unused().await.unwrap();
}

/// Nodes of two clusters, as namespaces of their own on the bridges; then without rules, where each attack has to succeed.
const TWO_CLUSTERS: &str = r#"
set -eu
node() {
    unshare --net sleep 300 &
    pid=$!
    pids="$pids $pid"
    until [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
    ip link add "to-$1" type veth peer name eth0 netns "$pid"
    ip link set "to-$1" master "skep-$1" up
    for words in "address add $2.2/24 dev eth0" "link set eth0 up" "route add default via $2.1"; do
        nsenter --net="/proc/$pid/ns/net" ip $words
    done
}
# Nobody listens, and a node's kernel says so.
reaches() {
    for attempt in $4; do
        if nsenter --net="/proc/$2/ns/net" timeout 5 bash -c ": </dev/tcp/$3/9" 2>&1 | grep -q refused; then
            echo "$1: yes"
            return
        fi
    done
    echo "$1: no"
}
attacks() {
    reaches "one to the other" "$one" 10.193.67.2 "$1"
    reaches "the other to one" "$other" 10.193.66.2 "$1"
}
pids=
trap 'kill $pids' EXIT
node a 10.193.66
one=$pid
node b 10.193.67
other=$pid
reaches "namespace to one" self 10.193.66.2 "1 2 3"
reaches "namespace to the other" self 10.193.67.2 "1 2 3"
reaches "one to its gateway" "$one" 10.193.66.1 "1 2 3"
attacks 1
nft flush ruleset
echo flushed
attacks 1
ip rule flush
ip rule add pref 32766 lookup main
echo without rules
attacks "1 2 3"
"#;

#[test]
fn two_clusters_in_a_users_own_namespace_are_apart() {
    if !can_run_machines() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = tempfile::tempdir().unwrap();
        let program = env!("CARGO_BIN_EXE_skep");
        let userns = UsernsNetwork::for_store(store.path(), program.into()).unwrap();
        let bridges = [("a", "10.193.66.0/24"), ("b", "10.193.67.0/24")];
        for (name, subnet) in bridges {
            let bridge = format!("skep-{name}");
            let network = NetworkRecord { subnet: subnet.parse().unwrap(), bridge };
            let owner = owner(store.path(), name);
            userns.ensure_bridge(&network, &owner).await.unwrap();
            userns.ensure_firewall(&network, &owner, &Admits::default()).await.unwrap();
        }
        let words = userns.entering();
        let mut inside = Command::new(&words[0]);
        inside.args(&words[1..]).args(["bash", "-c", TWO_CLUSTERS]);
        let path = std::env::var("PATH").unwrap_or_default();
        let said = inside.env("PATH", format!("{path}:/usr/sbin:/sbin")).output().unwrap();
        let text = String::from_utf8_lossy(&said.stdout);
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "namespace to one: yes",
                "namespace to the other: yes",
                "one to its gateway: yes",
                "one to the other: no",
                "the other to one: no",
                "flushed",
                "one to the other: no",
                "the other to one: no",
                "without rules",
                "one to the other: yes",
                "the other to one: yes",
            ],
            "{}",
            String::from_utf8_lossy(&said.stderr)
        );
        for (name, _) in bridges {
            userns.remove_firewall(&format!("skep-{name}")).await.unwrap();
            userns.remove_link(&format!("skep-{name}")).await.unwrap();
        }
        userns.end_if_unused().await.unwrap();
        assert!(UsernsNetwork::of_store(store.path(), program.into()).is_none());
    });
}

fn start_server(userns: &UsernsNetwork) -> Child {
    let words = userns.entering();
    let mut server = Command::new(&words[0]);
    server.args(&words[1..]).arg(std::env::current_exe().unwrap());
    server.args(["--exact", NAME, "--nocapture"]).env(SERVE, "1");
    let mut server = server.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(server.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "listening"), "the server died");
    server
}

/// Tells everybody who connects what is behind the port.
fn serve() {
    let engine = TcpListener::bind((NODE, ENGINE)).unwrap();
    let page = TcpListener::bind((NODE, PAGE)).unwrap();
    println!("\nlistening");
    let answer = |listener: TcpListener, text: &'static str| {
        listener.incoming().for_each(|stream| drop(stream.unwrap().write_all(text.as_bytes())));
    };
    std::thread::scope(|scope| {
        scope.spawn(|| answer(engine, "engine"));
        answer(page, "page");
    });
}

fn connected(address: Ipv4Addr, port: u16) -> std::net::TcpStream {
    std::net::TcpStream::connect((address, port)).unwrap()
}

fn said(stream: &mut std::net::TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Returns the command lines of processes that have some words there, and still run.
fn processes_with(words: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let line = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).ok();
    let lines = entries.filter_map(line).map(|it| String::from_utf8_lossy(&it).replace('\0', " "));
    lines.filter(|line| line.contains(words)).collect()
}
