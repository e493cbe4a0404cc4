//! A cluster's network in a network namespace of its own, with real packets: what is on the bridge
//! reaches the outside under the host's address, also where the host drops what it forwards, and
//! nothing of it is left after.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use skep_core::model::{Admits, NetworkRecord};
use skep_net::network::{LinuxNetwork, Network};
use skep_store::Owner;
use skep_testkit::host::{can_run_machines, run};

/// Says which part of the story this process plays; the test itself has none.
const PART: &str = "SKEP_TEST_PART";
const NAME: &str = "nodes_reach_the_outside_whatever_the_host_forwards";
const OUTSIDE: &str = "192.0.2.9";
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
const ROUTER: &str = "192.0.2.1";

#[test]
fn nodes_reach_the_outside_whatever_the_host_forwards() {
    match std::env::var(PART).as_deref() {
        Err(_) if can_run_machines() => {
            let mut inside = Command::new("unshare");
            inside.args(["--net", "--mount", "--propagation", "private"]);
            let status = as_part("router", inside).status().unwrap();
            assert!(status.success(), "in a namespace of its own: {status}");
        }
        Err(_) => (),
        Ok("router") => router(),
        Ok("server") => server(),
        Ok("client") => client(),
        Ok(other) => panic!("{other} is no part"),
    }
}

/// Lets a command start this test again, in another part.
fn as_part(part: &str, mut command: Command) -> Command {
    command.arg(std::env::current_exe().unwrap()).args(["--exact", NAME, "--nocapture"]);
    command.env(PART, part);
    command
}

fn in_namespace(name: &str, part: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", name]);
    as_part(part, command)
}

