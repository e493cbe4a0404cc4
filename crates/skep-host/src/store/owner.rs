//! Whose things outside the store are.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use skep_core::model::ClusterName;

use super::ClusterDir;

/// Whose a thing on the host is: a cluster, and the store that it is written down in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The cluster.
    pub cluster: ClusterName,
    /// The store's directory: clusters of one name in two stores are two clusters.
    pub store: PathBuf,
    /// The number of the user whose store it is: what others say of their stores proves nothing.
    pub user: u32,
}

impl Owner {
    /// Returns whose things of a cluster are.
    #[must_use]
    pub fn of(dir: &ClusterDir) -> Self {
        let user = rustix::process::geteuid().as_raw();
        Self { cluster: dir.name().clone(), store: dir.store().to_owned(), user }
    }

    /// Returns the mark that things of this owner carry: the cluster's name, and a digest that
    /// tells stores apart within the few characters that the kernel has for it.
    #[must_use]
    pub fn mark(&self) -> String {
        format!("skep:{}:{}", self.cluster, self.digest())
    }

    /// Returns a digest of the cluster's name, its store and its user: 12 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.cluster.as_str());
        hash.update([0]);
        hash.update(self.store.as_os_str().as_encoded_bytes());
        if self.user != 0 {
            hash.update([0]);
            hash.update(self.user.to_le_bytes());
        }
        crate::sys::hex(&hash.finalize()[..6])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_tell_stores_and_users_apart_and_fit() {
        let owner = |store: &str| Owner {
            cluster: "a".repeat(40).parse().unwrap(),
            store: store.into(),
            user: 0,
        };
        assert_ne!(owner("/a").mark(), owner("/b").mark());
        assert_ne!(owner("/a").mark(), Owner { user: 1000, ..owner("/a") }.mark());
        // IFALIASZ is 256 with its terminating zero.
        assert!(owner("/a").mark().len() < 256);
    }
}
