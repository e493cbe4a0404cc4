//! Running a program to its end.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::command_log::Logged;
use super::environment;

/// How much of a program's output is kept for an error message.
const TAIL_LINES: usize = 12;

/// How much output of a program is kept at all.
const OUTPUT_LIMIT: u64 = 64 << 20;

/// A program to run: arguments, environment, input and time limit.
///
/// The program runs in the C locale, in a process group of its own, and is killed as a group when
/// its time is over or the future that runs it is dropped.
#[derive(Debug, Clone)]
pub struct Cmd {
    pub(super) program: OsString,
    pub(super) args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
    stdin: Vec<u8>,
    timeout: Duration,
    contained: bool,
    mapped: bool,
    descriptor: Option<Arc<OwnedFd>>,
    input: Option<Arc<OwnedFd>>,
}

/// What a program that gets a descriptor is started by: only the standard three can be handed to a child
/// without a race, so it comes as the first and is moved.
const MOVE_DESCRIPTOR: &str = r#"exec 3<&0 0</dev/null; exec "$@""#;

/// What a contained program is started by: setpriv(1) has the kernel kill unshare(1) when its parent
/// dies, which takes the first process of the namespace along, and with it the kernel ends all others. That
/// first one is a shell: a program that changes its user is not killed with its parent any more (PR_SET_PDEATHSIG(2const)).
const CONTAINER: [&str; 9] = [
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    "--pid",
    "--mount",
    "--mount-proc",
    "--fork",
    "--kill-child=KILL",
];

/// What is then the first process of the namespace.
const FIRST: [&str; 5] = ["--", "sh", "-c", r#""$@"; exit $?"#, "sh"];

/// What a contained program of an ordinary user is started by: the kernel kills the one process.
const LEASHED: [&str; 4] = ["setpriv", "--pdeathsig", "KILL", "--"];

/// What makes an ordinary user root in a namespace of users of its own, whose other users are those that
/// /etc/subuid gives to that user (unshare(1), newuidmap(1)).
const MAPPED: [&str; 2] = ["--map-root-user", "--map-auto"];

/// What a program printed.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Returns the standard output as text without the white space at its end.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }
}

/// A program that could not be run, failed, or did not end.
#[derive(Debug, Error)]
pub enum CmdError {
    /// There is no such program.
    #[error("{program} is not installed")]
    NotFound {
        /// The program's name.
        program: String,
    },
    /// The program could not be started.
    #[error("cannot run {command}")]
    Start {
        /// The command line.
        command: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The program ended with an error.
    #[error("{command} failed with {status}{}", said(.tail))]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// Its last words.
        tail: String,
    },
    /// The program did not end in time and was killed.
    #[error("{command} timed out after {} s{}", .limit.as_secs(), said(.tail))]
    Timeout {
        /// The command line.
        command: String,
        /// Its time limit.
        limit: Duration,
        /// Its last words.
        tail: String,
    },
}

fn said(tail: &str) -> String {
    if tail.is_empty() { String::new() } else { format!(": {tail}") }
}

