//! Clusters, the host's loopback and the outside are kept apart, with real packets in namespaces: while networks are made,
//! mended and removed, after each step; after all rules were flushed; and beside Docker's rules. Every attack succeeds
//! on bridges without rules, so one that fails later was prevented.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use skep_core::model::NetworkRecord;
use skep_host::net::{LinuxNetwork, Network};
use skep_host::store::Owner;
use skep_testkit::host::{are_installed, can_run_machines, command, find, in_namespaces, run};

const PART: &str = "SKEP_TEST_PART";
const LAN: &str = "192.0.2.9";
const OTHER_LAN: &str = "198.51.100.9";
const HOST: &str = "192.0.2.1";
const NODE: &str = "10.193.0.2";
const OTHER_NODE: &str = "10.193.1.2";
const CONTAINER: &str = "172.17.0.2";
const PORT: u16 = 9999;
const VXLAN: u16 = 4789;
const SECRET: u16 = 8888;
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
/// How long what must not arrive is waited for, and what must.
const SHORT: Duration = Duration::from_millis(250);
const LONG: Duration = Duration::from_secs(20);

#[test]
fn nothing_passes_that_was_not_opened_on_nftables() {
    host("nothing_passes_that_was_not_opened_on_nftables", "iptables-nft");
}

#[test]
fn nothing_passes_that_was_not_opened_on_legacy_iptables() {
    host("nothing_passes_that_was_not_opened_on_legacy_iptables", "iptables-legacy");
}

fn host(test: &str, iptables: &str) {
    if std::env::var_os(PART).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(story());
    }
    if !can_run_machines() {
        return;
    }
    if !are_installed(&[iptables]) {
        return;
    }
    let program = find(iptables).unwrap();
    let mut inside = in_namespaces(test, (PART, program.to_str().unwrap()));
    let path = std::env::var("PATH").unwrap_or_default();
    inside.env("PATH", format!("/run/bin:{path}:/usr/sbin:/sbin"));
    let status = inside.status().unwrap();
    assert!(status.success(), "in namespaces of its own: {status}");
}

/// What arrived where, by the words that were sent.
type Arrived = Arc<Mutex<BTreeSet<String>>>;

struct Nets {
    arrived: Arrived,
    sent: u32,
}

