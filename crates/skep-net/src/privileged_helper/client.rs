//! The side of an ordinary user.

use std::os::fd::OwnedFd;
use std::path::Path;

use async_trait::async_trait;
use skep_core::model::{Admits, NetworkRecord};
use skep_core::observed::HostsEntry;
use skep_store::Owner;
use skep_sys::{Cmd, CmdError};

use super::{MOST, PROGRAM};
use crate::hosts::{self, Names};
use crate::network::{Error, HostNetwork, Network};
use crate::remote::{Act, Answer, Place, Remote, failed};

/// The host's network, as far as the privileged helper gives it to an ordinary user.
#[derive(Debug, Clone)]
pub struct HelperNetwork {
    command: Vec<String>,
}

impl Default for HelperNetwork {
    fn default() -> Self {
        // In a session of its own: sudo would otherwise use the user's terminal.
        Self::through(["setsid", "--wait", "sudo", "-n", PROGRAM])
    }
}

impl HelperNetwork {
    /// Creates one that reaches the privileged helper by another command.
    pub fn through<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Self {
        Self { command: command.into_iter().map(Into::into).collect() }
    }

    /// Asks whether the privileged helper would do anything at all for this user.
    ///
    /// # Errors
    ///
    /// If it cannot be reached, or is another skep's.
    pub async fn hello(&self) -> Result<(), Error> {
        self.done(Act::Hello).await
    }
}

impl Remote for HelperNetwork {
    const NAME: &str = super::NAME;
    const MOST: usize = MOST;

    fn command(&self) -> Result<Cmd, Error> {
        Ok(Cmd::new(&self.command[0]).args(&self.command[1..]))
    }

    fn unusable(error: CmdError) -> Error {
        Error::NoHelper(error)
    }
}

#[async_trait]
impl Network for HelperNetwork {
    async fn ensure_bridge(&self, network: &NetworkRecord, owner: &Owner) -> Result<(), Error> {
        self.done(Act::EnsureBridge(Place::of(network, owner))).await
    }

    async fn remove_link(&self, name: &str) -> Result<(), Error> {
        self.done(Act::RemoveLink(name.to_owned())).await
    }

    async fn ensure_firewall(
        &self,
        network: &NetworkRecord,
        owner: &Owner,
        admits: &Admits,
    ) -> Result<(), Error> {
        let (place, Admits { hosts, peers }) = (Place::of(network, owner), admits.clone());
        self.done(Act::EnsureFirewall { place, hosts, peers }).await
    }

    async fn remove_firewall(&self, name: &str) -> Result<(), Error> {
        self.done(Act::RemoveFirewall(name.to_owned())).await
    }

    /// Where it is remembered is the privileged helper's matter.
    async fn restore_forwarding(&self, _state: &Path) -> Result<(), Error> {
        self.done(Act::RestoreForwarding).await
    }

    async fn look(&self) -> Result<HostNetwork, Error> {
        let (seen, answer) = tokio::join!(HostNetwork::look_around(), self.ask(Act::Look));
        match answer?.0 {
            Answer::Seen { rules, claims, subnets } => {
                Ok(seen?.with_rules(rules).with_claims(claims).with_granted(subnets))
            }
            answer => Err(failed(answer)),
        }
    }

    async fn tap(
        &self,
        name: &str,
        network: &NetworkRecord,
        owner: &Owner,
    ) -> Result<OwnedFd, Error> {
        let place = Place::of(network, owner);
        self.descriptor(Act::Tap { name: name.to_owned(), place }).await
    }

    async fn detached_tap(&self) -> Result<OwnedFd, Error> {
        self.descriptor(Act::LooseTap).await
    }
}

#[async_trait]
impl Names for HelperNetwork {
    /// Another file than the host's own is the user's, who writes it himself.
    async fn write(
        &self,
        path: &Path,
        owner: &Owner,
        entries: &[HostsEntry],
    ) -> Result<(), hosts::Error> {
        if path != Path::new(super::serve::HOSTS) {
            return hosts::write_block(path, owner, entries);
        }
        let Owner { cluster, store, .. } = owner.clone();
        let names = entries.iter().map(Into::into).collect();
        let done = self.done(Act::Names { cluster, store, names }).await;
        done.map_err(|error| hosts::Error::Refused(Box::new(error)))
    }
}
