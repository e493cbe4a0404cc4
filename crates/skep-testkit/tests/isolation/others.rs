//! What isolates clusters holds beside what others really do on a host: Docker's engine starts, stops and starts again,
//! firewalld and ufw load their rules again. And an earlier version's table is replaced while it is in use.

use std::collections::BTreeSet;
use std::path::Path;

use skep_core::model::{Admits, NetworkRecord};
use skep_net::host_firewall::{Action, Backend, Ruleset, run_here};
use skep_net::network::{LinuxNetwork, Network};
use skep_store::Owner;
use skep_testkit::daemons::{Docker, firewalld, own_etc};
use skep_testkit::host::{are_installed, run, skip};

use super::nets::{
    CONTAINER, FORWARDING, LAN, LONG, NODE, Nets, PORT, SHORT, attach, comes_back, host, traces,
};

#[test]
fn a_docker_that_starts_and_stops_opens_nothing_on_nftables() {
    let test = "others::a_docker_that_starts_and_stops_opens_nothing_on_nftables";
    match Docker::find() {
        Some(_) => host(test, "iptables-nft", docker),
        None => skip("there is no dockerd; scripts/test unpacks it"),
    }
}

#[test]
fn a_docker_that_starts_and_stops_opens_nothing_on_legacy_iptables() {
    let test = "others::a_docker_that_starts_and_stops_opens_nothing_on_legacy_iptables";
    match Docker::find() {
        Some(_) => host(test, "iptables-legacy", docker),
        None => skip("there is no dockerd; scripts/test unpacks it"),
    }
}

#[test]
fn firewalld_that_loads_its_rules_again_opens_nothing() {
    if are_installed(&["firewalld", "dbus-daemon"]) {
        let test = "others::firewalld_that_loads_its_rules_again_opens_nothing";
        host(test, "iptables-nft", async |nets| {
            own_etc();
            let _running = firewalld("public");
            // It also empties the tables of iptables, where a Docker that comes later is provided for, until the next `up`.
            firewall(nets, Backend::Firewalld, "firewall-cmd --reload").await;
        });
    }
}

#[test]
fn ufw_that_loads_its_rules_again_opens_nothing() {
    if are_installed(&["ufw"]) {
        let test = "others::ufw_that_loads_its_rules_again_opens_nothing";
        host(test, "iptables-nft", async |nets| {
            own_etc();
            run("ufw --force enable");
            firewall(nets, Backend::Ufw, "ufw reload").await;
        });
    }
}

#[test]
fn a_table_of_an_earlier_version_is_replaced_while_it_is_in_use() {
    let test = "others::a_table_of_an_earlier_version_is_replaced_while_it_is_in_use";
    host(test, "iptables-nft", earlier_version);
}

struct Cluster {
    network: NetworkRecord,
    owner: Owner,
}

impl Cluster {
    fn new(name: &str, number: u8) -> Self {
        let subnet = format!("10.193.{number}.0/24").parse().unwrap();
        Self {
            network: NetworkRecord { subnet, bridge: format!("skep-{name}") },
            owner: Owner { cluster: name.parse().unwrap(), store: "/".into(), user: 0 },
        }
    }

    /// Does what `up` does of the network.
    async fn up(&self) {
        LinuxNetwork::host().ensure_bridge(&self.network, &self.owner).await.unwrap();
        let nobody = Admits::default();
        LinuxNetwork::host().ensure_firewall(&self.network, &self.owner, &nobody).await.unwrap();
    }

    async fn down(&self) {
        LinuxNetwork::host().remove_firewall(&self.network.bridge).await.unwrap();
        LinuxNetwork::host().remove_link(&self.network.bridge).await.unwrap();
    }

    async fn has_rules(&self) -> bool {
        LinuxNetwork::host().look().await.unwrap().has_firewall(&self.network)
    }
}

async fn two_clusters() -> [Cluster; 2] {
    let clusters = [Cluster::new("a", 0), Cluster::new("b", 1)];
    for (cluster, node) in clusters.iter().zip(["node", "node2"]) {
        cluster.up().await;
        attach(node, &cluster.network.bridge);
    }
    clusters
}

