//! What a node and a cluster are if nothing else is said.

use std::collections::BTreeMap;

use super::{Access, ClusterName, ClusterSpec, ImageSpec, NodeName, NodeSpec, Role, Size};

impl NodeSpec {
    /// The number of virtual CPUs if none is given.
    pub const DEFAULT_CPUS: u32 = 1;
    /// The size of the memory if none is given.
    pub const DEFAULT_MEMORY: Size = Size::gib(1);
    /// The size of the disk if none is given.
    pub const DEFAULT_DISK: Size = Size::gib(20);

    /// Returns a virtual machine of the default shape.
    #[must_use]
    pub fn machine(name: NodeName, role: Role) -> Self {
        Self {
            name,
            role,
            cpus: Self::DEFAULT_CPUS,
            memory: Self::DEFAULT_MEMORY,
            disk: Self::DEFAULT_DISK,
            labels: BTreeMap::new(),
            availability: None,
            host: None,
        }
    }
}

impl ClusterSpec {
    /// Returns a cluster of virtual machines of the default shape: `node0`, `node1` and so on, the managers first.
    #[must_use]
    pub fn of_machines(name: ClusterName, managers: usize, workers: usize) -> Self {
        let role = |index| if index < managers { Role::Manager } else { Role::Worker };
        let node = |index| NodeSpec::machine(NodeName::numbered(index), role(index));
        Self {
            name,
            image: ImageSpec::default(),
            subnet: None,
            nodes: (0..managers + workers).map(node).collect(),
            hostnames: Vec::new(),
            images: Vec::new(),
            access: Access::default(),
            peers: Vec::new(),
            registry: None,
            trusted: None,
        }
    }
}
