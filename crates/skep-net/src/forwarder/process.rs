//! The process from outside: start it, tell it of changes, see whether it listens, end it.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use skep_core::model::{NetworkRecord, Publication};
use skep_sys::{Cmd, Lock, ProcessId, make_private_dir, read_own, remove_tree, tail, write_atomic};
use tokio::time::Instant;

use super::places::Places;
use super::sockets::listeners_of;
use super::{Error, FORWARD_PORTS};

/// How long another skep may be at the same forwarder: it writes a note and starts a process.
const TURN: Duration = Duration::from_secs(60);

/// How long it may take to listen: a machine that is busy with booting others needs some of it.
const LIMIT: Duration = Duration::from_secs(60);

/// What starts it, deaf to SIGHUP until it handles that itself: the signal would end it before. What it is told by one
/// that is lost it reads anyway, as it reads its directory after that.
const START: [&str; 3] = ["-c", "trap '' HUP; exec \"$@\"", "sh"];

/// The forwarder of a directory.
#[derive(Debug, Clone)]
pub struct Forwarder {
    dir: PathBuf,
    program: PathBuf,
    word: &'static str,
}

impl Forwarder {
    /// Returns that of a directory; `program` with `word` and the directory plays its part.
    #[must_use]
    pub fn new(dir: &Path, program: PathBuf, word: &'static str) -> Self {
        Self { dir: dir.to_owned(), program, word }
    }

    fn log(&self) -> PathBuf {
        self.dir.join("forwarder.log")
    }

    /// Returns the process, if it runs.
    #[must_use]
    pub fn find(&self) -> Option<ProcessId> {
        let text = read_own(&self.dir.join("forwarder.json")).ok()?;
        let process: ProcessId = serde_json::from_slice(&text).ok()?;
        process.is_alive().then_some(process)
    }

    /// Has it listen as its directory says, starting it if need be; returns where in its log what it says of that
    /// begins. The caller holds the directory's lock.
    ///
    /// # Errors
    ///
    /// If it cannot be started or written down.
    pub fn ensure(&self) -> Result<usize, Error> {
        if let Some(pid) = self.find().and_then(|it| Pid::from_raw(it.pid.cast_signed())) {
            let begin = read_own(&self.log()).map_or(0, |log| log.len());
            let _ = rustix::process::kill_process(pid, Signal::HUP);
            return Ok(begin);
        }
        let forward = Cmd::new("sh").args(START).arg(&self.program).arg(self.word).arg(&self.dir);
        let note = |process| {
            let text = serde_json::to_vec(&process).expect("plain values");
            write_atomic(&self.dir.join("forwarder.json"), 0o600, &text).map_err(Error::from)
        };
        let daemon = forward.start_noted(&self.log(), note)?;
        // Where the caller's end comes before systemd's answer it stays in the session; whoever needs it starts it again.
        tokio::spawn(async move { daemon.leave_session("skep-forward").await });
        Ok(0)
    }

    /// Returns where it listens.
    #[must_use]
    pub fn listens(&self) -> BTreeSet<SocketAddrV4> {
        self.find().map(|process| listeners_of(process.pid)).unwrap_or_default()
    }

    /// Waits until it listens on an address; `begin` is what [`Self::ensure`] returned.
    ///
    /// # Errors
    ///
    /// If it ended, or does not listen within 60 s.
    pub async fn await_listener(&self, at: SocketAddrV4, begin: usize) -> Result<(), Error> {
        let end = Instant::now() + LIMIT;
        while !self.listens().contains(&at) {
            let log = read_own(&self.log()).unwrap_or_default();
            let said = tail(log.get(begin..).unwrap_or_default());
            // It says at once what it cannot have, and does not try again by itself.
            let refused = said.lines().any(|line| line.starts_with(&format!("{at}: ")));
            if refused || self.find().is_none() || Instant::now() >= end {
                return Err(Error::Deaf { at, said });
            }
            // wait: who listens announces nothing
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Ends it.
    pub fn end(&self) {
        if let Some(process) = self.find() {
            process.kill();
        }
    }
}

/// Published ports of a store's clusters on bridges.
#[derive(Debug, Clone)]
pub struct PublishedPorts {
    dir: PathBuf,
    places: Places,
    forwarder: Forwarder,
}

impl PublishedPorts {
    /// Returns those of a store; `program` is skep.
    #[must_use]
    pub fn of_store(store: &Path, program: PathBuf) -> Self {
        let dir = store.join("ports");
        let forwarder = Forwarder::new(&dir, program, FORWARD_PORTS);
        Self { places: Places::new(&dir), forwarder, dir }
    }

    /// Has ports of the loopback lead to a node, and no others of this network; with no publication, none do.
    ///
    /// # Errors
    ///
    /// If a port is taken or not this user's to take; then nothing is changed.
    pub async fn publish(
        &self,
        network: &NetworkRecord,
        publication: Option<&Publication>,
    ) -> Result<(), Error> {
        let Some(publication) = publication.filter(|it| !it.ports.is_empty()) else {
            return self.forget(&network.bridge).await;
        };
        make_private_dir(&self.dir)?;
        let _turn = Lock::take_within(&self.dir.join("lock"), TURN).await?;
        check_free(&publication.ports, &self.forwarder.listens())?;
        self.places.change(network, |noted| noted.lead(Some(publication)))?;
        let begin = self.forwarder.ensure()?;
        for port in &publication.ports {
            self.forwarder.await_listener(loopback(*port), begin).await?;
        }
        Ok(())
    }

    /// Has no port lead to a network; ends the process and removes what is written down with the last one.
    ///
    /// # Errors
    ///
    /// If a file cannot be removed.
    pub async fn forget(&self, bridge: &str) -> Result<(), Error> {
        if !self.dir.exists() {
            return Ok(());
        }
        let _turn = Lock::take_within(&self.dir.join("lock"), TURN).await?;
        self.places.forget(bridge)?;
        if self.places.is_empty() {
            self.forwarder.end();
            return Ok(remove_tree(&self.dir)?);
        }
        self.forwarder.ensure().map(drop)
    }

    /// Returns where published ports of a network lead, as [`Publication::label`] says it.
    #[must_use]
    pub fn published(&self, network: &NetworkRecord) -> Option<String> {
        published(&self.places, &self.forwarder, network)
    }
}

/// Returns where published ports of a network lead, only if a process listens on all of them.
pub(crate) fn published(
    places: &Places,
    forwarder: &Forwarder,
    network: &NetworkRecord,
) -> Option<String> {
    let noted = places.all().ok()?.into_iter().find(|it| it.network == *network)?;
    let label = noted.publication()?.label();
    let listens = forwarder.listens();
    noted.ports.iter().all(|port| listens.contains(&loopback(*port))).then_some(label)
}

fn loopback(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

/// Tries to have each port of the loopback that is not had already.
pub(crate) fn check_free(ports: &[u16], had: &BTreeSet<SocketAddrV4>) -> Result<(), Error> {
    for &port in ports.iter().filter(|port| !had.contains(&loopback(**port))) {
        TcpListener::bind(loopback(port)).map_err(|source| Error::Port { port, source })?;
    }
    Ok(())
}
