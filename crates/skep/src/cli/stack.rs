//! `skep stack` and `skep rebalance`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::waiting::parse_duration;
use super::{ClusterOption, DryRun, Output};

/// `skep stack`.
#[derive(Debug, Subcommand)]
pub enum StackCommand {
    /// Deploy a stack with the docker command, and wait until all its services have converged.
    Deploy(StackDeploy),
    /// Remove stacks, and wait until nothing of them is left on any node.
    Rm(StackRemove),
    /// List stacks.
    Ls(StackList),
    /// List the tasks of a stack.
    Ps(StackTasks),
}

/// How long services may take to converge.
#[derive(Debug, Clone, Args)]
pub struct Converging {
    /// Do not wait.
    #[arg(long, short)]
    pub detach: bool,
    /// How long to wait, such as 90s; 5m by default, and 16m where machines are emulated.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

/// `skep stack deploy`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep stack deploy -c docker-stack.yml shop
  skep stack deploy -c base.yml -c test.yml --env-file .env --prune shop
  skep stack deploy --cluster test -c - shop <stack.yml")]
pub struct StackDeploy {
    #[command(flatten)]
    pub cluster: LongCluster,
    /// A compose file; `-` is the standard input. Several are merged, in this order.
    #[arg(long, short = 'c', value_name = "FILE", required = true)]
    pub compose_file: Vec<PathBuf>,
    #[command(flatten)]
    pub how: StackOptions,
    #[command(flatten)]
    pub converging: Converging,
    /// The stack's name.
    #[arg(value_name = "STACK")]
    pub name: String,
}

/// Which cluster, where `-c` is taken.
#[derive(Debug, Clone, Args)]
pub struct LongCluster {
    /// The cluster; the only one there is if none is named.
    #[arg(long, value_name = "CLUSTER", env = "SKEP_CLUSTER")]
    pub cluster: Option<skep_core::model::ClusterName>,
}

/// How a stack is deployed.
#[derive(Debug, Clone, Default, Args)]
pub struct StackOptions {
    /// A file of variables for the compose files, KEY=VALUE lines. Those of the environment go before.
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Remove services that the files no longer have.
    #[arg(long)]
    pub prune: bool,
    /// When the registry is asked for an image's digest.
    #[arg(long, value_enum, value_name = "WHEN")]
    pub resolve_image: Option<ResolveImage>,
    /// Send the credentials for registries to the nodes.
    #[arg(long)]
    pub with_registry_auth: bool,
}

/// When the registry is asked for an image's digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ResolveImage {
    /// At each deployment; docker's own default.
    Always,
    /// If the image's name changed.
    Changed,
    /// Not at all.
    Never,
}

/// `skep stack rm`.
#[derive(Debug, Args)]
pub struct StackRemove {
    #[command(flatten)]
    pub cluster: ClusterOption,
    #[command(flatten)]
    pub dry_run: DryRun,
    #[command(flatten)]
    pub converging: Converging,
    /// The stacks.
    #[arg(required = true, value_name = "STACK")]
    pub names: Vec<String>,
}

/// `skep stack ls`.
#[derive(Debug, Args)]
pub struct StackList {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
}

/// `skep stack ps`.
#[derive(Debug, Args)]
pub struct StackTasks {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
    /// The stack.
    #[arg(value_name = "STACK")]
    pub name: String,
}

/// `skep rebalance`.
#[derive(Debug, Args)]
pub struct Rebalance {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// Services to start anew even where they keep data on their nodes; all that need it if none is
    /// named, but for those.
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub converging: Converging,
}
