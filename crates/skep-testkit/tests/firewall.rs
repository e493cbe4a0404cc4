//! The rules of a node and of a host with virtual machines, in each firewall that skep knows, running, in
//! namespaces of their own and with real packets: nothing passes before, what should does after, also when the
//! firewall was loaded again, nobody else gets in, and removing leaves what was there before.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;

use skep_core::model::{Admits, NetworkRecord};
use skep_net::firewall::{Docker, Frames, closed_chains, look};
use skep_net::host_firewall::{Action, Backend, DETECT, Detected, Ruleset, Scope, run_here};
use skep_net::network::{LinuxNetwork, Network};
use skep_store::Owner;
use skep_testkit::daemons::{Running, firewalld, own_etc};
use skep_testkit::host::{
    are_installed, can_run_machines, command, find, in_namespaces, run, skip,
};

/// Says that this process is the host under test, in its own namespaces.
const PART: &str = "SKEP_TEST_PART";
const HOST: &str = "10.77.0.1";
const PEER: &str = "10.77.0.2";
const GATEWAY: &str = "10.77.9.1";
/// All that a swarm sends, and a port that is nobody's business.
const KINDS: [&str; 8] =
    ["tcp 22", "tcp 2376", "tcp 2377", "tcp 7946", "udp 4789", "udp 7946", "esp", "tcp 9999"];

#[test]
fn nftables_lets_a_swarm_through() {
    host("nftables_lets_a_swarm_through", &["nft"], || Firewall {
        backend: Backend::Nftables,
        reload: "nft -f /etc/nftables.conf",
        _running: nftables(),
    });
}

#[test]
fn iptables_on_nftables_lets_a_swarm_through() {
    host("iptables_on_nftables_lets_a_swarm_through", &["iptables-nft"], || iptables("nft"));
}

#[test]
fn iptables_of_old_lets_a_swarm_through() {
    host("iptables_of_old_lets_a_swarm_through", &["iptables-legacy"], || iptables("legacy"));
}

#[test]
fn ufw_lets_a_swarm_through() {
    host("ufw_lets_a_swarm_through", &["ufw"], || {
        run("ufw --force enable");
        // ufw itself has other rules once it was loaded again.
        run("ufw reload");
        Firewall { backend: Backend::Ufw, reload: "ufw reload", _running: Vec::new() }
    });
}

#[test]
fn firewalld_lets_a_swarm_through() {
    host("firewalld_lets_a_swarm_through", &["firewalld", "dbus-daemon"], || Firewall {
        backend: Backend::Firewalld,
        reload: "firewall-cmd --reload",
        _running: firewalld("drop"),
    });
}

/// A firewall that is on, and drops all that it is not told about.
struct Firewall {
    backend: Backend,
    reload: &'static str,
    _running: Vec<Running>,
}

/// Runs the story of a firewall, in namespaces of its own.
fn host(name: &str, programs: &[&str], start: fn() -> Firewall) {
    if std::env::var_os(PART).is_some() {
        return story(start);
    }
    if !can_run_machines() {
        return;
    }
    if !are_installed(programs) {
        return;
    }
    let mut inside = in_namespaces(name, (PART, "host"));
    let path = std::env::var("PATH").unwrap_or_default();
    inside.env("PATH", format!("/run/bin:{path}:/usr/sbin:/sbin"));
    let status = inside.status().unwrap();
    assert!(status.success(), "in namespaces of its own: {status}");
}

fn story(start: fn() -> Firewall) {
    prepare();
    let firewall = start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let detected = Detected { backend: firewall.backend, closed: true };
        assert_eq!(Detected::parse(&script(DETECT).await), Some(detected), "which is on");
        a_node(&firewall).await;
        frames(&firewall).await;
        a_host(&firewall).await;
    });
}

