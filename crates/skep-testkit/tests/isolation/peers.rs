//! Two clusters reach each other if both name each other, and only then: of root, and of a user whose requests go to the
//! privileged helper.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};
use skep_core::model::{Admits, NetworkRecord};
use skep_net::network::claims::{self, STATE};
use skep_net::network::{HostNetwork, LinuxNetwork, Network, RootNetwork};
use skep_net::privileged_helper::{PROTOCOL, serve};
use skep_store::Owner;
use skep_testkit::host::{run, set_up_for_users};

use super::nets::{
    HOST, LAN, LONG, NODE, Nets, OTHER_NODE, PORT, SHORT, THIRD_NODE, attach, host, traces,
};
use super::{docker_is_removed, docker_starts};

const ROOT: u32 = 0;
const ALICE: u32 = 1000;
const MALLORY: u32 = 1001;

#[test]
fn clusters_that_name_each_other_reach_each_other_on_nftables() {
    let test = "peers::clusters_that_name_each_other_reach_each_other_on_nftables";
    host(test, "iptables-nft", story);
}

#[test]
fn clusters_that_name_each_other_reach_each_other_on_legacy_iptables() {
    let test = "peers::clusters_that_name_each_other_reach_each_other_on_legacy_iptables";
    host(test, "iptables-legacy", story);
}

async fn story(mut nets: Nets) {
    set_up_for_users();
    let before = traces();
    for user in [ROOT, ALICE] {
        clusters_of(user, &mut nets).await;
        assert_eq!(traces(), before, "nothing is left of user {user}");
        assert!(claims::read(Path::new(STATE)).unwrap().is_empty());
    }
}

async fn clusters_of(user: u32, nets: &mut Nets) {
    let cluster = |name, number| Cluster::new(user, name, number);
    let (a, b, c) = (cluster("a", 0), cluster("b", 1), cluster("c", 2));
    for (node, cluster) in [("node", &a), ("node2", &b), ("node3", &c)] {
        cluster.up(&[]).await;
        attach(node, &cluster.network.bridge);
    }
    are_apart(nets, "no peers");
    a.up(&["b", "c", "nobody"]).await;
    are_apart(nets, "one names the other");
    assert!(a.is_as_wanted().await);

    // What one side says now is all that was missing: the rules of the other are mended as well.
    b.up(&["a"]).await;
    assert!(a.is_as_wanted().await && b.is_as_wanted().await);
    are_together(nets, "both name each other");
    assert_eq!(nets.tcp("node", LAN, PORT, LONG).as_deref(), Some(HOST), "outside it is the host");
    a.up(&["b", "c", "nobody"]).await;
    are_together(nets, "an `up` again");

    run("nft flush ruleset");
    assert!(!a.is_as_wanted().await);
    are_apart(nets, "flushed");
    for (cluster, peers) in [(&a, &["b"][..]), (&b, &["a"]), (&c, &[])] {
        cluster.up(peers).await;
    }
    are_together(nets, "mended");
    docker_starts();
    are_together(nets, "Docker has started");
    docker_is_removed();
    // It has taken the rules of clusters with it.
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
    for (cluster, peers) in [(&a, &["b"][..]), (&b, &["a"]), (&c, &[])] {
        cluster.up(peers).await;
    }

    b.up(&[]).await;
    assert!(a.is_as_wanted().await && b.is_as_wanted().await);
    are_apart(nets, "one gave the other up");
    b.up(&["a"]).await;
    are_together(nets, "and came back");

    // It goes, and another user's cluster of that name takes its place.
    b.down().await;
    assert!(a.is_as_wanted().await);
    are_apart(nets, "one is gone");
    let theirs = Cluster::new(MALLORY, "b", 1);
    theirs.up(&["a", "c"]).await;
    attach("node2", &theirs.network.bridge);
    a.up(&["b"]).await;
    are_apart(nets, "of another user");
    for cluster in [&theirs, &a, &c] {
        cluster.down().await;
    }
}

/// Two of the three clusters reach each other, each seen with its own address, and nothing else is open.
fn are_together(nets: &mut Nets, when: &str) {
    let seen = nets.tcp("node", OTHER_NODE, PORT, LONG);
    assert_eq!(seen.as_deref(), Some(NODE), "{when}");
    let seen = nets.tcp("node2", NODE, PORT, LONG);
    assert_eq!(seen.as_deref(), Some(OTHER_NODE), "{when}: the other way");
    // A hardware address says nothing where packets are routed.
    let open = BTreeSet::from(["other cluster", "forged hardware address"]);
    assert_eq!(nets.attacks(SHORT), open, "{when}");
    is_third_apart(nets, when);
}

fn are_apart(nets: &mut Nets, when: &str) {
    nets.is_closed_without_table(when);
    assert_eq!(nets.tcp("node2", NODE, PORT, SHORT), None, "{when}: the other way");
    is_third_apart(nets, when);
}

fn is_third_apart(nets: &Nets, when: &str) {
    for (from, to) in
        [("node3", NODE), ("node3", OTHER_NODE), ("node", THIRD_NODE), ("node2", THIRD_NODE)]
    {
        assert_eq!(nets.tcp(from, to, PORT, SHORT), None, "{when}: {from} to {to}");
    }
}

/// A cluster's network.
struct Cluster {
    network: NetworkRecord,
    owner: Owner,
}

impl Cluster {
    fn new(user: u32, name: &str, number: u8) -> Self {
        let subnet = format!("10.193.{number}.0/24").parse().unwrap();
        Self {
            network: NetworkRecord { subnet, bridge: format!("skep-{name}") },
            owner: Owner { cluster: name.parse().unwrap(), store: "/s".into(), user },
        }
    }

    /// Does what `up` does of the network.
    async fn up(&self, peers: &[&str]) {
        if self.owner.user == ROOT {
            let peers = peers.iter().map(|peer| peer.parse().unwrap()).collect();
            let admits = Admits { peers, ..Admits::default() };
            RootNetwork.ensure_bridge(&self.network, &self.owner).await.unwrap();
            return RootNetwork.ensure_firewall(&self.network, &self.owner, &admits).await.unwrap();
        }
        let place = json!({"network": self.network, "cluster": self.owner.cluster, "store": "/s"});
        self.ask(json!({"ensure-bridge": place})).await;
        self.ask(json!({"ensure-firewall": {"place": place, "hosts": [], "peers": peers}})).await;
    }

    async fn down(&self) {
        let bridge = &self.network.bridge;
        if self.owner.user == ROOT {
            RootNetwork.remove_firewall(bridge).await.unwrap();
            return RootNetwork.remove_link(bridge).await.unwrap();
        }
        self.ask(json!({"remove-firewall": bridge})).await;
        self.ask(json!({"remove-link": bridge})).await;
    }

    /// Tells whether `up` would find its rules as they should be.
    async fn is_as_wanted(&self) -> bool {
        let seen: HostNetwork = LinuxNetwork::host().look().await.unwrap();
        seen.has_bridge(&self.network) && seen.has_firewall(&self.network)
    }

    async fn ask(&self, act: Value) {
        let (mut near, far) = UnixStream::pair().unwrap();
        write!(near, "{}", json!({"protocol": PROTOCOL, "act": act})).unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        serve(far.as_fd(), self.owner.user, Path::new(STATE), "1").await.unwrap();
        drop(far);
        let mut answer = String::new();
        near.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "\"done\"", "{act}");
    }
}
