//! Whose the networks of this host are.
//!
//! ```text
//! /var/lib/skep-net/networks/BRIDGE.json   whose, and with which subnet
//! /var/lib/skep-net/lock                   held by the process that changes networks or names
//! ```
//!
//! A claim is written down before its network is made, and goes when nothing of it is left. It outlives
//! a restart of the host, as the cluster does: another user is not given its subnet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use skep_core::model::{ClusterName, NetworkRecord};
use skep_store::{Owner, parse_known};
use skep_sys::{FileError, Lock, make_private_dir, read_own, remove_file, write_atomic};

use crate::firewall::Peerings;

/// Where root keeps claims, and what it does for others.
pub const STATE: &str = "/var/lib/skep-net";

/// Whose a network is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The user's number.
    pub user: u32,
    /// The cluster, as that user calls it.
    pub cluster: String,
    /// The store that the cluster is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<PathBuf>,
    /// The subnet.
    pub subnet: Ipv4Net,
    /// The clusters whose nodes may reach this one's, if they name it too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<ClusterName>,
}

impl Claim {
    /// Returns the claim of an owner to a subnet.
    #[must_use]
    pub fn of(owner: &Owner, subnet: Ipv4Net) -> Self {
        let Owner { cluster, store, user } = owner.clone();
        let (cluster, store) = (cluster.to_string(), Some(store));
        Self { user, cluster, store, subnet, peers: Vec::new() }
    }

    /// Tells whether it is an owner's.
    #[must_use]
    pub fn is_of(&self, owner: &Owner) -> bool {
        self.user == owner.user
            && self.cluster == owner.cluster.as_str()
            && self.store.as_ref().is_none_or(|store| *store == owner.store)
    }
}

/// Claims by the names of their bridges.
pub type Claims = BTreeMap<String, Claim>;

/// Returns, for each network, those that it is opened to: of two clusters of one user and one store each has to name the
/// other. What a cluster of another user is called, or says, opens nothing.
#[must_use]
pub fn peerings(claims: &Claims) -> Peerings {
    let names = |one: &Claim, other: &Claim| {
        one.peers.iter().any(|peer| peer.as_str() == other.cluster)
            && one.user == other.user
            && one.store.is_some()
            && one.store == other.store
    };
    let of = |own: &Claim| {
        let others = claims.iter().filter(|(_, other)| names(own, other) && names(other, own));
        others.map(|(bridge, other)| (bridge.clone(), other.subnet)).collect()
    };
    claims.iter().map(|(bridge, own)| (bridge.clone(), of(own))).collect()
}

/// Writes down which peers an owner's network has, and returns all claims.
///
/// # Errors
///
/// If they cannot be read or written.
pub fn name_peers(
    state: &Path,
    network: &NetworkRecord,
    owner: &Owner,
    peers: &[ClusterName],
) -> Result<Claims, FileError> {
    let mut claims = read(state)?;
    let claim = claims.get(&network.bridge).cloned();
    let claim = claim.unwrap_or_else(|| Claim::of(owner, network.subnet));
    if claim.is_of(owner) && claim.peers != peers {
        let claim = Claim { peers: peers.to_vec(), ..claim };
        write(state, &network.bridge, &claim)?;
        claims.insert(network.bridge.clone(), claim);
    }
    Ok(claims)
}

/// Forgets which peers a network has, and returns all claims.
///
/// # Errors
///
/// If they cannot be read or written.
pub fn forget_peers(state: &Path, bridge: &str) -> Result<Claims, FileError> {
    let mut claims = read(state)?;
    if let Some(claim) = claims.get_mut(bridge).filter(|claim| !claim.peers.is_empty()) {
        claim.peers.clear();
        write(state, bridge, claim)?;
    }
    Ok(claims)
}

/// Reads all claims; without the right to read them there are none.
///
/// # Errors
///
/// If one is damaged.
pub fn read(state: &Path) -> Result<Claims, FileError> {
    let dir = state.join("networks");
    let mut claims = Claims::new();
    for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let Some(bridge) = name.to_str().and_then(|name| name.strip_suffix(".json")) else {
            continue;
        };
        let text = match read_own(&path) {
            // It was removed since it was listed.
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => continue,
            text => text?,
        };
        claims.insert(bridge.to_owned(), parse_known(&path, &text)?);
    }
    Ok(claims)
}

