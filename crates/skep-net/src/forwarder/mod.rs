//! The forwarder: a process that listens on addresses of the host's loopback and copies each connection to a node.
//!
//! ```text
//!   loopback ──▶ skep --forward-ports STORE/ports ──▶ node        published ports of clusters on bridges
//!   loopback ──▶ skep --forward STORE/network ──▶ node            everything with --net user
//! ```
//!
//! A listener takes the port as any other service does: a port that is in use is refused, and a service that wants it
//! later fails to bind (EADDRINUSE) and is not cut off from its clients without a word. Rules that translate
//! addresses give neither, and they need a bridge that accepts loopback addresses (`route_localnet`), with which
//! a guest reaches services of the host that listen on 127.0.0.1 as soon as one rule is missing (CVE-2020-8558).
//!
//! The process belongs to the cluster's own user. It holds no descriptor or terminal of who started it, leads a
//! session, and is written down in its directory:
//!
//! ```text
//! DIR/forwarder.json           the process
//! DIR/forwarder.log            what it could not do
//! DIR/networks/BRIDGE.json     a network and what is forwarded to it
//! ```

mod listen;
mod places;
mod process;
mod sockets;

use std::net::Ipv4Addr;

use thiserror::Error;

pub use listen::forward;
pub use places::{Noted, Places};
pub use process::{Forwarder, PublishedPorts};
pub(crate) use process::{check_free, published};

use skep_sys::{CmdError, FileError, LockError};

/// The word that starts the forwarder of published ports of clusters on bridges.
pub const FORWARD_PORTS: &str = "--forward-ports";

/// What went wrong with forwarding.
#[derive(Debug, Error)]
pub enum Error {
    /// The port cannot be had.
    #[error(
        "cannot listen on port {port} of 127.0.0.1; `ss -ltnp 'sport = :{port}'` shows who does, \
         or publish another port"
    )]
    Port {
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The process does not listen.
    #[error("the port forwarder is not listening on {at}{}", if .said.is_empty() { String::new() } else { format!(": {}", .said) })]
    Deaf {
        /// The address.
        at: std::net::SocketAddrV4,
        /// The last lines of its log.
        said: String,
    },
    /// The process cannot be started.
    #[error(transparent)]
    Cmd(#[from] CmdError),
    /// What is written down cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The turn to change it cannot be had.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// Returns the address of the host's loopback that leads to a node: the whole of 127.0.0.0/8 is the host's, so
/// the rest of the node's own address is free there.
#[must_use]
pub fn loopback_alias(address: Ipv4Addr) -> Ipv4Addr {
    let [_, b, c, d] = address.octets();
    Ipv4Addr::new(127, b, c, d)
}
