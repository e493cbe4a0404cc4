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
        let (_, start) = stat(pid)?;
        Some(Self { pid, start })
    }

    /// Tells whether the process still runs. One that ended and was not yet reaped does not.
    #[must_use]
    pub fn is_alive(self) -> bool {
        stat(self.pid)
            .is_some_and(|(state, start)| start == self.start && state != 'Z' && state != 'X')
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

/// Returns a process's state letter and start time.
fn stat(pid: u32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&text)
}

fn parse_stat(text: &str) -> Option<(char, u64)> {
    // The second field is the program's name in parentheses, which may itself hold `)` and blanks.
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
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
    fn a_number_alone_is_not_the_process() {
        let own = ProcessId::of(std::process::id()).unwrap();
        assert!(own.is_alive());
        assert!(!ProcessId { start: own.start + 1, ..own }.is_alive());
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 0 0";
        assert_eq!(parse_stat(text), Some(('S', 98765)));
        assert_eq!(parse_stat("garbage"), None);
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
