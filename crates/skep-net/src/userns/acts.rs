//! What is done within the namespaces, by a process of its own for each.

use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use serde::{Deserialize, Serialize};
use skep_core::model::{Admits, NetworkRecord};
use skep_store::Owner;
use skep_sys::{chain, receive};

use crate::firewall;
use crate::network::claims::Claims;
use crate::network::{Error, HostNetwork, LinuxNetwork, Network};

/// The word by which skep is told to do one of them.
pub const SERVE_USERNS: &str = "--enclosed";

/// The longest request or answer, in bytes.
pub(super) const MOST: usize = 1 << 20;

/// How long a request may take to come.
const READ: Duration = Duration::from_secs(10);

/// How long a node may take to take a connection.
const CONNECT: Duration = Duration::from_secs(20);

/// Where the namespace forwards packets or does not.
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// What is to be done.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Act {
    Look,
    EnsureBridge(NetworkRecord, Owner),
    EnsureFirewall(NetworkRecord, Owner),
    RemoveFirewall(String),
    RemoveLink(String),
    Tap(String, NetworkRecord, Owner),
    LooseTap,
    Connect(SocketAddrV4),
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It is done; a descriptor comes along if one was asked for.
    Done,
    Seen(Box<HostNetwork>),
    Failed(String),
    /// There is no connection, by the number of the error that the kernel has for it.
    NotConnected(i32),
}

/// Reads what is to be done from a socket, does it, and answers.
///
/// # Errors
///
/// If there is nobody to answer to.
pub async fn serve_userns(socket: BorrowedFd<'_>) -> std::io::Result<()> {
    set_socket_timeout(socket, Timeout::Send, Some(READ))?;
    let (bytes, _) = receive(socket, MOST, READ)?;
    let act = serde_json::from_slice(&bytes)?;
    // No Docker ever starts in here.
    firewall::expect_no_docker();
    let (answer, descriptor) = match act {
        Act::Connect(to) => match TcpStream::connect_timeout(&to.into(), CONNECT) {
            Ok(stream) => (Answer::Done, Some(stream.into())),
            Err(error) => (Answer::NotConnected(error.raw_os_error().unwrap_or_default()), None),
        },
        act => match carry_out(act).await {
            Ok(done) => done,
            Err(error) => (Answer::Failed(chain(&error)), None),
        },
    };
    let text = serde_json::to_vec(&answer)?;
    skep_sys::answer(socket, &text, descriptor)
}

async fn carry_out(act: Act) -> Result<(Answer, Option<OwnedFd>), Error> {
    let here = LinuxNetwork;
    match act {
        Act::Look => {
            // Claims are of the host's networks; root, who can read them, would take them for this namespace's.
            let seen = here.look().await?.with_claims(Claims::default());
            return Ok((Answer::Seen(Box::new(seen)), None));
        }
        Act::EnsureBridge(network, owner) => here.ensure_bridge(&network, &owner).await?,
        Act::EnsureFirewall(network, owner) => {
            // Nothing else is in here, and the switch goes with the namespace. Without rules nothing is routed.
            let written = std::fs::write(FORWARDING, "1");
            let failed = |error| skep_sys::FileError::new("write", Path::new(FORWARDING), error);
            written.map_err(failed)?;
            // Hosts cannot reach nodes in here, and there are no claims of peers.
            here.ensure_firewall(&network, &owner, &Admits::default()).await?;
        }
        Act::RemoveFirewall(name) => here.remove_firewall(&name).await?,
        Act::RemoveLink(name) => here.remove_link(&name).await?,
        Act::Tap(name, network, owner) => {
            return Ok((Answer::Done, Some(here.tap(&name, &network, &owner).await?)));
        }
        Act::LooseTap => return Ok((Answer::Done, Some(here.detached_tap().await?))),
        Act::Connect(_) => {}
    }
    Ok((Answer::Done, None))
}
