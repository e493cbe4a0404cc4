//! Programs that go on when skep has ended.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tokio::process::{Child, Command};

use super::cmd::{Cmd, CmdError, tail};
use super::command_log::{COMMANDS, log_line};
use super::process::ProcessId;

/// A program that was started and goes on, in a session of its own.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    command: String,
    log: PathBuf,
    process: Option<ProcessId>,
}

/// What a program is started by that stops itself first: setpriv(1) has the kernel kill it when the thread ends that
/// starts it. Who ended before that is no parent any more, whose number comes first.
const HALTED: [&str; 6] = ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c"];
const HALT: &str = r#"[ "$PPID" = "$0" ] || exit 1; kill -STOP $$; exec "$@""#;

/// What a program is started by that waits until it is noted: it goes on when it reads a line, which never comes from
/// a skep that was killed before.
const NOTED: [&str; 3] = ["-c", r#"read -r go && exec "$@" </dev/null"#, "sh"];

impl Cmd {
    /// As [`Self::start`], for a program that only a note leads to: it begins when `note` has written down its process, and
    /// never if this process ends before or `note` fails. It has no input.
    ///
    /// # Errors
    ///
    /// If it cannot be started or noted.
    pub fn start_noted<E: From<CmdError>>(
        &self,
        log: &Path,
        note: impl FnOnce(ProcessId) -> Result<(), E>,
    ) -> Result<Daemon, E> {
        let fail = |source| CmdError::Start { command: self.to_string(), source };
        let mut waiting = self.clone();
        let program = std::mem::replace(&mut waiting.program, "sh".into());
        waiting.args.splice(0..0, NOTED.iter().map(Into::into).chain([program]));
        let (theirs, ours) = std::io::pipe().map_err(fail)?;
        let daemon = waiting.input(theirs.into()).start(log)?;
        if let Some(process) = daemon.process() {
            note(process)?;
        }
        // One that has ended does not read; what it said is in its log.
        let _ = { ours }.write_all(b"\n");
        Ok(Daemon { command: self.to_string(), ..daemon })
    }

    /// Starts the program and lets it go on, without a terminal or a pipe of ours: what it prints goes to
    /// `log`, which is made anew. The time limit is not its. Once its process is noted it is to leave the session
    /// ([`Daemon::leave_session`]).
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start(&self, log: &Path) -> Result<Daemon, CmdError> {
        let fail = |source| CmdError::Start { command: self.to_string(), source };
        let child = self.prepared(log)?.spawn().map_err(fail)?;
        let process = child.id().and_then(ProcessId::of);
        let pid = child.id().unwrap_or_default();
        tracing::debug!(target: COMMANDS, "started as process {pid}: {}", log_line(self));
        Ok(Daemon { child, command: self.to_string(), log: log.to_owned(), process })
    }

    /// Returns what starts the program as [`Self::start`] does, after it has stopped itself (SIGSTOP). Unless it is told
    /// otherwise, it ends with the thread that starts it.
    ///
    /// # Errors
    ///
    /// If the log cannot be made.
    pub fn halting(&self, log: &Path) -> Result<std::process::Command, CmdError> {
        let mut halting = self.clone();
        let program = std::mem::replace(&mut halting.program, HALTED[0].into());
        let parent = std::process::id().to_string();
        let words = HALTED[1..].iter().map(Into::into);
        halting.args.splice(0..0, words.chain([HALT.into(), parent.into(), program]));
        Ok(halting.prepared(log)?.into_std())
    }

    fn prepared(&self, log: &Path) -> Result<Command, CmdError> {
        let fail = |source| CmdError::Start { command: self.to_string(), source };
        let mut options = OpenOptions::new();
        let options = options.create(true).append(true).mode(0o600);
        let _ = std::fs::remove_file(log);
        let output = options.open(log).map_err(fail)?;
        let mut command = self.command(self.first()?, true);
        command.stdout(output.try_clone().map_err(fail)?).stderr(output);
        Ok(command)
    }
}

impl Daemon {
    /// Returns the process; none if it ended at once.
    #[must_use]
    pub fn process(&self) -> Option<ProcessId> {
        self.process
    }

    /// Moves the program to a scope of that title, where systemd runs: what ends or kills all that is in our own control
    /// group leaves it alone. It stays the same process. If that fails, the program keeps running where it is, and the
    /// reason is returned.
    pub async fn leave_session(&self, title: &str) -> Option<String> {
        super::scope::leave(self.process?, title).await
    }

    /// Waits until the program has ended, and returns that as what went wrong.
    pub async fn ended(&mut self) -> CmdError {
        let command = self.command.clone();
        match self.child.wait().await {
            Ok(status) => {
                let tail = tail(&std::fs::read(&self.log).unwrap_or_default());
                CmdError::Failed { command, status, tail }
            }
            Err(source) => CmdError::Start { command, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    #[tokio::test]
    async fn it_has_the_descriptor_and_nothing_else_of_ours() {
        // Who runs the tests may have left some open, such as that of a lock.
        crate::close_inherited_on_exec().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        let script = "echo $$ $(cut -d' ' -f6 /proc/$$/stat); \
                      for fd in 0 1 2 3 4 5 6 7 8 9; do readlink /proc/$$/fd/$fd; done; exit 3";
        let command = Cmd::new("sh").args(["-c", script]).descriptor(null);
        let mut daemon = command.start(&log).unwrap();
        let CmdError::Failed { tail, .. } = daemon.ended().await else { panic!("it exits with 3") };
        let lines: Vec<&str> = tail.lines().collect();
        let (pid, session) = lines[0].split_once(' ').unwrap();
        assert_eq!(pid, session, "it leads a session");
        assert_eq!(pid, daemon.process().unwrap().pid.to_string());
        let log = log.to_str().unwrap();
        assert_eq!(lines[1..], ["/dev/null", log, log, "/dev/null"]);
    }

    #[tokio::test]
    async fn a_noted_program_begins_after_its_note_and_never_without() {
        let dir = tempfile::tempdir().unwrap();
        let (log, began) = (dir.path().join("log"), dir.path().join("began"));
        let script = format!("touch {}; readlink /proc/$$/fd/0; echo $$; exit 3", began.display());
        let command = Cmd::new("sh").args(["-c", &script]);
        let mut noted = None;
        let note = |process: ProcessId| {
            // wait: it would begin in this time, if it did not wait
            std::thread::sleep(std::time::Duration::from_millis(300));
            assert!(!began.exists(), "it did not wait for its note");
            noted = Some(process.pid);
            Ok::<_, CmdError>(())
        };
        let mut daemon = command.start_noted(&log, note).unwrap();
        let CmdError::Failed { tail, command: said, .. } = daemon.ended().await else {
            panic!("it exits with 3")
        };
        assert_eq!(
            tail,
            format!("/dev/null\n{}", noted.unwrap()),
            "it is the process that was noted"
        );
        assert!(said.starts_with("sh -c \"touch"), "{said}");

        std::fs::remove_file(&began).unwrap();
        let mut unnoted = None;
        let failed = command.start_noted(&log, |process| {
            unnoted = Some(process);
            Err(CmdError::NotFound { program: "a disk".to_owned() })
        });
        failed.unwrap_err();
        let unnoted = unnoted.unwrap();
        while unnoted.is_alive() {
            // wait: the end of a process that is not our child can only be looked up
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(!began.exists());
    }

    /// Is set in a process that starts a program that halts, and then waits to be killed.
    const PARENT: &str = "SKEP_TEST_HALTING";

    #[test]
    fn a_program_that_halts_ends_with_who_started_it() {
        if let Some(log) = std::env::var_os(PARENT) {
            let command = Cmd::new("sleep").arg("1000").halting(Path::new(&log)).unwrap();
            let mut child = { command }.spawn().unwrap();
            println!("started {}", child.id());
            // wait: to be killed, by whoever started this
            let _ = child.wait();
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        // At once, and when it has halted.
        for millis in [0, 0, 0, 2, 5, 10, 20, 200] {
            let name = "daemon::tests::a_program_that_halts_ends_with_who_started_it";
            let mut parent = std::process::Command::new(std::env::current_exe().unwrap());
            parent.args(["--exact", name, "--nocapture"]).env(PARENT, dir.path().join("log"));
            let mut parent = parent.stdout(std::process::Stdio::piped()).spawn().unwrap();
            let lines = std::io::BufReader::new(parent.stdout.take().unwrap());
            let started = std::io::BufRead::lines(lines).find_map(|line| {
                line.unwrap().strip_prefix("started ").map(|pid| pid.parse::<u32>().unwrap())
            });
            let child = ProcessId::of(started.unwrap());
            // wait: for the moment at which it is killed
            std::thread::sleep(std::time::Duration::from_millis(millis));
            parent.kill().unwrap();
            parent.wait().unwrap();
            let gone = (0..500).any(|_| {
                // wait: the end of a process that is not our child can only be looked up
                std::thread::sleep(std::time::Duration::from_millis(20));
                child.is_none_or(|child| !child.is_alive())
            });
            if !gone {
                child.unwrap().kill();
            }
            assert!(gone, "it is left behind, {millis} ms after it was started");
        }
    }
}
