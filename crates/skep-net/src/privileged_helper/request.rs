//! What is asked of the privileged helper, and what it answers: a line of JSON each.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use skep_core::model::{ClusterName, NetworkRecord};
use skep_core::observed::HostsEntry;
use skep_store::Owner;

use crate::firewall::Rules;
use crate::network::claims::Claims;

/// The number of the protocol: another one is another skep's.
pub const PROTOCOL: u32 = 4;

/// The longest request or answer, in bytes.
pub(super) const MOST: usize = 64 << 10;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub protocol: u32,
    pub act: Act,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Act {
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
pub(super) struct Place {
    pub network: NetworkRecord,
    pub cluster: ClusterName,
    pub store: PathBuf,
}

impl Place {
    pub(super) fn of(network: &NetworkRecord, owner: &Owner) -> Self {
        let Owner { cluster, store, .. } = owner.clone();
        Self { network: network.clone(), cluster, store }
    }

    /// Returns whose it is, if that user says so.
    pub(super) fn owner(&self, user: u32) -> Owner {
        Owner { cluster: self.cluster.clone(), store: self.store.clone(), user }
    }
}

/// A name of a node for /etc/hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Name {
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
pub(super) enum Answer {
    /// It is done; a descriptor comes along if one was asked for.
    Done,
    /// What was seen: rules of the user's own networks, what is in their way, which networks are given, and where a
    /// new one may be.
    Seen { rules: Rules, claims: Claims, subnets: Vec<Ipv4Net> },
    /// It is not done, as that user may not.
    Refused(String),
    /// It is not done, as somebody else has that name or that subnet.
    Taken(String),
    /// It is not done, as this user has too many requests at once; the same may be asked again.
    Busy,
    /// It was tried, and failed.
    Failed(String),
    /// The protocol is another; this is the version of skep that answers.
    Other(String),
}
