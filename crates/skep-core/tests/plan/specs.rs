//! Clusters to plan, named and random ones.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use skep_core::model::{
    Access, Availability, ClusterSpec, ContainerImage, HostSpec, HostnameSpec, ImageSet, ImageSpec,
    NodeKind, NodeName, NodeSpec, RegistrySpec, Role, Shape, Size, TrustedRegistry,
};

use crate::carry_out::Crash;
use crate::world::Damage;

/// Returns the specification of a cluster `demo`: first the managers, then the workers.
pub fn demo(managers: usize, workers: usize) -> ClusterSpec {
    let role = |index| if index < managers { Role::Manager } else { Role::Worker };
    ClusterSpec {
        name: "demo".parse().unwrap(),
        image: ImageSpec::default(),
        subnet: None,
        nodes: (0..managers + workers).map(|index| node(index, role(index))).collect(),
        hostnames: Vec::new(),
        images: Vec::new(),
        access: Access::default(),
        peers: Vec::new(),
        registry: None,
        trusted: None,
    }
}

pub fn node(index: usize, role: Role) -> NodeSpec {
    let kind = NodeKind::Vm(Shape { disk: Size::gib(10), ..Shape::DEFAULT });
    NodeSpec { kind, ..NodeSpec::machine(NodeName::numbered(index), role) }
}

pub fn name(index: usize) -> NodeName {
    NodeName::numbered(index)
}

pub fn hostname(name: &str, node: Option<usize>) -> HostnameSpec {
    HostnameSpec { name: name.parse().unwrap(), node: node.map(NodeName::numbered), follow: false }
}

/// Returns images of one source; the name of an image and its ID are its number's.
pub fn images(source: &str, numbers: &[u8]) -> ImageSet {
    let image = |number: &u8| ContainerImage {
        id: format!("sha256:{number}"),
        names: vec![format!("app:{number}")],
    };
    ImageSet { source: source.to_owned(), images: numbers.iter().map(image).collect() }
}

/// Returns a registry on a node.
pub fn registry(node: usize, runs: bool) -> RegistrySpec {
    let (node, port) = (NodeName::numbered(node), RegistrySpec::DEFAULT_PORT);
    RegistrySpec { node, port, mirror: None, runs }
}

/// Any cluster of 1 to 5 managers and up to 4 workers, in any order, with labels and hostnames.
pub fn any_spec() -> impl Strategy<Value = ClusterSpec> {
    let roles = (1usize..=5, 0usize..=4).prop_flat_map(|(managers, workers)| {
        let mut roles = vec![Role::Manager; managers];
        roles.resize(managers + workers, Role::Worker);
        Just(roles).prop_shuffle()
    });
    roles.prop_flat_map(any_spec_of)
}

/// Any cluster whose nodes have these roles.
pub fn any_spec_of(roles: Vec<Role>) -> impl Strategy<Value = ClusterSpec> {
    let labels = proptest::collection::btree_map("[a-c]", "[12]", 0..3);
    let labels = proptest::collection::vec(labels, roles.len());
    let availability = prop_oneof![
        4 => Just(None),
        1 => Just(Some(Availability::Active)),
        1 => Just(Some(Availability::Drain)),
    ];
    let availability = proptest::collection::vec(availability, roles.len());
    let target = proptest::option::of(0..roles.len());
    let hostnames = proptest::collection::btree_map("[a-c]\\.example", target, 0..3);
    let images = proptest::collection::vec(1u8..4, 0..3);
    let registry = prop_oneof![2 => Just(None), 1 => any::<bool>().prop_map(Some)];
    let peers = proptest::collection::btree_set("[x-z]", 0..2);
    (labels, availability, hostnames, images, registry, peers).prop_map(
        move |(labels, availability, hostnames, images, registry, peers)| {
            let mut spec = demo(0, 0);
            spec.peers = peers.iter().map(|peer| peer.parse().unwrap()).collect();
            let nodes = roles.iter().zip(labels).zip(availability).enumerate();
            let nodes = nodes.map(|(at, ((role, labels), availability))| NodeSpec {
                labels,
                availability,
                ..any_node(at, *role)
            });
            spec.nodes = nodes.collect();
            spec.hostnames =
                hostnames.into_iter().map(|(name, target)| hostname(&name, target)).collect();
            spec.images =
                images.into_iter().map(|number| self::images("app.tar", &[number])).collect();
            spec.registry = registry.map(|runs| self::registry(0, runs));
            let hub = TrustedRegistry { at: "hub.example:5000".into(), ca: Some("it".into()) };
            spec.trusted = registry.map(|runs| if runs { vec![hub] } else { Vec::new() });
            spec
        },
    )
}

/// Returns a node that is a host if its number says so.
fn any_node(index: usize, role: Role) -> NodeSpec {
    if index % 4 == 3 { host(index, role) } else { node(index, role) }
}

/// Returns a node that is a host that exists already.
pub fn host(index: usize, role: Role) -> NodeSpec {
    let last = u8::try_from(index).expect("there are few nodes");
    let host = HostSpec {
        address: Ipv4Addr::new(192, 0, 2, last),
        user: "admin".to_owned(),
        port: 22,
        key: None,
        install_url: None,
    };
    NodeSpec { kind: NodeKind::Host(host), ..node(index, role) }
}

/// Where a run may be cut off: most often while machines and the swarm are made.
pub fn any_crash() -> impl Strategy<Value = Crash> {
    (0usize..60, any::<bool>()).prop_map(|(after, midway)| Crash { after, midway })
}

pub fn any_damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => any::<u8>().prop_map(Damage::Killed),
        1 => any::<u8>().prop_map(Damage::Paused),
        1 => any::<u8>().prop_map(Damage::Crashed),
        1 => Just(Damage::Restarted),
        1 => Just(Damage::NoBridge),
        1 => Just(Damage::NoFirewall),
        1 => Just(Damage::NoHosts),
        1 => Just(Damage::NoCertificates),
        1 => Just(Damage::NoImage),
        2 => any::<u8>().prop_map(Damage::NoDisk),
        2 => any::<u8>().prop_map(Damage::NoNode),
    ]
}

/// Any two specifications of one cluster. Roles change only where no node is dropped: a node that
/// is kept and not wanted may be needed for a majority, and Docker rightly refuses then.
pub fn any_change() -> impl Strategy<Value = (ClusterSpec, ClusterSpec)> {
    any_spec().prop_flat_map(|before| {
        let count = before.nodes.len();
        let roles: Vec<_> = before.nodes.iter().map(|node| node.role).collect();
        let promote = vec![Role::Manager; count];
        let changed = prop_oneof![3 => Just(roles.clone()).prop_shuffle(), 1 => Just(promote)];
        let grown = [&roles[..], &[Role::Manager, Role::Worker]].concat();
        let fewer = (Just(roles), 1..=count).prop_map(|(mut roles, kept)| {
            roles.truncate(kept);
            roles[0] = Role::Manager;
            roles
        });
        let roles = prop_oneof![2 => changed, 1 => fewer, 1 => Just(grown)];
        (Just(before), roles.prop_flat_map(any_spec_of))
    })
}
