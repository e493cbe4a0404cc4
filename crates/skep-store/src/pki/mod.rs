//! Certificates and keys, in docker-machine's layout:
//!
//! ```text
//! STORE/certs/            ca.pem ca-key.pem cert.pem key.pem id_rsa id_rsa.pub
//! STORE/machines/NODE/    ca.pem cert.pem key.pem id_rsa id_rsa.pub   copies
//!                         server.pem server-key.pem ssh_host_ed25519_key(.pub) known_hosts
//! ```
//!
//! While the authority changes there are two of them ([`rotation`]).
//!
//! What is there and valid is kept; nothing is ever made anew in the place of something else.

mod key;
pub mod machine;
pub mod rotation;
mod ssh;
mod survey;
mod x509;

use std::path::{Path, PathBuf};

use skep_core::model::NodeName;
use skep_sys::{CmdError, FileError, LockError};
use thiserror::Error;
use time::OffsetDateTime;

pub use ssh::{ensure_host_key, ensure_machine_ssh_key, ensure_ssh_key};
pub use survey::{Certificate, SOON, survey};
pub use x509::{ensure_authority, ensure_server, expiry, make_server};

use crate::ClusterDir;
use crate::dm::{AuthOptions, MachineStore};

/// The file in a machine's directory in which the key of its ssh server is pinned (sshd(8)).
pub const KNOWN_HOSTS: &str = "known_hosts";

/// What is wrong with certificates or keys.
#[derive(Debug, Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Whoever else makes some could not be waited for.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// ssh-keygen failed.
    #[error(transparent)]
    Cmd(#[from] CmdError),
    /// Of a certificate and its key only one is there.
    #[error("{} is there and {} is not", .present.display(), .missing.display())]
    Half {
        /// What is there.
        present: PathBuf,
        /// What is missing.
        missing: PathBuf,
    },
    /// A key is there without its certificate.
    #[error("{whose} key already exists")]
    KeyAlone {
        /// Whose key.
        whose: &'static str,
    },
    /// A certificate or key cannot be understood.
    #[error("{} is damaged: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// By this host's clock, a certificate that others stand on is not valid yet, or no longer.
    #[error(
        "{whose} is valid from {} to {}, and this host's clock says {}",
        time_text(*begins),
        time_text(*ends),
        time_text(*now)
    )]
    OutOfTime {
        /// Whose it is, in words.
        whose: &'static str,
        /// The certificate.
        path: PathBuf,
        /// When it begins to be valid.
        begins: OffsetDateTime,
        /// When it ceases to be valid.
        ends: OffsetDateTime,
        /// What the clock says.
        now: OffsetDateTime,
    },
    /// A certificate could not be made.
    #[error("cannot create a certificate")]
    Make(#[from] rcgen::Error),
}

/// Writes a time as documents have it (RFC 3339, in UTC, to the second).
#[must_use]
pub fn time_text(time: OffsetDateTime) -> String {
    let (hour, minute, second) = time.to_hms();
    format!("{}T{hour:02}:{minute:02}:{second:02}Z", time.date())
}

/// What a client of the engines needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The certificate authority.
    pub ca: PathBuf,
    /// The client's certificate.
    pub cert: PathBuf,
    /// The client's key.
    pub key: PathBuf,
}

impl Credentials {
    /// Returns where the credentials of a store are; they need not be there yet.
    #[must_use]
    pub fn of_store(store: &Path) -> Self {
        let certs = certs_dir(store);
        Self { ca: certs.join("ca.pem"), cert: certs.join("cert.pem"), key: certs.join("key.pem") }
    }

    /// Returns where the credentials of a node's engine are: the cluster's, or what is written down of a
    /// docker-machine store's machine.
    #[must_use]
    pub fn of_node(dir: &ClusterDir, node: &NodeName) -> Self {
        let of_machine = || MachineStore::new(dir.path()).load(node.as_str()).ok();
        match dir.is_of_machines().then(of_machine).flatten() {
            Some(config) => Self::of_machine(&config.host_options.auth_options),
            None => Self::of_store(dir.path()),
        }
    }

    /// Returns where the credentials of a docker-machine store's machine are.
    #[must_use]
    pub fn of_machine(auth: &AuthOptions) -> Self {
        Self {
            ca: auth.ca_cert_path.clone().into(),
            cert: auth.client_cert_path.clone().into(),
            key: auth.client_key_path.clone().into(),
        }
    }
}

fn certs_dir(store: &Path) -> PathBuf {
    store.join("certs")
}

fn machine_dir(store: &Path, node: &skep_core::model::NodeName) -> PathBuf {
    store.join("machines").join(node.as_str())
}

/// Copies what clients of a machine's engine need into its directory.
fn copy_clients(certs: &Path, dir: &Path) -> Result<(), Error> {
    for (name, mode) in [("ca.pem", 0o644), ("cert.pem", 0o644), ("key.pem", 0o600)] {
        copy(&certs.join(name), &dir.join(name), mode)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<(), Error> {
    let content = skep_sys::read(from)?;
    if skep_sys::read_own(to).ok().as_ref() != Some(&content) {
        skep_sys::write_atomic(to, mode, &content)?;
    }
    Ok(())
}