async fn story() {
    prepare();
    let mut nets = Nets { arrived: Arrived::default(), sent: 0 };
    for name in ["lan", "lan2", "node", "node2", "box"] {
        let arrived = nets.arrived.clone();
        within(name, move || listen(&arrived));
    }
    listen(&nets.arrived);
    let secret = TcpListener::bind((Ipv4Addr::LOCALHOST, SECRET)).unwrap();
    std::thread::spawn(move || secret.incoming().for_each(|it| drop(it.unwrap().write_all(b"x"))));
    control(&mut nets);

    let network = |subnet: &str, bridge: &str| NetworkRecord {
        subnet: subnet.parse().unwrap(),
        bridge: bridge.into(),
    };
    let (a, b) = (network("10.193.0.0/24", "skep-a"), network("10.193.1.0/24", "skep-b"));
    let owner = |name: &str| Owner { cluster: name.parse().unwrap(), store: "/".into(), user: 0 };
    let (of_a, of_b) = (owner("a"), owner("b"));
    let before = traces();
    let here = LinuxNetwork;

    here.ensure_bridge(&a, &of_a).await.unwrap();
    attach("node", "skep-a");
    nets.is_closed_without_table("one bridge");
    here.ensure_firewall(&a, &of_a, &[]).await.unwrap();
    nets.is_closed("one cluster");
    nets.node_gets_out("one cluster");
    here.ensure_bridge(&b, &of_b).await.unwrap();
    attach("node2", "skep-b");
    nets.is_closed("a cluster and a bridge");
    here.ensure_firewall(&b, &of_b, &[]).await.unwrap();
    nets.is_closed("two clusters");
    nets.node_gets_out("two clusters");
    assert_eq!(nets.tcp("node2", LAN, PORT, LONG).as_deref(), Some(HOST));
    assert_eq!(std::fs::read_to_string(FORWARDING).unwrap(), "0\n", "the host is no router");

    // A mending `up`, and one of a host that lets a host of the cluster in.
    here.ensure_bridge(&a, &of_a).await.unwrap();
    nets.is_closed("a bridge again");
    here.ensure_firewall(&a, &of_a, &[LAN.parse().unwrap()]).await.unwrap();
    let seen = here.look().await.unwrap();
    assert_eq!(seen.admitted(&a), [LAN.parse::<Ipv4Addr>().unwrap()]);
    assert_eq!(nets.tcp("lan", NODE, PORT, LONG).as_deref(), Some(LAN), "it was let in");
    assert_eq!(nets.tcp("lan", OTHER_NODE, PORT, SHORT), None, "only there");
    assert_eq!(nets.tcp("lan2", NODE, PORT, SHORT), None, "and nobody else");
    here.ensure_firewall(&a, &of_a, &[]).await.unwrap();
    nets.is_closed("rules again");

    // IPv6 that somebody has switched on.
    std::fs::write("/proc/sys/net/ipv6/conf/skep-a/disable_ipv6", "0").unwrap();
    run("ip address add fd00::1/64 dev skep-a nodad");
    nets.is_closed("IPv6 is on");
    std::fs::write("/proc/sys/net/ipv6/conf/skep-a/disable_ipv6", "1").unwrap();

    // As nftables.service does when it is restarted.
    run("nft flush ruleset");
    nets.is_closed_without_table("flushed");
    assert_eq!(nets.tcp("node", LAN, PORT, SHORT), None, "it fails closed");
    assert!(nets.tcp("", NODE, PORT, LONG).is_some(), "this host reaches nodes");
    assert!(nets.tcp("node", HOST, PORT, LONG).is_some(), "and they reach it");
    let seen = here.look().await.unwrap();
    assert!(seen.has_bridge(&a) && !seen.has_firewall(&a), "that is seen");
    here.ensure_firewall(&a, &of_a, &[]).await.unwrap();
    nets.is_closed("one was mended");
    here.ensure_firewall(&b, &of_b, &[]).await.unwrap();
    // Routing rules that somebody took away: the table closes without them.
    run("ip rule flush");
    run("ip rule add pref 32766 lookup main");
    run("ip rule add pref 32767 lookup default");
    nets.is_closed("without rules of routing");
    assert!(!here.look().await.unwrap().has_bridge(&a), "that is seen");
    here.ensure_bridge(&a, &of_a).await.unwrap();
    here.ensure_bridge(&b, &of_b).await.unwrap();
    here.ensure_firewall(&a, &of_a, &[]).await.unwrap();
    here.ensure_firewall(&b, &of_b, &[]).await.unwrap();
    nets.node_gets_out("mended");

    docker_starts();
    nets.is_closed("Docker has started");
    nets.node_gets_out("Docker has started");
    assert!(nets.tcp("box", LAN, PORT, LONG).is_some(), "its containers get out");
    assert_eq!(nets.tcp("box", NODE, PORT, SHORT), None, "and not into clusters");
    assert_eq!(nets.tcp("node", CONTAINER, PORT, SHORT), None, "nor clusters into them");
    run(&format!(
        "iptables -t nat -I PREROUTING -p tcp --dport 80 -j DNAT --to {CONTAINER}:{PORT}"
    ));
    run("iptables -I FORWARD -o docker0 -p tcp --dport 9999 -j ACCEPT");
    assert!(nets.tcp("node", HOST, 80, LONG).is_some(), "but for a port that is published");
    // A mending `up` beside it.
    here.ensure_firewall(&a, &of_a, &[]).await.unwrap();
    nets.is_closed("Docker runs, and rules again");
    nets.node_gets_out("Docker runs");

    here.remove_firewall("skep-a").await.unwrap();
    nets.is_closed_without_table("without rules");
    assert_eq!(nets.tcp("node", LAN, PORT, SHORT), None, "it is closed first");
    here.remove_link("skep-a").await.unwrap();
    nets.is_closed_without_table("one is gone");
    assert_eq!(nets.tcp("node2", LAN, PORT, LONG).as_deref(), Some(HOST), "the other is not");
    here.restore_forwarding(Path::new("/nowhere")).await.unwrap();
    here.remove_firewall("skep-b").await.unwrap();
    here.remove_link("skep-b").await.unwrap();
    here.restore_forwarding(Path::new("/nowhere")).await.unwrap();
    assert_eq!(std::fs::read_to_string(FORWARDING).unwrap(), "1\n", "Docker relies on it");
    assert!(nets.tcp("box", LAN, PORT, LONG).is_some(), "its containers get out");
    docker_is_removed();
    assert_eq!(traces(), before, "nothing is left");
}

