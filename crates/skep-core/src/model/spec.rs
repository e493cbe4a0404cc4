//! What a user wants.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    Access, Admits, ClusterName, Hostname, ImageSet, ImageSpec, NodeName, NodeSpec, Publication,
    RegistrySpec, Role, TrustedRegistry,
};

/// A whole cluster as its user wants it, every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSpec {
    /// The cluster's name, unique in its store.
    pub name: ClusterName,
    /// The guest image of the nodes that are virtual machines.
    pub image: ImageSpec,
    /// The subnet of the nodes, or none to have a free one chosen.
    pub subnet: Option<Ipv4Net>,
    /// The nodes; the first manager forms the swarm.
    pub nodes: Vec<NodeSpec>,
    /// Names for the host's /etc/hosts.
    pub hostnames: Vec<HostnameSpec>,
    /// Container images that every engine is to have.
    pub images: Vec<ImageSet>,
    /// Ways to it from its host.
    pub access: Access,
    /// Clusters of the same store whose nodes and its own may reach each other, if they name it too.
    pub peers: Vec<ClusterName>,
    /// The registry that one of the nodes serves.
    pub registry: Option<RegistrySpec>,
    /// The registries that all engines are to trust; none at all if there were never any.
    pub trusted: Option<Vec<TrustedRegistry>>,
}

/// A name in the host's /etc/hosts and the node that it points at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostnameSpec {
    /// The name.
    pub name: Hostname,
    /// The node, or none for the first manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// Whether it points at another node while that one is down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
}

/// A specification that no cluster can follow.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpecError {
    /// There is nothing to make.
    #[error("a cluster needs at least one node")]
    NoNodes,
    /// A swarm needs a manager.
    #[error("a swarm needs at least one manager")]
    NoManager,
    /// Two nodes have one name.
    #[error("two nodes are named `{0}`")]
    DuplicateNode(NodeName),
    /// One name is to point at two nodes.
    #[error("the hostname `{0}` is used twice")]
    DuplicateHostname(Hostname),
    /// Two nodes are one host.
    #[error("{first} and {second} are the same host, {address}")]
    DuplicateHost {
        /// One node.
        first: NodeName,
        /// The other node.
        second: NodeName,
        /// Their address.
        address: Ipv4Addr,
    },
    /// A hostname points at a node that is not there.
    #[error("the hostname `{hostname}` points to `{node}`, which is not a node of the cluster")]
    UnknownNode {
        /// The hostname.
        hostname: Hostname,
        /// The node that does not exist.
        node: NodeName,
    },
    /// The subnet has too few addresses.
    #[error("the subnet {subnet} has room for {room} nodes; {nodes} are requested")]
    SubnetTooSmall {
        /// The subnet.
        subnet: Ipv4Net,
        /// How many nodes it can hold.
        room: usize,
        /// How many are wanted.
        nodes: usize,
    },
    /// More ports than can be told of.
    #[error("{0} published ports are requested; a cluster can have {most}", most = Publication::MOST)]
    TooManyPorts(usize),
    /// A cluster is its own peer.
    #[error("cluster {0} cannot be its own peer")]
    OwnPeer(ClusterName),
    /// More peers than can be opened to.
    #[error("{0} peers are requested; a cluster can have {most}", most = Admits::MOST_PEERS)]
    TooManyPeers(usize),
    /// The registry could not be served.
    #[error("{0}")]
    Registry(String),
    /// The guest image could not be made.
    #[error("{0}")]
    Image(String),
    /// A node could not run.
    #[error("{node}: {what}")]
    Node {
        /// The node.
        node: NodeName,
        /// What is wrong, and what is allowed.
        what: String,
    },
}