async fn a_node(firewall: &Firewall) {
    let before = traces();
    let scope = Scope { sources: vec![format!("{PEER}/32").parse().unwrap()], interface: None };
    let rules = Ruleset::node(&scope).unwrap();
    let of_a_swarm: BTreeSet<_> = KINDS[..7].iter().copied().collect();
    assert_eq!(passing("peer", HOST), BTreeSet::new(), "the firewall drops nothing");

    apply(&rules, firewall.backend, Action::Apply).await;
    let after = traces();
    apply(&rules, firewall.backend, Action::Apply).await;
    same(&after, "applied twice");
    assert_eq!(apply(&rules, firewall.backend, Action::Look).await, "on");
    assert_eq!(passing("peer", HOST), of_a_swarm);
    assert_eq!(passing("stranger", HOST), BTreeSet::new(), "of a stranger's");
    run(firewall.reload);
    assert_eq!(passing("peer", HOST), of_a_swarm, "after a reload");

    for _ in 0..2 {
        let functions = Ruleset::of_any_node().functions();
        script(&format!("{functions}firewall_{} remove", firewall.backend)).await;
    }
    assert_eq!(apply(&rules, firewall.backend, Action::Look).await, "off");
    same(&before, "after it was removed");
    assert_eq!(passing("peer", HOST), BTreeSet::new(), "after it was removed");
}

async fn a_host(firewall: &Firewall) {
    let before = traces();
    let rules = Ruleset::host();
    let all: BTreeSet<_> = KINDS.iter().copied().collect();
    assert_eq!(passing("machine", GATEWAY), BTreeSet::new());
    assert!(!connects("machine", PEER), "the firewall forwards everything");
    to_nodes(firewall).await;

    apply(&rules, firewall.backend, Action::Apply).await;
    run(firewall.reload);
    assert_eq!(passing("machine", GATEWAY), all);
    assert_eq!((reaches_engines(), closed().await), (true, Vec::new()));
    assert!(connects("machine", PEER), "what a machine sends is not forwarded");
    assert!(!connects("peer", "10.77.9.2"), "a machine can be reached from outside");
    if firewall.backend == Backend::Iptables {
        // What dockerd does when it starts, as iptables-save has shown it.
        run("iptables -P FORWARD DROP");
        run("iptables -N DOCKER-USER");
        run("iptables -A DOCKER-USER -j RETURN");
        run("iptables -I FORWARD -j DOCKER-USER");
        assert!(connects("machine", PEER), "Docker's start has closed it");
        run("iptables -D FORWARD -j DOCKER-USER");
        run("iptables -F DOCKER-USER");
        run("iptables -X DOCKER-USER");
    }

    apply(&rules, firewall.backend, Action::Remove).await;
    same(&before, "after it was removed");
    assert!(!connects("machine", PEER), "after it was removed");
}

/// What is said of chains that keep this host from its nodes is what packets say.
async fn to_nodes(firewall: &Firewall) {
    let (input, output) = match firewall.backend {
        Backend::Nftables => (vec!["inet filter input".to_owned()], ""),
        // These two know the answers to what the host sends.
        Backend::Ufw | Backend::Firewalld => (Vec::new(), ""),
        Backend::Iptables
            if std::fs::read_to_string("/proc/net/ip_tables_names")
                .is_ok_and(|it| !it.is_empty()) =>
        {
            (vec!["INPUT of iptables-legacy".to_owned()], "OUTPUT of iptables-legacy")
        }
        Backend::Iptables => (vec!["ip filter INPUT".to_owned()], "ip filter OUTPUT"),
    };
    assert_eq!(closed().await, input);
    assert_eq!(reaches_engines(), input.is_empty());
    if output.is_empty() {
        return;
    }
    run("iptables -I INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT");
    assert_eq!((reaches_engines(), closed().await), (true, Vec::new()));
    run("iptables -P OUTPUT DROP");
    assert_eq!((reaches_engines(), closed().await), (false, vec![output.to_owned()]));
    run("iptables -A OUTPUT -p tcp --dport 2376 -j ACCEPT");
    assert_eq!((reaches_engines(), closed().await), (true, Vec::new()));
    run("iptables -D OUTPUT -p tcp --dport 2376 -j ACCEPT");
    apply(&Ruleset::host(), firewall.backend, Action::Apply).await;
    assert_eq!((reaches_engines(), closed().await), (true, Vec::new()), "once it was told");
    apply(&Ruleset::host(), firewall.backend, Action::Remove).await;
    run("iptables -P OUTPUT ACCEPT");
    run("iptables -D INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT");
}

