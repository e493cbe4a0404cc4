//! A network of an ordinary user's own, for which nobody needs root: all bridges, taps and rules are in one
//! namespace of the network, in which that user is root, and nowhere else.
//!
//! ```text
//!   skep ── nsenter ──▶ skep --enclosed (root of the namespace): does one thing, answers, ends
//!   loopback ──▶ skep --forward ── a connection that skep --enclosed made ──▶ node
//! ```
//!
//! A process without rights keeps the namespace; another one (pasta(1), if it is installed) is its way out; a
//! third one lets ports of the host's loopback lead to nodes. All are noted in STORE/network, whose presence
//! says that the store's clusters have their networks here:
//!
//! ```text
//! STORE/network/keeper.json, way-out.json, forwarder.json   the processes
//! STORE/network/networks/BRIDGE.json                        a network, its nodes, and its ports of the loopback
//! ```
//!
//! Every other piece of skep, QEMU among them, stays where it is: a tap, and a connection to a node, come out of
//! the namespace as descriptors.

mod acts;
mod network;
mod processes;

use std::net::Ipv4Addr;

pub use crate::forwarder::loopback_alias;
pub use acts::{SERVE_USERNS, serve_userns};
pub use network::UsernsNetwork;

/// The word by which skep is told to forward into the namespace.
pub const FORWARD: &str = "--forward";

/// Returns the private addresses of nodes on whose aliases somebody listens for an engine.
fn loopback_aliases_taken() -> Vec<Ipv4Addr> {
    std::fs::read_to_string("/proc/net/tcp").map(|table| taken_in(&table)).unwrap_or_default()
}

/// Reads them from what the kernel tells of sockets (proc_net(5)): addresses are in the host's order of bytes.
fn taken_in(table: &str) -> Vec<Ipv4Addr> {
    const LISTENS: &str = "0A";
    let aliases = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (address, port) = words.get(1)?.split_once(':')?;
        let address = Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_ne_bytes());
        let engine = u16::from_str_radix(port, 16).ok()? == skep_core::model::ENGINE_PORT;
        let [first, b, c, d] = address.octets();
        let of_node = first == 127 && (b, c) != (0, 0);
        (words.get(3) == Some(&LISTENS) && engine && of_node).then_some([b, c, d])
    });
    // Which of these ranges it is of, its loopback_alias does not tell.
    let nodes =
        aliases.flat_map(|[b, c, d]| [10, 172, 192, 198].map(|a| Ipv4Addr::new(a, b, c, d)));
    nodes.filter(|node| node.is_private() || matches!(node.octets(), [198, 18 | 19, ..])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_of_others_are_seen() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
             0: 0200C17F:0948 00000000:0000 0A 00000000:00000000\n\
             1: 0300C17F:0948 0100007F:C001 01 00000000:00000000\n\
             2: 0100007F:0948 00000000:0000 0A 00000000:00000000\n\
             3: 0400C17F:0050 00000000:0000 0A 00000000:00000000\n\
             4: 0500127F:0948 00000000:0000 0A 00000000:00000000\n";
        let nodes = [[10, 193, 0, 2], [10, 18, 0, 5], [172, 18, 0, 5], [198, 18, 0, 5]];
        assert_eq!(taken_in(table), nodes.map(Ipv4Addr::from));
    }

    #[test]
    fn a_node_has_a_twin_on_the_loopback() {
        assert_eq!(loopback_alias([10, 193, 0, 2].into()), Ipv4Addr::new(127, 193, 0, 2));
    }
}