impl ClusterSpec {
    /// Returns everything that is wrong with the specification.
    #[must_use]
    pub fn problems(&self) -> Vec<SpecError> {
        let mut problems = Vec::new();
        if self.nodes.is_empty() {
            problems.push(SpecError::NoNodes);
        } else if self.managers().next().is_none() {
            problems.push(SpecError::NoManager);
        }
        for (index, node) in self.nodes.iter().enumerate() {
            if self.nodes[..index].iter().any(|other| other.name == node.name) {
                problems.push(SpecError::DuplicateNode(node.name.clone()));
            }
            let same = |other: &&NodeSpec| {
                node.host().is_some_and(|host| {
                    other.host().is_some_and(|other| other.address == host.address)
                })
            };
            if let (Some(host), Some(other)) = (node.host(), self.nodes[..index].iter().find(same))
            {
                problems.push(SpecError::DuplicateHost {
                    first: other.name.clone(),
                    second: node.name.clone(),
                    address: host.address,
                });
            }
            problems.extend(node.problems());
        }
        for (index, hostname) in self.hostnames.iter().enumerate() {
            if self.hostnames[..index].iter().any(|other| other.name == hostname.name) {
                problems.push(SpecError::DuplicateHostname(hostname.name.clone()));
            }
            if let Some(node) = &hostname.node
                && self.node(node).is_none()
            {
                problems.push(SpecError::UnknownNode {
                    hostname: hostname.name.clone(),
                    node: node.clone(),
                });
            }
        }
        if self.access.ports.len() > Publication::MOST {
            problems.push(SpecError::TooManyPorts(self.access.ports.len()));
        }
        if self.peers.contains(&self.name) {
            problems.push(SpecError::OwnPeer(self.name.clone()));
        }
        if self.peers.len() > Admits::MOST_PEERS {
            problems.push(SpecError::TooManyPeers(self.peers.len()));
        }
        problems.extend(self.registry_problems().into_iter().map(SpecError::Registry));
        problems.extend(self.image.problems().into_iter().map(SpecError::Image));
        if let Some(subnet) = self.subnet {
            let room = node_room(subnet);
            if room < self.nodes.len() {
                problems.push(SpecError::SubnetTooSmall { subnet, room, nodes: self.nodes.len() });
            }
        }
        problems
    }

    fn registry_problems(&self) -> Vec<String> {
        let mut problems = self.trust_problems();
        let Some(registry) = &self.registry else { return problems };
        problems.extend(registry.problems());
        match self.node(&registry.node) {
            None => problems.push(format!(
                "{}, which should run the registry, is not a node of the cluster",
                registry.node
            )),
            Some(node) if node.is_host() => problems.push(format!(
                "{} is an existing host; a registry needs a virtual machine",
                registry.node
            )),
            Some(_) => {}
        }
        problems
    }

    fn trust_problems(&self) -> Vec<String> {
        let trusted = self.trusted.as_deref().unwrap_or_default();
        let named = trusted.iter().filter(|it| !TrustedRegistry::is_name(&it.at));
        let mut problems: Vec<_> = named
            .map(|it| {
                format!("`{}` is not the name of a registry, such as hub.example:5000", it.at)
            })
            .collect();
        let hosts = self.nodes.iter().filter(|node| node.is_host());
        for registry in trusted.iter().filter(|it| it.ca.is_none()) {
            problems.extend(hosts.clone().map(|node| {
                format!(
                    "{} cannot be let trust {} unverified: its engine's settings are its owner's; give \
                     the registry's authority",
                    node.name, registry.at
                )
            }));
        }
        problems
    }

    /// Returns advice on a specification that works but is not what its user may think.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let managers = self.managers().count();
        if managers > 0 && managers.is_multiple_of(2) {
            let fewer = managers - 1;
            let losses = fewer / 2;
            return vec![format!(
                "{managers} managers survive the loss of {losses}, no more than {fewer} would: \
                 a majority must stay up, so choose an odd number"
            )];
        }
        Vec::new()
    }

    /// Returns the managers in order.
    pub fn managers(&self) -> impl Iterator<Item = &NodeSpec> {
        self.nodes.iter().filter(|node| node.role == Role::Manager)
    }

    /// Tells whether any of the nodes is a virtual machine.
    #[must_use]
    pub fn has_machines(&self) -> bool {
        self.nodes.iter().any(|node| node.is_vm())
    }

    /// Returns the node of that name.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> Option<&NodeSpec> {
        self.nodes.iter().find(|node| node.name == *name)
    }
}

/// Returns how many nodes a subnet can hold beside its gateway, network and broadcast addresses.
pub(crate) fn node_room(subnet: Ipv4Net) -> usize {
    let addresses = 1usize << (32 - subnet.prefix_len()).min(24);
    addresses.saturating_sub(3)
}
