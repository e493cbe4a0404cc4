//! Commands for a cluster's registry.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use skep_core::model::{NodeName, RegistrySpec};

use super::{ClusterOption, ClusterWord, Output};

/// `skep registry`.
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Start a registry on a node; all nodes trust it, including those added later.
    Start(RegistryStart),
    /// Stop the registry; its images stay on the node's disk.
    Stop {
        #[command(flatten)]
        cluster: ClusterWord,
    },
    /// Make all nodes trust an existing registry, including nodes added later.
    Trust(RegistryTrust),
    /// Stop trusting a registry on all nodes.
    Distrust {
        /// The registry, as given to `registry trust`.
        #[arg(value_name = "HOST:PORT")]
        at: String,
        #[command(flatten)]
        cluster: ClusterOption,
    },
    /// Show the registry's address, state and images; exit code 1 unless it responds.
    Status {
        #[command(flatten)]
        cluster: ClusterWord,
        /// Output format.
        #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
        output: Output,
    },
}

/// `skep registry trust`.
#[derive(Debug, Args)]
#[command(after_help = "\
Engines are not restarted. If the registry is trusted already, its settings are replaced.

Examples:
  skep registry trust hub.example:5000 --ca hub-ca.pem
  skep registry trust 192.0.2.9:5000 --insecure --cluster test")]
pub struct RegistryTrust {
    /// The registry, as in image names.
    #[arg(value_name = "HOST:PORT")]
    pub at: String,
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// CA certificate(s) of the registry, in PEM.
    #[arg(long, value_name = "FILE", required_unless_present = "insecure")]
    pub ca: Option<PathBuf>,
    /// Skip TLS verification and allow HTTP.
    #[arg(long, conflicts_with = "ca")]
    pub insecure: bool,
}

/// `skep registry start`.
#[derive(Debug, Args)]
#[command(after_help = "\
With --mirror, images that nodes pull without naming a registry are fetched from that registry once
and cached on the registry's node. The cache listens on the next port and is read-only.

Examples:
  skep registry start
  skep registry start -c test --node node1 --mirror https://registry-1.docker.io")]
pub struct RegistryStart {
    #[command(flatten)]
    pub cluster: ClusterWord,
    /// Node that runs the registry [default: where it ran before, else the first manager].
    #[arg(long, value_name = "NODE")]
    pub node: Option<NodeName>,
    /// Port [default: as before, else 5000].
    #[arg(long, value_name = "PORT", value_parser = super::values::port)]
    pub port: Option<u16>,
    /// Also run a pull-through cache of this registry.
    #[arg(long, value_name = "URL", conflicts_with = "no_mirror")]
    pub mirror: Option<String>,
    /// Remove the pull-through cache.
    #[arg(long)]
    pub no_mirror: bool,
}

impl RegistryStart {
    /// Returns the registry that is wanted, after what is written down of one.
    #[must_use]
    pub fn wanted(&self, before: Option<&RegistrySpec>, first: &NodeName) -> RegistrySpec {
        let node = self.node.clone().or_else(|| before.map(|it| it.node.clone()));
        let mirror = self.mirror.clone().or_else(|| before.and_then(|it| it.mirror.clone()));
        RegistrySpec {
            node: node.unwrap_or_else(|| first.clone()),
            port: self.port.or(before.map(|it| it.port)).unwrap_or(RegistrySpec::DEFAULT_PORT),
            mirror: mirror.filter(|_| !self.no_mirror),
            runs: true,
        }
    }
}
