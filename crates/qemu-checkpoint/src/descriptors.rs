//! What a process has open, as far as it can be made once more.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use nix::libc;
use serde::{Deserialize, Serialize};
use skep_sys::value_of;

use super::unfit;

/// The state of a unix socket that listens (`__SO_ACCEPTCON` of the kernel's include/linux/net.h).
const LISTENS: u64 = 1 << 16;

/// An open descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    pub(super) number: u64,
    pub(super) flags: u64,
    pub(super) kind: Kind,
}

/// What a descriptor is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// What the process was started with: a new one is, too.
    Inherited,
    /// A counter (eventfd(2)).
    Event {
        /// What it has counted.
        count: u64,
    },
    /// Signals that are read (signalfd(2)).
    Signal {
        /// Which ones.
        mask: u64,
    },
    /// A set of descriptors (epoll(7)), without any in it.
    Epoll,
    /// A unix socket that waits for connections.
    Listening {
        /// Its address.
        path: PathBuf,
    },
    /// A file.
    File {
        /// Where it is.
        path: PathBuf,
    },
}

impl Descriptor {
    pub(super) fn has(&self, flag: i32) -> bool {
        self.flags & flag.cast_unsigned() as u64 != 0
    }
}

/// Returns what a process has open; the first `inherited` are what it was started with.
///
/// # Errors
///
/// If there is something that could not be made once more.
pub(super) fn descriptors(pid: i32, inherited: u64) -> io::Result<Vec<Descriptor>> {
    let sockets = std::fs::read_to_string(format!("/proc/{pid}/net/unix"))?;
    let sockets: BTreeMap<_, _> = sockets.lines().filter_map(listening).collect();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let number = entry.file_name().to_string_lossy().parse().map_err(io::Error::other)?;
        let target = std::fs::read_link(entry.path())?;
        let info = Info(std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}"))?);
        let kind = if number < inherited {
            Kind::Inherited
        } else {
            match target.to_str() {
                Some("anon_inode:[eventfd]") if info.value("eventfd-semaphore") != Some("1") => {
                    Kind::Event { count: info.number("eventfd-count", 16)? }
                }
                Some("anon_inode:[signalfd]") => Kind::Signal { mask: info.number("sigmask", 16)? },
                Some("anon_inode:[eventpoll]") if info.value("tfd").is_none() => Kind::Epoll,
                Some(name) if name.starts_with('/') => Kind::File { path: target },
                Some(name) => match sockets.get(name) {
                    Some(path) => Kind::Listening { path: path.clone() },
                    None => return Err(unfit(format!("it has {name} open"))),
                },
                None => return Err(unfit("it has a file open whose name is no text")),
            }
        };
        found.push(Descriptor { number, flags: info.number("flags", 8)?, kind });
    }
    found.sort_by_key(|descriptor| descriptor.number);
    Ok(found)
}

/// Tells whether a process has something open that could not be made once more, such as a connection, beside the first
/// `inherited` descriptors.
///
/// # Errors
///
/// If the process cannot be looked at.
pub fn connected(pid: u32, inherited: u64) -> io::Result<bool> {
    match descriptors(pid.cast_signed(), inherited) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(true),
        Err(error) => Err(error),
    }
}

/// Reads a line of /proc/PID/net/unix (proc_pid_net(5)), if its socket listens: how /proc/PID/fd names it, and its address.
fn listening(line: &str) -> Option<(String, PathBuf)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let flags = u64::from_str_radix(words.get(3)?, 16).ok()?;
    let inode: u64 = words.get(6)?.parse().ok()?;
    (flags & LISTENS != 0).then(|| Some((format!("socket:[{inode}]"), words.get(7)?.into())))?
}

/// What /proc/PID/fdinfo says of a descriptor (proc_pid_fdinfo(5)).
struct Info(String);

impl Info {
    fn value(&self, key: &str) -> Option<&str> {
        value_of(&self.0, key)
    }

    fn number(&self, key: &str, radix: u32) -> io::Result<u64> {
        let value = self.value(key).and_then(|text| u64::from_str_radix(text, radix).ok());
        value.ok_or_else(|| unfit(format!("the kernel does not tell its {key}")))
    }
}

/// The flag by which a descriptor is closed when another program is started.
pub(super) const CLOSE_ON_EXEC: i32 = libc::O_CLOEXEC;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_listen_are_told_from_connections() {
        let line = |flags, rest| {
            format!("0000000000000000: 00000002 00000000 {flags} 0001 01 4711 {rest}")
        };
        let found = listening(&line("00010000", "qmp.sock"));
        assert_eq!(found, Some(("socket:[4711]".to_owned(), "qmp.sock".into())));
        assert_eq!(listening(&line("00000000", "qmp.sock")), None);
        assert_eq!(listening(&line("00010000", "")), None);
        assert_eq!(listening("Num       RefCount Protocol Flags    Type St Inode Path"), None);
    }
}
