//! TCP connections to nodes, wherever their network is.

use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;

/// Connects to addresses of nodes.
pub trait Dial: std::fmt::Debug + Send + Sync {
    /// Connects; fails if nobody listens there.
    fn dial(&self, to: SocketAddrV4) -> BoxFuture<'static, io::Result<TcpStream>>;
}

/// What connects to nodes, shared by all that do.
pub type Dialer = Arc<dyn Dial>;

/// Connects from the host's own network.
#[derive(Debug, Clone, Copy)]
pub struct HostDialer;

impl Dial for HostDialer {
    fn dial(&self, to: SocketAddrV4) -> BoxFuture<'static, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(to))
    }
}