impl Cmd {
    /// Creates a command without arguments and with a time limit of 30 s.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
            stdin: Vec::new(),
            timeout: Duration::from_secs(30),
            contained: false,
            mapped: false,
            descriptor: None,
            input: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.dir = Some(dir.as_ref().to_owned());
        self
    }

    /// Sets what the program reads on its standard input.
    #[must_use]
    pub fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.stdin = input.into();
        self
    }

    /// Sets the time limit.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Runs the program and all that it starts in namespaces of their own, which end when skep does,
    /// however that ends. Without root it is the program alone that ends then.
    #[must_use]
    pub fn contained(mut self) -> Self {
        self.contained = true;
        self
    }

    /// As [`Cmd::contained`], and as root: an ordinary user's program is that only in a namespace of users
    /// of its own, so it may own files as it likes, and has no rights outside.
    #[must_use]
    pub fn contained_root(mut self) -> Self {
        self.contained = true;
        self.mapped = !crate::is_root();
        self
    }

    /// Sets where the program reads its standard input from.
    #[must_use]
    pub fn input(mut self, input: OwnedFd) -> Self {
        self.input = Some(Arc::new(input));
        self
    }

    /// Backends the program a descriptor, which it has as number 3; its standard input is then empty. It is
    /// closed here when this command is dropped.
    #[must_use]
    pub fn descriptor(mut self, descriptor: OwnedFd) -> Self {
        self.descriptor = Some(Arc::new(descriptor));
        self
    }

    /// Runs the program and returns what it printed.
    ///
    /// # Errors
    ///
    /// If it cannot be started, ends with an error, or does not end in time.
    pub async fn run(&self) -> Result<Output, CmdError> {
        self.run_lines(&mut |_| ()).await
    }

    /// Runs the program, handing on each line of its standard error as it comes.
    ///
    /// # Errors
    ///
    /// As [`Cmd::run`].
    pub async fn run_lines(
        &self,
        on_line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Output, CmdError> {
        let (status, output) = self.capture(on_line).await?;
        if status.success() {
            return Ok(output);
        }
        let text = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        Err(CmdError::Failed { command: self.to_string(), status, tail: tail(text) })
    }

    /// Runs the program to whatever end, and returns how it ended.
    ///
    /// # Errors
    ///
    /// If it cannot be started or does not end in time.
    pub async fn status(&self) -> Result<(ExitStatus, Output), CmdError> {
        self.capture(&mut |_| ()).await
    }

    async fn capture(
        &self,
        on_line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<(ExitStatus, Output), CmdError> {
        let mut logged = Logged::begin(self);
        let result = self.capture_unlogged(on_line).await;
        logged.end(&match &result {
            Ok((status, output)) if status.success() || output.stderr.is_empty() => {
                status.to_string()
            }
            Ok((status, output)) => format!("{status}: {}", tail(&output.stderr)),
            Err(error) => super::chain(error),
        });
        result
    }

    async fn capture_unlogged(
        &self,
        on_line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<(ExitStatus, Output), CmdError> {
        let start_error = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound if self.dir.as_ref().is_none_or(|dir| dir.exists()) => {
                let program = if self.contained { CONTAINER[0].as_ref() } else { &*self.program };
                CmdError::NotFound { program: program.to_string_lossy().into_owned() }
            }
            _ => CmdError::Start { command: self.to_string(), source },
        };
        let mut command = self.command(self.first()?, false);
        command.process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(start_error)?;
        let group = Group(child.id());
        let mut stdin = child.stdin.take();
        let mut stdout = child.stdout.take().expect("standard output is a pipe");
        let stderr = child.stderr.take().expect("standard error is a pipe");

        let mut output = Output::default();
        let Output { stdout: out, stderr: err } = &mut output;
        let work = async {
            let feed = async {
                if let Some(mut pipe) = stdin.take() {
                    // A program that does not read all of its input has its reasons.
                    let _ = pipe.write_all(&self.stdin).await;
                }
            };
            let read_out = async { (&mut stdout).take(OUTPUT_LIMIT).read_to_end(out).await };
            let read_err = async {
                let mut lines = BufReader::new(stderr.take(OUTPUT_LIMIT));
                let mut line = Vec::new();
                while lines.read_until(b'\n', &mut line).await? > 0 {
                    on_line(String::from_utf8_lossy(&line).trim_end());
                    err.append(&mut line);
                }
                Ok::<_, std::io::Error>(())
            };
            let (_, out, err) = tokio::join!(feed, read_out, read_err);
            out.and(err).and(child.wait().await)
        };
        let status = match tokio::time::timeout(self.timeout, work).await {
            Ok(status) => {
                status.map_err(|source| CmdError::Start { command: self.to_string(), source })?
            }
            Err(_) => {
                drop(group);
                let tail = tail(&output.stderr);
                let command = self.to_string();
                return Err(CmdError::Timeout { command, limit: self.timeout, tail });
            }
        };
        group.disarm();
        Ok((status, output))
    }

    pub(super) fn first(&self) -> Result<Stdio, CmdError> {
        match self.descriptor.as_ref().or(self.input.as_ref()) {
            Some(descriptor) => match descriptor.try_clone() {
                Ok(descriptor) => Ok(descriptor.into()),
                Err(source) => Err(CmdError::Start { command: self.to_string(), source }),
            },
            None if self.stdin.is_empty() => Ok(Stdio::null()),
            None => Ok(Stdio::piped()),
        }
    }

    pub(super) fn command(&self, stdin: Stdio, session: bool) -> Command {
        let mut words: Vec<&OsStr> = Vec::new();
        if session {
            words.push("setsid".as_ref());
        }
        if self.contained {
            let words_of = |list: &'static [&'static str]| list.iter().map(OsStr::new);
            if crate::is_root() || self.mapped {
                words.extend(words_of(&CONTAINER));
                words.extend(words_of(if self.mapped { &MAPPED } else { &[] }));
                words.extend(words_of(&FIRST));
            } else {
                words.extend(words_of(&LEASHED));
            }
        }
        if self.descriptor.is_some() {
            words.extend(["sh", "-c", MOVE_DESCRIPTOR, "sh"].map(OsStr::new));
        }
        words.push(&self.program);
        let mut command = Command::new(words[0]);
        environment::prepare(command.as_std_mut());
        command
            .args(&words[1..])
            .args(&self.args)
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }
}

