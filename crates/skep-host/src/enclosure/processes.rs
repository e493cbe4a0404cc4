//! The processes that a network of a user's own needs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::net::Error;
use crate::sys::{Cmd, CmdError, FileError, ProcessId, read_own, tail, write_atomic};

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
        let text = read_own(&self.dir.join(format!("{}.json", which.name()))).ok()?;
        let process: ProcessId = serde_json::from_slice(&text).ok()?;
        process.is_alive().then_some(process)
    }

    fn note(&self, which: Which, process: ProcessId) -> Result<(), FileError> {
        let text = serde_json::to_vec(&process).expect("plain values");
        write_atomic(&self.dir.join(format!("{}.json", which.name())), 0o600, &text)
    }

    /// Makes the namespaces, in which this user is root, unless they are there. Whoever calls this is the only one.
    pub async fn ensure_keeper(&self) -> Result<ProcessId, Error> {
        if let Some(keeper) = self.find(Which::Keeper) {
            return Ok(keeper);
        }
        if let Some(stale) = self.find(Which::WayOut) {
            // It is that of namespaces that are gone.
            stale.kill();
        }
        let log = self.log(Which::Keeper);
        let unshare = ["--user", "--map-root-user", "--net", "--", "sh", "-c", KEEP];
        let mut daemon =
            Cmd::new("unshare").args(unshare).start(&log).map_err(Error::NoNamespace)?;
        let said = || String::from_utf8_lossy(&read_own(&log).unwrap_or_default()).into_owned();
        let kept = async {
            while !said().contains("kept") {
                // wait: a file announces nothing
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let process = tokio::select! {
            ended = daemon.ended() => return Err(Error::NoNamespace(ended)),
            kept = tokio::time::timeout(LIMIT, kept) => match kept {
                Ok(()) => daemon.process(),
                Err(_) => None,
            },
        };
        let command = "unshare".to_owned();
        let process = process.ok_or_else(|| {
            let tail = tail(said().as_bytes());
            Error::NoNamespace(CmdError::Timeout { command, limit: LIMIT, tail })
        })?;
        self.note(Which::Keeper, process)?;
        daemon.leave_session("skep-network").await;
        self.find_way_out(process).await?;
        Ok(process)
    }

    /// Gives the namespace a way out, if there is a program for that.
    async fn find_way_out(&self, keeper: ProcessId) -> Result<(), Error> {
        let pasta = Cmd::new("pasta").args(WAY_OUT).arg(keeper.pid.to_string());
        match pasta.start(&self.log(Which::WayOut)) {
            Ok(daemon) => {
                if let Some(process) = daemon.process() {
                    self.note(Which::WayOut, process)?;
                }
                daemon.leave_session("skep-pasta").await;
                Ok(())
            }
            // What is in the nodes' image works without.
            Err(error) => {
                tracing::debug!(%error, "no way out");
                Ok(())
            }
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
