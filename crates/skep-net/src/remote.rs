//! Asking for a network that another process acts in: root's, or one of a namespace of the user's own.
//!
//! ```text
//!   privileged_helper::HelperNetwork ── sudo ─────▶ skep-net: judges whatever it is asked by its user
//!   userns::UsernsNetwork ───────────── nsenter ──▶ skep --enclosed: judges nothing, as it has no more rights
//! ```
//!
//! Both have one protocol: a line of JSON each way, and a descriptor beside the answer. The process does one thing, and
//! ends. What only one of them does, the other refuses.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use skep_core::model::{ClusterName, NetworkRecord};
use skep_core::observed::HostsEntry;
use skep_store::Owner;
use skep_sys::{Cmd, CmdError, RpcError, call_program};

use crate::firewall::Rules;
use crate::network::claims::Claims;
use crate::network::{Error, HostNetwork};

/// The number of the protocol: another one is another skep's.
pub const PROTOCOL: u32 = 4;

/// How long a request may take: skep-net itself ends after two minutes at most.
const PATIENCE: Duration = Duration::from_secs(130);

/// After what time a request is sent again that found too many of this user's.
const AGAIN: Duration = Duration::from_millis(200);

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    pub protocol: u32,
    pub act: Act,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Act {
    /// Nothing; shows that it could be.
    Hello,
    /// Look at what ordinary users cannot see.
    Look,
    EnsureBridge(Place),
    EnsureFirewall {
        place: Place,
        /// Hosts that are nodes too, and reach the others by themselves.
        hosts: Vec<Ipv4Addr>,
        /// Clusters of the same user and store that it is opened to if they name it too.
        peers: Vec<ClusterName>,
    },
    RemoveLink(String),
    RemoveFirewall(String),
    RestoreForwarding,
    /// Make a machine's tap on the bridge of its network; answered with its descriptor.
    Tap {
        name: String,
        place: Place,
    },
    /// Make a tap that is connected to nothing, of which a user has a few at most; answered with its descriptor.
    LooseTap,
    /// Connect to a node; answered with the connection. Root does that for nobody.
    Connect(SocketAddrV4),
    /// Write a cluster's block of names.
    Names {
        cluster: ClusterName,
        store: PathBuf,
        names: Vec<Name>,
    },
}

/// A network, and which of the user's clusters it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    pub network: NetworkRecord,
    pub cluster: ClusterName,
    pub store: PathBuf,
}

impl Place {
    pub(crate) fn of(network: &NetworkRecord, owner: &Owner) -> Self {
        let Owner { cluster, store, .. } = owner.clone();
        Self { network: network.clone(), cluster, store }
    }

    /// Returns whose it is, if that user says so.
    pub(crate) fn owner(&self, user: u32) -> Owner {
        Owner { cluster: self.cluster.clone(), store: self.store.clone(), user }
    }
}

/// A name of a node for /etc/hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Name {
    pub name: String,
    pub address: Ipv4Addr,
}

impl From<&HostsEntry> for Name {
    fn from(it: &HostsEntry) -> Self {
        Self { name: it.name.clone(), address: it.address }
    }
}

impl From<&Name> for HostsEntry {
    fn from(it: &Name) -> Self {
        Self { name: it.name.clone(), address: it.address }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// It is done; a descriptor comes along if one was asked for.
    Done,
    /// What was seen: rules of the user's own networks, what is in their way, which networks are given, and where a
    /// new one may be.
    Seen { rules: Rules, claims: Claims, subnets: Vec<Ipv4Net> },
    /// All that was seen where the asking process cannot look itself.
    SeenAll(Box<HostNetwork>),
    /// It is not done, as that user may not.
    Refused(String),
    /// It is not done, as somebody else has that name or that subnet.
    Taken(String),
    /// It is not done, as this user has too many requests at once; the same may be asked again.
    Busy,
    /// It was tried, and failed.
    Failed(String),
    /// There is no connection, by the number of the error that the kernel has for it.
    NotConnected(i32),
    /// The protocol is another; this is the version of skep that answers.
    Other(String),
}

/// An answer, and the descriptor that came beside it.
pub(crate) type Reply = (Answer, Option<OwnedFd>);

/// A way to the process that acts.
#[async_trait]
pub(crate) trait Remote: Sync {
    /// What the process is, in messages.
    const NAME: &str;
    /// The longest request or answer, in bytes.
    const MOST: usize;

    /// Returns the command that starts it; a socket becomes its standard input.
    fn command(&self) -> Result<Cmd, Error>;

    /// Returns what it means that the command fails.
    fn unusable(error: CmdError) -> Error;

    /// Asks once, or again while this user has too many requests.
    async fn ask(&self, act: Act) -> Result<Reply, Error> {
        let request = Request { protocol: PROTOCOL, act };
        let request = serde_json::to_vec(&request).expect("a request has only text keys");
        if request.len() > Self::MOST {
            return Err(Error::Refused("the request is too long".to_owned()));
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let command = self.command()?.timeout(PATIENCE);
            let asked = call_program(command, &request, Self::MOST).await;
            let (bytes, descriptor) = asked.map_err(|error| match error {
                RpcError::Socket(source) => {
                    Error::Tap { name: format!("of {}", Self::NAME), source }
                }
                RpcError::Program(error) => Self::unusable(error),
            })?;
            let answer = serde_json::from_slice(&bytes);
            let answer = answer.map_err(|source| Error::Parse { program: Self::NAME, source })?;
            match answer {
                // wait: nothing tells when this user's other requests have ended.
                Answer::Busy if Instant::now() < end => tokio::time::sleep(AGAIN).await,
                answer => return Ok((answer, descriptor)),
            }
        }
    }

    /// Has something done.
    async fn done(&self, act: Act) -> Result<(), Error> {
        match self.ask(act).await? {
            (Answer::Done, _) => Ok(()),
            (answer, _) => Err(failed(answer)),
        }
    }

    /// Has something done that gives a descriptor.
    async fn descriptor(&self, act: Act) -> Result<OwnedFd, Error> {
        match self.ask(act).await? {
            (Answer::Done, Some(descriptor)) => Ok(descriptor),
            (answer, _) => Err(failed(answer)),
        }
    }
}

/// Returns what an answer means that was not wanted.
pub(crate) fn failed(answer: Answer) -> Error {
    match answer {
        Answer::Refused(reason) | Answer::Failed(reason) => Error::Refused(reason),
        Answer::Busy => {
            let seconds = PATIENCE.as_secs();
            Error::Refused(format!("this user had too many requests at once for {seconds} s"))
        }
        Answer::Taken(reason) => Error::Taken(reason),
        Answer::Other(version) => Error::OtherHelper(version),
        Answer::Done | Answer::Seen { .. } | Answer::SeenAll(_) | Answer::NotConnected(_) => {
            Error::Refused("it gives another answer".to_owned())
        }
    }
}
