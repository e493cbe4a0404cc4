//! `skep node` and `skep swarm`.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use skep_core::model::{HostSpec, NodeFilter, NodeName, Size};

use super::{ClusterOption, DryRun, Limits, Waiting, WorkFormat};

/// How nodes are named.
const FILTERS: &str = "\
Nodes are named by NAME, `worker:0` (the first worker), `manager:0-2`, `worker:*` or `worker`, and `all`.";

/// `skep node`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List nodes.
    #[command(alias = "list")]
    Ls(crate::commands::NodeList),
    /// Print all that is known of nodes.
    #[command(after_help = FILTERS)]
    Inspect(crate::commands::NodeInspect),
    /// Add nodes to a cluster.
    #[command(alias = "create")]
    Add(NodeAdd),
    /// Remove nodes and their data; tasks move away first.
    #[command(aliases = ["delete", "remove"])]
    Rm(NodeRemove),
    /// Start nodes.
    #[command(after_help = FILTERS)]
    Start(NodeStart),
    /// Stop nodes and keep their data.
    #[command(after_help = FILTERS)]
    Stop(Nodes),
    /// Restart nodes.
    Restart(NodeRestart),
    /// Power nodes off at once, as a power cut does, and keep their data.
    #[command(after_help = FILTERS)]
    Kill(Nodes),
    /// Pause nodes, as if they hung; `up` and `resume` continue them.
    #[command(after_help = FILTERS)]
    Pause(NodeChange),
    /// Resume paused nodes.
    #[command(after_help = FILTERS)]
    Resume(NodeStart),
    /// Promote nodes to managers.
    #[command(after_help = FILTERS)]
    Promote(NodeChange),
    /// Demote managers to workers, if a quorum of managers remains.
    #[command(after_help = FILTERS)]
    Demote(NodeChange),
    /// Drain nodes: move their tasks away and assign no new ones; lasts until `node activate`.
    #[command(after_help = FILTERS)]
    Drain(NodeChange),
    /// Assign tasks to drained nodes again.
    #[command(after_help = FILTERS)]
    Activate(NodeChange),
    /// Set and remove swarm labels of nodes.
    #[command(after_help = "\
Examples:
  skep node label tier=web@worker:* disk=ssd@node2
  skep node label --remove tier@node1")]
    Label(NodeLabel),
}

/// `skep node add`.
#[derive(Debug, Args)]
pub struct NodeAdd {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// Names of the nodes [default: node0, node1 and so on, the next free ones].
    pub names: Vec<NodeName>,
    /// Number of nodes to add [default: 1].
    #[arg(long, short, value_name = "N", value_parser = super::values::count, conflicts_with = "names")]
    pub num_node: Option<u32>,
    /// Add managers, not workers.
    #[arg(long)]
    pub manager: bool,
    /// CPUs per node.
    #[arg(long, value_name = "N", value_parser = super::values::count)]
    pub cpus: Option<u32>,
    /// Memory per node, for example 2GiB.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// Disk size per node, for example 20GiB.
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<Size>,
    /// Label of the nodes; repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    #[command(flatten)]
    pub dry_run: DryRun,
    #[command(flatten)]
    pub waiting: Waiting,
    #[command(flatten)]
    pub host: Host,
}

/// A host that exists already, as one node.
#[derive(Debug, Args)]
#[command(next_help_heading = "Use an existing host as a node")]
pub struct Host {
    /// Address of an existing host, which becomes the node.
    #[arg(long, value_name = "IP", value_parser = super::values::address, requires = "names",
        conflicts_with_all = ["cpus", "memory", "disk", "num_node"])]
    pub address: Option<Ipv4Addr>,
    /// User to log in as: root, or a user with passwordless sudo.
    #[arg(long, value_name = "NAME", requires = "address", default_value = HostSpec::DEFAULT_USER)]
    pub user: String,
    /// Port of the host's SSH server.
    #[arg(long, value_name = "PORT", value_parser = super::values::port, requires = "address", default_value_t = HostSpec::DEFAULT_PORT)]
    pub ssh_port: u16,
    /// Private key to log in with [default: as ssh chooses].
    #[arg(long, value_name = "FILE", requires = "address")]
    pub key: Option<PathBuf>,
    /// Script that installs Docker Engine if the host has none: an https URL with its digest,
    /// `#sha256=DIGEST` [default: the distribution's package].
    #[arg(long, value_name = "URL", requires = "address")]
    pub install_url: Option<String>,
}

/// `skep node rm`.
#[derive(Debug, Args)]
#[command(after_help = FILTERS)]
pub struct NodeRemove {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// The nodes.
    #[arg(required = true, value_name = "NODE")]
    pub names: Vec<NodeFilter>,
    /// Do not ask for confirmation.
    #[arg(long, short)]
    pub yes: bool,
    #[command(flatten)]
    pub dry_run: DryRun,
    /// Force, even without quorum or if a host is unreachable.
    #[arg(long)]
    pub force: bool,
    /// Keep the Docker Engine that skep installed on a host, and its data.
    #[arg(long)]
    pub keep_engine: bool,
}

/// Some nodes of a cluster.
#[derive(Debug, Args)]
pub struct Nodes {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// The nodes.
    #[arg(required = true, value_name = "NODE")]
    pub names: Vec<NodeFilter>,
    /// Output format; json prints events as JSON lines.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: WorkFormat,
}

/// Some nodes that are to run.
#[derive(Debug, Args)]
pub struct NodeStart {
    #[command(flatten)]
    pub nodes: Nodes,
    #[command(flatten)]
    pub limits: Limits,
}

/// `skep node restart`.
#[derive(Debug, Args)]
#[command(after_help = FILTERS)]
pub struct NodeRestart {
    #[command(flatten)]
    pub start: NodeStart,
    /// One node at a time: drain, restart, and wait until it is Ready.
    #[arg(long)]
    pub rolling: bool,
}

/// Some nodes that are to change.
#[derive(Debug, Args)]
pub struct NodeChange {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// The nodes.
    #[arg(required = true, value_name = "NODE")]
    pub names: Vec<NodeFilter>,
}

/// `skep node label`.
#[derive(Debug, Args)]
pub struct NodeLabel {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// Label and the nodes to set it on: a name, `worker:0`, `manager:0-2`, `worker:*` or `all`,
    /// separated by commas.
    #[arg(value_name = "KEY=VALUE@NODES", required_unless_present = "remove")]
    pub labels: Vec<String>,
    /// Label to remove from nodes; repeatable.
    #[arg(long, value_name = "KEY@NODES")]
    pub remove: Vec<String>,
}

/// `skep swarm`.
#[derive(Debug, Subcommand)]
pub enum SwarmCommand {
    /// Recreate the swarm from the state of one manager, when the others are lost for good
    /// (docker swarm init --force-new-cluster).
    Recover(SwarmRecover),
}

/// `skep swarm recover`.
#[derive(Debug, Args)]
pub struct SwarmRecover {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// The manager to keep.
    pub node: NodeName,
    /// Do not ask for confirmation.
    #[arg(long, short)]
    pub yes: bool,
}
