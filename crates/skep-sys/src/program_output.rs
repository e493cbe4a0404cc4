//! What a program writes, as something to be read to its end.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::{COMMANDS, environment, tail};

/// Returns what this process was given to read.
///
/// # Errors
///
/// If it was given nothing.
pub fn standard_input() -> io::Result<File> {
    Ok(rustix::stdio::stdin().try_clone_to_owned()?.into())
}

/// A program's standard output. Its end is an error if the program failed; dropping it ends the
/// program.
#[derive(Debug)]
pub struct ProgramOutput {
    name: String,
    child: Child,
    stdout: ChildStdout,
    stderr: File,
    ended: bool,
}

impl ProgramOutput {
    /// Starts a program.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn of(program: &Path, args: &[&str]) -> io::Result<Self> {
        let name = program.display().to_string();
        tracing::debug!(target: COMMANDS, "read the output of {name} {}", args.join(" "));
        let stderr = tempfile::tempfile()?;
        let mut command = Command::new(program);
        environment::prepare(&mut command);
        let mut child = command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr.try_clone()?)
            .process_group(0)
            .spawn()?;
        let stdout = child.stdout.take().expect("it is piped");
        Ok(Self { name, child, stdout, stderr, ended: false })
    }

    fn last_words(&mut self) -> String {
        let mut text = Vec::new();
        let read = self.stderr.rewind().and_then(|()| self.stderr.read_to_end(&mut text));
        if read.is_ok() { tail(&text) } else { String::new() }
    }
}

impl Read for ProgramOutput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stdout.read(buffer)?;
        if count == 0 && !buffer.is_empty() && !self.ended {
            let status = self.child.wait()?;
            self.ended = true;
            if !status.success() {
                let words = self.last_words();
                return Err(io::Error::other(format!("{} failed: {words}", self.name)));
            }
        }
        Ok(count)
    }
}

impl Drop for ProgramOutput {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_noticed_at_the_end() {
        let mut output =
            ProgramOutput::of(Path::new("sh"), &["-c", "echo all; echo why >&2; exit 3"]).unwrap();
        let mut text = String::new();
        let error = output.read_to_string(&mut text).unwrap_err();
        assert_eq!((text.as_str(), error.to_string().as_str()), ("all\n", "sh failed: why"));
    }

    #[test]
    fn a_program_that_nobody_listens_to_is_ended() {
        let mut output =
            ProgramOutput::of(Path::new("sh"), &["-c", "echo $$; exec sleep 60"]).unwrap();
        let mut text = [0; 16];
        let count = output.read(&mut text).unwrap();
        let pid = String::from_utf8_lossy(&text[..count]).trim().to_owned();
        drop(output);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
