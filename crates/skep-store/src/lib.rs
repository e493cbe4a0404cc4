//! What is on disk of clusters: where it is, in which format, and who may write it.
//!
//! ```text
//! STORE/                          $SKEP_HOME, 0700
//!   clusters/NAME.lock            held by whoever changes the cluster
//!   clusters/NAME/                0700, a docker-machine store of its own
//!     cluster.json                what is written down of the cluster
//!     certs/                      its certificate authority, client certificate, ssh key
//!     machines/NODE/config.json   what is written down of the node, in docker-machine's format
//!     machines/NODE/…             its certificates, keys, disk, sockets and logs
//! ```
//!
//! A docker-machine store with virtual machines of ours is a cluster without a swarm:
//!
//! ```text
//! ROOT/                           $MACHINE_STORAGE_PATH
//!   skep.json                     what its virtual machines share, as cluster.json has it
//!   skep.lock                     held by whoever changes that or one of them
//!   machines/NAME/config.json     also of machines that are none of ours
//! ```
//!
//! Only a [`LockedCluster`] writes. A file of a newer format is refused and never rewritten.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]

mod cluster;
pub mod dm;
mod entries;
mod machine;
mod machines;
mod owner;
pub mod pki;
mod private;
mod registry;
mod stacks;
mod unknown;

use std::path::{Path, PathBuf};

use skep_core::model::{ClusterName, ClusterRecord, NodeName, NodeRecord};
use thiserror::Error;

pub use entries::{Entries, Entry, Kind, Note};
pub use machine::Machine;
pub use owner::{Owner, user_of};
pub use private::Exposed;
pub use registry::Registry;
pub use unknown::{check_known, parse_known};

use skep_sys::{
    Distrust, FileError, Holder, Lock, LockError, Why, check_dir, check_root, make_parents,
    make_private_dir,
};

/// A node's directory by its name, and what is written down in it.
pub type NodeEntry = (String, Result<NodeRecord, Error>);

/// What could not be read or written.
#[derive(Debug, Error)]
pub enum Error {
    /// A file could not be read, written or removed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The cluster's lock could not be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file does not hold what it should.
    #[error("{} is damaged", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A docker-machine store's file could not be read or written.
    #[error(transparent)]
    Machines(#[from] dm::Error),
    /// A file was written by a newer skep.
    #[error("{} has format {found}; this skep reads formats up to {known}", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format's number.
        found: u64,
        /// The newest format known here.
        known: u64,
    },
    /// A file has what this skep does not know.
    #[error("{} has the key `{key}`, which this version of skep does not know", .path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key, with those that it is in.
        key: String,
    },
}

impl Error {
    /// Tells whether a newer skep wrote what was read.
    #[must_use]
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::Newer { .. } | Self::UnknownKey { .. })
    }

    /// Tells whether something belongs to somebody else: then nothing is to be done about it here.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        let Self::File(error) = self else { return false };
        Distrust::of(&error.source).is_some_and(|it| matches!(it.why, Why::Foreign { .. }))
    }
}

/// The directory of all clusters of a user.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// One cluster's directory, to read.
#[derive(Debug, Clone)]
pub struct ClusterDir {
    name: ClusterName,
    path: PathBuf,
    form: Form,
}

/// What kind of directory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A cluster's own.
    Cluster,
    /// A docker-machine store, in which there may be machines of others.
    Machines,
}

/// The name of what a docker-machine store's machines share, which are in no cluster of a name.
const MACHINES: &str = "machine";

/// A cluster's directory that no other process may write to, for as long as this value lives.
#[derive(Debug)]
pub struct LockedCluster {
    dir: ClusterDir,
    lock: Lock,
}

impl Store {
    /// Creates a store in a directory, which need not exist yet.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Returns the store's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the cluster's directory, which need not exist.
    #[must_use]
    pub fn cluster(&self, name: &ClusterName) -> ClusterDir {
        let path = self.clusters_dir().join(name.as_str());
        ClusterDir { name: name.clone(), path, form: Form::Cluster }
    }