async fn closed() -> Vec<String> {
    closed_chains().await.unwrap()
}

/// Tells whether this host gets an answer of a machine: nobody listens, and a closed port says so.
fn reaches_engines() -> bool {
    let line = "timeout 2 bash -c ': </dev/tcp/10.77.9.2/2376'";
    let output = command("bash -c").arg(line).output().unwrap();
    String::from_utf8_lossy(&output.stderr).contains("refused")
}

/// Frames between nodes pass the firewall as well, as where Docker has loaded `br_netfilter`: what is said of it holds.
async fn frames(firewall: &Firewall) {
    let switch = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    if !Path::new(switch).exists() {
        return skip("frames between nodes: this kernel has no br_netfilter");
    }
    let network =
        NetworkRecord { subnet: "10.77.9.0/24".parse().unwrap(), bridge: "skep-test".into() };
    let owner = Owner { cluster: "test".parse().unwrap(), store: "/".into(), user: 0 };
    std::fs::write(switch, "1").unwrap();
    LinuxNetwork::host().ensure_firewall(&network, &owner, &Admits::default()).await.unwrap();
    let passes = || connects("machine", "10.77.9.3");
    let said =
        || async { look(Docker::IfInstalled).await.unwrap().obstacles.first().map(|it| it.frames) };
    let (before, expected) = match firewall.backend {
        Backend::Nftables | Backend::Firewalld => (false, Some(Frames::Drop)),
        // The rules of a cluster's network are before those of the firewall.
        Backend::Iptables => (true, None),
        Backend::Ufw => (true, Some(Frames::Pass)),
    };
    assert_eq!((passes(), said().await), (before, expected));
    apply(&Ruleset::host(), firewall.backend, Action::Apply).await;
    assert_eq!((passes(), said().await), (true, None), "once it was told");
    apply(&Ruleset::host(), firewall.backend, Action::Remove).await;
    LinuxNetwork::host().remove_firewall("skep-test").await.unwrap();
    std::fs::write(switch, "0").unwrap();
}

async fn apply(rules: &Ruleset, backend: Backend, action: Action) -> String {
    script(&rules.render(backend, action).unwrap()).await
}

async fn script(text: &str) -> String {
    run_here(text).await.unwrap().text()
}

/// Makes a host with a bridge of a cluster and a machine on it, and two others that reach it, in
/// directories of which nothing is kept.
fn prepare() {
    run("mount -t tmpfs none /run");
    own_etc();
    run("ip link set lo up");
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    run("ip link add skep-test type bridge");
    run(&format!("ip address add {GATEWAY}/24 dev skep-test"));
    run("ip link set skep-test up");
    for (name, link, address) in [
        ("peer", "to0", PEER),
        ("stranger", "to1", "10.77.1.2"),
        ("machine", "to2", "10.77.9.2"),
        ("machine2", "to3", "10.77.9.3"),
    ] {
        let router = address.rsplit_once('.').unwrap().0.to_owned() + ".1";
        run(&format!("ip netns add {name}"));
        run(&format!("ip link add {link} type veth peer name eth0 netns {name}"));
        match name {
            "machine" | "machine2" => run(&format!("ip link set {link} master skep-test")),
            _ => run(&format!("ip address add {router}/24 dev {link}")),
        }
        run(&format!("ip link set {link} up"));
        run(&format!("ip -n {name} address add {address}/24 dev eth0"));
        run(&format!("ip -n {name} link set lo up"));
        run(&format!("ip -n {name} link set eth0 up"));
        run(&format!("ip -n {name} route add default via {router}"));
    }
}

fn nftables() -> Vec<Running> {
    // No end of the last line, which has to be so again after.
    let text = "flush ruleset\ntable inet filter {\n\tchain input {\n\t\ttype filter hook input priority 0; \
                policy drop;\n\t\ttcp dport 22 drop\n\t}\n\tchain forward {\n\t\ttype filter hook forward \
                priority 0; policy drop;\n\t\tct state invalid drop\n\t}\n}";
    std::fs::write("/etc/nftables.conf", text).unwrap();
    run("nft -f /etc/nftables.conf");
    Vec::new()
}

