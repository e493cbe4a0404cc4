//! Which networks belong to ordinary users, for whom root makes them.
//!
//! ```text
//! /var/lib/skep-net/networks/BRIDGE.json   whose, and with which subnet
//! ```
//!
//! A claim is written down before its network is made, and goes when nothing of it is left. It outlives
//! a restart of the host, as the cluster does: another user is not given its subnet.

use std::collections::BTreeMap;
use std::path::Path;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::sys::{FileError, make_private_dir, read_own, remove_file, write_atomic};

/// Where root keeps what it does for others.
pub const STATE: &str = "/var/lib/skep-net";

/// Whose a network is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The user's number.
    pub user: u32,
    /// The cluster, as that user calls it.
    pub cluster: String,
    /// The subnet.
    pub subnet: Ipv4Net,
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
        let claim = serde_json::from_slice(&text);
        let claim = claim.map_err(|error| FileError::new("read", &path, error.into()))?;
        claims.insert(bridge.to_owned(), claim);
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
pub fn forwarding_file(state: &Path) -> std::path::PathBuf {
    state.join("forwarding.json")
}
