//! Processes that outlive the skep that started them.

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

/// A process, known by its number and its start time, so that a number that was given to another
/// process since is not taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process number.
    pub pid: u32,
    /// When it started, in clock ticks since the host booted (proc_pid_stat(5), field 22).
    pub start: u64,
}

impl ProcessId {
    /// Returns the identity of the process that has the number now, if there is one.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let found = stat(pid)?;
        Some(Self { pid, start: found.start })
    }

    /// Tells whether the process still runs. One that ended and was not yet reaped does not, but for one
    /// of which threads are still ending: they hold what it had open.
    #[must_use]
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|found| found.start == self.start && !found.has_ended())
    }

    /// Ends the process at once (SIGKILL); one that does not run is left alone.
    pub fn kill(self) {
        if self.is_alive()
            && let Some(pid) = Pid::from_raw(self.pid.cast_signed())
        {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// What the kernel tells of a process.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    threads: u32,
    start: u64,
}

impl Stat {
    fn has_ended(&self) -> bool {
        self.state == 'X' || self.state == 'Z' && self.threads <= 1
    }
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&text)
}

fn parse_stat(text: &str) -> Option<Stat> {
    let mut fields = stat_fields(text)?;
    let state = fields.next()?.chars().next()?;
    let threads = fields.nth(16)?.parse().ok()?;
    Some(Stat { state, threads, start: fields.nth(1)?.parse().ok()? })
}

/// Returns the fields of a line of /proc/PID/stat from the third one on (proc_pid_stat(5)). The second is the program's
/// name in parentheses, which may itself hold `)` and blanks.
#[must_use]
pub fn stat_fields(text: &str) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    Some(text.rsplit_once(')')?.1.split_ascii_whitespace())
}

/// Returns the value of the kernel's line `KEY: VALUE` among others, as of /proc/PID/status and /proc/cpuinfo (proc(5)).
#[must_use]
pub fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(name, _)| name.trim_end() == key).map(|(_, value)| value.trim())
}

/// Returns the ID of this boot of the host (random(4)).
///
/// # Errors
///
/// If /proc cannot be read.
pub fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_that_of_the_whole_key() {
        let text = "Seccomp_filters:\t1\nmodel name\t: a: b\nSeccomp:\t2\n\nnone";
        assert_eq!(value_of(text, "Seccomp"), Some("2"));
        assert_eq!(value_of(text, "model name"), Some("a: b"));
        assert_eq!((value_of(text, "model"), value_of(text, "none")), (None, None));
    }

    #[test]
    fn a_number_alone_is_not_the_process() {
        let own = ProcessId::of(std::process::id()).unwrap();
        assert!(own.is_alive());
        assert!(!ProcessId { start: own.start + 1, ..own }.is_alive());
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 0 0";
        assert_eq!(parse_stat(text), Some(Stat { state: 'S', threads: 1, start: 98765 }));
        assert_eq!(parse_stat("garbage"), None);
    }

    #[test]
    fn a_process_has_ended_when_its_last_thread_has() {
        let stat = |state, threads| Stat { state, threads, start: 0 };
        assert!(stat('Z', 1).has_ended() && stat('X', 1).has_ended());
        assert!(!stat('Z', 3).has_ended(), "its threads still hold its files");
        assert!(!stat('S', 1).has_ended());
    }

    #[test]
    fn a_process_that_was_killed_is_not_alive() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = ProcessId::of(child.id()).unwrap();
        id.kill();
        child.wait().unwrap();
        assert!(!id.is_alive());
    }
}
