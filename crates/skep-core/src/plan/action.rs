//! What a step does.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use crate::model::{
    Admits, Availability, ClusterRecord, ImageSet, ImageSpec, NetworkRecord, NodeName, NodeRecord,
    Publication, Registries, Role, Shape,
};
use crate::observed::HostsEntry;
use crate::plan::Verify;

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// The places of the steps that have to be done before.
    pub needs: Vec<usize>,
}

/// Something that can be done, with all that has to be known to do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Something that concerns the cluster as a whole.
    Cluster(ClusterAction),
    /// Something that concerns one node.
    Node(NodeName, NodeAction),
}

/// What can be done with a cluster as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterAction {
    /// Writes the cluster down.
    RecordCluster(Box<ClusterRecord>),
    /// Makes the certificate authority, the client certificate and the ssh key of the cluster.
    EnsureCredentials,
    /// Makes the client's certificate anew, by the same authority.
    RenewCredentials,
    /// Makes another certificate authority and writes it down; clients trust the old one and it.
    PrepareAuthority,
    /// Lets clients go by the other authority; the old one is still trusted.
    SwitchAuthority,
    /// Removes the old authority.
    WithdrawAuthority,
    /// Takes the image from the cache, or builds it.
    EnsureImage(ImageSpec),
    /// Makes the bridge and gives it its address.
    EnsureBridge(NetworkRecord),
    /// Makes the rules for forwarding and address translation.
    EnsureFirewall {
        /// The cluster's network.
        network: NetworkRecord,
        /// Who reaches its machines by themselves.
        admits: Admits,
    },
    /// Takes the template that nodes are copies of from the cache, or makes it.
    EnsureTemplate {
        /// Its shape.
        shape: Shape,
        /// The container images that its engine has, beside those of skep's own.
        images: Vec<ImageSet>,
    },
    /// Removes an entry of the swarm whose node is gone.
    ForgetMember {
        /// The ID in the swarm.
        id: String,
        /// The managers to ask, in this order.
        through: Vec<NodeName>,
    },
    /// Waits until every one of these nodes is Ready.
    AwaitReady {
        /// The nodes.
        nodes: Vec<NodeName>,
        /// The managers to ask, in this order.
        through: Vec<NodeName>,
    },
    /// Puts container images into the engines of these nodes; what one has it is not sent again.
    LoadImages {
        /// The images.
        set: ImageSet,
        /// The nodes.
        nodes: Vec<NodeName>,
    },
    /// Publishes a port with a probe service.
    StartProbe {
        /// The nodes on which it may run at first.
        nodes: Vec<NodeName>,
        /// What is verified with it.
        verify: Verify,
        /// The managers to ask, in this order.
        through: Vec<NodeName>,
    },
    /// Fetches the probe service's port through every node, lets two of its tasks find each other if that is
    /// wanted, and removes the service.
    VerifyNetworks {
        /// The nodes.
        nodes: Vec<NodeName>,
        /// Those that take tasks.
        open: Vec<NodeName>,
        /// What is verified.
        verify: Verify,
        /// The managers to ask, in this order.
        through: Vec<NodeName>,
    },
    /// Asks every node's engine over TLS, compares clocks, and looks how long certificates are valid.
    VerifyNodes {
        /// The nodes.
        nodes: Vec<NodeName>,
    },
    /// Removes the service of a verification that was cut off.
    RemoveProbe {
        /// The managers to ask, in this order.
        through: Vec<NodeName>,
    },
    /// Writes the cluster's block of /etc/hosts; an empty list removes it.
    PublishHosts(Vec<HostsEntry>),
    /// Lets ports of the host's loopback lead to a node, and no others.
    PublishPorts {
        /// The cluster's network.
        network: NetworkRecord,
        /// The ports; none to take them back.
        publication: Option<Publication>,
    },
    /// Makes the docker command's context of the cluster, or makes it what it should be.
    EnsureContext {
        /// The docker command's directory.
        config: String,
        /// The address of the engine that it speaks to.
        to: Ipv4Addr,
        /// Whether it is there already.
        update: bool,
    },
    /// Removes the docker command's context of the cluster.
    RemoveContext {
        /// The docker command's directory.
        config: String,
    },
    /// Removes the firewall rules.
    RemoveFirewall(String),
    /// Removes the bridge, or another interface that carries the cluster's name.
    RemoveLink(String),
    /// Removes what is left of the cluster.
    RemoveCluster,
}

