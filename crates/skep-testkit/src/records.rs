//! What is recorded of clusters, without machines.

use skep_core::model::{
    Access, ClusterRecord, ImageSpec, Mac, NetworkRecord, NodeName, NodeRecord, NodeSpec, Role,
};
use skep_store::Store;

use crate::home::Home;

/// Writes down the cluster `demo` of two nodes that never ran.
///
/// # Panics
///
/// If it cannot be written.
pub fn put_cluster(home: &Home) {
    put_cluster_with(home, |_| ());
}

/// Does so after a change of what is written down.
///
/// # Panics
///
/// If it cannot be written.
pub fn put_cluster_with(home: &Home, change: impl FnOnce(&mut ClusterRecord)) {
    let store = Store::new(home.path().to_owned());
    let node = |index: u32| {
        let role = if index == 0 { Role::Manager } else { Role::Worker };
        NodeSpec::machine(NodeName::numbered(index as usize), role)
    };
    let subnet = "10.5.0.0/24".parse().expect("a subnet");
    let network = NetworkRecord { subnet, bridge: "skep-demo".into() };
    let mut record = ClusterRecord {
        name: "demo".parse().expect("a name"),
        network: network.clone(),
        image: ImageSpec::default(),
        nodes: vec![node(0), node(1)],
        hostnames: Vec::new(),
        images: Vec::new(),
        access: Access::default(),
        peers: Vec::new(),
        registry: None,
        trusted: None,
    };
    change(&mut record);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let cluster = runtime.block_on(store.lock(&record.name, |_| ())).expect("a lock");
    cluster.write_cluster(&record).expect("a record of the cluster");
    for (index, spec) in (0..).zip(&record.nodes) {
        let address = network.node_address(index);
        let node = NodeRecord {
            spec: spec.clone(),
            index,
            address,
            mac: Mac::for_address(address),
            tap: format!("skt{:08x}", u32::from(address)),
        };
        cluster.write_node(&network.bridge, &node).expect("a record of a node");
    }
    cluster.release();
}
