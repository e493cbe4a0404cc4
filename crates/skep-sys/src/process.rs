//! Processes that outlive the skep that started them.

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

/// A process, known by its number, its start time and the boot of its host, so that a number that was given to
/// another process since is not taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process number.
    pub pid: u32,
    /// When it started, in clock ticks since the host booted (proc_pid_stat(5), field 22).
    pub start: u64,
    /// The boot; none in what an older skep wrote down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootId>,
}

/// One boot of a host: the kernel's random UUID of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BootId(u128);

impl TryFrom<String> for BootId {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u128::from_str_radix(&text.replace('-', ""), 16).map(Self)
    }
}

impl From<BootId> for String {
    fn from(id: BootId) -> Self {
        format!("{:032x}", id.0)
    }
}

impl BootId {
    /// Returns that of this boot, if /proc tells it.
    #[must_use]
    pub fn current() -> Option<Self> {
        boot_id().ok()?.try_into().ok()
    }
}

impl ProcessId {
    /// Returns the identity of the process that has the number now, if there is one.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let found = stat(pid)?;
        Some(Self { pid, start: found.start, boot: BootId::current() })
    }

    /// Tells whether the process still runs. One that ended and was not yet reaped does not, but for one
    /// of which threads are still ending: they hold what it had open.
    #[must_use]
    pub fn is_alive(self) -> bool {
        let this_boot = self.boot.is_none_or(|boot| BootId::current().is_none_or(|it| it == boot));
        let found = stat(self.pid).filter(|found| found.start == self.start && !found.has_ended());
        this_boot && found.is_some()
    }

    /// Lowers the process's share of a busy host's processors: a nice value from 1 to 19 (sched(7)) for its threads, and
    /// for its session where the kernel shares processors out by sessions (autogroups), as nice values then count within
    /// a session only. It cannot be raised again without privileges.
    ///
    /// # Errors
    ///
    /// What the kernel says: `WouldBlock` if an ordinary user has changed a session's share less than 0.1 s ago, or if
    /// the process has not left our own session yet ([`Cmd::start`](crate::Cmd::start)), whose share must stay as it is.
    pub fn lower_priority(self, nice: u8) -> std::io::Result<()> {
        if session(self.pid)? == session(std::process::id())? {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let number = thread?.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(thread) = number.and_then(Pid::from_raw) {
                rustix::process::setpriority_process(Some(thread), nice.into())?;
            }
        }
        match std::fs::write(format!("/proc/{}/autogroup", self.pid), nice.to_string()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
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

/// Returns a process's session (proc_pid_stat(5), field 6). It is 0 where the session began outside our PID namespace,
/// as that of `docker exec` and `nsenter` does: rustix's `getsid` takes the kernel's 0 for a number that cannot be. Two
/// sessions of that kind look like one.
fn session(pid: u32) -> std::io::Result<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let field = stat_fields(&text).and_then(|mut fields| fields.nth(3)?.parse().ok());
    field.ok_or(std::io::ErrorKind::InvalidData.into())
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

/// Tells whether this process acts as root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
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

    #[tokio::test]
    async fn a_lowered_priority_is_that_of_all_threads_and_of_the_session() {
        let dir = tempfile::tempdir().unwrap();
        let mut daemon = crate::Cmd::new("sleep").arg("60").start(&dir.path().join("log")).unwrap();
        let process = daemon.process().unwrap();
        // It may be too early: the new process is still in this session, or an ordinary user has to wait.
        while let Err(error) = process.lower_priority(5) {
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            // wait: the kernel announces neither a new session nor when it would allow the next change.
            tokio::time::sleep(std::time::Duration::from_millis(60)).await;
        }
        let own = Pid::from_raw(process.pid.cast_signed());
        assert_eq!(rustix::process::getpriority_process(own).unwrap(), 5);
        // Not every kernel shares processors out by sessions.
        let session = std::fs::read_to_string(format!("/proc/{}/autogroup", process.pid));
        assert!(
            session.is_err() || session.as_ref().unwrap().ends_with(" nice 5\n"),
            "{session:?}"
        );
        process.kill();
        daemon.ended().await;
    }

    #[test]
    fn our_own_session_keeps_its_share() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let error = ProcessId::of(child.id()).unwrap().lower_priority(5).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_session_that_began_outside_our_namespace_is_a_session() {
        // As in a container that was entered: the kernel numbers the session 0 there.
        let tests =
            ["our_own_session_keeps_its_share", "a_lowered_priority_is_that_of_all_threads"];
        let mut inside = std::process::Command::new("unshare");
        inside.args("--user --map-root-user --pid --fork --kill-child --mount-proc".split(' '));
        let inside = inside.arg(std::env::current_exe().unwrap()).args(tests).output().unwrap();
        let said = String::from_utf8_lossy(&inside.stdout);
        assert!(inside.status.success() && said.contains("2 passed"), "{said}");
    }

    #[test]
    fn a_process_of_another_boot_is_not_the_one_that_has_its_number_now() {
        let own = ProcessId::of(std::process::id()).unwrap();
        let text = serde_json::to_string(&own).unwrap();
        assert_eq!(serde_json::from_str::<ProcessId>(&text).unwrap(), own);
        let other = ProcessId { boot: Some(BootId(own.boot.unwrap().0 ^ 1)), ..own };
        assert!(!other.is_alive(), "another boot has the same number and start time");
        // As skep wrote it before: by its start time.
        let old = format!(r#"{{"pid": {}, "start": {}}}"#, own.pid, own.start);
        assert!(serde_json::from_str::<ProcessId>(&old).unwrap().is_alive());
        assert!(
            serde_json::from_str::<ProcessId>(r#"{"pid": 1, "start": 1, "boot": "x"}"#).is_err()
        );
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
