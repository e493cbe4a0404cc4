//! Which docker-machine stores have virtual machines of ours: they may be anywhere, and what they stand on
//! must not be removed, nor their subnets be given to others.
//!
//! ```text
//! DIR/DIGEST      the path of a store, noted before anything is made there
//! ```

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use skep_sys::{FileError, make_parents, make_private_dir, read_own, remove_file, write_atomic};

use super::{ClusterDir, Owner};

/// A directory of such notes, which need not exist yet.
#[derive(Debug, Clone)]
pub struct Registry {
    dir: PathBuf,
}

impl Registry {
    /// Creates the directory's value; nothing is made on the disk.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Notes a store.
    ///
    /// # Errors
    ///
    /// If the note cannot be written.
    pub fn add(&self, store: &ClusterDir) -> Result<(), FileError> {
        let path = self.path(store);
        if path.exists() {
            return Ok(());
        }
        // The directory above is the cache, and those above that are not skep's alone.
        make_parents(self.dir.parent().unwrap_or(&self.dir))?;
        make_private_dir(&self.dir)?;
        write_atomic(&path, 0o600, store.path().as_os_str().as_bytes())
    }

    /// Removes the note of a store.
    ///
    /// # Errors
    ///
    /// If it cannot be removed.
    pub fn remove(&self, store: &ClusterDir) -> Result<(), FileError> {
        remove_file(&self.path(store))?;
        // Only the last note takes the directory along.
        let _ = std::fs::remove_dir(&self.dir);
        Ok(())
    }

    /// Returns the stores that are noted and are still there.
    #[must_use]
    pub fn list(&self) -> Vec<ClusterDir> {
        let notes = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let paths = notes.filter_map(|note| read_own(&note.path()).ok());
        let stores = paths.map(|path| ClusterDir::of_machines(OsString::from_vec(path).as_ref()));
        let mut stores: Vec<_> = stores.filter(ClusterDir::exists).collect();
        stores.sort_by(|one, other| one.path().cmp(other.path()));
        stores
    }

    fn path(&self, store: &ClusterDir) -> PathBuf {
        // Earlier versions of skep find it by this name, and it proves nothing.
        self.dir.join(Owner::of(store).earlier_digest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_known_while_it_has_machines() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::new(dir.path().join("stores"));
        let store = ClusterDir::of_machines(&dir.path().join("store"));
        registry.add(&store).unwrap();
        assert!(registry.list().is_empty(), "nothing is there yet");
        std::fs::create_dir(store.path()).unwrap();
        std::fs::write(store.path().join("skep.json"), "").unwrap();
        registry.add(&store).unwrap();
        let found = registry.list();
        assert_eq!(found.iter().map(ClusterDir::path).collect::<Vec<_>>(), [store.path()]);
        registry.remove(&store).unwrap();
        registry.remove(&store).unwrap();
        assert!(registry.list().is_empty() && !dir.path().join("stores").exists());
    }
}
