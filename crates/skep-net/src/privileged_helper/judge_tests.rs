//! What users may and may not have done.

use std::collections::BTreeMap;

use skep_store::Owner;

use super::*;
use crate::firewall::Table;
use crate::network::claims::{Claim, Claims};

const ALICE: u32 = 1000;
const MALLORY: u32 = 1001;

fn network(bridge: &str, subnet: &str) -> NetworkRecord {
    NetworkRecord { subnet: subnet.parse().unwrap(), bridge: bridge.into() }
}

fn place(bridge: &str, subnet: &str) -> Place {
    let cluster = "demo".parse().unwrap();
    Place { network: network(bridge, subnet), cluster, store: "/store".into() }
}

fn owner(user: u32) -> Owner {
    Owner { cluster: "demo".parse().unwrap(), store: "/store".into(), user }
}

fn claim(user: u32, subnet: &str) -> Claim {
    let (cluster, subnet) = ("demo".into(), subnet.parse().unwrap());
    Claim { user, cluster, store: None, subnet, peers: Vec::new() }
}

/// A host with a cluster of root's, one of Alice's, and one of hers that has no bridge since the host was started.
fn host() -> HostNetwork {
    let bridges = [
        (network("skep-root", "10.193.0.0/24"), owner(0)),
        (network("skep-alice", "10.193.1.0/24"), owner(ALICE)),
        (network("eth0", "10.193.9.0/24"), owner(0)),
        (network("skt0ac10107", "192.0.2.0/24"), owner(0)),
    ];
    let tables = BTreeMap::from(
        ["skep-root", "skep-alice", "skep-stray"].map(|name| (name.to_owned(), Table::default())),
    );
    let claims = Claims::from([
        ("skep-alice".into(), claim(ALICE, "10.193.1.0/24")),
        ("skep-asleep".into(), claim(ALICE, "10.193.2.0/24")),
    ]);
    HostNetwork::of(bridges, tables).with_claims(claims)
}

fn grants() -> Grants {
    Grants { subnets: vec!["10.193.0.0/16".parse().unwrap()], hosts: true }
}

fn judged_with(grants: &Grants, act: &Act, user: u32) -> Result<(), String> {
    let names = ["localhost", "this-host", "taken.example"].map(str::to_owned);
    let host = host();
    let seen = Seen { host: &host, grants, names: &names, own_names: 0 };
    judge(act, user, &seen).map_err(|refusal| refusal.to_string())
}

fn seen_of<'a>(host: &'a HostNetwork, grants: &'a Grants, own_names: usize) -> Seen<'a> {
    Seen { host, grants, names: &[], own_names }
}

fn judged(act: &Act, user: u32) -> Result<(), String> {
    judged_with(&grants(), act, user)
}

fn firewall(bridge: &str, subnet: &str) -> Act {
    Act::EnsureFirewall { place: place(bridge, subnet), hosts: Vec::new(), peers: Vec::new() }
}

fn refused(act: &Act, user: u32, reason: &str) {
    let error = judged(act, user).expect_err(&format!("{act:?}"));
    assert!(error.contains(reason), "{act:?}: {error}");
}

#[test]
fn a_user_has_networks_of_his_own() {
    for act in [
        Act::EnsureBridge(place("skep-alice", "10.193.1.0/24")),
        Act::EnsureBridge(place("skep-asleep", "10.193.2.0/24")),
        firewall("skep-alice", "10.193.1.0/24"),
        Act::RemoveLink("skep-alice".into()),
        Act::RemoveFirewall("skep-alice".into()),
        Act::RemoveLink("skep-gone".into()),
        Act::Tap { name: "skt0ac10102".into(), place: place("skep-alice", "10.193.1.0/24") },
    ] {
        assert_eq!(judged(&act, ALICE), Ok(()), "{act:?}");
    }
}

