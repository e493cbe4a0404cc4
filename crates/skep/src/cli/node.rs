//! `skep node` and `skep swarm`.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use skep_core::model::{HostSpec, NodeFilter, NodeName, Size};

use super::{ClusterOption, DryRun, Waiting, WorkFormat};

/// How nodes are named.
const FILTERS: &str = "\
Nodes are named by NAME, `worker:0` (the first worker), `manager:0-2`, `worker:*` or `worker`, and `all`.";

/// `skep node`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Add nodes to a cluster.
    Add(NodeAdd),
    /// Remove nodes with their data; their tasks move away first.
    Rm(NodeRemove),
    /// Start nodes.
    #[command(after_help = FILTERS)]
    Start(Nodes),
    /// Stop nodes; their data stays.
    #[command(after_help = FILTERS)]
    Stop(Nodes),
    /// Stop and start nodes.
    Restart(NodeRestart),
    /// End nodes at once, as a power cut would; their data stays.
    #[command(after_help = FILTERS)]
    Kill(Nodes),
    /// Halt nodes as they are, as if they hung; `up` and `resume` let them go on.
    #[command(after_help = FILTERS)]
    Pause(NodeChange),
    /// Let nodes go on that were halted.
    #[command(after_help = FILTERS)]
    Resume(Nodes),
    /// Make nodes managers.
    #[command(after_help = FILTERS)]
    Promote(NodeChange),
    /// Make managers workers, as long as a majority of managers stays.
    #[command(after_help = FILTERS)]
    Demote(NodeChange),
    /// Move all tasks away from nodes and give them no others, also after the next `up`.
    #[command(after_help = FILTERS)]
    Drain(NodeChange),
    /// Let drained nodes take tasks again.
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
    /// The nodes' names; the next free numbers if none is given.
    pub names: Vec<NodeName>,
    /// How many, if they are not named.
    #[arg(long, short, value_name = "N", conflicts_with = "names")]
    pub num_node: Option<u32>,
    /// Add managers.
    #[arg(long)]
    pub manager: bool,
    /// CPUs.
    #[arg(long, value_name = "N")]
    pub cpus: Option<u32>,
    /// Memory.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// Disk.
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<Size>,
    /// A node label.
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
#[command(next_help_heading = "A host that exists already")]
pub struct Host {
    /// Its address: the node is this host, and not a virtual machine.
    #[arg(long, value_name = "IP", requires = "names",
        conflicts_with_all = ["cpus", "memory", "disk", "num_node"])]
    pub address: Option<Ipv4Addr>,
    /// The user to log in as, who is root or may become it with sudo.
    #[arg(long, value_name = "NAME", requires = "address", default_value = HostSpec::DEFAULT_USER)]
    pub user: String,
    /// The port of its ssh server.
    #[arg(long, value_name = "PORT", requires = "address", default_value_t = HostSpec::DEFAULT_PORT)]
    pub ssh_port: u16,
    /// The private key to log in with; those that ssh finds itself if not given.
    #[arg(long, value_name = "FILE", requires = "address")]
    pub key: Option<PathBuf>,
    /// A script that installs an engine if there is none, over https and with its digest, `#sha256=DIGEST`; the
    /// distribution's if not given.
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
    #[arg(required = true, value_name = "NODES")]
    pub names: Vec<NodeFilter>,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    #[command(flatten)]
    pub dry_run: DryRun,
    /// Even where the swarm cannot be told or would lose its majority, or a host cannot be reached.
    #[arg(long)]
    pub force: bool,
    /// Leave a host the engine that it was given, with its data.
    #[arg(long)]
    pub keep_engine: bool,
}

/// Some nodes of a cluster.
#[derive(Debug, Args)]
pub struct Nodes {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// The nodes.
    #[arg(required = true, value_name = "NODES")]
    pub names: Vec<NodeFilter>,
    /// Output format; json prints events as JSON lines.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: WorkFormat,
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `skep node restart`.
#[derive(Debug, Args)]
#[command(after_help = FILTERS)]
pub struct NodeRestart {
    #[command(flatten)]
    pub nodes: Nodes,
    /// One after the other: each is drained, restarted and Ready again before the next.
    #[arg(long)]
    pub rolling: bool,
}

/// Some nodes that are to change.
#[derive(Debug, Args)]
pub struct NodeChange {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// The nodes.
    #[arg(required = true, value_name = "NODES")]
    pub names: Vec<NodeFilter>,
}

/// `skep node label`.
#[derive(Debug, Args)]
pub struct NodeLabel {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// A label, for the nodes after `@`: a name, `worker:0`, `manager:0-2`, `worker:*`, `all`, or
    /// several with commas between.
    #[arg(value_name = "KEY=VALUE@NODES", required_unless_present = "remove")]
    pub labels: Vec<String>,
    /// A label to remove.
    #[arg(long, value_name = "KEY@NODES")]
    pub remove: Vec<String>,
}

/// `skep swarm`.
#[derive(Debug, Subcommand)]
pub enum SwarmCommand {
    /// Form the swarm anew from what one manager knows of it, when the others are lost for ever.
    Recover(SwarmRecover),
}

/// `skep swarm recover`.
#[derive(Debug, Args)]
pub struct SwarmRecover {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// The manager that is to be the only one.
    pub node: NodeName,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
}