    /// Returns the clusters that have a directory, in order of their names.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn clusters(&self) -> Result<Vec<ClusterDir>, Error> {
        self.check()?;
        let names = names_in(&self.clusters_dir())?;
        Ok(names.iter().filter_map(|name| Some(self.cluster(&name.parse().ok()?))).collect())
    }

    /// Takes the lock of a cluster; `on_wait` learns which other process has it.
    ///
    /// # Errors
    ///
    /// If the store cannot be made, or others can use it.
    pub async fn lock(
        &self,
        name: &ClusterName,
        on_wait: impl FnOnce(&Holder),
    ) -> Result<LockedCluster, Error> {
        make_parents(&self.root)?;
        make_private_dir(&self.root)?;
        make_private_dir(&self.clusters_dir())?;
        self.cluster(name).lock(on_wait).await
    }

    /// Returns the file that remembers what skep changed on the host for all clusters together.
    #[must_use]
    pub fn forwarding_file(&self) -> PathBuf {
        self.root.join("forwarding.json")
    }

    /// Returns the file in which skep logs what it does to a cluster. It is not in the cluster's directory, which goes
    /// when an `up` fails that formed no swarm: the log is what tells why.
    #[must_use]
    pub fn log_file(&self, name: &ClusterName) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }

    /// Refuses a store of somebody else.
    ///
    /// # Errors
    ///
    /// If it is not to be believed.
    pub fn check(&self) -> Result<(), Error> {
        check_root(&self.root)?;
        Ok(check_dir(&self.clusters_dir())?)
    }

    fn clusters_dir(&self) -> PathBuf {
        self.root.join("clusters")
    }
}

impl ClusterDir {
    /// Returns a docker-machine store as a cluster without a swarm; it need not exist yet.
    #[must_use]
    pub fn of_machines(root: &Path) -> Self {
        // QEMU runs in a directory of its own.
        let path = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        let name = MACHINES.parse().expect("it is a name");
        Self { name, path, form: Form::Machines }
    }

    /// Tells whether it is a docker-machine store.
    #[must_use]
    pub fn is_of_machines(&self) -> bool {
        self.form == Form::Machines
    }

    /// Takes the lock; `on_wait` learns which other process has it. What it is in must be there.
    ///
    /// # Errors
    ///
    /// If it cannot be had at all.
    pub async fn lock(&self, on_wait: impl FnOnce(&Holder)) -> Result<LockedCluster, Error> {
        self.check()?;
        let lock = Lock::take(&self.lock_file(), on_wait).await?;
        self.sweep();
        Ok(LockedCluster { dir: self.clone(), lock })
    }

    /// Tells whether another process has the lock right now.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        let file = self.lock_file();
        file.exists() && matches!(Lock::try_take(&file), Err(LockError::Held { .. }))
    }

    fn lock_file(&self) -> PathBuf {
        match self.form {
            Form::Cluster => self.path.with_file_name(format!("{}.lock", self.name)),
            Form::Machines => self.path.join("skep.lock"),
        }
    }

    /// Removes what was left by a skep that was cut off; the lock is held.
    fn sweep(&self) {
        if self.form == Form::Cluster
            && let Some(clusters) = self.path.parent()
        {
            skep_sys::sweep(clusters, self.name.as_str());
        }
        let certs = ["certs", "certs.next"].map(|name| self.path.join(name));
        let machines = self.machines_dir();
        let nodes = names_in(&machines).unwrap_or_default();
        let nodes = nodes.iter().map(|node| machines.join(node));
        let dirs = nodes.chain(certs).chain([machines.clone(), self.path.clone()]);
        dirs.for_each(|dir| skep_sys::sweep_all(&dir));
    }

    /// Returns the cluster's name.
    #[must_use]
    pub fn name(&self) -> &ClusterName {
        &self.name
    }

    /// Returns the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the directory of the store that the cluster is in.
    #[must_use]
    pub fn store(&self) -> &Path {
        match self.form {
            Form::Cluster => self.path.ancestors().nth(2).unwrap_or(&self.path),
            Form::Machines => &self.path,
        }
    }

    /// Tells whether there is anything of the cluster.
    #[must_use]
    pub fn exists(&self) -> bool {
        match self.form {
            Form::Cluster => self.path.exists(),
            Form::Machines => self.record_path().exists(),
        }
    }

    /// Returns a node's directory, which need not exist.
    #[must_use]
    pub fn machine_dir(&self, node: &NodeName) -> PathBuf {
        self.machines_dir().join(node.as_str())
    }

    /// Reads what is written down of the cluster; none if nothing is.
    ///
    /// # Errors
    ///
    /// If the file is damaged or from a newer skep.
    pub fn record(&self) -> Result<Option<ClusterRecord>, Error> {
        self.check()?;
        cluster::read(&self.record_path())
    }

    /// Reads what is written down of each node; an unreadable one does not hide the others.
    ///
    /// # Errors
    ///
    /// If the directory of the machines cannot be listed.
    pub fn nodes(&self) -> Result<Vec<NodeEntry>, Error> {
        self.check()?;
        let names = names_in(&self.machines_dir())?.into_iter();
        let written = names.filter(|name| !is_unwritten(&self.machines_dir().join(name)));
        let read = |name: String| {
            let dir = self.machines_dir().join(&name);
            let record = check_dir(&dir).map_err(Error::from).and_then(|()| match self.form {
                Form::Cluster => machine::read(&dir).map(Some),
                Form::Machines => machines::read(&dir),
            });
            Some((name, record.transpose()?))
        };
        Ok(written.filter_map(read).collect())
    }

    /// Reads what is written down of one node.
    ///
    /// # Errors
    ///
    /// If it is not there, damaged or from a newer skep.
    pub fn node(&self, node: &NodeName) -> Result<NodeRecord, Error> {
        self.check()?;
        check_dir(&self.machine_dir(node))?;
        machine::read(&self.machine_dir(node))
    }

    /// Refuses a directory of somebody else, and links in the place of those in it; nodes' own are looked at
    /// with their records.
    ///
    /// # Errors
    ///
    /// If it is not to be believed.
    pub fn check(&self) -> Result<(), Error> {
        check_root(self.store())?;
        if let (Form::Cluster, Some(clusters)) = (self.form, self.path.parent()) {
            check_dir(clusters)?;
            check_dir(&self.path)?;
        }
        for inner in ["certs", "certs.next", "machines"] {
            check_dir(&self.path.join(inner))?;
        }
        Ok(skep_sys::check_owner(&self.record_path())?)
    }

    fn record_path(&self) -> PathBuf {
        self.path.join(match self.form {
            Form::Cluster => "cluster.json",
            Form::Machines => "skep.json",
        })
    }

    fn machines_dir(&self) -> PathBuf {
        self.path.join("machines")
    }
}

