//! The host's network for clusters of root.
//!
//! As `skep-net` does for users, it writes a claim before it makes a network and removes it when nothing of the
//! network is left. So nobody takes a name or a subnet of root's after a restart of the host, when clusters have no
//! bridges; and of two who choose the same, the second is told.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use skep_core::model::{Admits, NetworkRecord};
use skep_store::Owner;
use skep_sys::{Lock, LockError};

use super::claims::{self, Claim};
use super::{Error, HostNetwork, LinuxNetwork, Network};

/// How long `skep-net` may be at the networks of users: each of its requests ends by a limit of its own.
const TURN: Duration = Duration::from_secs(120);

/// This host's network, as root has it.
#[derive(Debug, Clone, Copy, Default)]
pub struct RootNetwork;

impl RootNetwork {
    async fn turn() -> Result<Lock, Error> {
        Self::turn_in(Path::new(claims::STATE)).await
    }

    async fn turn_in(state: &Path) -> Result<Lock, Error> {
        // Whoever gives the last claim back removes the directory, perhaps between two of these calls.
        let end = Instant::now() + TURN;
        let removed = |error: &std::io::Error| {
            matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists)
                && Instant::now() < end
        };
        loop {
            match skep_sys::make_private_dir(state) {
                Err(error) if removed(&error.source) => continue,
                made => made?,
            }
            match Lock::take_within(&claims::lock_file(state), TURN).await {
                Err(LockError::Io { source, .. }) if removed(&source) => {}
                turn => return Ok(turn?),
            }
        }
    }

    /// Gives a network's name and subnet back when nothing of it is left.
    async fn give_up(name: &str, turn: Lock) -> Result<(), Error> {
        let state = Path::new(claims::STATE);
        let host = LinuxNetwork::host().look().await?;
        if !host.has_link(name) && !host.rules().has_table(name) {
            claims::remove(state, name)?;
            LinuxNetwork::host().restore_forwarding(&claims::forwarding_file(state)).await?;
        }
        claims::remove_if_unused(state, turn);
        Ok(())
    }
}

#[async_trait]
impl Network for RootNetwork {
    async fn ensure_bridge(&self, network: &NetworkRecord, owner: &Owner) -> Result<(), Error> {
        let _turn = Self::turn().await?;
        let host = self.look().await?;
        if let Some(reason) = host.conflict(network, owner) {
            return Err(Error::Taken(reason));
        }
        let mut strays = host.persistent_taps();
        if !host.has_link(&network.bridge) && !host.claims().contains_key(&network.bridge) {
            // Nobody had the subnet, so whoever still holds taps of nodes in it has no network for them.
            strays.extend(host.taps_in(network.subnet));
        }
        for name in strays {
            super::remove_link(&name).await?;
        }
        let claim = Claim::of(owner, network.subnet);
        claims::write(Path::new(claims::STATE), &network.bridge, &claim)?;
        LinuxNetwork::host().ensure_bridge(network, owner).await
    }

    async fn remove_link(&self, name: &str) -> Result<(), Error> {
        let turn = Self::turn().await?;
        LinuxNetwork::host().remove_link(name).await?;
        Self::give_up(name, turn).await
    }

    async fn ensure_firewall(
        &self,
        network: &NetworkRecord,
        owner: &Owner,
        admits: &Admits,
    ) -> Result<(), Error> {
        // Else the last `down` of another cluster could switch forwarding off under this one.
        let _turn = Self::turn().await?;
        let state = Path::new(claims::STATE);
        let claims = claims::name_peers(state, network, owner, &admits.peers)?;
        let peerings = claims::peerings(&claims);
        LinuxNetwork::host().ensure_rules(network, owner, &admits.hosts, &peerings).await
    }

    async fn remove_firewall(&self, name: &str) -> Result<(), Error> {
        let turn = Self::turn().await?;
        super::spare(name, super::ROOT)?;
        let claims = claims::forget_peers(Path::new(claims::STATE), name)?;
        LinuxNetwork::host().remove_rules(name, &claims::peerings(&claims)).await?;
        Self::give_up(name, turn).await
    }

    async fn restore_forwarding(&self, state: &Path) -> Result<(), Error> {
        let turn = Self::turn().await?;
        LinuxNetwork::host().restore_forwarding(state).await?;
        claims::remove_if_unused(Path::new(claims::STATE), turn);
        Ok(())
    }

    async fn look(&self) -> Result<HostNetwork, Error> {
        LinuxNetwork::host().look().await
    }

    async fn tap(
        &self,
        name: &str,
        network: &NetworkRecord,
        owner: &Owner,
    ) -> Result<OwnedFd, Error> {
        LinuxNetwork::host().tap(name, network, owner).await
    }

    async fn detached_tap(&self) -> Result<OwnedFd, Error> {
        LinuxNetwork::host().detached_tap().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_directory_that_another_one_removes_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("skep-net");
        let runs = (0..4).map(|_| {
            let state = state.clone();
            tokio::spawn(async move {
                for _ in 0..500 {
                    let turn = RootNetwork::turn_in(&state).await.unwrap();
                    claims::remove_if_unused(&state, turn);
                }
            })
        });
        for run in runs.collect::<Vec<_>>() {
            run.await.unwrap();
        }
        assert!(!state.exists());
    }
}
