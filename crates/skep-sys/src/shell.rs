//! A node is a command runner.
//!
//! Everything that is done inside a node goes through [`NodeShell`], so that a virtual machine of
//! ours and a host that is reached otherwise are set up by the same code.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

use crate::{CmdError, WireError, tail};

/// What a command in a node printed, and its exit code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeOutput {
    /// Its exit code; a signal's number above 128 if it was killed.
    pub code: i32,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// A command in a node that could not be run, or failed.
#[derive(Debug, Error)]
pub enum Error {
    /// Nothing answers for the node.
    #[error("the node's agent does not respond")]
    Unreachable(#[source] std::io::Error),
    /// The connection broke.
    #[error("the connection to the node's agent broke")]
    Wire(#[from] WireError),
    /// The agent refused.
    #[error("the node's agent refused {command}: {reason}")]
    Refused {
        /// The agent's command.
        command: String,
        /// Its reason.
        reason: String,
    },
    /// The host's ssh server could not be reached.
    #[error("{host} is unreachable: {reason}")]
    NoHost {
        /// The host.
        host: String,
        /// What ssh(1) said.
        reason: String,
    },
    /// The host lets the user not in.
    #[error("cannot log in as {at}: {reason}")]
    Login {
        /// The user and the host.
        at: String,
        /// What ssh(1) said.
        reason: String,
    },
    /// The host has another key than it had.
    #[error("the host key of {host} is not the one that is pinned in {}", .file.display())]
    HostKey {
        /// The host.
        host: String,
        /// Where the key is pinned.
        file: PathBuf,
    },
    /// ssh(1) could not be run.
    #[error(transparent)]
    Ssh(CmdError),
    /// It took too long.
    #[error("{what} timed out after {} s", .limit.as_secs())]
    Timeout {
        /// What was run.
        what: String,
        /// The limit.
        limit: Duration,
    },
    /// The command ended with an error.
    #[error("{what} failed with code {code}: {tail}")]
    Failed {
        /// What was run.
        what: String,
        /// Its exit code.
        code: i32,
        /// Its last words.
        tail: String,
    },
}

impl Error {
    /// Tells whether nobody could be spoken to.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_) | Self::NoHost { .. } | Self::Login { .. } | Self::HostKey { .. }
        )
    }
}

/// Runs commands in a node, as root.
#[async_trait]
pub trait NodeShell: Send + Sync {
    /// Runs a program with its arguments, gives it `stdin`, and waits for its end.
    ///
    /// # Errors
    ///
    /// If the node cannot be reached or the program does not end within `limit`; not if it fails.
    async fn run(&self, argv: &[&str], stdin: &[u8], limit: Duration) -> Result<NodeOutput, Error>;

    /// Returns what has to be added to the node's clock, in nanoseconds, for it to be the host's.
    ///
    /// # Errors
    ///
    /// If the node cannot be reached or does not answer within `limit`.
    async fn clock_behind(&self, limit: Duration) -> Result<i64, Error>;

    /// Runs a program that has to succeed; `what` names it in errors.
    ///
    /// # Errors
    ///
    /// As [`NodeShell::run`], and if the program fails.
    async fn succeed(
        &self,
        what: &str,
        argv: &[&str],
        stdin: &[u8],
        limit: Duration,
    ) -> Result<NodeOutput, Error> {
        let output = self.run(argv, stdin, limit).await?;
        if output.code == 0 {
            return Ok(output);
        }
        let words = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        Err(Error::Failed { what: what.to_owned(), code: output.code, tail: tail(words) })
    }
}
