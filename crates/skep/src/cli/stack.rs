//! `skep stack` and `skep rebalance`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::waiting::parse_duration;
use super::{ClusterOption, DryRun};

/// `skep stack`.
#[derive(Debug, Subcommand)]
pub enum StackCommand {
    /// Deploy a stack (with docker stack deploy) and wait until all its services have converged.
    #[command(alias = "up")]
    Deploy(StackDeploy),
    /// Remove stacks and wait until nothing of them is left on any node.
    #[command(aliases = ["delete", "remove"])]
    Rm(StackRemove),
    /// List stacks.
    #[command(alias = "list")]
    Ls(crate::commands::StackList),
    /// List the tasks of a stack.
    Ps(crate::commands::StackTasks),
    /// Print what the containers of a stack's services write.
    Logs(crate::commands::StackLogs),
    /// List the services of a stack, and whether they have converged.
    Services(crate::commands::StackServices),
}

/// How long services may take to converge.
#[derive(Debug, Clone, Args)]
pub struct Converging {
    /// Do not wait.
    #[arg(long, short)]
    pub detach: bool,
    /// How long to wait, for example 90s [default: 5m, or 16m under emulation].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
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
    /// Compose file; `-` for standard input. Repeat to merge several, in order.
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
    /// The cluster [default: the only one].
    #[arg(long, value_name = "CLUSTER", env = "SKEP_CLUSTER")]
    pub cluster: Option<skep_core::model::ClusterName>,
}

/// How a stack is deployed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct StackOptions {
    /// File of KEY=VALUE lines with variables for the compose files; the environment takes
    /// precedence.
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Remove services that are no longer in the files.
    #[arg(long)]
    pub prune: bool,
    /// When to query the registry for image digests [default: always, but never if all images were loaded on all nodes].
    #[arg(long, value_enum, value_name = "WHEN")]
    pub resolve_image: Option<ResolveImage>,
    /// Send registry credentials to the nodes.
    #[arg(long)]
    pub with_registry_auth: bool,
}

/// When to query the registry for image digests [default: always, but never if all images were loaded on all nodes].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ResolveImage {
    /// On every deployment.
    Always,
    /// If the image name changed.
    Changed,
    /// Never.
    Never,
}

impl ResolveImage {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Always, Self::Changed, Self::Never];

    /// Returns docker's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Changed => "changed",
            Self::Never => "never",
        }
    }
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

/// `skep rebalance`.
#[derive(Debug, Args)]
pub struct Rebalance {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// Services to redistribute, even if they store data on their nodes [default: all unevenly
    /// spread services that store none].
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Print what would change, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub converging: Converging,
}
