//! The command line.

// What is flattened is documented where it is defined; here it would show up in the help.
#![allow(missing_docs)]

mod certs;
mod doctor;
mod dry_run;
mod firewall;
mod image;
mod net;
mod node;
mod registry;
mod setup;
mod stack;
mod verbosity;
mod waiting;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use skep_core::model::{ClusterName, Hostname, NodeName, Size};

pub use certs::{Certs, CertsChange, CertsCommand};
pub use doctor::Doctor;
pub use dry_run::{DryRun, WorkFormat};
pub use firewall::{
    FirewallCheck, FirewallCommand, FirewallFormat, FirewallRules, FirewallShow, Whose,
};
pub use image::{ImageBake, ImageCommand, ImageLoad};
pub use net::Net;
pub use node::{
    Host, NodeAdd, NodeChange, NodeCommand, NodeLabel, NodeRemove, NodeRestart, Nodes,
    SwarmCommand, SwarmRecover,
};
pub use registry::{RegistryCommand, RegistryStart, RegistryTrust};
pub use setup::Setup;
pub use stack::{
    Converging, LongCluster, Rebalance, ResolveImage, StackCommand, StackDeploy, StackList,
    StackOptions, StackRemove, StackTasks,
};
pub use verbosity::{Detail, Verbosity};
use waiting::parse_duration;
pub use waiting::{Accel, Verification, Waiting};

/// A real multi-node Docker Swarm in virtual machines on this host.
#[derive(Debug, Parser)]
#[command(name = "skep", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub verbosity: Verbosity,
}

const AFTER_HELP: &str = "\
Examples:
  skep up                         a manager and a worker, called skep
  skep up test -n 5 --managers 3  three managers and two workers, called test
  skep ssh node1                  a shell in a node
  eval $(skep env)                let your own docker command speak to the first manager
  skep down                       take everything away

Exit codes: 0 done, 1 failed, 2 usage, 3 the host is not ready, 4 timed out, 130 interrupted.
`ssh`, `scp` and `docker` hand on the code of what they run.

State is kept under $SKEP_HOME, else $XDG_DATA_HOME/skep; images under $XDG_CACHE_HOME/skep.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a cluster, or make it what its file says; run it again at any time.
    Up(Box<Up>),
    /// Remove a cluster with all its data, or what is left of one.
    Down(crate::commands::Down),
    /// List clusters.
    Ls(List),
    /// Show a cluster's nodes, and all that it has on this host; exit code 1 unless all is well.
    Status(Status),
    /// Start a cluster, or some of its nodes.
    Start(Power),
    /// Stop a cluster, or some of its nodes; their data stays.
    Stop(Power),
    /// Open a shell in a node, or run a command there.
    Ssh(Ssh),
    /// Copy files from or to nodes, named CLUSTER/NODE:PATH or NODE:PATH.
    Scp(Scp),
    /// Print what lets the docker command speak to a node.
    Env(Env),
    /// Run the docker command against a node.
    Docker(Docker),
    /// Add, remove, start, stop, drain, label, promote nodes.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Container images on the nodes.
    #[command(subcommand)]
    Image(ImageCommand),
    /// A registry of container images, on a node, that all nodes trust.
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Mend a swarm that has lost the majority of its managers.
    #[command(subcommand)]
    Swarm(SwarmCommand),
    /// Deploy stacks and wait until they have converged; remove, list and look at them.
    #[command(subcommand)]
    Stack(StackCommand),
    /// Spread services anew whose tasks are uneven, as after a node came back.
    Rebalance(Rebalance),
    /// Names of a cluster in this host's /etc/hosts.
    #[command(subcommand)]
    Hosts(HostsCommand),
    /// What firewalls have to let through, here and on nodes, and whether packets pass.
    #[command(subcommand)]
    Firewall(FirewallCommand),
    /// Print the log of a node's console, or of a service in it.
    Logs(Logs),
    /// Check this host, and say what is missing with the command that mends it.
    Doctor(Doctor),
    /// Let ordinary users of this host have clusters; done once, as root, and taken back with --undo.
    Setup(Setup),
    /// Certificates of a cluster: when they end, and new ones while it goes on.
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Pack what tells how skep, this host and a cluster are into one file; secrets are left out.
    SupportBundle(SupportBundle),
    /// Images that are kept to make nodes from.
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Measure how long a swarm takes to form here and what it takes, or how long images or stacks do.
    Bench(crate::commands::Bench),
    /// Create a commented cluster file to start from.
    Init(crate::commands::Init),
    /// Print a cluster file, or an existing cluster as one, with all defaults filled in.
    Config(crate::commands::Config),
    /// Print the JSON Schema of the cluster file.
    Schema,
    /// Print a script that completes skep's command lines.
    Completions(crate::commands::Completions),
    /// Make a link called docker-machine, by which skep stands in for that program.
    InstallAlias(crate::commands::InstallAlias),
}

