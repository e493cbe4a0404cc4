//! May this user have that done? A pure function of the request and of what is there.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use skep_core::model::{Hostname, NetworkRecord};
use thiserror::Error;

use super::request::{Act, Name, Place};
use super::serve::Grants;
use crate::net::{BRIDGE, HostNetwork, TAP};

/// The longest name of an interface (IFNAMSIZ less its terminating zero).
const INTERFACE: usize = 15;

/// How many networks one user may have: each takes a subnet that others then cannot have.
const NETWORKS: usize = 32;

/// How many names one cluster may have.
const NAMES: usize = 64;

/// What was seen of the host.
pub(super) struct Seen<'a> {
    /// Its links, routes, rules and claims.
    pub host: &'a HostNetwork,
    /// What whoever set it up lets users do.
    pub grants: &'a Grants,
    /// The names that the host's file of names has for other reasons than this cluster's block.
    pub names: &'a [String],
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    #[error("{0:?} is no name of a cluster's bridge")]
    BridgeName(String),
    #[error("{0:?} is no name of a tap in that network")]
    TapName(String),
    #[error("{0} belongs to another user, or to no user's cluster")]
    NotYours(String),
    #[error("{0} is another subnet than the network has")]
    OtherSubnet(Ipv4Net),
    #[error("{subnet} is not in {pool}; sudo skep setup --subnets allows others")]
    NotInPool { subnet: Ipv4Net, pool: String },
    #[error("{subnet} overlaps {used}, which {by} uses")]
    SubnetTaken { subnet: Ipv4Net, used: Ipv4Net, by: String },
    #[error("{NETWORKS} networks are as many as one user may have")]
    TooMany,
    #[error("an interface {0} is there already")]
    LinkTaken(String),
    #[error("there is no bridge {0} yet")]
    NoBridge(String),
    #[error("{0} is no node's address in that network")]
    NoNode(Ipv4Addr),
    #[error("names in /etc/hosts are not for ordinary users; sudo skep setup --hosts allows them")]
    NoNames,
    #[error("a cluster has at most {NAMES} names")]
    TooManyNames,
    #[error("{0:?} is no host name")]
    BadName(String),
    #[error("{0} is in /etc/hosts already, or is this host's own")]
    NameTaken(String),
}

/// Tells whether a user may have something done.
pub(super) fn judge(act: &Act, user: u32, seen: &Seen<'_>) -> Result<(), Refusal> {
    match act {
        // A loose tap leads nowhere, and goes with whoever holds it.
        Act::Hello | Act::Look | Act::LooseTap | Act::Turn => Ok(()),
        // Whether it is still needed is seen by who does it.
        Act::EnsureForwarding | Act::RestoreForwarding => Ok(()),
        Act::EnsureBridge(place) | Act::EnsureFirewall(place) => network(place, user, seen),
        Act::RemoveLink(name) | Act::RemoveFirewall(name) => removal(name, user, seen),
        Act::Tap { name, place } => {
            network(place, user, seen)?;
            tap(name, &place.network, seen)
        }
        Act::Names { names: wanted, .. } => names(wanted, user, seen),
    }
}

/// Tells whether an act gives a user a network.
pub(super) fn place_of(act: &Act) -> Option<&Place> {
    match act {
        Act::EnsureBridge(place) | Act::EnsureFirewall(place) | Act::Tap { place, .. } => {
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
        Some(claim) if claim.user != user => return Err(Refusal::NotYours(bridge.clone())),
        Some(claim) if claim.subnet != *subnet => return Err(Refusal::OtherSubnet(*subnet)),
        Some(_) => {}
        None if seen.host.has_link(bridge) || seen.host.rules().has_table(bridge) => {
            return Err(Refusal::NotYours(bridge.clone()));
        }
        None if claims.values().filter(|claim| claim.user == user).count() >= NETWORKS => {
            return Err(Refusal::TooMany);
        }
        None => {}
    }
    let fits = subnet.trunc() == *subnet && (16..=29).contains(&subnet.prefix_len());
    if !fits || !seen.grants.subnets.iter().any(|pool| pool.contains(subnet)) {
        let pool: Vec<_> = seen.grants.subnets.iter().map(ToString::to_string).collect();
        return Err(Refusal::NotInPool { subnet: *subnet, pool: pool.join(", ") });
    }
    let taken = |(used, _): &(Ipv4Net, String)| {
        used.prefix_len() > 0 && (used.contains(subnet) || subnet.contains(used))
    };
    match seen.host.facts(Some(bridge)).subnets.into_iter().find(taken) {
        Some((used, by)) => Err(Refusal::SubnetTaken { subnet: *subnet, used, by }),
        None => Ok(()),
    }
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

fn tap(name: &str, network: &NetworkRecord, seen: &Seen<'_>) -> Result<(), Refusal> {
    let digits = name.strip_prefix(TAP).filter(|digits| {
        digits.len() == 8 && digits.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    });
    let address = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    // Another network's machine would not get its own then.
    if !address.is_some_and(|address| is_node(address.into(), network)) {
        return Err(Refusal::TapName(name.to_owned()));
    }
    if !seen.host.has_link(&network.bridge) {
        return Err(Refusal::NoBridge(network.bridge.clone()));
    }
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

fn names(wanted: &[Name], user: u32, seen: &Seen<'_>) -> Result<(), Refusal> {
    // To take a block away needs no grant: it may have been taken back since.
    if !wanted.is_empty() && !seen.grants.hosts {
        return Err(Refusal::NoNames);
    }
    if wanted.len() > NAMES {
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
        let own = claims.values().filter(|claim| claim.user == user);
        if !own.map(|claim| claim.subnet).any(|subnet| subnet.contains(address)) {
            return Err(Refusal::NoNode(*address));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
