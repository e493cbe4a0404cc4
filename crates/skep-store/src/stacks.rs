//! Which stacks a cluster's file had: the swarm does not know where a stack came from, and whoever takes one out of the file
//! is told that it goes on running.
//!
//! ```text
//! CLUSTER/stacks.json     {"of_file": ["shop"]}
//! ```

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use skep_sys::{Holder, Lock, read_own, write_atomic};

use super::{ClusterDir, Error, LockedCluster};

#[derive(Default, Serialize, Deserialize)]
struct Note {
    of_file: BTreeSet<String>,
}

impl ClusterDir {
    /// Takes the lock of a stack in the cluster: who has it deploys or removes it, and nothing else of the cluster is held
    /// up. `on_wait` learns which other process has it.
    ///
    /// # Errors
    ///
    /// If it cannot be had at all, as when the cluster is gone.
    pub async fn lock_stack(
        &self,
        name: &str,
        on_wait: impl FnOnce(&Holder),
    ) -> Result<Lock, Error> {
        self.check()?;
        // A stack may have any name; that of a file is bounded.
        let mut file = skep_sys::hex(name.as_bytes());
        file.truncate(200);
        Ok(Lock::take(&self.path.join(format!("stack-{file}.lock")), on_wait).await?)
    }

    /// Returns the stacks that came from the cluster's file and may still be there.
    ///
    /// # Errors
    ///
    /// If the note of them cannot be read.
    pub fn stacks_of_file(&self) -> Result<BTreeSet<String>, Error> {
        let path = self.stacks_note();
        if !path.exists() {
            return Ok(BTreeSet::new());
        }
        let read: Result<Note, _> = serde_json::from_slice(&read_own(&path)?);
        read.map(|note| note.of_file).map_err(|source| Error::Damaged { path, source })
    }

    fn stacks_note(&self) -> PathBuf {
        self.path().join("stacks.json")
    }
}

impl LockedCluster {
    /// Notes which stacks came from the cluster's file.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn note_stacks(&self, of_file: BTreeSet<String>) -> Result<(), Error> {
        let note = serde_json::to_vec(&Note { of_file }).expect("plain values");
        Ok(write_atomic(&self.dir().stacks_note(), 0o600, &note)?)
    }
}
