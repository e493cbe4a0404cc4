//! A host with LANs, containers and nodes of clusters in namespaces, and what passes between them.

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
use skep_testkit::host::{are_installed, can_run_machines, command, find, in_namespaces, run};

const PART: &str = "SKEP_TEST_PART";
pub const LAN: &str = "192.0.2.9";
pub const OTHER_LAN: &str = "198.51.100.9";
pub const HOST: &str = "192.0.2.1";
pub const NODE: &str = "10.193.0.2";
pub const OTHER_NODE: &str = "10.193.1.2";
pub const THIRD_NODE: &str = "10.193.2.2";
pub const CONTAINER: &str = "172.17.0.2";
pub const PORT: u16 = 9999;
/// Where what is sent comes back.
pub const ECHO: u16 = 9998;
pub const VXLAN: u16 = 4789;
pub const SECRET: u16 = 8888;
pub const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
/// How long what must not arrive is waited for, and what must.
pub const SHORT: Duration = Duration::from_millis(250);
pub const LONG: Duration = Duration::from_secs(20);

/// Runs a story in namespaces of its own, where `iptables` is that one.
pub fn host(test: &str, iptables: &str, story: impl AsyncFnOnce(Nets)) {
    if std::env::var_os(PART).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(story(Nets::begin()));
    }
    if !can_run_machines() || !are_installed(&[iptables]) {
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

pub struct Nets {
    arrived: Arrived,
    sent: u32,
}

/// All namespaces.
const NAMES: [&str; 6] = ["lan", "lan2", "node", "node2", "node3", "box"];

impl Nets {
    /// Makes the host, with somebody who listens everywhere.
    fn begin() -> Self {
        prepare();
        let nets = Self { arrived: Arrived::default(), sent: 0 };
        for name in NAMES {
            let arrived = nets.arrived.clone();
            within(name, move || listen(&arrived));
        }
        listen(&nets.arrived);
        let secret = TcpListener::bind((Ipv4Addr::LOCALHOST, SECRET)).unwrap();
        std::thread::spawn(move || {
            secret.incoming().for_each(|it| drop(it.unwrap().write_all(b"x")));
        });
        nets
    }

    /// Tries all attacks; none may succeed.
    pub fn is_closed(&mut self, when: &str) {
        assert_eq!(self.attacks(SHORT), BTreeSet::new(), "{when}");
    }

    /// Tries all attacks but one: what is sent to this host itself needs no route, so only the table can tell that its
    /// source is forged.
    pub fn is_closed_without_table(&mut self, when: &str) {
        let mut found = self.attacks(SHORT);
        found.remove("forged to host");
        assert_eq!(found, BTreeSet::new(), "{when}");
    }

    pub fn node_gets_out(&mut self, when: &str) {
        let seen = self.tcp("node", LAN, PORT, LONG);
        assert_eq!(seen.as_deref(), Some(HOST), "{when}: a node is seen as the host");
        assert!(self.tcp("", NODE, PORT, LONG).is_some(), "{when}: this host reaches nodes");
    }

    /// Opens a connection over which what is sent comes back.
    pub fn echo(&self, from: &'static str, to: &'static str) -> TcpStream {
        let mut stream = within(from, move || TcpStream::connect((to, ECHO))).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        comes_back(&mut stream);
        stream
    }

    /// Returns the attacks that succeed.
    pub fn attacks(&mut self, limit: Duration) -> BTreeSet<&'static str> {
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
    pub fn tcp(&self, from: &'static str, to: &str, port: u16, limit: Duration) -> Option<String> {
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
    pub fn udp(&mut self, from: &'static str, source: &str, to: &str) -> String {
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

fn prepare() {
    run("mount -t tmpfs none /run");
    std::fs::create_dir("/run/bin").unwrap();
    symlink(std::env::var(PART).unwrap(), "/run/bin/iptables").unwrap();
    // It is installed, and will start; see `firewall::has_docker`.
    run("mount -t tmpfs none /usr/local/bin");
    std::fs::write("/usr/local/bin/dockerd", "").unwrap();
    run("ip link set lo up");
    std::fs::write(FORWARDING, "0").unwrap();
    for name in NAMES {
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
        ("node3", "tap2", "", THIRD_NODE),
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

/// Sends something, which has to come back.
pub fn comes_back(stream: &mut TcpStream) {
    let mut answer = [0; 4];
    stream.write_all(b"word").unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"word");
}

/// Puts a node's interface on a bridge, as QEMU's tap would be.
pub fn attach(name: &str, bridge: &str) {
    let port = match name {
        "node" => "tap0",
        "node2" => "tap1",
        _ => "tap2",
    };
    run(&format!("ip link set {port} master {bridge} up"));
}

/// Runs something in a namespace; in this one without a name.
pub fn within<T: Send + 'static>(
    name: &'static str,
    act: impl FnOnce() -> T + Send + 'static,
) -> T {
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
    let echo = TcpListener::bind(("::", ECHO)).unwrap();
    std::thread::spawn(move || {
        for stream in echo.incoming() {
            std::thread::spawn(move || {
                let stream = stream.unwrap();
                let _ = std::io::copy(&mut &stream, &mut &stream);
            });
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
pub fn traces() -> String {
    let said = |line: &str| String::from_utf8(command(line).output().unwrap().stdout).unwrap();
    let mut text = said("nft -s list ruleset") + &said("ip rule");
    if Path::new("/proc/net/ip_tables_names").exists() {
        let saved = said("iptables-save");
        let rules = saved.lines().filter(|line| line.starts_with("-A") || line.starts_with("-N"));
        text.extend(rules.map(|line| format!("{line}\n")));
    }
    for name in ["skep-a", "skep-b", "skep-c"] {
        text += &said(&format!("ip link show {name}"));
    }
    text + &format!("{}", Path::new("/run/skep-forwarding").exists())
}
