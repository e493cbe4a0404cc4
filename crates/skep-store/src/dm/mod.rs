//! A store as docker-machine 0.16 has it: machines of any driver, certificates, and nothing of ours
//! that it would not know.
//!
//! ```text
//! ROOT/                            $MACHINE_STORAGE_PATH, 0700
//!   certs/                         ca.pem ca-key.pem cert.pem key.pem
//!   machines/NAME/config.json      what is written down of the machine, 0600
//!   machines/NAME/config.json.bak  the same before its format was brought up to date
//! ```
//!
//! A machine is there when its directory is. What a file has that is not known here stays in it.

mod config;
mod json;
mod migrate;

use std::path::{Path, PathBuf};

use skep_sys::{FileError, check_dir, check_root, make_parents, make_private_dir, write_atomic};
use thiserror::Error;

pub use config::{AuthOptions, Config, EngineOptions, HostOptions, SwarmOptions};
pub use json::{compact, indented};

use super::names_in;

/// The newest version of config.json.
pub const CONFIG_VERSION: u64 = 3;

/// What could not be read or written of a docker-machine store. The texts are docker-machine's.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no machine of that name.
    #[error(
        "Docker machine {0:?} does not exist. Use \"docker-machine ls\" to list machines. \
         Use \"docker-machine create\" to add a new one."
    )]
    Missing(String),
    /// There is a machine of that name already.
    #[error("Docker machine {0:?} already exists")]
    Exists(String),
    /// The machine was there, and is not any more.
    #[error("machine {0:?} was removed meanwhile")]
    Removed(String),
    /// The machine's file cannot be opened.
    #[error("open {}: {}", .path.display(), reason(.why))]
    Open {
        /// The file.
        path: PathBuf,
        /// Why; told in the text above.
        why: std::io::Error,
    },
    /// The machine's file is damaged.
    #[error("Error getting migrated host: {0}")]
    Damaged(String),
    /// The machine's file was written by a later version.
    #[error(
        "Error getting migrated host: config version is from the future -- you should upgrade \
         your Docker Machine client"
    )]
    Future,
    /// The store is a cluster's directory, which is written to under the cluster's lock only.
    #[error("{} is a cluster of skep", .0.display())]
    Cluster(PathBuf),
    /// A file could not be written or removed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Tells whether a directory is a machine's, as docker-machine and skep write it: keys beside a record.
#[must_use]
pub fn is_machine(dir: &Path) -> bool {
    let text = std::fs::read(dir.join("config.json")).unwrap_or_default();
    serde_json::from_slice::<serde_json::Value>(&text)
        .is_ok_and(|it| it.get("DriverName").is_some())
}

/// Returns the system's reason in docker-machine's spelling: in small letters, without a number.
#[must_use]
pub fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// A docker-machine store.
#[derive(Debug, Clone)]
pub struct MachineStore {
    root: PathBuf,
}

