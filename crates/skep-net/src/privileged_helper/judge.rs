//! May this user have that done? A pure function of the request and of what is there.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use skep_core::model::{Admits, Hostname, NetworkRecord};
use skep_store::Owner;
use thiserror::Error;

use super::serve::Grants;
use crate::network::claims::Claim;
use crate::network::{BRIDGE, HostNetwork, address_of_tap};
use crate::remote::{Act, Name, Place};

/// The longest name of an interface (IFNAMSIZ less its terminating zero).
const INTERFACE: usize = 15;

/// How many networks one user may have: each takes a subnet that others then cannot have.
const NETWORKS: usize = 32;

/// How many addresses one user's networks may have together.
const ADDRESSES: usize = 4096;

/// The largest network, by the length of its prefix.
const LARGEST: u8 = 24;

/// How many names one user may have: they are read by all programs of the host.
const NAMES: usize = 64;

/// How many hosts may be nodes of one cluster beside its virtual machines.
const HOSTS: usize = 64;

/// What was seen of the host.
pub(super) struct Seen<'a> {
    /// Its links, routes, rules and claims.
    pub host: &'a HostNetwork,
    /// What whoever set it up lets users do.
    pub grants: &'a Grants,
    /// The names that the host's file of names has for other reasons than this cluster's block.
    pub names: &'a [String],
    /// How many names this user's other clusters have.
    pub own_names: usize,
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    #[error("{0:?} is no name of a cluster's bridge")]
    BridgeName(String),
    #[error("{0:?} is no name of a tap in that network")]
    TapName(String),
    #[error("{0} belongs to another user or cluster")]
    NotYours(String),
    #[error("{0} is not the subnet of the network")]
    OtherSubnet(Ipv4Net),
    #[error("{subnet} is not in {pool}; sudo skep setup --subnets allows others")]
    NotInPool { subnet: Ipv4Net, pool: String },
    #[error("{subnet} overlaps {used}, which {by} uses")]
    SubnetTaken { subnet: Ipv4Net, used: Ipv4Net, by: String },
    #[error("one user can have {NETWORKS} networks at most")]
    TooMany,
    #[error("{subnet} is too large: a user's network is /{LARGEST} at most")]
    TooLarge { subnet: Ipv4Net },
    #[error("one user's networks can have {ADDRESSES} addresses at most")]
    TooManyAddresses,
    #[error("one user can have {} unconnected taps at most", HostNetwork::LOOSE_TAPS)]
    TooManyLooseTaps,
    #[error("skep-net connects to nobody")]
    NoConnections,
    #[error("an interface {0} exists already")]
    LinkTaken(String),
    #[error("bridge {0} does not exist yet")]
    NoBridge(String),
    #[error("{0} is no node's address in that network")]
    NoNode(Ipv4Addr),
    #[error("users may not add names to /etc/hosts; sudo skep setup --hosts allows it")]
    NoNames,
    #[error("a cluster has at most {HOSTS} hosts")]
    TooManyHosts,
    #[error("a cluster has at most {} peers", Admits::MOST_PEERS)]
    TooManyPeers,
    #[error("one user can have {NAMES} names at most")]
    TooManyNames,
    #[error("{0:?} is not a host name")]
    BadName(String),
    #[error("{0} is in /etc/hosts already, or is this host's own")]
    NameTaken(String),
}

impl Refusal {
    /// Tells whether it is refused as somebody else has that name or that subnet: others may be free.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::NotYours(_) | Self::SubnetTaken { .. })
    }
}

/// Tells whether a user may have something done.
pub(super) fn judge(act: &Act, user: u32, seen: &Seen<'_>) -> Result<(), Refusal> {
    match act {
        Act::Hello | Act::Look => Ok(()),
        Act::Connect(_) => Err(Refusal::NoConnections),
        // A loose tap leads nowhere, and goes with whoever holds it.
        Act::LooseTap => match seen.host.free_loose_tap(user) {
            Some(_) => Ok(()),
            None => Err(Refusal::TooManyLooseTaps),
        },
        // Whether it is still needed is seen by who does it.
        Act::RestoreForwarding => Ok(()),
        Act::EnsureBridge(place) => network(place, user, seen),
        Act::EnsureFirewall { hosts, .. } if hosts.len() > HOSTS => Err(Refusal::TooManyHosts),
        Act::EnsureFirewall { peers, .. } if peers.len() > Admits::MOST_PEERS => {
            Err(Refusal::TooManyPeers)
        }
        // A peer is any name; whether it is one of the user's own clusters is looked up in the claims.
        Act::EnsureFirewall { place, .. } => {
            network(place, user, seen)?;
            bridge(&place.network, seen)
        }
        Act::RemoveLink(name) | Act::RemoveFirewall(name) => removal(name, user, seen),
        Act::Tap { name, place } => {
            network(place, user, seen)?;
            tap(name, &place.network, seen)
        }
        Act::Names { cluster, store, names: wanted } => {
            let owner = Owner { cluster: cluster.clone(), store: store.clone(), user };
            names(wanted, &owner, seen)
        }
    }
}

