//! The processes that a network of a user's own needs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_sys::{Cmd, CmdError, Daemon, ProcessId, read_own, remove_file, tail, write_atomic};

use crate::network::Error;

/// What keeps the namespaces; it says so when they are there.
const KEEP: &str = "ip link set lo up && echo kept && exec sleep infinity";

/// How long it may take until it does.
const LIMIT: Duration = Duration::from_secs(10);

/// The options of pasta(1): the namespace gets the host's addresses and routes, no ports of either are the other's,
/// and the router's address does not lead to the host's loopback, as it would otherwise.
const WAY_OUT: [&str; 11] = [
    "--foreground",
    "--config-net",
    "--no-map-gw",
    "-t",
    "none",
    "-u",
    "none",
    "-T",
    "none",
    "-U",
    "none",
];

/// Notes of the processes, in a directory.
#[derive(Debug, Clone)]
pub(super) struct Processes {
    dir: PathBuf,
    program: PathBuf,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    Keeper,
    WayOut,
}

impl Which {
    const fn name(self) -> &'static str {
        match self {
            Self::Keeper => "keeper",
            Self::WayOut => "way-out",
        }
    }
}

impl Processes {
    /// Creates the notes of a directory, for `program`, which is skep.
    pub fn new(dir: &Path, program: PathBuf) -> Self {
        Self { dir: dir.to_owned(), program }
    }

    fn log(&self, which: Which) -> PathBuf {
        self.dir.join(format!("{}.log", which.name()))
    }

    /// Returns a process, if it runs.
    pub fn find(&self, which: Which) -> Option<ProcessId> {
        let text = read_own(&self.note_file(which)).ok()?;
        let process: ProcessId = serde_json::from_slice(&text).ok()?;
        process.is_alive().then_some(process)
    }

    fn note_file(&self, which: Which) -> PathBuf {
        self.dir.join(format!("{}.json", which.name()))
    }

    /// Starts a program, and notes it before it begins.
    fn start(&self, which: Which, command: &Cmd) -> Result<Daemon, Error> {
        let note = |process: ProcessId| {
            let text = serde_json::to_vec(&process).expect("plain values");
            write_atomic(&self.note_file(which), 0o600, &text).map_err(Error::from)
        };
        command.start_noted(&self.log(which), note)
    }

    /// Makes the namespaces, in which this user is root, unless they are there, with their way out. Whoever calls this is
    /// the only one.
    pub async fn ensure_keeper(&self) -> Result<ProcessId, Error> {
        let keeper = match self.find(Which::Keeper) {
            Some(keeper) if self.keeps(keeper).await => keeper,
            _ => self.start_keeper().await?,
        };
        // A skep that was killed may have started the one and not the other.
        if !self.note_file(Which::WayOut).exists() {
            self.find_way_out(keeper).await?;
        }
        Ok(keeper)
    }

    fn said(&self) -> String {
        let said = read_own(&self.log(Which::Keeper)).unwrap_or_default();
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Waits until the namespaces are there; returns whether they are.
    async fn keeps(&self, keeper: ProcessId) -> bool {
        let kept = async {
            while !self.said().contains("kept") && keeper.is_alive() {
                // wait: a file announces nothing
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, kept).await.is_ok() && keeper.is_alive()
    }

    async fn start_keeper(&self) -> Result<ProcessId, Error> {
        if let Some(stale) = self.find(Which::WayOut) {
            // It is that of namespaces that are gone.
            stale.kill();
        }
        remove_file(&self.note_file(Which::WayOut))?;
        let unshare = ["--user", "--map-root-user", "--net", "--", "sh", "-c", KEEP];
        let unshare = Cmd::new("unshare").args(unshare);
        let mut daemon = self.start(Which::Keeper, &unshare).map_err(|error| match error {
            Error::Cmd(error) => Error::NoNamespace(error),
            error => error,
        })?;
        let Some(process) = daemon.process() else {
            return Err(Error::NoNamespace(daemon.ended().await));
        };
        if !self.keeps(process).await {
            if !process.is_alive() {
                return Err(Error::NoNamespace(daemon.ended().await));
            }
            process.kill();
            let (command, tail) = (unshare.to_string(), tail(self.said().as_bytes()));
            return Err(Error::NoNamespace(CmdError::Timeout { command, limit: LIMIT, tail }));
        }
        daemon.leave_session("skep-network").await;
        Ok(process)
    }

    /// Gives the namespace a way out, if there is a program for that.
    async fn find_way_out(&self, keeper: ProcessId) -> Result<(), Error> {
        let pasta = Cmd::new("pasta").args(WAY_OUT).arg(keeper.pid.to_string());
        match self.start(Which::WayOut, &pasta) {
            Ok(daemon) => {
                daemon.leave_session("skep-pasta").await;
                Ok(())
            }
            // What is in the nodes' image works without.
            Err(Error::Cmd(error)) => {
                tracing::debug!(%error, "no way out");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Ends all of them.
    pub fn end(&self) {
        for which in [Which::WayOut, Which::Keeper] {
            if let Some(process) = self.find(which) {
                process.kill();
            }
        }
    }

    /// Returns the words that start a program in the namespaces.
    pub fn entering(&self) -> Option<Vec<String>> {
        let keeper = self.find(Which::Keeper)?.pid.to_string();
        let words =
            ["nsenter", "--target", &keeper, "--user", "--net", "--preserve-credentials", "--"];
        Some(words.map(str::to_owned).to_vec())
    }

    /// Returns the program that acts in the namespaces.
    pub fn program(&self) -> &Path {
        &self.program
    }
}
