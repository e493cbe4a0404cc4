//! What makes the connections of HTTP clients.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use hyper::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use skep_sys::Dialer;

/// Connects to a node by its address.
#[derive(Clone)]
pub(super) struct ToNode(pub Dialer);

impl Service<Uri> for ToNode {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let dialer = self.0.clone();
        Box::pin(async move {
            let at = to.host().and_then(|host| host.parse::<Ipv4Addr>().ok()).zip(to.port_u16());
            let (address, port) = at.ok_or(io::ErrorKind::InvalidInput)?;
            let stream = dialer.dial(SocketAddrV4::new(address, port)).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}
