//! Checkpoints: a process that waits, kept in files, and new processes that go on from there.
//!
//! ```text
//! process ──dump──▶ Checkpoint ──restore──▶ process, process, …
//!                   and a file of its pages  that share the pages which they do not change
//! ```
//!
//! A new process is started as the program that it is, stopped before its first instruction, and given the other's
//! memory, descriptors, threads and filter of system calls, all by system calls that it is made to make
//! (ptrace(2)). The memory is mapped from the file, so that it costs time and room only where it is used.
//!
//! This is for one kind of process: a dynamically linked program of the GNU C library whose threads all wait in a system
//! call, with descriptors of the kinds of [`Kind`]. What is anything else is refused by [`dump`], which
//! leaves the process as it was. Numbers of threads are other ones afterwards, and are set where that library remembers
//! them; a process that remembers them elsewhere would not survive.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]

mod descriptors;
mod dump;
mod filter;
mod maps;
mod restore;
#[cfg(test)]
mod tests;
mod trace;

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use descriptors::{Descriptor, Kind, connected};
pub use dump::dump;
pub use restore::{Ioctl, Restoring, restore};

/// The size of a page, in bytes.
const PAGE: u64 = 4096;

/// All of a process but what its memory holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The kernel under which it ran: another one may have another vDSO (vdso(7)), of which the process knows addresses.
    kernel: String,
    /// Where the kernel's own mappings were: name, start, end.
    vdso: Vec<(String, u64, u64)>,
    regions: Vec<Region>,
    /// Where the memory was that grows by brk(2): start and end.
    heap: (u64, u64),
    /// The programs and libraries of which parts are mapped, each with what tells whether it is the same.
    files: Vec<(PathBuf, Stamp)>,
    /// The first one is the process's own.
    threads: Vec<Thread>,
    descriptors: Vec<Descriptor>,
    /// What is done about signals, but for the defaults: the kernel's `struct sigaction`.
    actions: Vec<(u64, Vec<u8>)>,
    /// The filter of system calls (seccomp(2)): instructions, none if there is no filter.
    filter: Vec<u64>,
    /// By how much timers may be late, in nanoseconds (PR_SET_TIMERSLACK(2const)).
    timer_slack: u64,
}

/// A part of the memory, in addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Region {
    start: u64,
    end: u64,
    /// As mmap(2) takes it.
    protection: u64,
    content: Content,
}

/// What a part of the memory holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Content {
    /// Nothing yet.
    Zeros,
    /// What is in the file of pages from there on.
    Saved(u64),
    /// What is in a program or library from there on.
    File(PathBuf, u64),
    /// What is from there on in the one file that was shared, of which copies get a private view.
    Shared(u64),
}

/// A thread that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Thread {
    registers: trace::Registers,
    /// The signals that it blocks.
    blocked: u64,
    /// Where its C library remembers its number.
    number_at: u64,
}

/// What tells whether a file is still the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let found: Metadata = std::fs::metadata(path)?;
        let modified = (found.mtime(), found.mtime_nsec());
        Ok(Self { inode: found.ino(), bytes: found.len(), modified })
    }
}

impl Checkpoint {
    /// Tells what has changed on this host, if something has, so that no process can go on from here.
    ///
    /// # Errors
    ///
    /// With the reason.
    pub fn check_host(&self) -> Result<(), String> {
        if self.kernel != kernel() {
            return Err(format!("the kernel was {}", self.kernel));
        }
        let changed =
            |(path, stamp): &&(PathBuf, Stamp)| Stamp::of(path).ok().as_ref() != Some(stamp);
        match self.files.iter().find(changed) {
            Some((path, _)) => Err(format!("{} is another one now", path.display())),
            None => Ok(()),
        }
    }
}

/// Returns which kernel runs.
#[must_use]
pub fn kernel() -> String {
    let name = rustix::system::uname();
    format!("{} {}", name.release().to_string_lossy(), name.version().to_string_lossy())
}

/// Returns an error that says what a process has or is that cannot be kept.
fn unfit(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, reason.into())
}

/// Says what was attempted when a call failed.
fn doing<T>(what: impl FnOnce() -> String, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", what())))
}
