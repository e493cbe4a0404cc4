//! The side of an ordinary user.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use skep_core::model::{Admits, NetworkRecord};
use skep_core::observed::HostsEntry;
use skep_store::Owner;
use skep_sys::{Cmd, RpcError, call_program};

use super::PROGRAM;
use super::request::{Act, Answer, MOST, PROTOCOL, Place, Request};
use crate::hosts::{self, Names};
use crate::network::{Error, HostNetwork, Network};

/// How long a request may take: skep-net itself ends after two minutes at most.
const PATIENCE: Duration = Duration::from_secs(130);

/// After what time a request is sent again that found too many of this user's.
const AGAIN: Duration = Duration::from_millis(200);

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

    async fn done(&self, act: Act) -> Result<(), Error> {
        match self.ask(act).await? {
            (Answer::Done, _) => Ok(()),
            (answer, _) => Err(failed(answer)),
        }
    }

    async fn descriptor(&self, act: Act) -> Result<OwnedFd, Error> {
        match self.ask(act).await? {
            (Answer::Done, Some(descriptor)) => Ok(descriptor),
            (answer, _) => Err(failed(answer)),
        }
    }

    async fn ask(&self, act: Act) -> Result<(Answer, Option<OwnedFd>), Error> {
        let broken = |source| Error::Tap { name: "of skep-net".to_owned(), source };
        let request = Request { protocol: PROTOCOL, act };
        let request = serde_json::to_vec(&request).expect("a request has only text keys");
        if request.len() > MOST {
            return Err(Error::Refused("the request is too long".to_owned()));
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let command = Cmd::new(&self.command[0]).args(&self.command[1..]).timeout(PATIENCE);
            let asked = call_program(command, &request, MOST).await;
            let (bytes, descriptor) = asked.map_err(|error| match error {
                RpcError::Socket(source) => broken(source),
                RpcError::Program(error) => Error::NoHelper(error),
            })?;
            let answer = serde_json::from_slice(&bytes);
            let answer = answer.map_err(|source| Error::Parse { program: super::NAME, source })?;
            match answer {
                // wait: nothing tells when this user's other requests have ended.
                Answer::Busy if Instant::now() < end => tokio::time::sleep(AGAIN).await,
                answer => return Ok((answer, descriptor)),
            }
        }
    }
}

fn failed(answer: Answer) -> Error {
    match answer {
        Answer::Refused(reason) | Answer::Failed(reason) => Error::Refused(reason),
        Answer::Busy => {
            let seconds = PATIENCE.as_secs();
            Error::Refused(format!("this user had too many requests at once for {seconds} s"))
        }
        Answer::Taken(reason) => Error::Taken(reason),
        Answer::Other(version) => Error::OtherHelper(version),
        Answer::Done | Answer::Seen { .. } => Error::Refused("it gives another answer".to_owned()),
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
