//! What a node and a cluster are if nothing else is said.

use std::collections::BTreeMap;

use super::{
    Access, ClusterName, ClusterSpec, ImageSpec, NodeKind, NodeName, NodeSpec, Role, Shape, Size,
};

impl Shape {
    /// What a virtual machine is if nothing else is said.
    pub const DEFAULT: Self = Self { cpus: 1, memory: Size::gib(1), disk: Size::gib(20) };
}

impl NodeSpec {
    /// Returns a virtual machine of the default shape.
    #[must_use]
    pub fn machine(name: NodeName, role: Role) -> Self {
        Self {
            name,
            role,
            kind: NodeKind::Vm(Shape::DEFAULT),
            labels: BTreeMap::new(),
            availability: None,
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