/// What can be done with one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeAction {
    /// Writes the node down.
    RecordNode(NodeRecord),
    /// Makes the node's server certificate and keys.
    EnsureNodeKeys,
    /// Makes the node's server certificate anew.
    RenewNodeKeys,
    /// Makes the ssh key and the server certificate of a machine that is in no cluster.
    EnsureMachineKeys,
    /// Makes the server certificate of such a machine anew.
    RenewMachineKeys,
    /// Makes the disk.
    CreateDisk {
        /// What it is made on.
        on: DiskBase,
    },
    /// Starts the machine as a copy of the warm one.
    ForkMachine,
    /// Starts the machine.
    StartMachine,
    /// Waits until the guest answers.
    AwaitGuest,
    /// Halts the machine's processors.
    PauseMachine,
    /// Lets a paused machine go on.
    ResumeMachine,
    /// Puts keys and certificates into the node and starts what needs them.
    Provision,
    /// Checks a host that exists already, gives it an engine if it has none, and lets the engine listen to
    /// the cluster's clients.
    AdoptHost,
    /// Lets these in through a host's own firewall, and nobody who was let in before; one that is off stays so.
    OpenHost {
        /// The addresses of the other nodes.
        to: Vec<Ipv4Addr>,
    },
    /// Takes back what was done to a host: it leaves its swarm, and has what it had before.
    ReleaseHost {
        /// Whether one that cannot be reached is left as it is.
        forget: bool,
        /// Whether it keeps an engine that it was given, with its data.
        keep_engine: bool,
    },
    /// Starts the engine anew, which gives a copy's an ID of its own.
    RestartEngine,
    /// Gives the engine the options that are written down with the machine.
    ConfigureEngine,
    /// Brings the packages of the engine up to date, and starts anew what was replaced.
    UpgradeEngine,
    /// Waits until the engine answers over TLS.
    AwaitEngine,
    /// Forms the swarm.
    InitSwarm,
    /// Joins the swarm through the first of these managers that answers.
    JoinSwarm {
        /// The part that the node is to play.
        role: Role,
        /// The managers to ask, in this order.
        through: Vec<NodeName>,
    },
    /// Sets the node's role, labels and availability.
    ConfigureMember {
        /// The part that it is to play.
        role: Role,
        /// Whether it takes tasks; none to leave that as it is.
        availability: Option<Availability>,
        /// Labels to set.
        set: BTreeMap<String, String>,
        /// Keys of labels to remove.
        unset: Vec<String>,
        /// The managers to ask, in this order.
        through: Vec<NodeName>,
    },
    /// Waits until no task runs on the node any more.
    AwaitIdle {
        /// The managers to ask, in this order.
        through: Vec<NodeName>,
    },
    /// Forms the swarm anew from what this manager knows of it, with it as the only manager.
    RecoverSwarm,
    /// Lets the node serve the cluster's registry or trust it, and trust others; or none of it.
    SetRegistry(Registries),
    /// Leaves the swarm: tasks move away, a manager is demoted first.
    LeaveSwarm {
        /// The ID in the swarm.
        id: String,
        /// Managers that stay, in this order; empty if the swarm has none left.
        through: Vec<NodeName>,
    },
    /// Shuts the guest down, and kills it if it does not follow in time.
    StopMachine,
    /// Ends the machine at once.
    KillMachine,
    /// Removes what is left of the node.
    RemoveNode,
}

/// What a node's disk is made on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskBase {
    /// The image's root disk.
    Image,
    /// The disk of the template of the node's shape that has these container images.
    Template {
        /// The images.
        images: Vec<ImageSet>,
    },
}

impl Step {
    /// Creates a step for the cluster as a whole.
    #[must_use]
    pub fn cluster(action: ClusterAction, needs: Vec<usize>) -> Self {
        Self { action: Action::Cluster(action), needs }
    }

    /// Creates a step for one node.
    #[must_use]
    pub fn node(node: &NodeName, action: NodeAction, needs: Vec<usize>) -> Self {
        Self { action: Action::Node(node.clone(), action), needs }
    }

    /// Tells whether it does this with a node.
    #[must_use]
    pub fn does(&self, action: &NodeAction) -> bool {
        matches!(&self.action, Action::Node(_, it) if it == action)
    }
}

impl Action {
    /// Returns the node that it concerns, or none for the cluster as a whole.
    #[must_use]
    pub fn node(&self) -> Option<&NodeName> {
        match self {
            Self::Cluster(_) => None,
            Self::Node(node, _) => Some(node),
        }
    }