/// Which cluster.
#[derive(Debug, Clone, Args)]
pub struct ClusterArg {
    /// The cluster; the only one there is if none is named.
    #[arg(value_name = "CLUSTER", env = "SKEP_CLUSTER")]
    pub cluster: Option<ClusterName>,
}

/// Which cluster, as an option.
#[derive(Debug, Clone, Args)]
pub struct ClusterOption {
    /// The cluster; the only one there is if none is named.
    #[arg(long, short = 'c', value_name = "CLUSTER", env = "SKEP_CLUSTER")]
    pub cluster: Option<ClusterName>,
}

/// `skep up`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep up -n 3
  skep up test --managers 3 --workers 2 --memory 2GiB
  skep up -f skep.yaml --dry-run
  skep up -d kvm -n 2 -a '--kvm-memory 2048'")]
pub struct Up {
    /// The cluster's name; that of the file, else `skep`.
    #[arg(value_name = "CLUSTER", env = "SKEP_CLUSTER")]
    pub cluster: Option<ClusterName>,
    /// The cluster file; `-` is the standard input.
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub wanted: Wanted,
    /// Where the networks of all this user's clusters are; as those that there are, if not given.
    #[arg(long, value_name = "WHERE", env = "SKEP_NET")]
    pub net: Option<Net>,
    #[command(flatten)]
    pub waiting: Waiting,
    #[command(flatten)]
    pub dry_run: DryRun,
    /// If it fails before there is a swarm, keep what was made; later it is always kept.
    #[arg(long)]
    pub no_rollback: bool,
}

/// What is wanted of a cluster, in the place of what its file says.
#[derive(Debug, Clone, Default, Args)]
pub struct Wanted {
    /// The kind of machines: `qemu`, or `kvm`, `kvm2` and `virtualbox`, which mean the same here.
    #[arg(long, short, value_name = "DRIVER")]
    pub driver: Option<String>,
    /// The number of nodes in all.
    #[arg(long, short, value_name = "N", conflicts_with = "workers")]
    pub num_node: Option<u32>,
    /// The number of managers.
    #[arg(long, value_name = "N")]
    pub managers: Option<u32>,
    /// The number of workers.
    #[arg(long, value_name = "N")]
    pub workers: Option<u32>,
    /// CPUs of every node.
    #[arg(long, value_name = "N")]
    pub cpus: Option<u32>,
    /// Memory of every node.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// Disk of every node.
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<Size>,
    /// A node label, for the nodes after `@`: a name, `worker:0`, `manager:0-2`, `worker:*`, `all`,
    /// or several with commas between; all if not given.
    #[arg(long, value_name = "KEY=VALUE@NODES")]
    pub label: Vec<String>,
    /// The subnet of the nodes, such as 10.20.0.0/24; a free one if not given.
    #[arg(long, value_name = "SUBNET")]
    pub subnet: Option<ipnet::Ipv4Net>,
    /// A name for this host's /etc/hosts, pointing at the first manager, at NAME@NODE, or with NAME@* at
    /// any node that is up.
    #[arg(long, value_name = "NAME[@NODE]")]
    pub hostname: Vec<String>,
    /// A TCP port of this host's loopback that leads to the same port of a node that is up.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub publish: Vec<u16>,
    /// Make no context of the docker command.
    #[arg(long)]
    pub no_context: bool,
    /// The Debian suite of the nodes' image.
    #[arg(long, value_name = "SUITE")]
    pub suite: Option<String>,
    /// The Debian mirror of the nodes' image.
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// Options of a docker-machine driver in one word, such as '--kvm-memory 2048'.
    #[arg(long, short = 'a', value_name = "ARGS", allow_hyphen_values = true)]
    pub driver_args: Option<String>,
}

/// How a listing is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