impl fmt::Display for Cmd {
    /// Writes the command line; never the input or the environment, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program.to_string_lossy())?;
        for arg in &self.args {
            let arg = arg.to_string_lossy();
            if arg.is_empty() || arg.contains([' ', '"', '\'', '\n']) {
                write!(f, " {arg:?}")?;
            } else {
                write!(f, " {arg}")?;
            }
        }
        Ok(())
    }
}

/// Removes a directory with what it has of users that are known only in a namespace of this user's.
pub(super) fn remove_mapped(dir: &Path) -> std::io::Result<()> {
    let mut command = std::process::Command::new("unshare");
    command.args(MAPPED).args(["--", "rm", "-rf", "--"]).arg(dir).env("LC_ALL", "C");
    let output = command.stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(std::io::Error::other(tail(&output.stderr))),
    }
}

/// Kills a process group when dropped.
struct Group(Option<u32>);

impl Group {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let pid = self.0.and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Returns the last lines of a text, joined for an error message.
#[must_use]
pub fn tail(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<_> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn input_reaches_the_program_and_output_comes_back() {
        let output = Cmd::new("cat").stdin("hello\n").run().await.unwrap();
        assert_eq!(output.text(), "hello");
    }

    #[tokio::test]
    async fn a_failure_keeps_the_command_line_and_the_last_words() {
        let error = Cmd::new("sh").args(["-c", "echo first; echo no >&2; exit 3"]).run().await;
        assert_eq!(
            error.unwrap_err().to_string(),
            r#"sh -c "echo first; echo no >&2; exit 3" failed with exit status: 3: no"#
        );
    }

    #[tokio::test]
    async fn a_missing_program_is_called_missing() {
        let error = Cmd::new("no-such-program-here").run().await.unwrap_err();
        assert_eq!(error.to_string(), "no-such-program-here is not installed");
    }

    #[tokio::test]
    async fn what_is_contained_ends_with_its_parent_though_it_changes_its_user() {
        if !crate::is_root() {
            return test_skip::skip("only root can start a program as another user");
        }
        // A time that is asked for by nobody else tells it from others.
        let time = format!("1000.{}", std::process::id());
        let runs = || {
            let processes = std::fs::read_dir("/proc").unwrap().flatten();
            let mut lines =
                processes.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
            lines.any(|line| line == format!("sleep\0{time}\0").into_bytes())
        };
        let user = ["--reuid=54321", "--regid=54321", "--clear-groups", "sleep", &time];
        let contained = Cmd::new("setpriv").args(user).contained().command(Stdio::null(), false);
        // In skep's place, as that has to be killed.
        let mut parent = Command::new("sh");
        parent.args(["-c", r#""$@" & wait"#, "sh"]).arg(contained.as_std().get_program());
        let mut parent = parent.args(contained.as_std().get_args()).spawn().unwrap();
        let wait_until = async |wanted: bool| {
            while runs() != wanted {
                // wait: a process of another's announces nothing
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, wait_until(true)).await.expect("it starts");
        parent.kill().await.unwrap();
        tokio::time::timeout(limit, wait_until(false)).await.expect("it ends");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let script = "(sleep 60; touch late) & echo $! >child; wait";
        let cmd = Cmd::new("sh").args(["-c", script]).dir(dir.path());
        let error = cmd.timeout(Duration::from_millis(300)).run().await.unwrap_err();
        assert!(matches!(error, CmdError::Timeout { .. }), "{error}");
        let child = std::fs::read_to_string(dir.path().join("child")).unwrap();
        let stat = format!("/proc/{}/stat", child.trim());
        let gone = |()| std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
        for _ in 0..100 {
            if gone(()) {
                return;
            }
            // wait: the end of a process that is not our child can only be looked up
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the child still runs");
    }
}