async fn docker(mut nets: Nets) {
    let docker = Docker::find().unwrap();
    let clusters = two_clusters().await;
    for when in ["Docker started", "Docker started again"] {
        let running = docker.start();
        run("ip link set box0 master docker0 up");
        nets.is_closed(when);
        nets.node_gets_out(when);
        containers_are_apart(&nets, when);
        // A mending `up` beside it.
        for cluster in &clusters {
            cluster.up().await;
        }
        nets.is_closed(&format!("{when}, and rules again"));
        nets.node_gets_out(when);
        containers_are_apart(&nets, when);
        running.stop();
        nets.is_closed("Docker stopped");
        nets.node_gets_out("Docker stopped");
    }
    let _running = docker.start();
    for cluster in &clusters {
        cluster.down().await;
    }
    LinuxNetwork::host().restore_forwarding(Path::new("/nowhere")).await.unwrap();
    assert_eq!(std::fs::read_to_string(FORWARDING).unwrap(), "1\n", "Docker relies on it");
    assert!(nets.tcp("box", LAN, PORT, LONG).is_some(), "its containers get out");
    let left = traces();
    assert!(!left.contains("skep"), "{left}");
}

fn containers_are_apart(nets: &Nets, when: &str) {
    assert!(nets.tcp("box", LAN, PORT, LONG).is_some(), "{when}: containers get out");
    assert_eq!(nets.tcp("box", NODE, PORT, SHORT), None, "{when}: and not into clusters");
    assert_eq!(nets.tcp("node", CONTAINER, PORT, SHORT), None, "{when}: nor nodes into them");
}

async fn firewall(mut nets: Nets, backend: Backend, reload: &str) {
    let tell = async |action| {
        run_here(&Ruleset::host().render(backend, action).unwrap()).await.unwrap();
    };
    let clusters = two_clusters().await;
    nets.is_closed("a firewall that was not told of clusters");
    tell(Action::Apply).await;
    for when in ["it was told", "loaded again", "and again"] {
        nets.is_closed(when);
        nets.node_gets_out(when);
        run(reload);
    }
    for cluster in &clusters {
        cluster.up().await;
        assert!(cluster.has_rules().await);
    }
    nets.is_closed("a mending up");
    nets.node_gets_out("a mending up");
    tell(Action::Remove).await;
    nets.is_closed("it was told to forget clusters");
    for cluster in &clusters {
        cluster.down().await;
    }
    nets.is_closed_without_table("without clusters");
}

/// What version 0.1 made, as its golden has it, with a published port; the host was a router, and nothing was isolated.
const EARLIER: &str = r#"table ip skep-a {
    chain owner-0123456789ab {
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr 10.193.0.0/24 ip daddr != 10.193.0.0/24 oifname != "skep-a" masquerade
    }
    chain publish-10.193.0.2-80 {
    }
    chain guests {
        type filter hook prerouting priority raw; policy accept;
        iifname "skep-a" ip daddr 127.0.0.0/8 drop
    }
    chain output {
        type nat hook output priority -100; policy accept;
        ip daddr 127.0.0.1 tcp dport { 80 } dnat to 10.193.0.2
    }
    chain loopback {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr 127.0.0.0/8 oifname "skep-a" masquerade
    }
}
"#;

async fn earlier_version(mut nets: Nets) {
    let (a, b) = (Cluster::new("a", 0), Cluster::new("b", 1));
    std::fs::write(FORWARDING, "1").unwrap();
    run("ip link add skep-a type bridge");
    run("ip address add 10.193.0.1/24 dev skep-a");
    run("ip link set skep-a up");
    let earlier = EARLIER.replace("0123456789ab", &a.owner.earlier_digest());
    std::fs::write("/run/earlier.nft", earlier).unwrap();
    run("nft -f /run/earlier.nft");
    run(&format!("ip link set skep-a alias {}", a.owner.earlier_mark()));
    std::fs::write("/proc/sys/net/ipv4/conf/skep-a/route_localnet", "1").unwrap();
    attach("node", "skep-a");
    nets.node_gets_out("an earlier version");
    let open = nets.attacks(SHORT);
    assert!(open.contains("LAN to node") && open.contains("forged outward"), "{open:?}");
    assert!(!a.has_rules().await, "that is seen");

    // A connection that is open goes on.
    let mut connection = nets.echo("node", LAN);
    a.up().await;
    assert!(a.has_rules().await);
    comes_back(&mut connection);
    // That made a router of the host, which it is until the last network of that time is gone.
    let router = BTreeSet::from(["LAN from LAN", "LAN to LAN"]);
    assert_eq!(nets.attacks(SHORT), router, "replaced");
    nets.node_gets_out("replaced");
    assert!(!traces().contains("table ip skep-a"), "{}", traces());
    b.up().await;
    attach("node2", "skep-b");
    assert_eq!(nets.attacks(SHORT), router, "beside another");
    for cluster in [a, b] {
        cluster.down().await;
    }
}
