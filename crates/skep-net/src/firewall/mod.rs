//! The host's packet filter: what a cluster's network needs of it, and no more.
//!
//! What isolates a cluster, and address translation, is in an nftables table of the cluster's own, for IPv4 and IPv6. To
//! accept a packet there does not keep another table from dropping it, so where iptables drops what it forwards (Docker
//! sets it so), rules that carry the cluster's name are put where Docker leaves room for them.

mod closed;
mod iptables;
mod nft;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use skep_core::model::NetworkRecord;
use thiserror::Error;

pub use closed::closed_chains;

use skep_sys::CmdError;

/// What went wrong with the packet filter.
#[derive(Debug, Error)]
pub enum Error {
    /// A program failed.
    #[error(transparent)]
    Cmd(#[from] CmdError),
    /// A program said what cannot be understood.
    #[error("the output of nft cannot be parsed")]
    Parse(#[source] serde_json::Error),
}

/// The bit of a packet's mark that says that a cluster's table lets it pass. Bits 0x4000 and 0x8000 are Kubernetes', the
/// upper half is Calico's, Cilium's and Tailscale's, small numbers are people's own; wg-quick's 0xca6c and Mullvad's
/// 0x6d6f6c65 have other bits, too.
pub const MARK: u32 = 0x1000;

/// A table of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The digest of its owner.
    pub owner: String,
    /// The hosts that it lets in.
    pub hosts: Vec<Ipv4Addr>,
    /// The bridges of networks that it is opened to.
    #[serde(default)]
    pub peers: BTreeSet<String>,
    /// Whether it was made by an earlier version of skep, and isolates nothing.
    pub outdated: bool,
}

/// For each network, by its bridge, the bridges and subnets of those that it is opened to.
pub type Peerings = BTreeMap<String, Vec<(String, Ipv4Net)>>;

/// Interfaces that lead out of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    /// All of them.
    pub exits: Vec<String>,
    /// Those that forward for skep alone: what they forward goes to clusters, or to containers and virtual machines of the
    /// host, and not from one of them to another.
    pub switched: Vec<String>,
}

/// What was seen of the packet filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Tables of skep, by name.
    tables: BTreeMap<String, Table>,
    /// Whether bridges need rules in iptables too.
    iptables: bool,
    /// Bridges that have rules there.
    accepted: Vec<String>,
    /// Firewalls and chains that drop what clusters send, and have not been told of them.
    pub obstacles: Vec<Obstacle>,
    /// Chains that keep this host from its nodes, where [`closed_chains`] was asked for.
    #[serde(default)]
    pub closed: Vec<String>,
}

/// A firewall or chain that drops what clusters send, and has not been told of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// Its name.
    pub name: String,
    /// What it does to frames between nodes.
    pub frames: Frames,
}

/// What a firewall does to frames between nodes of a cluster, where frames within a bridge pass it (ip-sysctl,
/// `bridge-nf-call-iptables`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frames {
    /// It lets them pass: rules of skep's are before its own.
    Pass,
    /// It has rules that may let them pass.
    MayDrop,
    /// It has no rule that could let them pass.
    Drop,
}

impl Rules {
    /// Returns the rules of tables, by name.
    #[must_use]
    pub fn of(tables: BTreeMap<String, Table>) -> Self {
        Self { tables, ..Self::default() }
    }

    /// Tells whether the network that has this bridge has all its rules.
    #[must_use]
    pub fn has(&self, bridge: &str) -> bool {
        self.tables.get(bridge).is_some_and(|table| !table.outdated)
            && (!self.iptables || self.accepted.iter().any(|name| name == bridge))
    }

    /// Returns the hosts that the network which has this bridge lets in.
    #[must_use]
    pub fn admitted(&self, bridge: &str) -> &[Ipv4Addr] {
        self.tables.get(bridge).map(|table| &table.hosts[..]).unwrap_or_default()
    }

    /// Tells whether a network is open to those that it should be, and these to it as far as they have rules.
    #[must_use]
    pub fn has_peers(&self, bridge: &str, peerings: &Peerings) -> bool {
        let none = Vec::new();
        let peers = peerings.get(bridge).unwrap_or(&none);
        let open_to = |bridge: &str| self.tables.get(bridge).map(|table| &table.peers);
        let wanted = peers.iter().map(|(peer, _)| peer);
        open_to(bridge).is_some_and(|open| open.iter().eq(wanted))
            && peers.iter().all(|(peer, _)| open_to(peer).is_none_or(|open| open.contains(bridge)))
    }