impl Nets {
    /// Tries all attacks; none may succeed.
    fn is_closed(&mut self, when: &str) {
        assert_eq!(self.attacks(SHORT), BTreeSet::new(), "{when}");
    }

    /// Tries all attacks but one: what is sent to this host itself needs no route, so only the table can tell that its
    /// source is forged.
    fn is_closed_without_table(&mut self, when: &str) {
        let mut found = self.attacks(SHORT);
        found.remove("forged to host");
        assert_eq!(found, BTreeSet::new(), "{when}");
    }

    fn node_gets_out(&mut self, when: &str) {
        let seen = self.tcp("node", LAN, PORT, LONG);
        assert_eq!(seen.as_deref(), Some(HOST), "{when}: a node is seen as the host");
        assert!(self.tcp("", NODE, PORT, LONG).is_some(), "{when}: this host reaches nodes");
    }

    /// Returns the attacks that succeed.
    fn attacks(&mut self, limit: Duration) -> BTreeSet<&'static str> {
        let connections = [
            ("loopback", "node", "127.0.0.1", SECRET),
            ("other cluster", "node", OTHER_NODE, PORT),
            ("LAN to node", "lan", NODE, PORT),
            ("LAN to LAN", "lan", OTHER_LAN, PORT),
            ("LAN from LAN", "lan2", LAN, PORT),
            ("IPv6", "node", "fd00::1", PORT),
        ];
        // VXLAN believes whoever has the address of a node.
        let packets = [
            ("forged VXLAN", "node", "10.193.1.3", OTHER_NODE),
            ("forged outward", "node", "192.0.2.77", LAN),
            ("forged from LAN", "lan", "10.193.0.77", NODE),
            ("forged to host", "lan", "10.193.0.77", HOST),
        ];
        let this = &*self;
        let mut found: BTreeSet<_> = std::thread::scope(|scope| {
            let tries = connections.map(|(what, from, to, port)| {
                let connects = move || this.tcp(from, to, port, limit).is_some();
                (what, scope.spawn(connects))
            });
            tries.into_iter().filter_map(|(what, it)| it.join().unwrap().then_some(what)).collect()
        });
        let sent = packets.map(|(what, from, source, to)| (what, self.udp(from, source, to)));
        found.extend(self.arriving(&sent, limit));
        // The hardware address of the other cluster's node.
        run("ip -n node link set eth0 address 02:00:00:00:00:02");
        let sent = [("forged hardware address", self.udp("node", NODE, OTHER_NODE))];
        found.extend(self.arriving(&sent, limit));
        run("ip -n node link set eth0 address 02:00:00:00:00:01");
        found
    }

    /// Connects; returns how the other side sees that, or none.
    fn tcp(&self, from: &'static str, to: &str, port: u16, limit: Duration) -> Option<String> {
        let to = SocketAddr::new(to.parse().unwrap(), port);
        within(from, move || {
            let end = Instant::now() + limit;
            loop {
                let stream = TcpStream::connect_timeout(&to, limit.min(Duration::from_secs(2)));
                let seen = stream.and_then(|mut stream| {
                    let mut text = String::new();
                    stream.set_read_timeout(Some(limit))?;
                    stream.read_to_string(&mut text)?;
                    Ok(text)
                });
                if let Ok(seen) = seen {
                    return Some(seen);
                }
                if Instant::now() >= end || limit == SHORT {
                    return None;
                }
            }
        })
    }

    /// Sends a packet from a forged address; returns the word in it.
    fn udp(&mut self, from: &'static str, source: &str, to: &str) -> String {
        self.sent += 1;
        let word = format!("packet {}", self.sent);
        run(&format!("ip -n {from} address replace {source}/32 dev dummy"));
        let (own, to, text) = (source.parse::<IpAddr>().unwrap(), to.to_owned(), word.clone());
        within(from, move || {
            // Without a route there is no packet either.
            let socket = UdpSocket::bind((own, 0)).unwrap();
            let _ = socket.send_to(text.as_bytes(), (to.as_str(), VXLAN));
        });
        run(&format!("ip -n {from} address del {source}/32 dev dummy"));
        word
    }

    /// Returns those that arrive, waiting until all have.
    fn arriving(&self, sent: &[(&'static str, String)], limit: Duration) -> BTreeSet<&'static str> {
        let end = Instant::now() + limit;
        loop {
            let arrived = self.arrived.lock().unwrap();
            let arrived = sent.iter().filter(|(_, word)| arrived.contains(word));
            let found: BTreeSet<_> = arrived.map(|(what, _)| *what).collect();
            if found.len() == sent.len() || Instant::now() >= end {
                return found;
            }
            // wait: a packet announces nothing
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Bridges without any rule, on a host that forwards everything: each attack succeeds, or it would prove nothing.
fn control(nets: &mut Nets) {
    std::fs::write(FORWARDING, "1").unwrap();
    for (name, bridge, address) in
        [("node", "ctl-a", "10.193.0.1"), ("node2", "ctl-b", "10.193.1.1")]
    {
        run(&format!("ip link add {bridge} type bridge"));
        run(&format!("ip address add {address}/24 dev {bridge}"));
        run(&format!("ip link set {bridge} up"));
        attach(name, bridge);
    }
    std::fs::write("/proc/sys/net/ipv4/conf/ctl-a/route_localnet", "1").unwrap();
    run("ip address add fd00::1/64 dev ctl-a nodad");
    let all = [
        "loopback",
        "other cluster",
        "LAN to node",
        "LAN to LAN",
        "LAN from LAN",
        "forged VXLAN",
        "forged outward",
        "forged from LAN",
        "forged to host",
        "IPv6",
        "forged hardware address",
    ];
    assert_eq!(nets.attacks(LONG), BTreeSet::from(all), "without rules all is open");
    for bridge in ["ctl-a", "ctl-b"] {
        run(&format!("ip link delete {bridge}"));
    }
    std::fs::write(FORWARDING, "0").unwrap();
}

/// What dockerd does when it starts, as iptables-save has shown it, and a container.
fn docker_starts() {
    std::fs::write(FORWARDING, "1").unwrap();
    run("iptables -P FORWARD DROP");
    run("iptables -N DOCKER-USER");
    run("iptables -A DOCKER-USER -j RETURN");
    run("iptables -I FORWARD -j DOCKER-USER");
    run("iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
    run("iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT");
    run("iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE");
    run("ip link add docker0 type bridge");
    run("ip address add 172.17.0.1/16 dev docker0");
    run("ip link set docker0 up");
    run("ip link set box0 master docker0 up");
}

fn docker_is_removed() {
    run("ip link set box0 nomaster");
    run("ip link delete docker0");
    run("iptables -P FORWARD ACCEPT");
    run("iptables -F FORWARD");
    run("iptables -F DOCKER-USER");
    run("iptables -X DOCKER-USER");
    run("iptables -t nat -F POSTROUTING");
    run("iptables -t nat -F PREROUTING");
    // The old iptables has none there, and keeps its own.
    for table in ["filter", "nat"] {
        let _ = command(&format!("nft delete table ip {table}")).output();
    }
}

fn prepare() {
    run("mount -t tmpfs none /run");
    std::fs::create_dir("/run/bin").unwrap();
    symlink(std::env::var(PART).unwrap(), "/run/bin/iptables").unwrap();
    // It is installed, and will start; see `firewall::has_docker`.
    run("mount -t tmpfs none /usr/local/bin");
    std::fs::write("/usr/local/bin/dockerd", "").unwrap();
    run("ip link set lo up");
    std::fs::write(FORWARDING, "0").unwrap();
    for name in ["lan", "lan2", "node", "node2", "box"] {
        run(&format!("ip netns add {name}"));
        run(&format!("ip -n {name} link add dummy type bridge"));
        run(&format!("ip -n {name} link set dummy up"));
        // Nobody may rely on others to refuse what is forged.
        for (switch, value) in [("rp_filter", 0), ("route_localnet", 1)] {
            let switch = format!("net.ipv4.conf.all.{switch}={value}");
            run(&format!("ip netns exec {name} sysctl -qw {switch}"));
        }
    }
    for interface in ["all", "default"] {
        std::fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter"), "0").unwrap();
    }
    for (name, port, inner, outer) in [
        ("lan", "up0", HOST, LAN),
        ("lan2", "up1", "198.51.100.1", OTHER_LAN),
        ("box", "box0", "", CONTAINER),
        ("node", "tap0", "", NODE),
        ("node2", "tap1", "", OTHER_NODE),
    ] {
        run(&format!("ip link add {port} type veth peer name eth0 netns {name}"));
        run(&format!("ip -n {name} address add {outer}/24 dev eth0"));
        run(&format!("ip -n {name} link set eth0 up"));
        let gateway = match inner {
            "" => format!("{}.1", outer.rsplit_once('.').unwrap().0),
            inner => {
                run(&format!("ip address add {inner}/24 dev {port}"));
                run(&format!("ip link set {port} up"));
                inner.to_owned()
            }
        };
        run(&format!("ip -n {name} route add default via {gateway}"));
        if name.starts_with("lan") {
            let metric = name.len() * 100;
            run(&format!("ip route add default via {outer} metric {metric}"));
        }
    }
    run("ip -n node link set eth0 address 02:00:00:00:00:01");
    run("ip -n node2 link set eth0 address 02:00:00:00:00:02");
    run("ip -n node route add 127.0.0.1 via 10.193.0.1");
    run("ip -n node address add fd00::2/64 dev eth0 nodad");
}

/// Puts a node's interface on a bridge, as QEMU's tap would be.
fn attach(name: &str, bridge: &str) {
    let port = if name == "node" { "tap0" } else { "tap1" };
    run(&format!("ip link set {port} master {bridge} up"));
}

/// Runs something in a namespace; in this one without a name.
fn within<T: Send + 'static>(name: &'static str, act: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        if !name.is_empty() {
            let file = File::open(format!("/run/netns/{name}")).unwrap();
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(file.as_fd(), network).unwrap();
        }
        act()
    });
    thread.join().unwrap()
}

/// Tells everybody who connects where they came from, and notes packets.
fn listen(arrived: &Arrived) {
    let listener = TcpListener::bind(("::", PORT)).unwrap();
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, VXLAN)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let Ok(peer) = stream.peer_addr() else { continue };
            let _ = write!(stream, "{}", peer.ip().to_canonical());
        }
    });
    let arrived = arrived.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok(length) = socket.recv(&mut buffer) {
            let word = String::from_utf8_lossy(&buffer[..length]).into_owned();
            arrived.lock().unwrap().insert(word);
        }
    });
}

/// Returns all rules, switches and links that could be left.
fn traces() -> String {
    let said = |line: &str| String::from_utf8(command(line).output().unwrap().stdout).unwrap();
    let mut text = said("nft -s list ruleset") + &said("ip rule");
    if Path::new("/proc/net/ip_tables_names").exists() {
        let saved = said("iptables-save");
        let rules = saved.lines().filter(|line| line.starts_with("-A") || line.starts_with("-N"));
        text.extend(rules.map(|line| format!("{line}\n")));
    }
    for name in ["skep-a", "skep-b"] {
        text += &said(&format!("ip link show {name}"));
    }
    text + &format!("{}", Path::new("/run/skep-forwarding").exists())
}
