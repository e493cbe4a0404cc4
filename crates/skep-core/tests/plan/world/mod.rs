//! A host with machines and swarms, as far as a planner can tell it from a real one.
//!
//! It holds the hidden truth, such as what is on a disk that nobody runs. [`World::apply`] does to it
//! what a step does to a host, and [`World::look`] tells only what a look would find. What must never
//! happen, such as a second swarm beside one that sleeps, is a panic where it would.

mod act;
mod damage;
mod judge;
mod look;
mod swarm;
mod undone;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use skep_core::fixtures::Swarm;
use skep_core::model::{Admits, ClusterRecord, EngineImages, NodeName, NodeRecord, Shape};
use skep_core::observed::{Baked, ContextState, HostFacts, HostsEntry, MachineState};

pub use act::Fault;
pub use damage::Damage;

/// The host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// What is in use beside the cluster.
    pub host: HostFacts,
    /// The cluster's record.
    pub cluster: Option<ClusterRecord>,
    /// The number of the certificate authority, counted up for each one that is made.
    pub authority: Option<u32>,
    /// Whether the image is in the cache.
    pub image: bool,
    /// The shapes of which a template is in the cache.
    pub templates: BTreeSet<Shape>,
    /// Warm machines with container images that are in the cache.
    pub baked: Vec<Baked>,
    /// Bridges by name.
    pub links: BTreeMap<String, Part>,
    /// Firewall rules by name.
    pub tables: BTreeMap<String, Part>,
    /// The block in /etc/hosts.
    pub hosts: Vec<HostsEntry>,
    /// Where ports of the loopback lead.
    pub published: Option<String>,
    /// Whom the rules let in.
    pub admitted: Admits,
    /// The docker command's directory; none without a docker command.
    pub docker_config: Option<String>,
    /// The docker command's context.
    pub context: ContextState,
    /// Machines by name.
    pub nodes: BTreeMap<NodeName, Node>,
    /// Every swarm that was ever formed.
    pub swarms: Vec<Swarm>,
    /// Whether the service of a verification that was cut off is there.
    pub probed: bool,
    /// How many numbers were given out, for swarm IDs and authorities.
    pub serial: u32,
}

/// How much there is of what takes several commands to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A crash left it unfinished.
    Half,
    /// All of it.
    Whole,
}

/// A machine and its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its record.
    pub record: NodeRecord,
    /// The authority that signed its certificate; none after a crash before it had one.
    pub keys: Option<u32>,
    /// Its disk.
    pub disk: Option<Disk>,
    /// Its process.
    pub machine: MachineState,
    /// Whether its engine reached its swarm since the machine started: else it answers nobody.
    pub session: bool,
}

/// What is on a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    /// Whether it is a template's, and nothing has run on it since.
    pub virgin: bool,
    /// The authority of the certificate that was put there.
    pub delivered: Option<u32>,
    /// The swarm that the engine belongs to, and its ID there.
    pub membership: Option<(usize, String)>,
    /// The container images that the engine has.
    pub images: EngineImages,
    /// What it has of a registry, as text.
    pub registry: String,
    /// Whom a host's own firewall lets in.
    pub open_to: Vec<Ipv4Addr>,
}

impl Node {
    /// Tells whether it is a host that exists without us.
    pub fn is_host(&self) -> bool {
        self.record.spec.is_host()
    }
}

impl World {
    /// Tells whether nothing is left of the cluster.
    pub fn is_empty(&self) -> bool {
        let nothing_recorded = self.cluster.is_none() && self.authority.is_none();
        let nothing_made = self.links.is_empty() && self.tables.is_empty() && self.nodes.is_empty();
        let nothing_led = self.hosts.is_empty() && self.context == ContextState::Missing;
        nothing_recorded && nothing_made && nothing_led
    }

    pub fn node(&self, name: &NodeName) -> &Node {
        self.nodes.get(name).unwrap_or_else(|| panic!("{name} is not recorded"))
    }

    fn node_mut(&mut self, name: &NodeName) -> &mut Node {
        self.nodes.get_mut(name).unwrap_or_else(|| panic!("{name} is not recorded"))
    }

    fn next(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }

    fn bridge_works(&self) -> bool {
        let bridge = self.cluster.as_ref().and_then(|it| self.links.get(&it.network.bridge));
        bridge == Some(&Part::Whole)
    }

    /// Ends a machine, as a kill or a crash of the host does.
    pub fn kill(&mut self, name: &NodeName) {
        if let Some(node) = self.nodes.get_mut(name) {
            // A host is switched on again by others.
            if !node.is_host() {
                node.machine = MachineState::Stopped;
            }
            node.session = false;
        }
    }
}
