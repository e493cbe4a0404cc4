//! The command line.

// What is flattened is documented where it is defined; here it would show up in the help.
#![allow(missing_docs)]

mod certs;
mod cluster;
mod doctor;
mod dry_run;
mod firewall;
mod image;
mod moment;
mod net;
mod node;
mod parse;
mod registry;
mod setup;
mod stack;
pub(crate) mod values;
mod verbosity;
mod waiting;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use skep_core::model::{ClusterName, NodeName, Size};

pub use certs::{CertsChange, CertsCommand};
pub use cluster::{ClusterArg, ClusterOption, ClusterWord};
pub use doctor::Doctor;
pub use dry_run::{DryRun, WorkFormat};
pub use firewall::{
    FirewallCheck, FirewallCommand, FirewallFormat, FirewallPlaces, FirewallRules, FirewallShow,
    Whose,
};
pub use image::{ImageBake, ImageCommand, ImageLoad};
pub use moment::moment;
pub use net::Net;
pub use node::{
    Host, NodeAdd, NodeChange, NodeCommand, NodeLabel, NodeRemove, NodeRestart, NodeStart, Nodes,
    SwarmCommand, SwarmRecover,
};
pub use parse::Refusal;
pub use registry::{RegistryCommand, RegistryStart, RegistryTrust};
pub use setup::Setup;
pub use stack::{
    Converging, LongCluster, Rebalance, ResolveImage, StackCommand, StackDeploy, StackOptions,
    StackRemove,
};
use verbosity::without_idle;
pub use verbosity::{Detail, Verbosity};
pub(crate) use waiting::parse_duration;
pub use waiting::{Accel, Birth, Limits, Ready, Verification, Waiting};

/// Create multi-node Docker Swarm clusters in virtual machines on this host.
#[derive(Debug, Parser)]
#[command(name = "skep", version, max_term_width = 100, after_help = AFTER_HELP)]
#[command(mut_subcommands = without_idle)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub verbosity: Verbosity,
}

const AFTER_HELP: &str = "\
Examples:
  skep up                         create cluster `skep`: one manager, one worker
  skep up test -n 5 --managers 3  create cluster `test`: three managers, two workers
  skep ssh node1                  open a shell on a node
  eval $(skep env)                point your docker command at the first manager
  skep down                       remove the cluster and its data

Exit codes: 0 success, 1 failure, 2 usage, 3 host not ready, 4 timeout, 130 interrupted,
141 output closed early. `ssh`, `scp` and `docker` exit with the code of what they run.

State is stored in $SKEP_HOME, else $XDG_DATA_HOME/skep; images in $XDG_CACHE_HOME/skep.";

/// The command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a cluster, or reconcile it with its file (idempotent).
    #[command(alias = "create")]
    Up(Box<Up>),
    /// Remove a cluster and all its data.
    #[command(aliases = ["delete", "destroy", "remove", "rm"])]
    Down(crate::commands::Down),
    /// List clusters.
    #[command(alias = "list")]
    Ls(crate::commands::List),
    /// Show a cluster's nodes and its resources on this host; exit code 1 unless all nodes are
    /// Ready.
    Status(Status),
    /// Start a cluster; `node start` starts single nodes.
    Start(Start),
    /// Stop a cluster and keep its data; `node stop` stops single nodes.
    Stop(Stop),
    /// Open a shell on a node, or run a command there.
    #[command(alias = "exec")]
    Ssh(Ssh),
    /// Copy files to or from nodes (NODE:PATH or CLUSTER/NODE:PATH).
    Scp(Scp),
    /// Print environment variables that point the docker command at a node.
    Env(Env),
    /// Run the docker command against a node's engine.
    Docker(Docker),
    /// Manage nodes: add, remove, start, stop, drain, label, promote.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Manage container images on the nodes.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Manage a container registry on a node, and the registries that nodes trust.
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Recover a swarm that has lost its quorum of managers.
    #[command(subcommand)]
    Swarm(SwarmCommand),
    /// Deploy stacks and wait until they have converged; list and remove them.
    #[command(subcommand)]
    Stack(StackCommand),
    /// Redistribute the tasks of unevenly spread services, for example after a node came back.
    Rebalance(Rebalance),
    /// Manage a cluster's names in this host's /etc/hosts.
    #[command(subcommand)]
    Hosts(crate::commands::HostsCommand),
    /// Manage firewall rules that nodes need, and check whether packets pass.
    #[command(subcommand)]
    Firewall(FirewallCommand),
    /// Print the console logs of nodes, or the logs of one of their services.
    Logs(crate::commands::Logs),
    /// Print what happens to a cluster's machines, nodes, services, tasks and containers.
    Events(crate::commands::Events),
    /// Check this host and print the commands that fix what is missing.
    Doctor(Doctor),
    /// Allow non-root users of this host to create clusters (run once, as root; --undo reverts
    /// it).
    Setup(Setup),
    /// Show, renew and rotate a cluster's certificates while it runs.
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Collect diagnostics into an archive (secrets redacted).
    SupportBundle(SupportBundle),
    /// Manage the cache of node images and templates.
    #[command(subcommand)]
    Cache(crate::commands::CacheCommand),
    /// Benchmark how long this host takes to create swarms, load images and deploy stacks.
    Bench(crate::commands::Bench),
    /// Create a commented cluster file to start from.
    Init(crate::commands::Init),
    /// Print a cluster file, or an existing cluster as one, with all defaults filled in.
    Config(crate::commands::Config),
    /// Print the JSON Schema of the cluster file.
    Schema,
    /// Print the version.
    Version(crate::commands::Version),
    /// Print or install manual pages.
    Man(crate::commands::Man),
    /// Print a shell completion script.
    Completions(crate::commands::Completions),
    /// Create a link named docker-machine, under which skep replaces that program.
    InstallAlias(crate::commands::InstallAlias),
}

