//! The host's network: bridges, forwarding, and what is in use already.
//!
//! Bridges are made with `ip` (iproute2), whose JSON output is parsed here. Interfaces of machines
//! are made by QEMU itself, which connects them through a script of ours, so that they vanish with
//! the process whatever happens to skep.

mod forwarding;
mod ip;
mod look;
mod resolvers;

use std::path::Path;

use async_trait::async_trait;
use skep_core::model::NetworkRecord;
use thiserror::Error;

pub use look::HostNetwork;
pub use resolvers::resolvers;

use crate::firewall;
use crate::store::Owner;
use crate::sys::{CmdError, FileError, Lock, LockError};

/// What went wrong with the host's network.
#[derive(Debug, Error)]
pub enum Error {
    /// A program failed.
    #[error(transparent)]
    Cmd(#[from] CmdError),
    /// A program said what cannot be understood.
    #[error("the output of {program} cannot be understood")]
    Parse {
        /// The program.
        program: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The firewall.
    #[error(transparent)]
    Firewall(#[from] firewall::Error),
}

/// The host's network.
#[async_trait]
pub trait Network: Send + Sync {
    /// Makes the bridge, up and with its address.
    ///
    /// # Errors
    ///
    /// If the rights are missing, or the kernel has no bridges.
    async fn ensure_bridge(&self, network: &NetworkRecord, owner: &Owner) -> Result<(), Error>;

    /// Removes an interface; one that is gone is fine.
    ///
    /// # Errors
    ///
    /// If the rights are missing.
    async fn remove_link(&self, name: &str) -> Result<(), Error>;

    /// Makes the rules of a cluster's network.
    ///
    /// # Errors
    ///
    /// If the rights are missing, or a firewall tool is.
    async fn ensure_firewall(&self, network: &NetworkRecord, owner: &Owner) -> Result<(), Error>;

    /// Removes the rules of the network that has this bridge; none is fine.
    ///
    /// # Errors
    ///
    /// If the rights are missing. What can be removed is removed all the same.
    async fn remove_firewall(&self, name: &str) -> Result<(), Error>;

    /// Switches the forwarding of packets on, and remembers in `state` if it was off.
    ///
    /// # Errors
    ///
    /// If the rights are missing.
    async fn ensure_forwarding(&self, state: &Path) -> Result<(), Error>;

    /// Switches forwarding off again if `state` says that skep switched it on.
    ///
    /// # Errors
    ///
    /// If the rights are missing.
    async fn restore_forwarding(&self, state: &Path) -> Result<(), Error>;

    /// Looks at what is there; changes nothing.
    ///
    /// # Errors
    ///
    /// If `ip` is missing or fails.
    async fn look(&self) -> Result<HostNetwork, Error>;
}

/// This host's network.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinuxNetwork;

#[async_trait]
impl Network for LinuxNetwork {
    async fn ensure_bridge(&self, network: &NetworkRecord, owner: &Owner) -> Result<(), Error> {
        ip::ensure_bridge(network, owner).await
    }

    async fn remove_link(&self, name: &str) -> Result<(), Error> {
        ip::remove_link(name).await
    }

    async fn ensure_firewall(&self, network: &NetworkRecord, owner: &Owner) -> Result<(), Error> {
        Ok(firewall::ensure(network, &owner.digest()).await?)
    }

    async fn remove_firewall(&self, name: &str) -> Result<(), Error> {
        Ok(firewall::remove(name).await?)
    }

    async fn ensure_forwarding(&self, state: &Path) -> Result<(), Error> {
        forwarding::ensure(Path::new(forwarding::SWITCH), state)
    }

    async fn restore_forwarding(&self, state: &Path) -> Result<(), Error> {
        forwarding::restore(Path::new(forwarding::SWITCH), state)
    }

    async fn look(&self) -> Result<HostNetwork, Error> {
        look::look().await
    }
}

/// Where the turn to choose a subnet is held: subnets are the host's, whatever store a cluster is in.
const TURN: &str = "/run/skep-subnets.lock";

/// Waits for the turn to choose a subnet, which lasts until the lock is given back.
///
/// # Errors
///
/// If the lock cannot be had at all, as without root.
pub async fn turn_to_choose() -> Result<Lock, LockError> {
    Lock::take(Path::new(TURN)).await
}

/// Returns the script by which QEMU connects a machine's interface, its first argument, to the
/// bridge.
#[must_use]
pub fn render_ifup_script(network: &NetworkRecord, owner: &Owner) -> String {
    format!(
        "#!/bin/sh\nexec ip link set dev \"$1\" alias '{}' master '{}' up\n",
        owner.mark(),
        network.bridge
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_marked_and_connected() {
        let network =
            NetworkRecord { subnet: "10.193.0.0/24".parse().unwrap(), bridge: "skep-demo".into() };
        let owner = Owner { cluster: "demo".parse().unwrap(), store: "/store".into() };
        let script = format!(
            "#!/bin/sh\nexec ip link set dev \"$1\" alias '{}' master 'skep-demo' up\n",
            owner.mark()
        );
        assert_eq!(render_ifup_script(&network, &owner), script);
    }
}