    /// Tells whether there is a table of that name.
    #[must_use]
    pub fn has_table(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }

    /// Leaves out the tables that are not among these.
    pub fn retain(&mut self, tables: impl Fn(&str) -> bool) {
        self.tables.retain(|name, _| tables(name));
        self.accepted.retain(|name| tables(name));
    }

    /// Returns the tables of an owner, whose digests `owns` knows.
    #[must_use]
    pub fn tables_of(&self, owns: impl Fn(&str) -> bool) -> Vec<&str> {
        let own = self.tables.iter().filter(|(_, table)| owns(&table.owner));
        own.map(|(name, _)| name.as_str()).collect()
    }
}

/// Whether Docker may start beside the networks. It then drops forwarded packets, even if the networks were there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Docker {
    /// On this host, if it is installed.
    IfInstalled,
    /// In a namespace of our own none starts.
    Never,
}

impl Docker {
    fn may_start(self) -> bool {
        let places = ["/usr/bin", "/usr/sbin", "/usr/local/bin"];
        let is_there = |dir: &&str| Path::new(dir).join("dockerd").exists();
        self == Self::IfInstalled && places.iter().any(is_there)
    }
}

/// Makes the rules of a network, which lets these hosts in. `outside` are interfaces that forward for skep alone. The
/// tables of all networks are opened to their peers, and closed to whoever is none any more.
///
/// # Errors
///
/// If nft is missing or refuses.
pub async fn ensure(
    network: &NetworkRecord,
    owner: &str,
    hosts: &[Ipv4Addr],
    outside: &Outside,
    peerings: &Peerings,
    docker: Docker,
) -> Result<(), Error> {
    let peers = peerings.get(&network.bridge).map(Vec::as_slice).unwrap_or_default();
    let others = nft::render_peers(&nft::chains().await?, peerings, &network.bridge);
    nft::apply(&(nft::render(network, owner, hosts, outside, peers) + &others)).await?;
    if let Some(place) = iptables::place(&nft::chains().await?, docker.may_start()).await? {
        iptables::ensure(&place, &network.bridge).await?;
    }
    Ok(())
}

/// Removes the rules of the network that has this bridge, and closes the others to it; none is fine.
///
/// # Errors
///
/// If nft or iptables refuses; what can be removed is removed all the same.
pub async fn remove(bridge: &str, peerings: &Peerings, docker: Docker) -> Result<(), Error> {
    let chains = nft::chains().await?;
    let from_iptables = match iptables::place(&chains, docker.may_start()).await {
        Ok(Some(place)) => iptables::remove(&place, bridge).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    let mut ruleset = nft::render_peers(&chains, peerings, bridge);
    if chains.iter().any(|chain| chain.table == bridge) {
        ruleset += &nft::render_removal(bridge);
    }
    if !ruleset.is_empty() {
        nft::apply(&ruleset).await?;
    }
    from_iptables
}

/// Looks at the rules; changes nothing. A host without nft has none.
///
/// # Errors
///
/// If nft says what cannot be understood.
pub async fn look(docker: Docker) -> Result<Rules, Error> {
    let chains = match nft::chains().await {
        // Without nft, or without the right to ask it, nothing of ours is there to be seen.
        Err(Error::Cmd(_)) => return Ok(Rules::default()),
        chains => chains?,
    };
    let place = iptables::place(&chains, docker.may_start()).await?;
    let listing = match &place {
        Some(place) => iptables::list(place).await?,
        None => String::new(),
    };
    let mut obstacles = Vec::new();
    if nft::has_firewalld(&chains) {
        let frames = nft::list("inet", nft::FIREWALLD).await?.frames(nft::FIREWALLD_FORWARD);
        obstacles.push(Obstacle { name: "firewalld".to_owned(), frames });
    }
    if iptables::has_ufw(&listing) {
        // What it drops is forwarded after the rules that [`iptables::ensure`] makes.
        obstacles.push(Obstacle { name: "ufw".to_owned(), frames: Frames::Pass });
    }
    for chain in nft::obstacles(&chains) {
        let listing = nft::list(&chain.family, &chain.table).await?;
        if !listing.is_told(&chain.name) {
            let frames = listing.frames(&chain.name);
            obstacles.push(Obstacle { name: chain.to_string(), frames });
        }
    }
    Ok(Rules {
        tables: nft::tables(&chains),
        obstacles,
        closed: Vec::new(),
        accepted: iptables::accepted(&listing),
        iptables: place.is_some_and(|place| !place.is_idle()),
    })
}