/// Tells whether an act gives a user a network.
pub(super) fn place_of(act: &Act) -> Option<&Place> {
    match act {
        Act::EnsureBridge(place) | Act::EnsureFirewall { place, .. } | Act::Tap { place, .. } => {
            Some(place)
        }
        _ => None,
    }
}

fn is_bridge_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.len() <= INTERFACE
        && name.strip_prefix(BRIDGE).is_some_and(|rest| !rest.is_empty())
        && name.chars().all(allowed)
}

fn network(place: &Place, user: u32, seen: &Seen<'_>) -> Result<(), Refusal> {
    let NetworkRecord { subnet, bridge } = &place.network;
    if !is_bridge_name(bridge) {
        return Err(Refusal::BridgeName(bridge.clone()));
    }
    let claims = seen.host.claims();
    match claims.get(bridge) {
        Some(claim) if !claim.is_of(&place.owner(user)) => {
            return Err(Refusal::NotYours(bridge.clone()));
        }
        Some(claim) if claim.subnet != *subnet => return Err(Refusal::OtherSubnet(*subnet)),
        Some(_) => {}
        None if seen.host.has_link(bridge) || seen.host.rules().has_table(bridge) => {
            return Err(Refusal::NotYours(bridge.clone()));
        }
        None => {}
    }
    let fits = subnet.trunc() == *subnet && (16..=29).contains(&subnet.prefix_len());
    if !fits || !seen.grants.subnets.iter().any(|pool| pool.contains(subnet)) {
        let pool: Vec<_> = seen.grants.subnets.iter().map(ToString::to_string).collect();
        return Err(Refusal::NotInPool { subnet: *subnet, pool: pool.join(", ") });
    }
    match seen.host.overlap(*subnet, bridge) {
        Some((used, by)) => Err(Refusal::SubnetTaken { subnet: *subnet, used, by }),
        None if claims.contains_key(bridge) => Ok(()),
        None => may_have_another(*subnet, claims.values().filter(|claim| claim.user == user)),
    }
}

/// Tells whether a user may have one more network, of that subnet.
fn may_have_another<'a>(
    subnet: Ipv4Net,
    own: impl Iterator<Item = &'a Claim>,
) -> Result<(), Refusal> {
    let own: Vec<_> = own.collect();
    if own.len() >= NETWORKS {
        return Err(Refusal::TooMany);
    }
    if subnet.prefix_len() < LARGEST {
        return Err(Refusal::TooLarge { subnet });
    }
    let subnets = own.iter().map(|claim| claim.subnet).chain([subnet]);
    let addresses: usize = subnets.map(|it| 1 << (32 - it.prefix_len())).sum();
    if addresses > ADDRESSES {
        return Err(Refusal::TooManyAddresses);
    }
    Ok(())
}

fn removal(name: &str, user: u32, seen: &Seen<'_>) -> Result<(), Refusal> {
    if !is_bridge_name(name) {
        return Err(Refusal::BridgeName(name.to_owned()));
    }
    match seen.host.claims().get(name) {
        Some(claim) if claim.user == user => Ok(()),
        // What is not there is removed already.
        None if !seen.host.has_link(name) && !seen.host.rules().has_table(name) => Ok(()),
        _ => Err(Refusal::NotYours(name.to_owned())),
    }
}

fn bridge(network: &NetworkRecord, seen: &Seen<'_>) -> Result<(), Refusal> {
    match seen.host.has_link(&network.bridge) {
        true => Ok(()),
        false => Err(Refusal::NoBridge(network.bridge.clone())),
    }
}

fn tap(name: &str, network: &NetworkRecord, seen: &Seen<'_>) -> Result<(), Refusal> {
    // Another network's machine would not get its own then.
    if !address_of_tap(name).is_some_and(|address| is_node(address, network)) {
        return Err(Refusal::TapName(name.to_owned()));
    }
    bridge(network, seen)?;
    // A tap of that name that stays would be taken over, whosever it is.
    if seen.host.has_link(name) {
        return Err(Refusal::LinkTaken(name.to_owned()));
    }
    Ok(())
}

fn is_node(address: Ipv4Addr, network: &NetworkRecord) -> bool {
    let subnet = network.subnet;
    let reserved = [network.gateway(), subnet.network(), subnet.broadcast()];
    subnet.contains(&address) && !reserved.contains(&address)
}

fn names(wanted: &[Name], owner: &Owner, seen: &Seen<'_>) -> Result<(), Refusal> {
    // To take a block away needs no grant: it may have been taken back since.
    if !wanted.is_empty() && !seen.grants.hosts {
        return Err(Refusal::NoNames);
    }
    if wanted.len() + seen.own_names > NAMES {
        return Err(Refusal::TooManyNames);
    }
    let claims = seen.host.claims();
    for Name { name, address } in wanted {
        if name.parse::<Hostname>().is_err() {
            return Err(Refusal::BadName(name.clone()));
        }
        if seen.names.iter().any(|it| it.eq_ignore_ascii_case(name)) {
            return Err(Refusal::NameTaken(name.clone()));
        }
        let own = claims.values().filter(|claim| claim.is_of(owner));
        if !own.map(|claim| claim.subnet).any(|subnet| subnet.contains(address)) {
            return Err(Refusal::NoNode(*address));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