#[test]
fn rules_are_for_bridges_that_are_there() {
    // Rules, and a claim, would stay of a network that nobody has made.
    for (bridge, subnet) in [("skep-new", "10.193.3.0/24"), ("skep-asleep", "10.193.2.0/24")] {
        refused(&firewall(bridge, subnet), ALICE, &format!("bridge {bridge} does not exist"));
    }
}

#[test]
fn a_cluster_has_a_few_peers() {
    let with = |count: usize| Act::EnsureFirewall {
        place: place("skep-alice", "10.193.1.0/24"),
        hosts: Vec::new(),
        peers: (0..count).map(|number| format!("c{number}").parse().unwrap()).collect(),
    };
    assert_eq!(judged(&with(16), ALICE), Ok(()));
    refused(&with(17), ALICE, "at most 16 peers");
}

#[test]
fn what_is_anothers_stays_so() {
    let his = |act: fn(Place) -> Act| act(place("skep-alice", "10.193.1.0/24"));
    let place_of_hers = place("skep-alice", "10.193.1.0/24");
    for act in [
        his(Act::EnsureBridge),
        firewall("skep-alice", "10.193.1.0/24"),
        Act::Tap { name: "skt0ac10102".into(), place: place_of_hers },
        Act::EnsureBridge(place("skep-root", "10.193.0.0/24")),
        firewall("skep-stray", "10.193.5.0/24"),
        Act::RemoveLink("skep-alice".into()),
        Act::RemoveLink("skep-root".into()),
        Act::RemoveFirewall("skep-asleep".into()),
        Act::RemoveFirewall("skep-stray".into()),
    ] {
        refused(&act, MALLORY, "belongs to another user");
    }
}

#[test]
fn names_of_bridges_are_skeps() {
    for name in [
        "",
        "eth0",
        "docker0",
        "skep-",
        "skep-../x",
        "skep-a/b",
        "skep-a b",
        "skep-a;b",
        "skep-A",
        "skep-\u{e9}",
        "skep-a\n",
        "skep-%d",
        "skep-a+",
        "-skep-a",
        "skep-sixteen-let",
        "skt0ac10102",
    ] {
        let what = "no name of a cluster's bridge";
        refused(&Act::EnsureBridge(place(name, "10.193.3.0/24")), MALLORY, what);
        refused(&firewall(name, "10.193.3.0/24"), MALLORY, what);
        refused(&Act::RemoveLink(name.into()), MALLORY, what);
        refused(&Act::RemoveFirewall(name.into()), MALLORY, what);
    }
}

#[test]
fn subnets_are_from_the_pool_and_nobodys() {
    for (subnet, reason) in [
        ("10.194.0.0/24", "is not in 10.193.0.0/16"),
        ("0.0.0.0/0", "is not in"),
        ("10.0.0.0/8", "is not in"),
        ("127.0.0.0/24", "is not in"),
        ("192.0.2.0/24", "is not in"),
        ("10.193.3.1/24", "is not in"),
        ("10.193.3.0/30", "is not in"),
        ("10.193.0.0/16", "overlaps 10.193.9.0/24, which eth0 uses"),
        ("10.193.9.128/25", "which eth0 uses"),
        ("10.193.1.0/25", "which skep-alice uses"),
        ("10.193.2.0/24", "which skep-asleep uses"),
        ("10.193.0.0/23", "which skep-"),
    ] {
        let reason = reason.replace("10.193.9.0/24, which eth0", "10.193.");
        let reason = reason.split(" uses").next().unwrap();
        refused(&Act::EnsureBridge(place("skep-new", subnet)), MALLORY, reason);
    }
    let act = Act::EnsureBridge(place("skep-alice", "10.193.7.0/24"));
    refused(&act, ALICE, "is not the subnet of the network");
    let act = Act::EnsureBridge(place("skep-new", "10.193.3.0/24"));
    let nothing = judged_with(&Grants::default(), &act, ALICE).unwrap_err();
    assert!(nothing.contains("sudo skep setup --subnets"), "{nothing}");
}

