//! What was seen of a cluster and its host, at one moment.
//!
//! Nothing here is ever stored: it is looked up anew for every plan.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Serialize;

use crate::model::{
    Admits, ClusterName, ClusterRecord, EngineImages, ImageSpec, NodeName, NodeRecord, Role, Shape,
};

/// Everything that a plan is made from, beside what the user wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The rest of the machine.
    pub host: HostFacts,
    /// What is written down of the cluster, if anything.
    pub cluster: Option<ClusterRecord>,
    /// Whether the cluster's certificate authority and client certificate are there.
    pub certificates: bool,
    /// Whether the cluster's bridge is there, up, has its address, and is guarded.
    pub bridge: bool,
    /// Whether the cluster's firewall rules are there.
    pub firewall: bool,
    /// Whom those rules let in.
    pub admitted: Admits,
    /// The names that the cluster has in the host's /etc/hosts.
    pub hosts_entries: Vec<HostsEntry>,
    /// Where ports of the host's loopback lead, as [`Publication::label`] says it.
    ///
    /// [`Publication::label`]: crate::model::Publication::label
    pub published: Option<String>,
    /// The directory of the docker command in which the cluster's context is, or would be; none if there is
    /// no docker command.
    pub docker_config: Option<String>,
    /// The docker command's context of the cluster.
    pub context: ContextState,
    /// The cluster's nodes.
    pub nodes: BTreeMap<NodeName, ObservedNode>,
    /// The swarm as its managers see it; none if no manager answered.
    pub swarm: Option<ObservedSwarm>,
    /// What carries the cluster's name but no record explains.
    pub leftovers: Vec<Leftover>,
    /// Warm machines that have container images, and are there to be copied.
    pub baked: Vec<Baked>,
}

/// A template whose engine has container images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baked {
    /// What its guest's image was made from.
    pub image: ImageSpec,
    /// Its shape.
    pub shape: Shape,
    /// The images that its engine has.
    pub images: EngineImages,
}

/// What the docker command has by the name of the cluster's context.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ContextState {
    /// Nothing.
    #[default]
    Missing,
    /// What somebody else made.
    Others,
    /// What was made for the cluster.
    Ours {
        /// The address of the engine that it speaks to.
        address: Option<Ipv4Addr>,
        /// Whether it has the cluster's certificates of today.
        current: bool,
    },
}

/// What is in use on the host beside the cluster itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Subnets that are routed, or recorded by other clusters, each with what uses it.
    pub subnets: Vec<(Ipv4Net, String)>,
    /// Names of network interfaces, and of bridges recorded by other clusters.
    pub links: BTreeSet<String>,
    /// Ports of the loopback that other clusters have, each with its cluster.
    pub ports: Vec<(u16, String)>,
    /// The other clusters of the store, each with those that it names as peers.
    pub clusters: BTreeMap<ClusterName, Vec<ClusterName>>,
    /// The subnets that this user may have; none if that is no matter of anybody's leave.
    pub granted: Option<Vec<Ipv4Net>>,
}

/// One name in /etc/hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HostsEntry {
    /// The name.
    pub name: String,
    /// The address it points at.
    pub address: Ipv4Addr,
}

/// What was seen of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedNode {
    /// What is written down of it.
    pub record: NodeRecord,
    /// Whether it has a disk: without one, its engine has no state.
    pub disk: bool,
    /// Its machine.
    pub machine: MachineState,
    /// Its engine.
    pub engine: EngineState,
    /// The container images that its engine has; none if it was not asked or did not answer.
    pub images: Option<EngineImages>,
    /// What it says that it has of a registry, as [`Registries`](crate::model::Registries) writes it;
    /// none if it was not asked or did not answer.
    pub registry: Option<String>,
}

/// The state of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineState {
    /// Its process runs and executes the guest.
    Running,
    /// Its process runs, the guest's processors are halted.
    Paused,
    /// Its process runs, and the guest cannot go on: only a new start helps.
    Crashed,
    /// No process.
    Stopped,
}

/// The state of a node's engine, seen over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineState {
    /// The engine was not asked, as its machine does not run.
    Off,
    /// It gave no answer within its time.
    Unreachable(String),
    /// It answers, and belongs to no swarm.
    Inactive {
        /// The engine's version.
        version: String,
    },
    /// It answers, and belongs to a swarm.
    Member {
        /// The engine's version.
        version: String,
        /// The node's ID in the swarm.
        id: String,
        /// Whether the engine runs the manager's part.
        control: bool,
    },
}

impl EngineState {
    /// Returns the engine's version, if it answered.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        match self {
            Self::Inactive { version } | Self::Member { version, .. } => Some(version),
            Self::Off | Self::Unreachable(_) => None,
        }
    }
}

/// The swarm as a manager sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedSwarm {
    /// The swarm's ID.
    pub id: String,
    /// Its members.
    pub members: Vec<Member>,
    /// Whether the service of a verification that was cut off is still there.
    pub probed: bool,
}

/// One member of a swarm (`docker node ls`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// The node's ID in the swarm.
    pub id: String,
    /// The engine's host name.
    pub hostname: String,
    /// The part that it is asked to play.
    pub role: Role,
    /// Whether its state is `ready`.
    pub ready: bool,
    /// `active`, `pause` or `drain`.
    pub availability: String,
    /// Whether it leads the managers.
    pub leader: bool,
    /// For a manager: whether the others reach it.
    pub reachable: bool,
    /// Its node labels.
    pub labels: BTreeMap<String, String>,
}

impl Member {
    /// The node label that tells which node a host is: its own hostname need not be the node's name.
    pub const NODE_LABEL: &str = "skep.node";

    /// Tells whether the member goes by that node's name.
    #[must_use]
    pub fn is_node(&self, name: &NodeName) -> bool {
        let own = self.labels.get(Self::NODE_LABEL).unwrap_or(&self.hostname);
        own == name.as_str()
    }
}

impl ObservedSwarm {
    /// Returns the member with that ID.
    #[must_use]
    pub fn member(&self, id: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }
}

/// How far a change of the certificate authority has come.
///
/// ```text
/// Settled ──PrepareAuthority──▶ Spreading ──SwitchAuthority──▶ Withdrawing ──WithdrawAuthority──▶ Settled
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rotation {
    /// There is one authority.
    #[default]
    Settled,
    /// Clients go by the old authority; nodes are being told to admit clients of both.
    Spreading,
    /// Clients go by the new authority; nodes are being told to admit its clients only.
    Withdrawing,
}

/// Something on the host that carries the cluster's name and that no record explains.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Leftover {
    /// A network interface.
    Link(String),
    /// A firewall table.
    FirewallTable(String),
    /// A directory of a node whose record cannot be read, by its name.
    Node(String),
    /// The cluster's directory, whose record cannot be read.
    Directory,
}
