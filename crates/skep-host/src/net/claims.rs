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

use crate::store::{Owner, parse_known};
use crate::sys::{FileError, Lock, make_private_dir, read_own, remove_file, write_atomic};

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
}

impl Claim {
    /// Returns the claim of an owner to a subnet.
    #[must_use]
    pub fn of(owner: &Owner, subnet: Ipv4Net) -> Self {
        let Owner { cluster, store, user } = owner.clone();
        Self { user, cluster: cluster.to_string(), store: Some(store), subnet }
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