#[test]
fn taps_are_of_nodes_in_the_network() {
    let tap = |name: &str, bridge: &str, subnet: &str| Act::Tap {
        name: name.into(),
        place: place(bridge, subnet),
    };
    for name in [
        "",
        "eth0",
        "skt%d",
        "skt",
        "skt0ac10202",
        "skt0ac10101",
        "skt0ac10100",
        "skt0ac101ff",
        "skt0AC10102",
        "skt+ac10102",
        "skt0ac101020",
        "skt/../etc",
    ] {
        refused(&tap(name, "skep-alice", "10.193.1.0/24"), ALICE, "no name of a tap");
    }
    let there = tap("skt0ac10107", "skep-alice", "10.193.1.0/24");
    refused(&there, ALICE, "exists already");
    let asleep = tap("skt0ac10202", "skep-asleep", "10.193.2.0/24");
    refused(&asleep, ALICE, "bridge skep-asleep does not exist yet");
}

#[test]
fn names_are_new_and_lead_to_own_nodes() {
    let names = |name: &str, address: [u8; 4]| Act::Names {
        cluster: "demo".parse().unwrap(),
        store: "/store".into(),
        names: vec![Name { name: name.into(), address: address.into() }],
    };
    let fine = names("shop.example", [10, 193, 1, 2]);
    assert_eq!(judged(&fine, ALICE), Ok(()));
    refused(&fine, MALLORY, "no node's address");
    refused(&names("shop.example", [192, 0, 2, 1]), ALICE, "no node's address");
    refused(&names("Taken.example", [10, 193, 1, 2]), ALICE, "is in /etc/hosts already");
    refused(&names("taken.example", [10, 193, 1, 2]), ALICE, "is in /etc/hosts already");
    refused(&names("this-host", [10, 193, 1, 2]), ALICE, "is in /etc/hosts already");
    for bad in ["", "localhost", "a b", "a\n127.0.0.1 b", "# END skep:x", "a/b"] {
        refused(&names(bad, [10, 193, 1, 2]), ALICE, "not a host name");
    }
    let without = Grants { hosts: false, ..grants() };
    let error = judged_with(&without, &fine, ALICE).unwrap_err();
    assert!(error.contains("sudo skep setup --hosts"), "{error}");
    let Act::Names { cluster, store, .. } = fine else { unreachable!() };
    let none = Act::Names { cluster, store, names: Vec::new() };
    assert_eq!(judged_with(&without, &none, ALICE), Ok(()), "a block can be taken away");
}

#[test]
fn one_user_does_not_take_all_subnets() {
    let claims: Claims = (0..32)
        .map(|n| (format!("skep-m{n}"), claim(MALLORY, &format!("10.193.{}.0/24", 100 + n))))
        .collect();
    let host = host().with_claims(claims);
    let grants = grants();
    let seen = seen_of(&host, &grants, 0);
    let act = Act::EnsureBridge(place("skep-new", "10.193.3.0/24"));
    assert_eq!(judge(&act, MALLORY, &seen), Err(Refusal::TooMany));
    assert_eq!(judge(&act, ALICE, &seen), Ok(()));
}

#[test]
fn one_user_does_not_take_all_addresses() {
    let host = host();
    let grants = grants();
    let seen = seen_of(&host, &grants, 0);
    let large = Act::EnsureBridge(place("skep-new", "10.193.4.0/23"));
    let subnet = "10.193.4.0/23".parse().unwrap();
    assert_eq!(judge(&large, MALLORY, &seen), Err(Refusal::TooLarge { subnet }));
    // Sixteen networks with all of the addresses, and room for more networks.
    let claims: Claims = (0..16)
        .map(|n| (format!("skep-m{n}"), claim(MALLORY, &format!("10.193.{}.0/24", 100 + n))))
        .collect();
    let host = host.clone().with_claims(claims);
    let seen = Seen { host: &host, ..seen };
    let small = Act::EnsureBridge(place("skep-new", "10.193.4.0/29"));
    assert_eq!(judge(&small, MALLORY, &seen), Err(Refusal::TooManyAddresses));
    assert_eq!(judge(&small, ALICE, &seen), Ok(()));
    // What a user has already is not counted again.
    let had = Act::EnsureBridge(place("skep-m3", "10.193.103.0/24"));
    assert_eq!(judge(&had, MALLORY, &seen), Ok(()));
}

