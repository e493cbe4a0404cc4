//! Who holds a lock.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::value_of;

/// A process that has a lock, for a message; it may have ended since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holder {
    pid: Option<u32>,
    user: Option<String>,
    command: Option<String>,
}

impl Holder {
    /// Returns who holds a lock on a file, as far as the kernel tells this user (proc_locks(5)).
    #[must_use]
    pub fn of_lock(path: &Path) -> Self {
        let Ok(file) = std::fs::metadata(path) else { return Self::default() };
        let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        let device = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
        find(&locks, device, file.ino()).map_or_else(Self::default, Self::of_process)
    }

    fn of_process(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let user = value_of(&status, "Uid").and_then(|ids| ids.split_whitespace().next());
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line
            .split(|byte| *byte == 0)
            .filter(|word| !word.is_empty())
            .map(|word| String::from_utf8_lossy(word).chars().filter(|c| !c.is_control()).collect())
            .collect::<Vec<String>>();
        let command: String = words.join(" ").chars().take(80).collect();
        Self {
            pid: Some(pid),
            user: user.map(name_of),
            command: Some(command).filter(|it| !it.is_empty()),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(pid) = self.pid else { return write!(f, "another process") };
        write!(f, "process {pid}")?;
        if let Some(command) = &self.command {
            write!(f, " ({command})")?;
        }
        if let Some(user) = &self.user {
            write!(f, " of {user}")?;
        }
        Ok(())
    }
}

/// Returns the name of a user of this host, or the number where /etc/passwd has none.
fn name_of(number: &str) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("user {number}"))
}

/// Returns the number of the process that holds a lock (flock(2)) on a file.
fn find(locks: &str, device: (u32, u32), inode: u64) -> Option<u32> {
    let held = locks.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        // A waiting process has an arrow in the second place: `1: -> FLOCK`.
        let kind = words.nth(1)?;
        let (pid, file) = (words.nth(2)?, words.next()?);
        let (device, number) = file.rsplit_once(':')?;
        let (major, minor) = device.split_once(':')?;
        let hex = |text| u32::from_str_radix(text, 16).ok();
        let same = kind == "FLOCK" && number.parse() == Ok(inode);
        Some((pid.parse().ok()?, (hex(major)?, hex(minor)?))).filter(|_| same)
    });
    let held: Vec<(u32, (u32, u32))> = held.collect();
    // On btrfs and overlayfs a file says another device than the lock does; a number alone is then enough if one
    // file only has it.
    let exact = held.iter().find(|(_, on)| *on == device);
    let only = held.iter().all(|(_, on)| Some(on) == held.first().map(|(_, first)| first));
    exact.or_else(|| held.first().filter(|_| only)).map(|(pid, _)| *pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_among_others() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 08:01:42 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 12 08:01:42 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 13 08:01:42 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 14 00:1f:42 0 EOF\n\
                     4: FLOCK  ADVISORY  READ  15 00:1f:43 0 EOF\n\
                     garbage\n";
        assert_eq!(find(locks, (8, 1), 42), Some(12));
        assert_eq!(find(locks, (0, 0x1f), 42), Some(14));
        assert_eq!(find(locks, (0, 99), 42), None, "two files have that number");
        assert_eq!(find(locks, (0, 99), 43), Some(15), "btrfs says another device");
        assert_eq!(find(locks, (8, 1), 44), None);
    }

    #[test]
    fn a_holder_is_told_as_far_as_it_is_known() {
        assert_eq!(Holder::default().to_string(), "another process");
        let own = Holder::of_process(std::process::id()).to_string();
        assert!(own.starts_with(&format!("process {} (", std::process::id())), "{own}");
        assert_eq!(name_of("0"), "root");
        assert_eq!(name_of("4294967294"), "user 4294967294");
    }
}
