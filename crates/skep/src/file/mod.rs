//! The cluster file: what a user may say of a cluster, every field optional.
//!
//! ```text
//! text ── tree ──> nodes with places ── kind, section ──> ClusterFile ── spec ──> ClusterSpec
//!                     fields: the table of keys ──> JSON Schema
//! ```
//!
//! Invariant: whatever the text, reading it ends, in bounded memory and without a panic, with a
//! cluster file or with all that is wrong in it.

mod document;
mod fields;
mod kind;
mod load;
mod problem;
mod references;
mod section;
mod spec;
#[cfg(test)]
mod tests;
mod tree;

pub use document::document;
pub use load::json_schema;
pub use references::{Reference, file_references, format_version, service_images};
pub use spec::{DEFAULT_CPUS, DEFAULT_DISK, DEFAULT_MEMORY, host_node, peers};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use skep_core::model::{
    AptSource, Availability, ClusterName, HostSpec, HostnameSpec, NodeName, Role, Size,
};

use crate::cli::StackOptions;

/// The version of the cluster file's format, `version` in the file. It goes up when a file that an older skep reads
/// would mean something else.
pub const VERSION: u32 = 1;

/// A file to start from: every key with an example, most of them as comments.
pub const STARTER: &str = include_str!("starter.yaml");

/// A cluster file, or flags in its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterFile {
    /// The cluster's name.
    pub name: Option<ClusterName>,
    /// The kind of machines that nodes are which say nothing else.
    pub driver: Option<&'static str>,
    /// What every node is like that says nothing else.
    pub node: NodeDefaults,
    /// The number of managers.
    pub managers: Option<u32>,
    /// The number of workers.
    pub workers: Option<u32>,
    /// What differs, by node; a name beyond the numbered ones is one more node.
    pub nodes: BTreeMap<NodeName, NodeEntry>,
    /// The subnet.
    pub subnet: Option<Ipv4Net>,
    /// Names for the host's /etc/hosts.
    pub hostnames: Vec<HostnameSpec>,
    /// What the image is made from.
    pub image: ImageEntry,
    /// TCP ports of this host's loopback that lead to a node.
    pub ports: Vec<u32>,
    /// Clusters whose nodes and its own may reach each other.
    pub peers: Vec<ClusterName>,
    /// Whether the docker command gets a context.
    pub context: Option<bool>,
    /// Container images for all nodes: references, or paths of archives and layouts.
    pub images: Vec<String>,
    /// The registry that a node serves; none if the file does not speak of it.
    pub registry: Option<RegistryEntry>,
    /// The registries that are there already, which all engines are to trust; none if the file does not
    /// speak of them.
    pub registries: Option<Vec<TrustedEntry>>,
    /// Stacks to deploy, in this order.
    pub stacks: Vec<StackEntry>,
}

/// The registry that a node serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryEntry {
    /// Its port.
    pub port: Option<u32>,
    /// The registry whose images it also hands on.
    pub mirror: Option<String>,
}

/// A registry that is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedEntry {
    /// Its name in references of images.
    pub at: String,
    /// The file of the authority that it is trusted by; none if it is not verified.
    pub ca: Option<PathBuf>,
}

/// A stack to deploy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StackEntry {
    /// Its name.
    pub name: String,
    /// Its compose files.
    pub files: Vec<PathBuf>,
    /// How it is deployed.
    pub how: StackOptions,
    /// How long its services may take to converge, if the command line does not say.
    pub timeout: Option<Duration>,
}

/// What every node is like that says nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeDefaults {
    /// CPUs.
    pub cpus: Option<u32>,
    /// Memory.
    pub memory: Option<Size>,
    /// Disk.
    pub disk: Option<Size>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// What one node is like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeEntry {
    /// Its part in the swarm.
    pub role: Option<Role>,
    /// CPUs.
    pub cpus: Option<u32>,
    /// Memory.
    pub memory: Option<Size>,
    /// Disk.
    pub disk: Option<Size>,
    /// Labels, beside those of every node.
    pub labels: BTreeMap<String, String>,
    /// The host that it is, or none for a virtual machine.
    pub host: Option<HostSpec>,
    /// Whether it says itself that it is a virtual machine.
    pub is_machine: bool,
    /// Whether it takes tasks.
    pub availability: Option<Availability>,
}

/// What the image is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageEntry {
    /// The Debian suite.
    pub suite: Option<String>,
    /// The mirror.
    pub mirror: Option<String>,
    /// Further apt sources.
    pub sources: Vec<AptSource>,
    /// Further packages.
    pub packages: Vec<String>,
}
