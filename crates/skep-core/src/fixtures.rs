//! Records for the tests of other crates: one node and its network.

use crate::model::{Mac, NetworkRecord, NodeRecord, NodeSpec, Role};

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