impl LockedCluster {
    /// Returns the directory, to read.
    #[must_use]
    pub fn dir(&self) -> &ClusterDir {
        &self.dir
    }

    /// Writes the cluster down.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or the one that is there is from a newer skep.
    pub fn write_cluster(&self, record: &ClusterRecord) -> Result<(), Error> {
        if self.dir.form == Form::Cluster {
            make_private_dir(&self.dir.path)?;
            make_private_dir(&self.dir.machines_dir())?;
        }
        cluster::write(&self.dir.record_path(), record)
    }

    /// Writes a node down and makes its directory.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or the one that is there is from a newer skep.
    pub fn write_node(&self, bridge: &str, record: &NodeRecord) -> Result<(), Error> {
        let dir = self.dir.machine_dir(record.name());
        make_private_dir(&dir)?;
        match self.dir.form {
            Form::Cluster => machine::write(&dir, &self.dir.path, bridge, record),
            Form::Machines => machines::write(&dir, &self.dir.path, bridge, record),
        }
    }

    /// Removes all that is on disk of a node.
    ///
    /// # Errors
    ///
    /// If a file cannot be removed.
    pub fn remove_node(&self, node: &NodeName) -> Result<(), Error> {
        // Gone at once for whoever looks: half a directory would be taken for a damaged node.
        let going = self.dir.machines_dir().join(format!("{}{node}", skep_sys::REMOVING));
        skep_sys::remove_tree(&going)?;
        let dir = self.dir.machine_dir(node);
        if dir.exists() {
            skep_sys::rename(&dir, &going)?;
        }
        Ok(skep_sys::remove_tree(&going)?)
    }

    /// Removes all that is on disk of the cluster; of a docker-machine store, only what machines of ours
    /// share.
    ///
    /// # Errors
    ///
    /// If a file cannot be removed.
    pub fn remove_cluster(&self) -> Result<(), Error> {
        match self.dir.form {
            Form::Cluster => Ok(skep_sys::remove_tree(&self.dir.path)?),
            Form::Machines => Ok(skep_sys::remove_file(&self.dir.record_path())?),
        }
    }

    /// Releases the lock, and removes its file if there is nothing of the cluster any more.
    pub fn release(self) {
        if !self.dir.exists() {
            self.lock.remove();
        }
    }
}

/// Tells whether a node's directory was made and nothing was written there: whoever began that was
/// ended before the record was in its place.
fn is_unwritten(dir: &Path) -> bool {
    let is_unfinished = |entry: std::fs::DirEntry| {
        entry.file_name().to_string_lossy().starts_with(skep_sys::UNFINISHED)
    };
    let mut entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.all(|entry| entry.is_ok_and(is_unfinished))
}

/// Returns the names of the directories in a directory, sorted; none if it is missing.
fn names_in(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| FileError::new("list", dir, source))?,
    };
    // A link to a directory is not passed over: who looks into it refuses it, by its name.
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok())
        .filter(|entry| {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            is_dir || entry.file_type().is_ok_and(|it| it.is_symlink()) && entry.path().is_dir()
        })
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests;