#[test]
fn one_user_does_not_fill_the_hosts_names() {
    let host = host();
    let grants = grants();
    let seen = |own_names| seen_of(&host, &grants, own_names);
    let act = |cluster: &str, count: u8| Act::Names {
        cluster: cluster.parse().unwrap(),
        store: "/store".into(),
        names: (0..count)
            .map(|n| Name { name: format!("n{n}.example"), address: [10, 193, 1, 2].into() })
            .collect(),
    };
    assert_eq!(judge(&act("demo", 64), ALICE, &seen(0)), Ok(()));
    assert_eq!(judge(&act("demo", 65), ALICE, &seen(0)), Err(Refusal::TooManyNames));
    assert_eq!(judge(&act("demo", 4), ALICE, &seen(60)), Ok(()));
    assert_eq!(judge(&act("demo", 5), ALICE, &seen(60)), Err(Refusal::TooManyNames));
    // Names are those of a cluster that has a network.
    let error = judge(&act("other", 1), ALICE, &seen(0)).unwrap_err();
    assert_eq!(error, Refusal::NoNode([10, 193, 1, 2].into()));
}

#[test]
fn one_user_has_a_few_loose_taps() {
    let taps = |count: u32| {
        let tap = |n| (network(&format!("skt-{MALLORY:x}-{n}"), "192.0.2.0/24"), owner(0));
        HostNetwork::of((0..count).map(tap), BTreeMap::new())
    };
    let grants = grants();
    let judged = |host: &HostNetwork, user| {
        let seen = seen_of(host, &grants, 0);
        judge(&Act::LooseTap, user, &seen)
    };
    assert_eq!(judged(&taps(7), MALLORY), Ok(()));
    assert_eq!(judged(&taps(8), MALLORY), Err(Refusal::TooManyLooseTaps));
    assert_eq!(judged(&taps(8), ALICE), Ok(()));
}

#[test]
fn clusters_of_one_user_do_not_take_each_others() {
    let mut other = place("skep-alice", "10.193.1.0/24");
    other.cluster = "other".parse().unwrap();
    let error = judged(&Act::EnsureBridge(other), ALICE).unwrap_err();
    assert!(error.contains("belongs to another user or cluster"), "{error}");
}

#[test]
fn a_request_has_nothing_that_is_not_known() {
    use crate::remote::Request;
    let read = |text: &str| serde_json::from_str::<Request>(text).is_ok();
    assert!(read(r#"{"protocol": 2, "act": "look"}"#));
    assert!(read(r#"{"protocol": 2, "act": {"remove-link": "skep-a"}}"#));
    for bad in [
        r#"{"protocol": 2, "act": "shell"}"#,
        r#"{"protocol": 2, "act": "look", "user": 0}"#,
        r#"{"protocol": 2, "act": {"remove-link": ["skep-a", "skep-b"]}}"#,
        r#"{"protocol": 2, "act": {"ensure-bridge": {"network": {"subnet": "10.193.0.0/24",
            "bridge": "skep-a"}, "cluster": "../etc", "store": "/"}}}"#,
        r#"{"protocol": 2, "act": {"tap": {"name": "skt0"}}}"#,
        "[]",
        "",
    ] {
        assert!(!read(bad), "{bad}");
    }
}

#[test]
fn root_connects_to_nobody() {
    let error = judged(&Act::Connect("127.0.0.1:22".parse().unwrap()), ALICE).unwrap_err();
    assert_eq!(error, "skep-net connects to nobody");
}
