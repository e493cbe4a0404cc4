//! Records and parts of a swarm for tests, of other crates too. A test says what it changes of them.

use crate::model::{Mac, NetworkRecord, NodeKind, NodeRecord, NodeSpec, Role, Shape};
use crate::services::{Mode, Resources, Restart, Service, SwarmNode, Task, TaskState};

/// The network.
///
/// # Panics
///
/// Never: its texts are constants.
#[must_use]
pub fn network() -> NetworkRecord {
    NetworkRecord { subnet: "10.193.0.0/24".parse().unwrap(), bridge: "skep-demo".into() }
}

/// The network's first node: a manager with one CPU, 1 GiB of memory and 20 GiB of disk.
///
/// # Panics
///
/// Never: its texts are constants.
#[must_use]
pub fn node() -> NodeRecord {
    let address = network().node_address(0);
    NodeRecord {
        spec: NodeSpec::machine("node0".parse().unwrap(), Role::Manager),
        index: 0,
        address,
        mac: Mac::for_address(address),
        tap: "skt0ac10002".into(),
    }
}

/// The shape of a node that is a virtual machine, to change it.
///
/// # Panics
///
/// If the node is a host.
pub fn shape(node: &mut NodeSpec) -> &mut Shape {
    match &mut node.kind {
        NodeKind::Vm(shape) => shape,
        NodeKind::Host(host) => panic!("{} is a host: {host:?}", node.name),
    }
}

/// A service with one replica of the image `nginx` that asks for nothing else.
#[must_use]
pub fn service(id: &str, name: &str) -> Service {
    Service {
        id: id.to_owned(),
        name: name.to_owned(),
        stack: None,
        image: "nginx".to_owned(),
        mode: Mode::Replicated(1),
        constraints: Vec::new(),
        reserved: Resources::default(),
        limits: Resources::default(),
        max_per_node: 0,
        restart: Restart::Any,
        drivers: Vec::new(),
        ports: Vec::new(),
        local_data: false,
        update: None,
    }
}

/// The task in the first slot of a service, which is to run and is on no node.
#[must_use]
pub fn task(id: &str, service: &str, state: TaskState) -> Task {
    Task {
        id: id.to_owned(),
        service: service.to_owned(),
        slot: Some(1),
        node: None,
        state,
        desired: TaskState::Running,
        current: true,
        created: String::new(),
        changed: String::new(),
        message: String::new(),
        error: String::new(),
        container: None,
        exit_code: None,
        image: "nginx".to_owned(),
    }
}

/// A worker of a swarm that is ready and takes tasks.
#[must_use]
pub fn swarm_node(id: &str, hostname: &str) -> SwarmNode {
    SwarmNode {
        id: id.to_owned(),
        hostname: hostname.to_owned(),
        role: Role::Worker,
        ready: true,
        availability: "active".to_owned(),
        labels: [].into(),
        engine_labels: [].into(),
        os: "linux".to_owned(),
        architecture: "x86_64".to_owned(),
        resources: Resources::default(),
    }
}
