//! The host's network: bridges, forwarding, and what is in use already.
//!
//! Bridges are made with `ip` (iproute2), whose JSON output is parsed here. Interfaces of machines
//! are made and connected here and then belong to QEMU alone, so that they vanish with the process
//! whatever happens to skep.

pub mod claims;
mod forwarding;
mod ip;
mod look;
mod policy;
mod resolvers;
mod root;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use skep_core::model::{Admits, NetworkRecord, Publication};
use skep_store::Owner;
use skep_sys::{CmdError, Dialer, FileError, HostDialer, LockError};
use thiserror::Error;

pub use look::HostNetwork;
pub use resolvers::{out_of_reach, resolvers};
pub use root::RootNetwork;

use crate::firewall::{self, Docker, Outside, Peerings};
use crate::forwarder::{self, PublishedPorts};

/// What went wrong with the host's network.
#[derive(Debug, Error)]
pub enum Error {
    /// A program failed.
    #[error(transparent)]
    Cmd(#[from] CmdError),
    /// A program said what cannot be understood.
    #[error("the output of {program} cannot be parsed")]
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
    /// A machine's interface could not be made.
    #[error("cannot open the tap {name} through /dev/net/tun")]
    Tap {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The firewall.
    #[error(transparent)]
    Firewall(#[from] firewall::Error),
    /// Ports of the loopback.
    #[error(transparent)]
    Forwarder(#[from] forwarder::Error),
    /// A lock could not be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// What acts as root for ordinary users cannot be used.
    #[error("skep-net, which creates networks for non-root users, cannot be used")]
    NoHelper(#[source] CmdError),
    /// A user's own network is not to be had.
    #[error("this host does not allow networks in user namespaces")]
    NoNamespace(#[source] CmdError),
    /// That may not be done for this user.
    #[error("refused: {0}")]
    Refused(String),
    /// Somebody else has that name or that subnet.
    #[error("refused: {0}")]
    Taken(String),
    /// It is of another skep than this one.
    #[error("skep-net is of another version of skep: {0}")]
    OtherHelper(String),
}

/// The host's network.
#[async_trait]
pub trait Network: Send + Sync {
    /// Makes the bridge, up and with its address. This decides who has a name and a subnet: whoever comes second gets
    /// [`Error::Taken`] and chooses others. Nothing
    /// is routed to the bridge or from it until its rules are there.
    ///
    /// # Errors
    ///
    /// If the rights are missing, the kernel has no bridges, or another cluster has the name or part of the subnet.
    async fn ensure_bridge(&self, network: &NetworkRecord, owner: &Owner) -> Result<(), Error>;

    /// Removes an interface; one that is gone is fine.
    ///
    /// # Errors
    ///
    /// If the rights are missing.
    async fn remove_link(&self, name: &str) -> Result<(), Error>;

    /// Makes the rules of a cluster's network, and then forwards packets. Beside this host, only these may reach its nodes
    /// by themselves; of peers, those of the same user and store that name this cluster too.
    ///
    /// # Errors
    ///
    /// If the rights are missing, or a firewall tool is.
    async fn ensure_firewall(
        &self,
        network: &NetworkRecord,
        owner: &Owner,
        admits: &Admits,
    ) -> Result<(), Error>;

    /// Lets ports of the host's loopback lead to a node, and no others; with no publication, none do. A process of
    /// this user's listens on them.
    ///
    /// # Errors
    ///
    /// If a port is taken, or below those that this user may have.
    async fn publish(
        &self,
        network: &NetworkRecord,
        owner: &Owner,
        publication: Option<&Publication>,
    ) -> Result<(), Error> {
        Ok(published_ports(owner).publish(network, publication).await?)
    }

    /// Returns where ports of the host's loopback lead, as [`Publication::label`] says it, if they do.
    async fn published(&self, network: &NetworkRecord, owner: &Owner) -> Option<String> {
        published_ports(owner).published(network)
    }

    /// Lets no port of the host's loopback lead to the network that has this bridge; none is fine.
    ///
    /// # Errors
    ///
    /// If what is written down of them cannot be removed.
    async fn unpublish(&self, bridge: &str, owner: &Owner) -> Result<(), Error> {
        Ok(published_ports(owner).forget(bridge).await?)
    }

    /// Lets programs of this host reach what listens there, on a node, at the address by which they see that
    /// ([`Network::host_address`]). Where that is the node's own there is nothing to do.
    ///
    /// # Errors
    ///
    /// If nobody can listen for it.
    async fn forward_port(&self, _network: &NetworkRecord, _at: SocketAddrV4) -> Result<(), Error> {
        Ok(())
    }

    /// Removes the rules of the network that has this bridge; none is fine.
    ///
    /// # Errors
    ///
    /// If the rights are missing. What can be removed is removed all the same.
    async fn remove_firewall(&self, name: &str) -> Result<(), Error>;

    /// Switches forwarding off where skep switched it on, once no bridge of a cluster is left. `state` is where an
    /// earlier version of skep wrote that down.
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

    /// Makes a machine's tap, connected to the bridge of its network. It is gone when the last descriptor
    /// of it is closed.
    ///
    /// # Errors
    ///
    /// If the rights are missing, another process has it, or the bridge is not there.
    async fn tap(
        &self,
        name: &str,
        network: &NetworkRecord,
        owner: &Owner,
    ) -> Result<OwnedFd, Error>;

    /// Makes a tap that is connected to nothing.
    ///
    /// # Errors
    ///
    /// If the rights are missing.
    async fn detached_tap(&self) -> Result<OwnedFd, Error>;

    /// Returns what connects to nodes.
    fn dialer(&self) -> Dialer {
        Arc::new(HostDialer)
    }

    /// Returns the address by which programs of this host reach a node.
    fn host_address(&self, node: Ipv4Addr) -> Ipv4Addr {
        node
    }
}

/// The network that this process is in.
#[derive(Debug, Clone, Copy)]
pub struct LinuxNetwork {
    docker: Docker,
}

#[async_trait]
impl Network for LinuxNetwork {
    async fn ensure_bridge(&self, network: &NetworkRecord, owner: &Owner) -> Result<(), Error> {
        spare(&network.bridge, owner.user)?;
        ip::ensure_bridge(network, owner).await
    }

    async fn remove_link(&self, name: &str) -> Result<(), Error> {
        spare(name, ROOT)?;
        remove_link(name).await
    }

    async fn ensure_firewall(
        &self,
        network: &NetworkRecord,
        owner: &Owner,
        admits: &Admits,
    ) -> Result<(), Error> {
        // Who peers with whom is in the claims, which whoever gives networks to clusters has.
        self.ensure_rules(network, owner, &admits.hosts, &Peerings::new()).await
    }

    async fn remove_firewall(&self, name: &str) -> Result<(), Error> {
        self.remove_rules(name, &Peerings::new()).await
    }

    async fn restore_forwarding(&self, state: &Path) -> Result<(), Error> {
        let seen = look::look_around().await?;
        if seen.has_bridges() {
            return Ok(());
        }
        forwarding::restore().await?;
        forwarding::restore_router(state, seen.has_others())
    }

    async fn look(&self) -> Result<HostNetwork, Error> {
        // What is not known of others' networks is seen where they are made.
        let claims = claims::read(Path::new(claims::STATE)).unwrap_or_default();
        Ok(look::look(self.docker).await?.with_claims(claims))
    }

    async fn tap(
        &self,
        name: &str,
        network: &NetworkRecord,
        owner: &Owner,
    ) -> Result<OwnedFd, Error> {
        let tap = open_tap(name)?;
        ip::connect(name, &network.bridge, &owner.mark()).await?;
        Ok(tap)
    }

    async fn detached_tap(&self) -> Result<OwnedFd, Error> {
        open_tap(&format!("{TAP}%d"))
    }
}

impl LinuxNetwork {
    /// Returns this host's network.
    #[must_use]
    pub fn host() -> Self {
        Self { docker: Docker::IfInstalled }
    }

    /// Returns the network of a namespace of our own, in which this process is.
    #[must_use]
    pub fn enclosed() -> Self {
        Self { docker: Docker::Never }
    }

    /// As [`Network::ensure_firewall`], with what all networks of this host are opened to.
    ///
    /// # Errors
    ///
    /// If the rights are missing, or a firewall tool is.
    pub async fn ensure_rules(
        &self,
        network: &NetworkRecord,
        owner: &Owner,
        hosts: &[Ipv4Addr],
        peerings: &Peerings,
    ) -> Result<(), Error> {
        spare(&network.bridge, owner.user)?;
        let exits = forwarding::ways_out(&ip::links().await?, &ip::routes().await?);
        let switched = match forwarding::is_router() {
            true => Vec::new(),
            false => {
                // One that forwards already does so for somebody else.
                let ours = forwarding::switched_on().await?;
                let fits = |name: &&String| !forwarding::forwards(name) || ours.contains(*name);
                exits.iter().filter(fits).cloned().collect()
            }
        };
        let outside = Outside { exits, switched };
        firewall::ensure(network, &owner.digest(), hosts, &outside, peerings, self.docker).await?;
        // Only with the rules in place.
        forwarding::ensure(&network.bridge, &outside.switched).await
    }

    /// As [`Network::remove_firewall`], with what the other networks of this host are opened to.
    ///
    /// # Errors
    ///
    /// If the rights are missing.
    pub async fn remove_rules(&self, name: &str, peerings: &Peerings) -> Result<(), Error> {
        spare(name, ROOT)?;
        Ok(firewall::remove(name, peerings, self.docker).await?)
    }
}

/// Refuses to touch a network that was given to a user, unless it is done for that user.
fn spare(bridge: &str, user: u32) -> Result<(), Error> {
    // Without the right to read claims there is none to touch a network either.
    let claims = claims::read(Path::new(claims::STATE)).unwrap_or_default();
    match claims.get(bridge) {
        Some(claim) if user != claim.user => {
            let (cluster, user) = (&claim.cluster, claim.user);
            Err(Error::Taken(format!("{bridge} is cluster {cluster}'s, of user {user}")))
        }
        _ => Ok(()),
    }
}

/// Removes an interface, whosever it is; one that is gone is fine.
///
/// # Errors
///
/// If the rights are missing.
pub async fn remove_link(name: &str) -> Result<(), Error> {
    ip::remove_link(name).await
}

/// Removes the rules of the network that has this bridge, whosever it is, and closes the others to it; none is fine.
///
/// # Errors
///
/// If the rights are missing.
pub async fn remove_firewall(name: &str, peerings: &Peerings) -> Result<(), Error> {
    Ok(firewall::remove(name, peerings, Docker::IfInstalled).await?)
}

/// The number of root.
const ROOT: u32 = 0;

/// What the names of machines' interfaces begin with.
pub const TAP: &str = "skt";

/// What the names of bridges begin with, and of firewall tables.
pub const BRIDGE: &str = "skep-";

/// Makes a tap of that name, or opens it if it is there.
///
/// # Errors
///
/// If the rights are missing, or another process has it.
pub fn named_tap(name: &str) -> Result<OwnedFd, Error> {
    open_tap(name)
}

/// Returns the address of the node whose tap has that name.
#[must_use]
pub fn address_of_tap(name: &str) -> Option<Ipv4Addr> {
    let digits = name.strip_prefix(TAP)?;
    let is_digit = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 8 || !digits.bytes().all(is_digit) {
        return None;
    }
    Some(u32::from_str_radix(digits, 16).ok()?.into())
}

fn open_tap(name: &str) -> Result<OwnedFd, Error> {
    skep_sys::open_tap(name).map_err(|source| Error::Tap { name: name.to_owned(), source })
}

fn published_ports(owner: &Owner) -> PublishedPorts {
    let program = std::env::current_exe().unwrap_or_else(|_| "skep".into());
    PublishedPorts::of_store(&owner.store, program)
}

/// Returns the address by which another sees this host; no packet is sent for it.
#[must_use]
pub fn source_to(other: Ipv4Addr) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((other, 9)).ok()?;
    match socket.local_addr().ok()? {
        SocketAddr::V4(address) => Some(*address.ip()),
        SocketAddr::V6(_) => None,
    }
}

/// Tells whether something on this host listens on a TCP port of the loopback.
#[must_use]
pub fn listens(port: u16) -> bool {
    let bound = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    bound.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

/// The lowest port on which ordinary users may listen (ip-sysctl).
#[must_use]
pub fn lowest_port() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}
