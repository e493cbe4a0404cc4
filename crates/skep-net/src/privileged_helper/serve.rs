//! The side that is root: one request, and its end.

use std::collections::BTreeSet;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use ipnet::Ipv4Net;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use serde::{Deserialize, Serialize};
use skep_store::{Owner, parse_known};
use skep_sys::{FileError, LockError, chain, read_own, receive};
use thiserror::Error;
use tokio::time::timeout;

use super::judge::{Refusal, Seen, judge, place_of};
use super::queue::Queue;
use super::{MOST, blocks};
use crate::firewall::closed_chains;
use crate::hosts;
use crate::network::claims::{self, Claim, Claims};
use crate::network::{self, HostNetwork, LinuxNetwork, Network};
use crate::remote::{Act, Answer, PROTOCOL, Request};

/// How long a request may take to come.
const READ: Duration = Duration::from_secs(10);

/// How long a request may take to come when its user has too many of them already.
const READ_TO_REFUSE: Duration = Duration::from_secs(1);

/// How long a change may take, during which all others wait. It runs a few programs that take a moment each.
const WORK: Duration = Duration::from_secs(20);

/// The file of names; a user has no say in which.
pub(super) const HOSTS: &str = hosts::FILE;

/// What whoever set this host up lets users do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// Where their subnets may be.
    pub subnets: Vec<Ipv4Net>,
    /// Whether they may have names in /etc/hosts.
    #[serde(default)]
    pub hosts: bool,
}

impl Grants {
    /// The file's name.
    pub const FILE: &str = "grants.json";

    /// Reads them; without a file nothing is granted.
    ///
    /// # Errors
    ///
    /// If the file is damaged.
    pub fn read(state: &Path) -> Result<Self, FileError> {
        let path = state.join(Self::FILE);
        match read_own(&path) {
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            text => parse_known(&path, &text?),
        }
    }
}