    /// Returns what is done with a node, if one is concerned.
    #[must_use]
    pub fn on_node(&self) -> Option<&NodeAction> {
        match self {
            Self::Cluster(_) => None,
            Self::Node(_, action) => Some(action),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::Cluster(action) => write!(f, "{action}"),
            Action::Node(node, action) => write!(f, "{node}: {action}"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(action) => action.fmt(f),
            Self::Node(_, action) => action.fmt(f),
        }
    }
}

impl fmt::Display for ClusterAction {
    /// Writes what is done in the imperative, as progress lines and `--dry-run` show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RecordCluster(record) => {
                write!(f, "record cluster {} with subnet {}", record.name, record.network.subnet)
            }
            Self::EnsureCredentials => f.write_str("create certificates and keys"),
            Self::RenewCredentials => f.write_str("renew client certificate"),
            Self::PrepareAuthority => f.write_str("create new CA"),
            Self::SwitchAuthority => f.write_str("switch to the new CA"),
            Self::WithdrawAuthority => f.write_str("remove the old CA"),
            Self::EnsureImage(image) => write!(f, "image {}", image.suite),
            Self::EnsureBridge(network) => write!(f, "create bridge {}", network.bridge),
            Self::EnsureFirewall { .. } => f.write_str("configure forwarding and NAT"),
            Self::EnsureTemplate { shape, images } => {
                write!(f, "template {shape}")?;
                for set in images {
                    write!(f, ", {}", set.source)?;
                }
                Ok(())
            }
            Self::ForgetMember { id, .. } => write!(f, "remove stale swarm entry {id}"),
            Self::AwaitReady { .. } => f.write_str("wait for all nodes to be Ready"),
            Self::LoadImages { set, nodes } => {
                let names: Vec<_> = nodes.iter().map(NodeName::as_str).collect();
                write!(f, "load {} on {}", set.source, names.join(", "))
            }
            Self::StartProbe { .. } => f.write_str("start verification service"),
            Self::VerifyNetworks { verify: Verify::All, .. } => {
                f.write_str("verify routing mesh on every node and an overlay network")
            }
            Self::VerifyNetworks { .. } => f.write_str("verify routing mesh on every node"),
            Self::VerifyNodes { .. } => f.write_str("verify engines, clocks and certificates"),
            Self::RemoveProbe { .. } => f.write_str("remove verification service"),
            Self::PublishPorts { publication: None, .. } => f.write_str("unpublish loopback ports"),
            Self::PublishPorts { publication: Some(publication), .. } => {
                let ports: Vec<_> = publication.ports.iter().map(u16::to_string).collect();
                write!(f, "publish loopback ports {} of {}", ports.join(", "), publication.to)
            }
            Self::EnsureContext { to, .. } => write!(f, "create docker context for {to}"),
            Self::RemoveContext { .. } => f.write_str("remove docker context"),
            Self::PublishHosts(entries) if entries.is_empty() => {
                f.write_str("remove names from /etc/hosts")
            }
            Self::PublishHosts(_) => f.write_str("write names to /etc/hosts"),
            Self::RemoveFirewall(name) => write!(f, "remove firewall rules {name}"),
            Self::RemoveLink(name) => write!(f, "remove interface {name}"),
            Self::RemoveCluster => f.write_str("remove cluster"),
        }
    }
}

impl fmt::Display for NodeAction {
    /// Writes what is done in the imperative, as progress lines and `--dry-run` show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RecordNode(record) => write!(f, "record with address {}", record.address),
            Self::EnsureNodeKeys | Self::EnsureMachineKeys => {
                f.write_str("create certificate and keys")
            }
            Self::RenewNodeKeys | Self::RenewMachineKeys => f.write_str("renew certificate"),
            Self::CreateDisk { on: DiskBase::Image } => f.write_str("create disk"),
            Self::CreateDisk { on: DiskBase::Template { .. } } => {
                f.write_str("create disk on the template's")
            }
            Self::ForkMachine => f.write_str("fork template"),
            Self::StartMachine => f.write_str("start machine"),
            Self::AwaitGuest => f.write_str("boot"),
            Self::PauseMachine => f.write_str("pause"),
            Self::ResumeMachine => f.write_str("resume"),
            Self::Provision => f.write_str("provision"),
            Self::AdoptHost => f.write_str("set up host"),
            Self::OpenHost { .. } => f.write_str("open its firewall for the other nodes"),
            Self::ReleaseHost { .. } => f.write_str("restore host to its earlier state"),
            Self::RestartEngine => f.write_str("restart engine"),
            Self::ConfigureEngine => f.write_str("configure engine"),
            Self::UpgradeEngine => f.write_str("upgrade engine"),
            Self::AwaitEngine => f.write_str("wait for engine"),
            Self::InitSwarm => f.write_str("form swarm"),
            Self::JoinSwarm { role, .. } => write!(f, "join swarm as {}", role.as_str()),
            Self::ConfigureMember { availability: None, .. } => f.write_str("set role and labels"),
            Self::ConfigureMember { availability: Some(availability), .. } => {
                write!(f, "set role, labels and availability {}", availability.as_str())
            }
            Self::AwaitIdle { .. } => f.write_str("wait for its tasks to move away"),
            Self::RecoverSwarm => f.write_str("re-create the swarm from this manager's state"),
            Self::SetRegistry(registries) if registries.is_empty() => {
                f.write_str("clear registry trust")
            }
            Self::SetRegistry(registries) => write!(f, "trust registry {registries}"),
            Self::LeaveSwarm { .. } => f.write_str("leave swarm"),
            Self::StopMachine => f.write_str("stop machine"),
            Self::KillMachine => f.write_str("kill machine"),
            Self::RemoveNode => f.write_str("remove node"),
        }
    }
}