impl MachineStore {
    /// Creates a store in a directory, which need not exist yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Returns the store's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Tells whether the store is the directory of a cluster of skep, whose machines only skep's own
    /// commands may change: they hold the cluster's lock.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.root.join("cluster.json").exists()
    }

    /// Returns the directory of the certificates.
    #[must_use]
    pub fn certs_dir(&self) -> PathBuf {
        self.root.join("certs")
    }

    /// Returns a machine's directory, which need not exist.
    #[must_use]
    pub fn machine_dir(&self, name: &str) -> PathBuf {
        self.machines_dir().join(name)
    }

    /// Tells whether there is a machine of that name, whatever state it is in.
    #[must_use]
    pub fn exists(&self, name: &str) -> bool {
        // `..` is a directory too, and removing that machine would remove all of them.
        let plain = Path::new(name).components().eq([std::path::Component::Normal(name.as_ref())]);
        plain && self.machine_dir(name).exists()
    }

    /// Returns the names of all machines in the order of their bytes.
    ///
    /// # Errors
    ///
    /// If the directory cannot be listed.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        self.check()?;
        names_in(&self.machines_dir()).map_err(|error| match error {
            super::Error::File(error) => Error::File(error),
            other => Error::Damaged(other.to_string()),
        })
    }

    /// Reads what is written down of a machine; an older format is brought up to date on disk too.
    ///
    /// # Errors
    ///
    /// If there is no such machine, or its file is missing, damaged or from a later version.
    pub fn load(&self, name: &str) -> Result<Config, Error> {
        if !self.exists(name) {
            return Err(Error::Missing(name.to_owned()));
        }
        let path = self.config_path(name);
        self.check()?;
        check_dir(&self.machine_dir(name))?;
        let text =
            skep_sys::read_own(&path).map_err(|error| Error::Open { path, why: error.source })?;
        let (config, migrated) = migrate::read(&text, name, &self.root)?;
        if migrated {
            let backup = self.machine_dir(name).join("config.json.bak");
            write_atomic(&backup, 0o600, &text)?;
            self.save(&config)?;
        }
        Ok(config)
    }

    /// Makes the store's directory, if it is not there.
    ///
    /// # Errors
    ///
    /// If it cannot be made, or is a cluster's.
    pub fn prepare(&self) -> Result<(), Error> {
        self.check_ours()?;
        make_parents(&self.root)?;
        Ok(ensure_dir(&self.root)?)
    }

    /// Makes a machine's directory and writes it down.
    ///
    /// # Errors
    ///
    /// If there is a machine of that name, the file cannot be written, or the store is a cluster's.
    pub fn create(&self, config: &Config) -> Result<(), Error> {
        self.prepare()?;
        ensure_dir(&self.machines_dir())?;
        skep_sys::sweep_all(&self.machines_dir());
        let dir = self.machine_dir(&config.name);
        skep_sys::make_new_dir(&dir).map_err(|error| match error.source.kind() {
            std::io::ErrorKind::AlreadyExists => Error::Exists(config.name.clone()),
            _ => Error::File(error),
        })?;
        self.save(config)
    }

    /// Writes down what has changed of a machine. One that was removed stays removed: whoever does that
    /// knows of what others are doing with it, and they need not know of him.
    ///
    /// # Errors
    ///
    /// If the machine is gone, the file cannot be written, or the store is a cluster's.
    pub fn save(&self, config: &Config) -> Result<(), Error> {
        self.check_ours()?;
        let text = indented(&config.to_value());
        let written = write_atomic(&self.config_path(&config.name), 0o600, text.as_bytes());
        written.map_err(|error| match error.source.kind() {
            std::io::ErrorKind::NotFound => Error::Removed(config.name.clone()),
            _ => Error::File(error),
        })
    }

    /// Copies a key that the machine is reached by into its directory, under its own name, and what
    /// goes with it under `.pub`. Returns the copy.
    ///
    /// # Errors
    ///
    /// If the key cannot be read or the copy not written.
    pub fn import_key(&self, name: &str, key: &Path) -> Result<PathBuf, Error> {
        self.check_ours()?;
        let to = self.machine_dir(name).join(key.file_name().unwrap_or_default());
        write_atomic(&to, 0o600, &skep_sys::read(key)?)?;
        let with_pub = |path: &Path| PathBuf::from(format!("{}.pub", path.display()));
        if let Ok(public) = skep_sys::read(&with_pub(key)) {
            write_atomic(&with_pub(&to), 0o600, &public)?;
        }
        Ok(to)
    }

    /// Removes all that is on disk of a machine.
    ///
    /// # Errors
    ///
    /// If there is no such machine or a file cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        if !self.exists(name) {
            return Err(Error::Missing(name.to_owned()));
        }
        self.check_ours()?;
        Ok(skep_sys::remove_tree(&self.machine_dir(name))?)
    }

    /// Refuses a store of somebody else, and links in the place of its directories.
    fn check(&self) -> Result<(), Error> {
        check_root(&self.root)?;
        check_dir(&self.certs_dir())?;
        Ok(check_dir(&self.machines_dir())?)
    }

    fn check_ours(&self) -> Result<(), Error> {
        self.check()?;
        if self.is_cluster() { Err(Error::Cluster(self.root.clone())) } else { Ok(()) }
    }

    fn machines_dir(&self) -> PathBuf {
        self.root.join("machines")
    }

    fn config_path(&self, name: &str) -> PathBuf {
        self.machine_dir(name).join("config.json")
    }
}

/// Makes a directory for its owner alone. One that is there is left as it is: drivers loosen theirs.
fn ensure_dir(path: &Path) -> Result<(), FileError> {
    if path.is_dir() { Ok(()) } else { make_private_dir(path) }
}

#[cfg(test)]
mod tests;
