//! Clusters, the host's loopback and the outside are kept apart, with real packets in namespaces: while networks are made,
//! mended and removed, after each step; after all rules were flushed; and beside Docker's rules. Every attack succeeds
//! on bridges without rules, so one that fails later was prevented.

use std::collections::BTreeSet;
use std::path::Path;

use skep_core::model::{Admits, NetworkRecord};
use skep_net::network::{LinuxNetwork, Network};
use skep_store::Owner;
use skep_testkit::host::{command, run};

use nets::{
    CONTAINER, FORWARDING, HOST, LAN, LONG, NODE, Nets, OTHER_NODE, PORT, SHORT, attach, host,
    traces,
};

#[path = "isolation/nets.rs"]
mod nets;
#[path = "isolation/others.rs"]
mod others;
#[path = "isolation/peers.rs"]
mod peers;

#[test]
fn nothing_passes_that_was_not_opened_on_nftables() {
    host("nothing_passes_that_was_not_opened_on_nftables", "iptables-nft", story);
}

#[test]
fn nothing_passes_that_was_not_opened_on_legacy_iptables() {
    host("nothing_passes_that_was_not_opened_on_legacy_iptables", "iptables-legacy", story);
}

async fn story(mut nets: Nets) {
    control(&mut nets);

    let network = |subnet: &str, bridge: &str| NetworkRecord {
        subnet: subnet.parse().unwrap(),
        bridge: bridge.into(),
    };
    let (a, b) = (network("10.193.0.0/24", "skep-a"), network("10.193.1.0/24", "skep-b"));
    let owner = |name: &str| Owner { cluster: name.parse().unwrap(), store: "/".into(), user: 0 };
    let (of_a, of_b) = (owner("a"), owner("b"));
    let before = traces();
    let here = LinuxNetwork::host();

    here.ensure_bridge(&a, &of_a).await.unwrap();
    attach("node", "skep-a");
    nets.is_closed_without_table("one bridge");
    here.ensure_firewall(&a, &of_a, &Admits::default()).await.unwrap();
    nets.is_closed("one cluster");
    nets.node_gets_out("one cluster");
    here.ensure_bridge(&b, &of_b).await.unwrap();
    attach("node2", "skep-b");
    nets.is_closed("a cluster and a bridge");
    here.ensure_firewall(&b, &of_b, &Admits::default()).await.unwrap();
    nets.is_closed("two clusters");
    nets.node_gets_out("two clusters");
    assert_eq!(nets.tcp("node2", LAN, PORT, LONG).as_deref(), Some(HOST));
    assert_eq!(std::fs::read_to_string(FORWARDING).unwrap(), "0\n", "the host is no router");

    // A mending `up`, and one of a host that lets a host of the cluster in.
    here.ensure_bridge(&a, &of_a).await.unwrap();
    nets.is_closed("a bridge again");
    let lan = Admits { hosts: vec![LAN.parse().unwrap()], ..Admits::default() };
    here.ensure_firewall(&a, &of_a, &lan).await.unwrap();
    let seen = here.look().await.unwrap();
    assert_eq!(seen.admitted(&a), lan);
    assert_eq!(nets.tcp("lan", NODE, PORT, LONG).as_deref(), Some(LAN), "it was let in");
    assert_eq!(nets.tcp("lan", OTHER_NODE, PORT, SHORT), None, "only there");
    assert_eq!(nets.tcp("lan2", NODE, PORT, SHORT), None, "and nobody else");
    here.ensure_firewall(&a, &of_a, &Admits::default()).await.unwrap();
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
    here.ensure_firewall(&a, &of_a, &Admits::default()).await.unwrap();
    nets.is_closed("one was mended");
    here.ensure_firewall(&b, &of_b, &Admits::default()).await.unwrap();
    // Routing rules that somebody took away: the table closes without them.
    run("ip rule flush");
    run("ip rule add pref 32766 lookup main");
    run("ip rule add pref 32767 lookup default");
    nets.is_closed("without rules of routing");
    assert!(!here.look().await.unwrap().has_bridge(&a), "that is seen");
    here.ensure_bridge(&a, &of_a).await.unwrap();
    here.ensure_bridge(&b, &of_b).await.unwrap();
    here.ensure_firewall(&a, &of_a, &Admits::default()).await.unwrap();
    here.ensure_firewall(&b, &of_b, &Admits::default()).await.unwrap();
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
    here.ensure_firewall(&a, &of_a, &Admits::default()).await.unwrap();
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
