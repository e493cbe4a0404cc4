//! Blocks of names in /etc/hosts that were written for users.
//!
//! ```text
//! /var/lib/skep-net/names/DIGEST.json   whose block, and how many names are in it
//! ```
//!
//! A block is written down before it is made, so that it goes with the last network of its cluster and with the set-up,
//! whether its user removes it or not.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skep_store::{Owner, parse_known};
use skep_sys::{FileError, make_private_dir, read_own, remove_file, write_atomic};

use crate::hosts;

/// A block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Block {
    pub owner: Owner,
    pub names: usize,
}

fn dir(state: &Path) -> PathBuf {
    state.join("names")
}

fn file(state: &Path, owner: &Owner) -> PathBuf {
    dir(state).join(format!("{}.json", owner.digest()))
}

/// Reads all of them.
pub(super) fn read(state: &Path) -> Result<Vec<Block>, FileError> {
    let mut blocks = Vec::new();
    for entry in std::fs::read_dir(dir(state)).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|it| it != "json") {
            continue;
        }
        blocks.push(parse_known(&path, &read_own(&path)?)?);
    }
    Ok(blocks)
}

/// Writes an owner's block to a file of names; no names remove it.
pub(super) fn write(
    state: &Path,
    hosts_file: &Path,
    owner: &Owner,
    names: &[skep_core::observed::HostsEntry],
) -> Result<(), hosts::Error> {
    if !names.is_empty() {
        make_private_dir(&dir(state))?;
        let block = Block { owner: owner.clone(), names: names.len() };
        let text = serde_json::to_vec(&block).expect("a block has only text keys");
        write_atomic(&file(state, owner), 0o600, &text)?;
    }
    hosts::write_block(hosts_file, owner, names)?;
    if names.is_empty() {
        remove_file(&file(state, owner))?;
    }
    Ok(())
}

/// Removes the blocks of some owners.
pub(super) fn remove_of(
    state: &Path,
    hosts_file: &Path,
    is_of: impl Fn(&Owner) -> bool,
) -> Result<(), hosts::Error> {
    for block in read(state)?.into_iter().filter(|block| is_of(&block.owner)) {
        write(state, hosts_file, &block.owner, &[])?;
    }
    Ok(())
}

/// Removes all blocks that were written for users. Whoever calls this holds the lock of `state`.
///
/// # Errors
///
/// If a record or the file of names cannot be read or written.
pub fn remove_all(state: &Path) -> Result<(), hosts::Error> {
    remove_of(state, Path::new(super::serve::HOSTS), |_| true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_core::observed::HostsEntry;

    #[test]
    fn blocks_are_known_and_go_with_whoever_had_them() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = dir.path().join("hosts");
        std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
        let owner = |cluster: &str, user| Owner {
            cluster: cluster.parse().unwrap(),
            store: "/store".into(),
            user,
        };
        let entry =
            |name: &str| HostsEntry { name: name.to_owned(), address: [10, 193, 0, 2].into() };
        let put = |owner: &Owner, names: &[HostsEntry]| write(dir.path(), &hosts, owner, names);
        put(&owner("a", 1000), &[entry("a.example"), entry("b.example")]).unwrap();
        put(&owner("b", 1000), &[entry("c.example")]).unwrap();
        put(&owner("a", 1001), &[entry("d.example")]).unwrap();
        let count = || {
            let blocks = read(dir.path()).unwrap();
            blocks.iter().map(|block| block.names).sum::<usize>()
        };
        assert_eq!(count(), 4);
        put(&owner("b", 1000), &[]).unwrap();
        assert_eq!(count(), 3);
        remove_of(dir.path(), &hosts, |owner| owner.user == 1000).unwrap();
        assert_eq!(count(), 1);
        let text = std::fs::read_to_string(&hosts).unwrap();
        assert!(text.contains("d.example") && !text.contains("a.example"), "{text}");
        remove_of(dir.path(), &hosts, |_| true).unwrap();
        assert_eq!(std::fs::read_to_string(&hosts).unwrap(), "127.0.0.1 localhost\n");
        assert!(read(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn a_newer_skeps_block_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let store = state.path().join("store");
        let owner = Owner { cluster: "demo".parse().unwrap(), store, user: 1000 };
        let mut block = serde_json::to_value(Block { owner: owner.clone(), names: 1 }).unwrap();
        make_private_dir(&dir(state.path())).unwrap();
        let path = file(state.path(), &owner);
        std::fs::write(&path, block.to_string()).unwrap();
        assert_eq!(read(state.path()).unwrap().len(), 1);
        block["owner"]["later"] = 1.into();
        std::fs::write(&path, block.to_string()).unwrap();
        let error = skep_sys::chain(&read(state.path()).unwrap_err());
        assert!(error.contains("owner.later") && error.contains("newer"), "{error}");
    }
}
