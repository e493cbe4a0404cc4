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

    /// Returns the mark that things of this owner carry: the cluster's name, and the digest.
    #[must_use]
    pub fn mark(&self) -> String {
        format!("skep:{}:{}", self.cluster, self.digest())
    }

    /// Tells whether a text is the mark of something of anybody's.
    #[must_use]
    pub fn is_mark(text: &str) -> bool {
        text.starts_with("skep:")
    }

    /// Returns the number of the user, in clear text, and 128 bits of a digest of all: a user who may choose the names of
    /// clusters and stores finds no others with the digest of a given one, and another user's number is in no mark of
    /// theirs. Both fit into what the kernel and nftables have for it.
    #[must_use]
    pub fn digest(&self) -> String {
        format!("u{}-{}", self.user, skep_sys::hex(&self.hash()[..16]))
    }

    /// Tells whether a thing with this mark is this owner's; earlier versions of skep marked things otherwise.
    #[must_use]
    pub fn owns(&self, mark: &str) -> bool {
        mark == self.mark() || mark == self.earlier_mark()
    }

    /// Tells whether a thing with this digest is this owner's; see [`Self::owns`].
    #[must_use]
    pub fn owns_digest(&self, digest: &str) -> bool {
        digest == self.digest() || digest == self.earlier_digest()
    }

    /// Returns the mark of earlier versions of skep.
    #[must_use]
    pub fn earlier_mark(&self) -> String {
        format!("skep:{}:{}", self.cluster, self.earlier_digest())
    }

    /// Returns the digest of earlier versions of skep, of 48 bits.
    #[must_use]
    pub fn earlier_digest(&self) -> String {
        skep_sys::hex(&self.hash()[..6])
    }

    fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.cluster.as_str());
        hash.update([0]);
        hash.update(self.store.as_os_str().as_encoded_bytes());
        if self.user != 0 {
            hash.update([0]);
            hash.update(self.user.to_le_bytes());
        }
        hash.finalize().into()
    }
}

/// Returns the number of the user in a mark; none if it is no mark, or an earlier version's.
#[must_use]
pub fn user_of(mark: &str) -> Option<u32> {
    let digest = mark.strip_prefix("skep:")?.rsplit_once(':')?.1;
    digest.strip_prefix('u')?.split_once('-')?.0.parse().ok()
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
        assert_eq!(user_of(&Owner { user: 1000, ..owner("/a") }.mark()), Some(1000));
        assert_eq!(user_of(&owner("/a").earlier_mark()), None);
        // IFALIASZ is 256 with its terminating zero.
        assert!(owner("/a").mark().len() < 256);
    }

    #[test]
    fn what_an_earlier_version_marked_is_the_same_owners_and_nobody_elses() {
        let demo = Owner { cluster: "demo".parse().unwrap(), store: "/store".into(), user: 0 };
        // As the first versions of skep wrote it.
        assert_eq!(demo.earlier_mark(), "skep:demo:d4db5adb7bc9");
        assert!(demo.owns(&demo.mark()) && demo.owns(&demo.earlier_mark()));
        assert!(demo.owns_digest(&demo.digest()) && demo.owns_digest(&demo.earlier_digest()));
        let other = Owner { user: 1000, ..demo.clone() };
        assert!(!other.owns(&demo.mark()) && !other.owns(&demo.earlier_mark()));
        assert!(!demo.owns("") && !demo.owns_digest(""));
    }
}
