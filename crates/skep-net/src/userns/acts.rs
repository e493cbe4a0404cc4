//! What is done within the namespaces, by a process of its own for each.

use std::net::TcpStream;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use skep_core::model::Admits;
use skep_sys::{chain, receive};

use crate::network::claims::Claims;
use crate::network::{Error, LinuxNetwork, Network};
use crate::remote::{Act, Answer, Reply, Request};

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

/// Reads what is to be done from a socket, does it, and answers.
///
/// # Errors
///
/// If there is nobody to answer to.
pub async fn serve_userns(socket: BorrowedFd<'_>) -> std::io::Result<()> {
    set_socket_timeout(socket, Timeout::Send, Some(READ))?;
    let (bytes, _) = receive(socket, MOST, READ)?;
    let Request { act, .. } = serde_json::from_slice(&bytes)?;
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

async fn carry_out(act: Act) -> Result<Reply, Error> {
    let (here, user) = (LinuxNetwork::enclosed(), user_outside());
    match act {
        Act::Look => {
            // Claims are of the host's networks; root, who can read them, would take them for this namespace's.
            let seen = here.look().await?.with_claims(Claims::default());
            return Ok((Answer::SeenAll(Box::new(seen)), None));
        }
        Act::EnsureBridge(it) => here.ensure_bridge(&it.network, &it.owner(user)).await?,
        Act::EnsureFirewall { place: it, .. } => {
            // Nothing else is in here, and the switch goes with the namespace. Without rules nothing is routed.
            let written = std::fs::write(FORWARDING, "1");
            let failed = |error| skep_sys::FileError::new("write", Path::new(FORWARDING), error);
            written.map_err(failed)?;
            // Hosts cannot reach nodes in here, and there are no claims of peers.
            here.ensure_firewall(&it.network, &it.owner(user), &Admits::default()).await?;
        }
        Act::RemoveFirewall(name) => here.remove_firewall(&name).await?,
        Act::RemoveLink(name) => here.remove_link(&name).await?,
        Act::Tap { name, place: it } => {
            let tap = here.tap(&name, &it.network, &it.owner(user)).await?;
            return Ok((Answer::Done, Some(tap)));
        }
        Act::LooseTap => return Ok((Answer::Done, Some(here.detached_tap().await?))),
        Act::Hello => {}
        Act::Connect(_) | Act::RestoreForwarding | Act::Names { .. } => {
            return Ok((Answer::Refused("a user's own network has nothing of that".into()), None));
        }
    }
    Ok((Answer::Done, None))
}

/// Returns the user who is root in here, by the first line of the map (user_namespaces(7)).
fn user_outside() -> u32 {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let outside = map.split_ascii_whitespace().nth(1).and_then(|number| number.parse().ok());
    outside.unwrap_or_else(|| rustix::process::geteuid().as_raw())
}
