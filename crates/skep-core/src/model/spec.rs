//! What a user wants.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    Access, Admits, ClusterName, Hostname, ImageSet, ImageSpec, NodeName, Publication,
    RegistrySpec, Size, TrustedRegistry,
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

/// One node as its user wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// The node's name, unique in its cluster.
    pub name: NodeName,
    /// The node's part in the swarm.
    pub role: Role,
    /// The number of virtual CPUs.
    pub cpus: u32,
    /// The size of the memory.
    pub memory: Size,
    /// The virtual size of the disk; it takes room on the host as it fills.
    pub disk: Size,
    /// Swarm node labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether it takes tasks; none to leave that as it is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<Availability>,
    /// The host that the node is, or none for a virtual machine: CPUs, memory and disk of a host are its
    /// own, and zero here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostSpec>,
}

/// A host that exists already, and how to log in there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSpec {
    /// Its address, at which the other nodes reach it too.
    pub address: Ipv4Addr,
    /// The user, who is root or may become it with sudo(8) without a password.
    pub user: String,
    /// The port of its ssh server.
    pub port: u16,
    /// The path of the private key, or none for those that ssh(1) finds itself, an agent's among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Where its engine comes from if it has none: a script to run, with its digest, or none for the distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install_url: Option<String>,
}

impl HostSpec {
    /// The user if none is given, as docker-machine has it.
    pub const DEFAULT_USER: &str = "root";
    /// The port if none is given.
    pub const DEFAULT_PORT: u16 = 22;
}

/// Whether a node takes tasks (`docker node update --availability`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    /// It takes tasks.
    Active,
    /// It keeps those that it has, and takes no others.
    Pause,
    /// Those that it has are moved away.
    Drain,
}

impl Availability {
    /// Returns the word that Docker uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pause => "pause",
            Self::Drain => "drain",
        }
    }

    /// Returns what Docker's word stands for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Active, Self::Pause, Self::Drain].into_iter().find(|it| it.as_str() == word)
    }
}

/// What machines that are copies of one another have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shape {
    /// The number of virtual CPUs.
    pub cpus: u32,
    /// The size of the memory.
    pub memory: Size,
    /// The virtual size of the disk.
    pub disk: Size,
}

impl NodeSpec {
    /// Returns the shape of the node's machine.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        Shape { cpus: self.cpus, memory: self.memory, disk: self.disk }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpus = if self.cpus == 1 { "CPU" } else { "CPUs" };
        write!(f, "{} {cpus}, {:#}, {:#}", self.cpus, self.memory, self.disk)
    }
}

/// A node's part in the swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes part in the raft consensus, and runs tasks too.
    Manager,
    /// Runs tasks only.
    Worker,
}

impl Role {
    /// Returns the word that Docker uses for the role.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Worker => "worker",
        }
    }
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
                node.host.as_ref().is_some_and(|host| {
                    other.host.as_ref().is_some_and(|other| other.address == host.address)
                })
            };
            if let (Some(host), Some(other)) = (&node.host, self.nodes[..index].iter().find(same)) {
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
            Some(node) if node.host.is_some() => problems.push(format!(
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
        let hosts = self.nodes.iter().filter(|node| node.host.is_some());
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
        self.nodes.iter().any(|node| node.host.is_none())
    }

    /// Returns the node of that name.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> Option<&NodeSpec> {
        self.nodes.iter().find(|node| node.name == *name)
    }
}

impl NodeSpec {
    /// Returns everything that is wrong with the node itself.
    #[must_use]
    pub fn problems(&self) -> Vec<SpecError> {
        let mut problems = Vec::new();
        let mut report = |what: String| {
            problems.push(SpecError::Node { node: self.name.clone(), what });
        };
        if let Some(host) = &self.host {
            host.problems().into_iter().for_each(&mut report);
            self.label_problems().into_iter().for_each(report);
            return problems;
        }
        if !(1..=255).contains(&self.cpus) {
            report(format!("cpus is {}; use 1 to 255", self.cpus));
        }
        // Below this the kernel, containerd and dockerd leave no room for a single container.
        if self.memory < Size::mib(384) {
            report(format!("memory is {}; an engine needs at least 384MiB", self.memory));
        }
        if self.disk < Size::gib(3) {
            report(format!("disk is {}; the system and its engine need at least 3GiB", self.disk));
        }
        self.label_problems().into_iter().for_each(report);
        problems
    }

    fn label_problems(&self) -> Vec<String> {
        let unfit = |key: &&String| {
            key.is_empty()
                || key.contains(|c: char| c.is_whitespace() || c == '=' || c.is_control())
        };
        let keys = self.labels.keys().filter(unfit);
        keys.map(|key| format!("the label key `{key}` is empty or contains a space or `=`"))
            .collect()
    }
}

impl HostSpec {
    /// Returns why root there should not run what `install_url` leads to, if it should not: over http anybody on the
    /// way can change it, and without a digest whoever has the server can, at any time.
    #[must_use]
    pub fn install_problem(&self) -> Option<String> {
        let url = self.install_url.as_deref()?;
        let (place, digest) = url.split_once("#sha256=").unwrap_or((url, ""));
        let is_digest =
            digest.len() == 64 && digest.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
        if !place.starts_with("https://") {
            return Some(format!(
                "install_url {url}: use https, because anyone on the network path could change it"
            ));
        }
        (!is_digest).then(|| {
            format!(
                "install_url {url}: add #sha256=DIGEST of the script that you have read: \
                 curl -fsSL {place} | sha256sum"
            )
        })
    }

    /// Returns everything that is wrong with it. A word that begins with `-` would be an option to ssh(1).
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let unfit = |c: char| c.is_whitespace() || c.is_control() || c == '@';
        if self.user.is_empty() || self.user.starts_with('-') || self.user.contains(unfit) {
            problems.push(format!("`{}` is not the name of a user", self.user));
        }
        if self.port == 0 {
            problems.push("port is 0; use 1 to 65535".to_owned());
        }
        let texts = [("key", &self.key), ("install_url", &self.install_url)];
        for (what, text) in
            texts.into_iter().filter_map(|(what, text)| Some((what, text.as_ref()?)))
        {
            if text.is_empty() || text.starts_with('-') || text.contains(char::is_control) {
                problems.push(format!("{what} `{text}` is not valid"));
            }
        }
        let address = self.address;
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            problems.push(format!("other nodes cannot reach the address {address}"));
        }
        problems
    }
}

/// Returns how many nodes a subnet can hold beside its gateway, network and broadcast addresses.
pub(crate) fn node_room(subnet: Ipv4Net) -> usize {
    let addresses = 1usize << (32 - subnet.prefix_len()).min(24);
    addresses.saturating_sub(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_runs_no_script_that_is_not_pinned() {
        let problem = |url: &str| {
            let host = HostSpec {
                address: Ipv4Addr::new(192, 0, 2, 7),
                user: "root".into(),
                port: 22,
                key: None,
                install_url: Some(url.to_owned()),
            };
            host.install_problem()
        };
        let digest = "0123456789abcdef".repeat(4);
        assert_eq!(problem(&format!("https://get.example/#sha256={digest}")), None);
        let plain = problem(&format!("http://get.example/#sha256={digest}")).unwrap();
        assert!(plain.contains("use https"), "{plain}");
        for unpinned in ["", "#sha256=", "#sha256=0123", "#md5=0123"] {
            let text = problem(&format!("https://get.example/{unpinned}")).unwrap();
            assert!(text.contains("| sha256sum"), "{text}");
        }
        let upper = digest.to_uppercase();
        assert!(problem(&format!("https://get.example/#sha256={upper}")).is_some());
    }
}
