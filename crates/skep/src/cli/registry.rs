//! Commands for a cluster's registry.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use skep_core::model::{NodeName, RegistrySpec};

use super::{ClusterArg, ClusterOption, Output};

/// `skep registry`.
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Let a node serve a registry, and all nodes trust it, those that are added later too.
    Start(RegistryStart),
    /// Stop it. Its images stay on its node's disk, for the next start.
    Stop {
        #[command(flatten)]
        cluster: ClusterArg,
    },
    /// Let all nodes trust a registry that is there already, those that are added later too.
    Trust(RegistryTrust),
    /// Let no node trust such a registry any more.
    Distrust {
        /// The registry, as it was named.
        #[arg(value_name = "HOST:PORT")]
        at: String,
        #[command(flatten)]
        cluster: ClusterOption,
    },
    /// Show where it is, whether it answers, and what it has; exit code 1 unless it answers.
    Status {
        #[command(flatten)]
        cluster: ClusterArg,
        /// How it is printed.
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
}

/// `skep registry trust`.
#[derive(Debug, Args)]
#[command(after_help = "\
Engines go on. What is known of the registry is replaced if it is named again.

Examples:
  skep registry trust hub.example:5000 --ca hub-ca.pem
  skep registry trust 192.0.2.9:5000 --insecure --cluster test")]
pub struct RegistryTrust {
    /// The registry as references of images name it.
    #[arg(value_name = "HOST:PORT")]
    pub at: String,
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// The certificates of the authority that it is trusted by, in PEM.
    #[arg(long, value_name = "FILE", required_unless_present = "insecure")]
    pub ca: Option<PathBuf>,
    /// Whoever answers there is believed, with TLS or without.
    #[arg(long, conflicts_with = "ca")]
    pub insecure: bool,
}

/// `skep registry start`.
#[derive(Debug, Args)]
#[command(after_help = "\
With --mirror, what nodes pull without naming a registry is fetched from that one, once, and kept
on the registry's node; it has the next port, and nothing can be pushed to it.

Examples:
  skep registry start
  skep registry start test --node node1 --mirror https://registry-1.docker.io")]
pub struct RegistryStart {
    #[command(flatten)]
    pub cluster: ClusterArg,
    /// The node that serves it; where it was before, else the first manager.
    #[arg(long, value_name = "NODE")]
    pub node: Option<NodeName>,
    /// Its port; as it was before, else 5000.
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Also hand on, and keep, the images of this registry.
    #[arg(long, value_name = "URL", conflicts_with = "no_mirror")]
    pub mirror: Option<String>,
    /// Hand on no other registry's images any more.
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
