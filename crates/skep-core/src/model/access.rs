//! Ways to a cluster from its host.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::ClusterName;

/// The engine's TLS port (docs.docker.com, "Protect the Docker daemon socket").
pub const ENGINE_PORT: u16 = 2376;

/// What is wanted of this host beside names: ports of its loopback, and an entry of the docker command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// TCP ports of the host's loopback that lead to the same ports of a node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// Whether the docker command is to have no context for the cluster.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_context: bool,
    /// The docker command's directory in which the context is, or is to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker_config: Option<String>,
}

impl Access {
    /// Tells whether nothing is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Who may open connections to a cluster's machines, beside this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admits {
    /// Hosts outside that are nodes too, sorted.
    pub hosts: Vec<Ipv4Addr>,
    /// Clusters of the same user and store, sorted; each of them has to name this one, too.
    pub peers: Vec<ClusterName>,
}

impl Admits {
    /// How many peers one cluster may name.
    pub const MOST_PEERS: usize = 16;
}

/// Ports of the host's loopback, and where they lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The ports, sorted.
    pub ports: Vec<u16>,
    /// The node's address.
    pub to: Ipv4Addr,
}

impl Publication {
    /// How many ports one cluster may have: each is a descriptor of the process that listens.
    pub const MOST: usize = 32;

    /// Returns the name that tells all of it, by which it is seen again.
    #[must_use]
    pub fn label(&self) -> String {
        let ports: Vec<_> = self.ports.iter().map(u16::to_string).collect();
        format!("{}-{}", self.to, ports.join("-"))
    }
}