/// `skep up`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep up -n 3
  skep up test --managers 3 --workers 2 --memory 2GiB
  skep up -f skep.yaml --dry-run
  skep up -d kvm -n 2 -a '--kvm-memory 2048'")]
#[command(mut_arg("cluster", |arg| {
    arg.help("The cluster [default: the name in the file, else skep]")
}))]
pub struct Up {
    #[command(flatten)]
    pub cluster: ClusterArg,
    /// Cluster file; `-` for standard input.
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub wanted: Wanted,
    /// Network mode of all your clusters [default: the mode of existing clusters, else bridge].
    #[arg(long, value_name = "MODE", env = "SKEP_NET")]
    pub net: Option<Net>,
    #[command(flatten)]
    pub waiting: Waiting,
    #[command(flatten)]
    pub dry_run: DryRun,
    /// Keep everything if creating the cluster fails before a swarm exists (afterwards it is
    /// always kept).
    #[arg(long)]
    pub no_rollback: bool,
}

/// What is wanted of a cluster, in the place of what its file says.
#[derive(Debug, Clone, Default, Args)]
pub struct Wanted {
    /// Machine driver: qemu; the docker-machine names kvm, kvm2 and virtualbox are accepted as
    /// aliases [default: qemu].
    #[arg(long, short, value_name = "DRIVER")]
    pub driver: Option<String>,
    /// Total number of nodes, managers included.
    #[arg(long, short, value_name = "N", value_parser = values::count, conflicts_with = "workers")]
    pub num_node: Option<u32>,
    /// Number of managers.
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub managers: Option<u32>,
    /// Number of workers.
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub workers: Option<u32>,
    /// CPUs per node.
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub cpus: Option<u32>,
    /// Memory per node, for example 2GiB.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// Disk size per node, for example 20GiB.
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<Size>,
    /// Add a label to nodes: a name, `worker:0`, `manager:0-2`, `worker:*` or `all`, separated by
    /// commas [default nodes: all]; repeatable.
    #[arg(long, value_name = "KEY=VALUE@NODES")]
    pub label: Vec<String>,
    /// Subnet of the nodes, for example 10.20.0.0/24 [default: a free one].
    #[arg(long, value_name = "SUBNET", value_parser = values::subnet)]
    pub subnet: Option<ipnet::Ipv4Net>,
    /// Add a name to this host's /etc/hosts that points at NODE, or with NAME@* at any running
    /// node [default node: the first manager]; repeatable.
    #[arg(long, value_name = "NAME[@NODE]")]
    pub hostname: Vec<String>,
    /// Forward a TCP port of 127.0.0.1 to the same port of a running node; repeatable.
    #[arg(long, value_name = "PORT", value_parser = values::port)]
    pub publish: Vec<u16>,
    /// Let nodes of another cluster and this one reach each other, if that one names this one too; repeatable. Without
    /// other options, only the peers of the cluster change.
    #[arg(long, value_name = "CLUSTER")]
    pub peer: Vec<ClusterName>,
    /// Remove all peers but those that --peer names.
    #[arg(long)]
    pub no_peers: bool,
    /// Do not create a docker context.
    #[arg(long)]
    pub no_context: bool,
    /// Debian suite of the node image.
    #[arg(long, value_name = "SUITE")]
    pub suite: Option<String>,
    /// Debian mirror to build the node image from.
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// docker-machine driver options as one argument, for example '--kvm-memory 2048'.
    #[arg(long, short = 'a', value_name = "ARGS", allow_hyphen_values = true)]
    pub driver_args: Option<String>,
}