/// Why something was not done.
#[derive(Debug, Error)]
enum Undone {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("it is not a request of skep")]
    Unread(#[source] serde_json::Error),
    #[error("it was not done within {} s", WORK.as_secs())]
    Slow,
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Net(#[from] network::Error),
    #[error(transparent)]
    Hosts(#[from] hosts::Error),
    #[error(transparent)]
    File(#[from] FileError),
}

/// What was done, and the descriptor that was asked for.
type Done = (Answer, Option<OwnedFd>);

/// Reads one request from a socket, does for a user what it asks if that may be, and answers. What is known of
/// users is in `state`; `version` is that of this skep.
///
/// # Errors
///
/// If there is nobody to answer to.
pub async fn serve(
    socket: BorrowedFd<'_>,
    user: u32,
    state: &Path,
    version: &str,
) -> std::io::Result<()> {
    set_socket_timeout(socket, Timeout::Send, Some(READ))?;
    let (bytes, replied) = match Queue::enter(state, user) {
        Ok(Some(queue)) => {
            let (bytes, _) = receive(socket, MOST, READ)?;
            let replied = reply(&bytes, &queue, state, version).await;
            queue.leave();
            (bytes, replied)
        }
        full_or_failed => {
            // What is not read would break the connection before the answer is.
            let (bytes, _) = receive(socket, MOST, READ_TO_REFUSE)?;
            (bytes, full_or_failed.map(|_| (Answer::Busy, None)).map_err(Undone::from))
        }
    };
    drop(bytes);
    let (answer, descriptor) = match replied {
        Ok(done) => done,
        Err(Undone::Refused(refusal)) if refusal.is_taken() => {
            (Answer::Taken(chain(&refusal)), None)
        }
        Err(undone @ (Undone::Refused(_) | Undone::Unread(_))) => {
            (Answer::Refused(chain(&undone)), None)
        }
        Err(undone) => (Answer::Failed(chain(&undone)), None),
    };
    let text = serde_json::to_vec(&answer).expect("an answer has only text keys");
    skep_sys::answer(socket, &text, descriptor)
}

async fn reply(
    bytes: &[u8],
    queue: &Queue<'_>,
    state: &Path,
    version: &str,
) -> Result<Done, Undone> {
    // The protocol's number first: what else a request of another skep has is not known.
    #[derive(Deserialize)]
    struct Protocol {
        protocol: u32,
    }
    let Protocol { protocol } = serde_json::from_slice(bytes).map_err(Undone::Unread)?;
    if protocol != PROTOCOL {
        return Ok((Answer::Other(version.to_owned()), None));
    }
    let request: Request = serde_json::from_slice(bytes).map_err(Undone::Unread)?;
    match &request.act {
        Act::Hello => Ok((Answer::Done, None)),
        Act::Look => {
            let _turn = queue.own_turn().await?;
            let user = queue.user();
            let host = look(state).await?;
            let claims = host.claims().clone();
            let mut rules = host.rules().clone();
            rules.closed = closed_chains().await.map_err(network::Error::from)?;
            rules.retain(|table| claims.get(table).is_some_and(|claim| claim.user == user));
            let subnets = Grants::read(state)?.subnets;
            Ok((Answer::Seen { rules, claims, subnets }, None))
        }
        act => {
            let _turn = queue.turn().await?;
            // What was begun ends with its time: programs that run are killed.
            let done = timeout(WORK, change(act, queue.user(), state)).await;
            done.unwrap_or(Err(Undone::Slow))
        }
    }
}

async fn look(state: &Path) -> Result<HostNetwork, Undone> {
    Ok(LinuxNetwork::host().look().await?.with_claims(claims::read(state)?))
}

/// Judges an act by what is there, and does it. Whoever calls this is the only one.
async fn change(act: &Act, user: u32, state: &Path) -> Result<Done, Undone> {
    let host = without_strays(look(state).await?).await?;
    let grants = Grants::read(state)?;
    let names = match act {
        Act::Names { cluster, store, .. } => {
            let owner = Owner { cluster: cluster.clone(), store: store.clone(), user };
            let mut names = hosts::other_names(Path::new(HOSTS), &owner)?;
            names.extend(own_name());
            names
        }
        _ => Vec::new(),
    };
    let blocks = blocks::read(state)?;
    let mut own_names = 0;
    for block in blocks.iter().filter(|block| block.owner.user == user) {
        match act {
            Act::Names { cluster, store, .. }
                if (cluster, store) == (&block.owner.cluster, &block.owner.store) => {}
            _ => own_names += block.names,
        }
    }
    let seen = Seen { host: &host, grants: &grants, names: &names, own_names };
    judge(act, user, &seen)?;
    if let Some(place) = place_of(act)
        && !host.claims().contains_key(&place.network.bridge)
    {
        let claim = Claim::of(&place.owner(user), place.network.subnet);
        // Nobody had the subnet, so whoever still holds taps of nodes in it has no network for them.
        remove_taps(host.taps_in(claim.subnet)).await?;
        claims::write(state, &place.network.bridge, &claim)?;
    }
    carry_out(act, user, state, &host).await
}

async fn carry_out(act: &Act, user: u32, state: &Path, host: &HostNetwork) -> Result<Done, Undone> {
    let forwarding = claims::forwarding_file(state);
    match act {
        Act::EnsureBridge(it) => {
            LinuxNetwork::host().ensure_bridge(&it.network, &it.owner(user)).await?
        }
        Act::EnsureFirewall { place: it, hosts, peers } => {
            let owner = it.owner(user);
            let peerings =
                claims::peerings(&claims::name_peers(state, &it.network, &owner, peers)?);
            LinuxNetwork::host().ensure_rules(&it.network, &owner, hosts, &peerings).await?;
        }
        Act::Tap { name, place } => {
            let tap = LinuxNetwork::host().tap(name, &place.network, &place.owner(user)).await?;
            return Ok((Answer::Done, Some(tap)));
        }
        Act::LooseTap => {
            let name = host.free_loose_tap(user).unwrap_or_default();
            return Ok((Answer::Done, Some(network::named_tap(&name)?)));
        }
        Act::RemoveLink(name) => {
            network::remove_link(name).await?;
            give_up(name, state, host.claims()).await?;
        }
        Act::RemoveFirewall(name) => {
            let peerings = claims::peerings(&claims::forget_peers(state, name)?);
            network::remove_firewall(name, &peerings).await?;
            give_up(name, state, host.claims()).await?;
        }
        Act::RestoreForwarding => LinuxNetwork::host().restore_forwarding(&forwarding).await?,
        Act::Names { cluster, store, names } => {
            let owner = Owner { cluster: cluster.clone(), store: store.clone(), user };
            let entries: Vec<_> = names.iter().map(Into::into).collect();
            blocks::write(state, Path::new(HOSTS), &owner, &entries)?;
        }
        Act::Hello | Act::Look | Act::Connect(_) => {}
    }
    Ok((Answer::Done, None))
}

/// Removes taps that stay: skep makes none such, but whoever holds the descriptor of one can have it stay (tun(4),
/// TUNSETPERSIST), also under the name of another user's node.
async fn without_strays(host: HostNetwork) -> Result<HostNetwork, Undone> {
    let strays: BTreeSet<String> = host.persistent_taps();
    remove_taps(strays.clone()).await?;
    Ok(host.without_links(&strays))
}

async fn remove_taps(names: impl IntoIterator<Item = String>) -> Result<(), Undone> {
    for name in names {
        network::remove_link(&name).await?;
    }
    Ok(())
}

/// Gives a network's name and subnet back when nothing of it is left, with the names that lead there.
async fn give_up(name: &str, state: &Path, claims: &Claims) -> Result<(), Undone> {
    let host = look(state).await?;
    if !host.has_link(name) && !host.rules().has_table(name) {
        if let Some(claim) = claims.get(name) {
            blocks::remove_of(state, Path::new(HOSTS), |owner| claim.is_of(owner))?;
            remove_taps(host.taps_in(claim.subnet)).await?;
        }
        claims::remove(state, name)?;
        LinuxNetwork::host().restore_forwarding(&claims::forwarding_file(state)).await?;
    }
    Ok(())
}

fn own_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(text.trim().to_owned())
}
