//! Whether others can read what is a user's alone: keys, and the directories that have them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use skep_sys::{FileError, set_mode};

use super::{ClusterDir, Store};

/// A file or directory that others can read, write or enter, and may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    /// Where it is.
    pub path: PathBuf,
    /// Its mode.
    pub mode: u32,
    /// The mode that it is to have.
    pub wanted: u32,
}

impl Exposed {
    /// Closes it to others.
    ///
    /// # Errors
    ///
    /// If it belongs to somebody else.
    pub fn close(&self) -> Result<(), FileError> {
        set_mode(&self.path, self.wanted)
    }
}

/// The private keys in a directory of certificates or a machine's.
const KEYS: [&str; 5] =
    ["ca-key.pem", "key.pem", "server-key.pem", "id_rsa", "ssh_host_ed25519_key"];

impl Store {
    /// Returns what of the store itself is open to others. They may list it, as is common for
    /// $SKEP_HOME: what is theirs to write is not, and no cluster's directory is theirs to enter.
    #[must_use]
    pub fn exposed(&self) -> Vec<Exposed> {
        let root = looked_at(self.root()).filter(|it| it.mode & 0o022 != 0);
        root.into_iter().chain(looked_at(&self.clusters_dir())).collect()
    }
}

impl ClusterDir {
    /// Returns what of the cluster is open to others. In a docker-machine store, which has files and modes of
    /// others too, only keys count.
    #[must_use]
    pub fn exposed(&self) -> Vec<Exposed> {
        let mut dirs = vec![self.path().join("certs"), self.path().join("certs.next")];
        let machines = super::names_in(&self.machines_dir()).unwrap_or_default();
        dirs.extend(machines.iter().map(|name| self.machines_dir().join(name)));
        let keys: Vec<_> = dirs.iter().flat_map(|dir| KEYS.map(|key| dir.join(key))).collect();
        if !self.is_of_machines() {
            dirs.extend([self.path().to_owned(), self.machines_dir()]);
            dirs.sort();
        } else {
            dirs.clear();
        }
        dirs.iter().chain(&keys).filter_map(|it| looked_at(it)).collect()
    }
}

/// Tells of one that is open; what is not there is not, and what is neither a file nor a directory, such as
/// a link to a device, has a mode that is nobody's to change: who reads it refuses it.
fn looked_at(path: &Path) -> Option<Exposed> {
    let found = std::fs::metadata(path).ok().filter(|it| it.is_file() || it.is_dir())?;
    let mode = found.permissions().mode() & 0o777;
    let wanted = if found.is_dir() { 0o700 } else { 0o600 };
    (mode & 0o077 != 0).then(|| Exposed { path: path.to_owned(), mode, wanted })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_can_read_is_found_and_closed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_owned());
        let cluster = store.cluster(&"demo".parse().unwrap());
        let machine = cluster.path().join("machines/node0");
        skep_sys::make_private_dir(&machine).unwrap();
        let certs = cluster.path().join("certs");
        skep_sys::make_private_dir(&certs).unwrap();
        for (name, mode) in [("key.pem", 0o600), ("ca.pem", 0o644)] {
            skep_sys::write_atomic(&certs.join(name), mode, b"text").unwrap();
        }
        assert_eq!((store.exposed(), cluster.exposed()), (vec![], vec![]));

        open(dir.path(), 0o755);
        assert_eq!(store.exposed(), []);
        open(dir.path(), 0o775);
        assert_eq!(store.exposed()[0].mode, 0o775);
        open(&machine, 0o710);
        open(&certs.join("key.pem"), 0o640);
        let found = cluster.exposed();
        let wanted: Vec<_> = found.iter().map(|it| (it.mode, it.wanted)).collect();
        assert_eq!(wanted, [(0o710, 0o700), (0o640, 0o600)], "{found:?}");
        found.iter().chain(&store.exposed()).for_each(|it| it.close().unwrap());
        assert_eq!((store.exposed(), cluster.exposed()), (vec![], vec![]));
    }

    #[test]
    fn of_a_docker_machine_store_only_keys_count() {
        let dir = tempfile::tempdir().unwrap();
        let store = ClusterDir::of_machines(dir.path());
        std::fs::create_dir_all(dir.path().join("machines/box")).unwrap();
        open(&dir.path().join("machines/box"), 0o755);
        assert_eq!(store.exposed(), []);
        let key = dir.path().join("machines/box/id_rsa");
        std::fs::write(&key, "a key").unwrap();
        open(&key, 0o644);
        assert_eq!(store.exposed().len(), 1);
    }
}