/// How a listing is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table.
    #[default]
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// `skep status`.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    pub cluster: ClusterArg,
    /// Also verify engines over TLS, a published port on every node, DNS and traffic on an
    /// overlay network, clocks and certificates; creates a temporary service.
    #[arg(long)]
    pub verify: bool,
    /// Output format.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,
    /// How long to wait for each node's answer.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10s")]
    pub timeout: Duration,
    /// Print the status again every 2 s until interrupted; with -o json, one document per line.
    #[arg(long, short, conflicts_with = "verify")]
    pub watch: bool,
}

/// `skep start`.
#[derive(Debug, Args)]
pub struct Start {
    #[command(flatten)]
    pub stop: Stop,
    #[command(flatten)]
    pub limits: Limits,
    #[command(flatten)]
    pub ready: Ready,
}

/// `skep stop`, and what `skep start` has in common with it.
#[derive(Debug, Args)]
pub struct Stop {
    #[command(flatten)]
    pub cluster: ClusterArg,
    /// Output format; json prints events as JSON lines.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: WorkFormat,
}

/// `skep ssh`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep ssh node1
  skep ssh test/node1 -- docker ps
  skep ssh node0 'sudo sv status docker'")]
pub struct Ssh {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// The node, as NODE or CLUSTER/NODE.
    pub node: NodeRef,
    /// Command to run, and its arguments [default: a login shell].
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// `skep scp`.
#[derive(Debug, Args)]
pub struct Scp {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// Copy directories recursively.
    #[arg(long, short)]
    pub recursive: bool,
    /// Source(s), then destination.
    #[arg(num_args = 2.., required = true)]
    pub paths: Vec<String>,
}

/// `skep env`.
#[derive(Debug, Args)]
pub struct Env {
    #[command(flatten)]
    pub cluster: ClusterArg,
    /// The node [default: the first manager].
    #[arg(long)]
    pub node: Option<NodeName>,
    /// Also print SKEP_NODES, and DOCKER_HOST_NODE0 and so on for each node.
    #[arg(long, conflicts_with = "unset")]
    pub all: bool,
    /// Shell syntax to print: bash, fish, powershell and others [default: $SHELL].
    #[arg(long, value_name = "SHELL")]
    pub shell: Option<String>,
    /// Print commands that unset the variables.
    #[arg(long, short)]
    pub unset: bool,
}

/// `skep docker`.
#[derive(Debug, Args)]
pub struct Docker {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// The node [default: the first running manager].
    #[arg(long)]
    pub node: Option<NodeName>,
    /// Arguments for docker.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<String>,
}

/// `skep support-bundle`.
#[derive(Debug, Args)]
#[command(mut_arg("cluster", |arg| arg.help("The cluster to include [default: the only one]")))]
pub struct SupportBundle {
    #[command(flatten)]
    pub cluster: ClusterArg,
    /// File to write [default: a new file in the current directory].
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// A node, and perhaps its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRef {
    /// The cluster, if it is named.
    pub cluster: Option<ClusterName>,
    /// The node.
    pub node: NodeName,
}

impl std::str::FromStr for NodeRef {
    type Err = skep_core::model::NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((cluster, node)) => {
                Ok(Self { cluster: Some(cluster.parse()?), node: node.parse()? })
            }
            None => Ok(Self { cluster: None, node: text.parse()? }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_node_may_name_its_cluster() {
        let with: NodeRef = "test/node1".parse().unwrap();
        assert_eq!(with.cluster.unwrap().as_str(), "test");
        assert!("test/".parse::<NodeRef>().is_err());
        assert!("../node1".parse::<NodeRef>().is_err());
    }
}