/// Writes a claim down.
///
/// # Errors
///
/// If the directory cannot be written to.
pub fn write(state: &Path, bridge: &str, claim: &Claim) -> Result<(), FileError> {
    let dir = state.join("networks");
    make_private_dir(&dir)?;
    let text = serde_json::to_vec(claim).expect("a claim has only text keys");
    write_atomic(&dir.join(format!("{bridge}.json")), 0o600, &text)
}

/// Removes a claim; none is fine.
///
/// # Errors
///
/// If the directory cannot be written to.
pub fn remove(state: &Path, bridge: &str) -> Result<(), FileError> {
    remove_file(&state.join("networks").join(format!("{bridge}.json")))
}

/// Where it is written down that forwarding was off before a user needed it.
#[must_use]
pub fn forwarding_file(state: &Path) -> PathBuf {
    state.join("forwarding.json")
}

/// Where the lock of whoever changes networks or names is.
#[must_use]
pub fn lock_file(state: &Path) -> PathBuf {
    state.join("lock")
}

/// Removes the directory where neither claims nor a set-up need it; whoever calls this holds its lock.
pub fn remove_if_unused(state: &Path, lock: Lock) {
    // Only an empty directory can be removed so.
    let _ = std::fs::remove_dir(state.join("networks"));
    let other = |entry: &std::fs::DirEntry| entry.path() != lock_file(state);
    if std::fs::read_dir(state).is_ok_and(|all| !all.flatten().any(|it| other(&it))) {
        lock.remove();
        let _ = std::fs::remove_dir(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clusters_of_one_user_and_store_that_name_each_other_are_peers() {
        let claim = |user, cluster: &str, store: &str, number: u8, peers: &[&str]| {
            let owner = Owner { cluster: cluster.parse().unwrap(), store: store.into(), user };
            let subnet = Ipv4Net::new([10, 193, number, 0].into(), 24).unwrap();
            let peers = peers.iter().map(|peer| peer.parse().unwrap()).collect();
            (format!("skep-{number}"), Claim { peers, ..Claim::of(&owner, subnet) })
        };
        let mut claims = Claims::from([
            claim(1000, "a", "/s", 0, &["b", "c", "d"]),
            claim(1000, "b", "/s", 1, &["a"]),
            // It is named, and names nobody.
            claim(1000, "c", "/s", 2, &[]),
            // It names, and is not named.
            claim(1000, "e", "/s", 3, &["a"]),
            // Names of another store, of another user, and of root.
            claim(1000, "d", "/t", 4, &["a"]),
            claim(1001, "d", "/s", 5, &["a"]),
            claim(0, "b", "/s", 6, &["a"]),
        ]);
        let with = |bridge: &str| vec![(bridge.to_owned(), claims[bridge].subnet)];
        let (a, b) = (with("skep-0"), with("skep-1"));
        let open = |claims: &Claims| {
            let all = peerings(claims).into_iter();
            all.filter(|(_, peers)| !peers.is_empty()).collect::<Peerings>()
        };
        assert_eq!(open(&claims), Peerings::from([("skep-0".into(), b), ("skep-1".into(), a)]));
        // Of an earlier version, which wrote no store down.
        for bridge in ["skep-0", "skep-1"] {
            claims.get_mut(bridge).unwrap().store = None;
        }
        assert_eq!(open(&claims), Peerings::new());
    }

    #[test]
    fn peers_are_written_down_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let owner = Owner { cluster: "a".parse().unwrap(), store: "/s".into(), user: 0 };
        let network =
            NetworkRecord { subnet: "10.193.0.0/24".parse().unwrap(), bridge: "skep-a".into() };
        let peers = ["b".parse().unwrap()];
        let written = name_peers(dir.path(), &network, &owner, &peers).unwrap();
        assert_eq!(written["skep-a"].peers, peers);
        assert_eq!(read(dir.path()).unwrap(), written);
        // Another cluster with that bridge has no say.
        let other = Owner { cluster: "x".parse().unwrap(), ..owner };
        assert_eq!(name_peers(dir.path(), &network, &other, &[]).unwrap(), written);
        assert!(forget_peers(dir.path(), "skep-a").unwrap()["skep-a"].peers.is_empty());
        assert!(read(dir.path()).unwrap()["skep-a"].peers.is_empty());
    }
}