/// `skep ls`.
#[derive(Debug, Args)]
pub struct List {
    /// List the machines of docker-machine's stores too.
    #[arg(long, short)]
    pub all: bool,
    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
}

/// `skep status`.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    pub cluster: ClusterArg,
    /// Verify that it works too: engines over TLS, a published port on every node, names and a way between
    /// two nodes on an overlay network, clocks, certificates. A service is made for it and removed.
    #[arg(long)]
    pub verify: bool,
    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
    /// How long a node may take to answer.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    pub timeout: Duration,
}

/// `skep start` and `skep stop`.
#[derive(Debug, Args)]
pub struct Power {
    #[command(flatten)]
    pub cluster: ClusterArg,
    /// Output format; json prints events as JSON lines.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: WorkFormat,
    #[command(flatten)]
    pub waiting: Waiting,
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
    /// The node: NODE, or CLUSTER/NODE.
    pub node: NodeRef,
    /// A command and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// `skep scp`.
#[derive(Debug, Args)]
pub struct Scp {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// Copy directories with all that is in them.
    #[arg(long, short)]
    pub recursive: bool,
    /// From where, and last to where.
    #[arg(num_args = 2.., required = true)]
    pub paths: Vec<String>,
}

/// `skep env`.
#[derive(Debug, Args)]
pub struct Env {
    #[command(flatten)]
    pub cluster: ClusterArg,
    /// The node; the first manager if not given.
    #[arg(long)]
    pub node: Option<NodeName>,
    /// Name every node too: SKEP_NODES, and a DOCKER_HOST_NODE0 for each.
    #[arg(long, conflicts_with = "unset")]
    pub all: bool,
    /// The shell that is to read it; your own if not given.
    #[arg(long, value_name = "SHELL")]
    pub shell: Option<String>,
    /// Print what takes it back.
    #[arg(long, short)]
    pub unset: bool,
}

/// `skep docker`.
#[derive(Debug, Args)]
pub struct Docker {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// The node; the first manager that runs if not given.
    #[arg(long)]
    pub node: Option<NodeName>,
    /// What docker is to do.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<String>,
}

/// `skep hosts`.
#[derive(Debug, Subcommand)]
pub enum HostsCommand {
    /// Add names.
    Add {
        #[command(flatten)]
        cluster: ClusterOption,
        /// The names.
        #[arg(required = true)]
        names: Vec<Hostname>,
        /// The node that they point at; the first manager if not given.
        #[arg(long)]
        node: Option<NodeName>,
        /// Let them point at another node while that one is down. Each skep command that stops or starts a
        /// node sees to it; `skep hosts follow` does while it runs.
        #[arg(long)]
        follow: bool,
    },
    /// Watch the nodes until interrupted, and let names that follow, and ports of the loopback, lead to one
    /// that is up.
    Follow {
        #[command(flatten)]
        cluster: ClusterOption,
    },
    /// Remove names.
    Rm {
        #[command(flatten)]
        cluster: ClusterOption,
        /// The names.
        #[arg(required = true)]
        names: Vec<Hostname>,
    },
    /// List names.
    Ls {
        #[command(flatten)]
        cluster: ClusterOption,
        /// How it is printed.
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
}

/// `skep logs`.
#[derive(Debug, Args)]
pub struct Logs {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// The node: NODE, or CLUSTER/NODE.
    pub node: NodeRef,
    /// A service in the node, in the place of its console.
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<Service>,
    /// Print control characters as they are to a terminal, too; a pipe or file always gets them.
    #[arg(long)]
    pub raw: bool,
}

/// A service in a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Service {
    /// The guest agent.
    Agent,
    /// containerd.
    Containerd,
    /// The Docker Engine.
    Docker,
    /// What hands on another registry's images.
    Mirror,
    /// The cluster's registry.
    Registry,
    /// The ssh server.
    Sshd,
    /// The TLS end of the engine.
    Tls,
}

/// `skep support-bundle`.
#[derive(Debug, Args)]
pub struct SupportBundle {
    /// The cluster; without a name all that is told is of the host, and of the only one there is.
    #[arg(value_name = "CLUSTER", env = "SKEP_CLUSTER")]
    pub cluster: Option<ClusterName>,
    /// Where it is written; in the directory that one is in, if not given.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `skep cache`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List images.
    Ls {
        /// How it is printed.
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Remove images that no cluster uses.
    Prune,
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