fn router() {
    run("mount -t tmpfs none /run");
    run("ip link set lo up");
    // A new namespace takes the switch over from the host.
    std::fs::write(FORWARDING, "0").unwrap();
    run("ip netns add outside");
    run("ip netns add node");
    run("ip link add up0 type veth peer name eth0 netns outside");
    run(&format!("ip address add {ROUTER}/24 dev up0"));
    run("ip link set up0 up");
    run(&format!("ip route add default via {OUTSIDE}"));
    run(&format!("ip -n outside address add {OUTSIDE}/24 dev eth0"));
    run("ip -n outside link set eth0 up");
    let mut server = start_server();

    let firewalls: [(&str, &[&str]); 3] = [
        ("no firewall", &[]),
        ("a policy of DROP", &["iptables -P FORWARD DROP"]),
        (
            "Docker's chains",
            &[
                "iptables -N DOCKER-USER",
                "iptables -A DOCKER-USER -j RETURN",
                "iptables -I FORWARD -j DOCKER-USER",
            ],
        ),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (name, commands) in firewalls {
        commands.iter().for_each(|command| run(command));
        runtime.block_on(story(name));
    }
    run("iptables -D FORWARD -j DOCKER-USER");
    run("nft delete table ip filter");
    runtime.block_on(docker_starts_later());
    server.kill().unwrap();
    server.wait().unwrap();
}

/// Docker is there and does not run: what it will do to forwarding is provided for.
async fn docker_starts_later() {
    run("mount -t tmpfs none /usr/local/bin");
    std::fs::write("/usr/local/bin/dockerd", "").unwrap();
    let network =
        NetworkRecord { subnet: "10.193.0.0/24".parse().unwrap(), bridge: "skep-test".into() };
    let owner = Owner { cluster: "test".parse().unwrap(), store: "/".into(), user: 0 };
    let before = rules();
    let up = async || {
        LinuxNetwork::host().ensure_bridge(&network, &owner).await.unwrap();
        LinuxNetwork::host().ensure_firewall(&network, &owner, &Admits::default()).await.unwrap();
        assert!(LinuxNetwork::host().look().await.unwrap().has_firewall(&network));
    };
    up().await;
    LinuxNetwork::host().remove_firewall(&network.bridge).await.unwrap();
    assert_eq!(rules(), before, "iptables was not in use, and is not now");

    up().await;
    attach_node(&network);
    // What dockerd does to it when it starts, as iptables-save has shown it.
    run("iptables -P FORWARD DROP");
    run("iptables -N DOCKER-USER");
    run("iptables -A DOCKER-USER -j RETURN");
    run("iptables -I FORWARD -j DOCKER-USER");
    assert_eq!(seen_from_outside().as_deref(), Some(ROUTER), "Docker has started");
    assert!(LinuxNetwork::host().look().await.unwrap().has_firewall(&network));
    LinuxNetwork::host().remove_firewall(&network.bridge).await.unwrap();
    assert!(rules().contains("DOCKER-USER") && !rules().contains("skep"), "{}", rules());
}

async fn story(firewall: &str) {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("forwarding.json");
    let network =
        NetworkRecord { subnet: "10.193.0.0/24".parse().unwrap(), bridge: "skep-test".into() };
    let owner = Owner { cluster: "test".parse().unwrap(), store: home.path().to_owned(), user: 0 };
    let before = rules();

    // Twice, as by an `up` that is done again.
    for _ in 0..2 {
        LinuxNetwork::host().ensure_bridge(&network, &owner).await.unwrap();
    }
    attach_node(&network);
    assert!(link(&network.bridge).contains("52:53:0a:c1:00:01"), "the lowest tap gave its address");
    assert_eq!(seen_from_outside(), None, "{firewall}: without rules nothing passes");

    for _ in 0..2 {
        LinuxNetwork::host().ensure_firewall(&network, &owner, &Admits::default()).await.unwrap();
    }
    let seen = LinuxNetwork::host().look().await.unwrap();
    assert!(seen.has_bridge(&network) && seen.has_firewall(&network), "{firewall}");
    assert_eq!(seen_from_outside().as_deref(), Some(ROUTER), "{firewall}");
    assert_eq!(std::fs::read_to_string(FORWARDING).unwrap(), "0\n", "the host is no router");

    LinuxNetwork::host().remove_firewall(&network.bridge).await.unwrap();
    LinuxNetwork::host().remove_link(&network.bridge).await.unwrap();
    LinuxNetwork::host().restore_forwarding(&state).await.unwrap();
    run("ip -n node link delete eth0");
    let seen = LinuxNetwork::host().look().await.unwrap();
    assert!(!seen.has_bridge(&network) && !seen.has_firewall(&network), "{firewall}");
    assert_eq!(rules(), before, "{firewall}");
    assert_eq!(std::fs::read_to_string(FORWARDING).unwrap(), "0\n");
}

/// Puts a node's interface on the bridge, as QEMU's tap would be.
fn attach_node(network: &NetworkRecord) {
    run("ip link add skt0 address 02:00:00:00:00:01 type veth peer name eth0 netns node");
    run(&format!("ip link set skt0 master {} up", network.bridge));
    run(&format!("ip -n node address add {}/24 dev eth0", network.node_address(0)));
    run("ip -n node link set eth0 up");
    run(&format!("ip -n node route add default via {}", network.gateway()));
}

fn link(name: &str) -> String {
    let output = Command::new("ip").args(["link", "show", "dev", name]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the rules, without the numbers of packets.
fn rules() -> String {
    let output = Command::new("nft").args(["--stateless", "list", "ruleset"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Has the node connect to the outside, and returns the address that it came from, if it got there.
fn seen_from_outside() -> Option<String> {
    let output = in_namespace("node", "client").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("seen as ").map(str::to_owned))
}

fn client() {
    let address = format!("{OUTSIDE}:80").parse().unwrap();
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(2)) else {
        return;
    };
    let mut text = String::new();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    stream.read_to_string(&mut text).unwrap();
    println!("\nseen as {text}");
}

fn start_server() -> Child {
    let mut server = in_namespace("outside", "server");
    let mut server = server.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(server.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "listening"), "the server died");
    server
}

/// Tells everybody who connects where they came from.
fn server() {
    let listener = TcpListener::bind("0.0.0.0:80").unwrap();
    println!("\nlistening");
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let peer = stream.peer_addr().unwrap().ip();
        let _ = write!(stream, "{peer}");
    }
}
