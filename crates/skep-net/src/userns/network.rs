//! The side outside of the namespaces.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ipnet::Ipv4Net;
use skep_core::model::{Admits, NetworkRecord, Publication};
use skep_core::observed::HostsEntry;
use skep_store::Owner;
use skep_sys::{Cmd, CmdError, Dial, Dialer, HostDialer, Lock, make_private_dir, remove_tree};
use tokio::net::TcpStream;

use super::acts::{MOST, SERVE_USERNS};
use super::processes::{Processes, Which};
use super::{FORWARD, loopback_aliases_taken};
use crate::forwarder::{self, Forwarder, Noted, Places, loopback_alias};
use crate::hosts::{self, Names};
use crate::network::{Error, HostNetwork, Network, address_of_tap};
use crate::remote::{Act, Answer, Place, Remote, failed};

/// How long another skep of this user may be at the namespace: it starts a process or two there.
const TURN: Duration = Duration::from_secs(60);

/// Networks in a namespace of the user's own.
#[derive(Debug, Clone)]
pub struct UsernsNetwork {
    dir: PathBuf,
    places: Places,
    processes: Processes,
    forwarder: Forwarder,
}

impl UsernsNetwork {
    /// Returns the network of a store whose clusters have theirs in one; `program` is skep.
    #[must_use]
    pub fn of_store(store: &Path, program: PathBuf) -> Option<Self> {
        let it = Self::new(store, program);
        it.dir.is_dir().then_some(it)
    }

    /// Lets a store's clusters have their networks in a namespace from now on.
    ///
    /// # Errors
    ///
    /// If that cannot be written down.
    pub fn for_store(store: &Path, program: PathBuf) -> Result<Self, Error> {
        let it = Self::new(store, program);
        make_private_dir(&it.dir)?;
        Ok(it)
    }

    fn new(store: &Path, program: PathBuf) -> Self {
        Self::of_dir(&store.join("network"), program)
    }

    /// Returns the network that a directory tells of.
    #[must_use]
    pub fn of_dir(dir: &Path, program: PathBuf) -> Self {
        let places = Places::new(dir);
        let forwarder = Forwarder::new(dir, program.clone(), FORWARD);
        Self { dir: dir.to_owned(), places, processes: Processes::new(dir, program), forwarder }
    }

    /// Tries whether there can be such networks for this user.
    ///
    /// # Errors
    ///
    /// If the kernel, or its administrator, lets users have no namespaces, or no taps in them.
    pub async fn hello(&self) -> Result<(), Error> {
        self.detached_tap().await.map(drop)
    }

    /// Returns the words by which a program is started where nodes' addresses lead to nodes.
    #[must_use]
    pub fn entering(&self) -> Vec<String> {
        self.processes.entering().unwrap_or_default()
    }

    /// Sees to it that the loopback's addresses of nodes lead to them, if they are up.
    pub fn ensure_port_forwards(&self) {
        if self.processes.find(Which::Keeper).is_some() && self.forwarder.find().is_none() {
            // Who finds nobody listening there is told that then.
            let _ = self.forwarder.ensure();
        }
    }

    /// Changes what is noted of a network, and has the loopback lead there.
    async fn note(
        &self,
        network: &NetworkRecord,
        change: impl FnOnce(&mut Noted) + Send,
    ) -> Result<usize, Error> {
        let _turn = Lock::take_within(&self.dir.join("lock"), TURN).await?;
        self.places.change(network, change)?;
        Ok(self.forwarder.ensure()?)
    }

    /// Has something done, if there are namespaces at all.
    async fn done_if_there(&self, act: Act) -> Result<(), Error> {
        match self.processes.find(Which::Keeper) {
            Some(_) => self.processes.done(act).await,
            None => Ok(()),
        }
    }

    /// Has something done, making the namespaces before if need be.
    async fn done(&self, act: Act) -> Result<(), Error> {
        self.ensured().await?.done(act).await
    }

    async fn ensured(&self) -> Result<&Processes, Error> {
        if self.processes.find(Which::Keeper).is_none() {
            make_private_dir(&self.dir)?;
            let _turn = Lock::take_within(&self.dir.join("lock"), TURN).await?;
            self.processes.ensure_keeper().await?;
        }
        Ok(&self.processes)
    }

    /// Ends what nothing needs any more, and lets the store's next cluster have its network elsewhere.
    ///
    /// # Errors
    ///
    /// If the namespace cannot be looked at, or a file not removed.
    pub async fn end_if_unused(&self) -> Result<(), Error> {
        if !self.dir.exists() {
            return Ok(());
        }
        let _turn = Lock::take_within(&self.dir.join("lock"), TURN).await?;
        if self.places.is_empty() && !self.look().await?.has_clusters() {
            self.forwarder.end();
            self.processes.end();
            remove_tree(&self.dir)?;
        }
        Ok(())
    }
}

impl Remote for Processes {
    const NAME: &str = "the namespace";
    const MOST: usize = MOST;

    fn command(&self) -> Result<Cmd, Error> {
        let gone = || Error::Refused("the namespace of networks is gone".to_owned());
        let words = self.entering().ok_or_else(gone)?;
        Ok(Cmd::new(&words[0]).args(&words[1..]).arg(self.program()).arg(SERVE_USERNS))
    }

    fn unusable(error: CmdError) -> Error {
        Error::NoNamespace(error)
    }
}

#[async_trait]
impl Network for UsernsNetwork {
    async fn ensure_bridge(&self, network: &NetworkRecord, owner: &Owner) -> Result<(), Error> {
        make_private_dir(&self.dir)?;
        let turn = Lock::take_within(&self.dir.join("turn"), TURN).await?;
        if let Some(reason) = self.look().await?.conflict(network, owner) {
            return Err(Error::Taken(reason));
        }
        self.done(Act::EnsureBridge(Place::of(network, owner))).await?;
        self.places.change(network, |_| ())?;
        turn.remove();
        Ok(())
    }