fn iptables(kind: &str) -> Firewall {
    std::fs::create_dir_all("/run/bin").unwrap();
    for name in ["iptables", "iptables-restore", "iptables-save"] {
        let program = find(&name.replace("iptables", &format!("iptables-{kind}"))).unwrap();
        symlink(program, Path::new("/run/bin").join(name)).unwrap();
    }
    let rules = "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n\
                 -A INPUT -p tcp -m tcp --dport 22 -j DROP\nCOMMIT\n";
    std::fs::create_dir_all("/etc/iptables").unwrap();
    std::fs::write("/etc/iptables/rules.v4", rules).unwrap();
    let reload = "iptables-restore /etc/iptables/rules.v4";
    run(reload);
    Firewall { backend: Backend::Iptables, reload, _running: Vec::new() }
}

/// Sends one packet of each kind, and returns the kinds that got past the firewall of this host.
fn passing(from: &str, to: &str) -> BTreeSet<&'static str> {
    let count = |kind: &&str| {
        let what = match kind.split_once(' ') {
            Some((protocol, port)) => format!("{protocol} dport {port}"),
            None => "meta l4proto esp".to_owned(),
        };
        format!("ip daddr {to} {what} counter comment \"{kind}\"\n")
    };
    let counters: String = KINDS.iter().map(count).collect();
    let table = format!(
        "table inet seen {{\nchain seen {{\ntype filter hook input priority 450; policy accept;\n{counters}}}\n}}\n"
    );
    std::fs::write("/run/seen.nft", table).unwrap();
    run("nft -f /run/seen.nft");
    let send = format!(
        "for port in 22 2376 2377 7946 9999; do timeout 1 bash -c \": </dev/tcp/{to}/$port\" & done; \
         for port in 4789 7946; do bash -c \"echo x >/dev/udp/{to}/$port\"; done; \
         perl -MSocket -e 'socket(my $s, AF_INET, SOCK_RAW, 50) or die $!; \
             send($s, \"x\" x 40, 0, pack_sockaddr_in(0, inet_aton(\"{to}\"))) or die $!'; wait"
    );
    let sent = command(&format!("ip netns exec {from} bash -c")).arg(send).output().unwrap();
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let seen = command("nft list table inet seen").output().unwrap();
    run("nft delete table inet seen");
    let seen = String::from_utf8(seen.stdout).unwrap();
    let has_come = |kind: &&&str| {
        let line = seen.lines().find(|line| line.contains(&format!("\"{kind}\""))).unwrap();
        !line.contains("packets 0 ")
    };
    KINDS.iter().filter(has_come).copied().collect()
}

/// Tells whether a connection gets an answer: nobody listens, and a closed port says so.
fn connects(from: &str, to: &str) -> bool {
    let line = format!("timeout 2 bash -c ': </dev/tcp/{to}/2377'");
    let output = command(&format!("ip netns exec {from} bash -c")).arg(line).output().unwrap();
    String::from_utf8_lossy(&output.stderr).contains("refused")
}

fn same(before: &[String], when: &str) {
    let after = traces();
    let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    let gone: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
    assert!(after == before, "{when}, there is {new:#?}, and no {gone:#?}");
}

/// Returns all rules and all files in which firewalls keep theirs, in an order of their own: a table that is
/// loaded again has its chains in another.
fn traces() -> Vec<String> {
    let mut text =
        String::from_utf8(command("nft -s list ruleset").output().unwrap().stdout).unwrap();
    if Path::new("/proc/net/ip_tables_names").exists() {
        let saved = command("iptables-save").output().unwrap();
        text.push_str(&String::from_utf8(saved.stdout).unwrap());
    }
    let files = "find /etc/nftables.conf /etc/iptables /etc/ufw /etc/firewalld /etc/skep -type f -exec cksum {} +";
    let files = command(files).output().unwrap();
    text.push_str(&String::from_utf8(files.stdout).unwrap());
    // Times and counters say nothing of rules.
    let count = |line: &&str| !line.starts_with('#');
    let mut lines: Vec<_> = text
        .lines()
        .filter(count)
        .map(|line| line.split(" [").next().unwrap_or_default().to_owned())
        .collect();
    lines.sort();
    lines
}