    async fn remove_link(&self, name: &str) -> Result<(), Error> {
        self.done_if_there(Act::RemoveLink(name.to_owned())).await?;
        self.places.forget(name)?;
        if self.forwarder.find().is_some() {
            self.forwarder.ensure()?;
        }
        self.end_if_unused().await
    }

    async fn ensure_firewall(
        &self,
        network: &NetworkRecord,
        owner: &Owner,
        _admits: &Admits,
    ) -> Result<(), Error> {
        let (place, hosts, peers) = (Place::of(network, owner), Vec::new(), Vec::new());
        self.done(Act::EnsureFirewall { place, hosts, peers }).await
    }

    async fn publish(
        &self,
        network: &NetworkRecord,
        _owner: &Owner,
        publication: Option<&Publication>,
    ) -> Result<(), Error> {
        let ports = publication.map(|it| it.ports.clone()).unwrap_or_default();
        forwarder::check_free(&ports, &self.forwarder.listens())?;
        let begin = self.note(network, |it| it.lead(publication)).await?;
        for port in ports {
            let at = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
            self.forwarder.await_listener(at, begin).await?;
        }
        Ok(())
    }

    async fn published(&self, network: &NetworkRecord, _owner: &Owner) -> Option<String> {
        forwarder::published(&self.places, &self.forwarder, network)
    }

    /// They go with what is written down of the network.
    async fn unpublish(&self, _bridge: &str, _owner: &Owner) -> Result<(), Error> {
        Ok(())
    }

    async fn forward_port(&self, network: &NetworkRecord, at: SocketAddrV4) -> Result<(), Error> {
        let add = |it: &mut Noted| {
            if !it.services.contains(&at) {
                it.services.push(at);
            }
        };
        let begin = self.note(network, add).await?;
        let at = SocketAddrV4::new(loopback_alias(*at.ip()), at.port());
        Ok(self.forwarder.await_listener(at, begin).await?)
    }

    async fn remove_firewall(&self, name: &str) -> Result<(), Error> {
        self.done_if_there(Act::RemoveFirewall(name.to_owned())).await
    }

    /// The namespace goes with its last network, and its switch with it.
    async fn restore_forwarding(&self, _state: &Path) -> Result<(), Error> {
        Ok(())
    }

    async fn look(&self) -> Result<HostNetwork, Error> {
        let seen = match self.processes.find(Which::Keeper) {
            None => HostNetwork::default(),
            Some(_) => match self.processes.ask(Act::Look).await?.0 {
                Answer::SeenAll(seen) => *seen,
                answer => return Err(failed(answer)),
            },
        };
        // What is taken on the loopback belongs to another user's cluster, or to one of another store.
        let others =
            loopback_aliases_taken().into_iter().filter(|address| !self.places.has(*address));
        Ok(others.fold(seen, |seen, address| {
            let subnet = Ipv4Net::new(address, 24).expect("24 is a length").trunc();
            seen.with_subnet(subnet, "the loopback")
        }))
    }

    async fn tap(
        &self,
        name: &str,
        network: &NetworkRecord,
        owner: &Owner,
    ) -> Result<OwnedFd, Error> {
        let tap = Act::Tap { name: name.to_owned(), place: Place::of(network, owner) };
        let tap = self.ensured().await?.descriptor(tap).await?;
        if let Some(address) = address_of_tap(name) {
            let add = |it: &mut Noted| {
                if !it.nodes.contains(&address) {
                    it.nodes.push(address);
                }
            };
            self.note(network, add).await?;
        }
        Ok(tap)
    }

    async fn detached_tap(&self) -> Result<OwnedFd, Error> {
        self.ensured().await?.descriptor(Act::LooseTap).await
    }

    fn dialer(&self) -> Dialer {
        Arc::new(self.clone())
    }

    fn host_address(&self, node: Ipv4Addr) -> Ipv4Addr {
        loopback_alias(node)
    }
}

impl Dial for UsernsNetwork {
    fn dial(&self, to: SocketAddrV4) -> BoxFuture<'static, io::Result<TcpStream>> {
        // Hosts that are nodes, and all else, are where they always are.
        if !self.places.has(*to.ip()) {
            return HostDialer.dial(to);
        }
        let processes = self.processes.clone();
        async move { connect(&processes, to).await }.boxed()
    }
}

/// Connects within the namespaces; the connection is ours then.
pub(super) async fn connect(processes: &Processes, to: SocketAddrV4) -> io::Result<TcpStream> {
    let asked = processes.ask(Act::Connect(to)).await;
    let (answer, stream) = asked.map_err(io::Error::other)?;
    match (answer, stream) {
        (Answer::NotConnected(number), _) if number != 0 => {
            Err(io::Error::from_raw_os_error(number))
        }
        (Answer::Done, Some(stream)) => {
            let stream = std::net::TcpStream::from(stream);
            stream.set_nonblocking(true)?;
            TcpStream::from_std(stream)
        }
        _ => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[async_trait]
impl Names for UsernsNetwork {
    /// Only in the namespace do nodes' addresses lead to nodes.
    async fn write(
        &self,
        path: &Path,
        owner: &Owner,
        entries: &[HostsEntry],
    ) -> Result<(), hosts::Error> {
        if path != Path::new(hosts::FILE) {
            return hosts::write_block(path, owner, entries);
        }
        let reason =
            "names lead to the addresses of nodes, which this host does not reach with --net user";
        Err(hosts::Error::Refused(Box::new(Error::Refused(reason.to_owned()))))
    }
}
