//! Programs that the user talks to: they have our terminal, and we wait.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use super::{COMMANDS, environment};

/// Runs a program with our own standard streams, in our own process group, to whatever end.
///
/// # Errors
///
/// If it cannot be started.
pub fn run_attached<S: AsRef<OsStr>>(
    program: &Path,
    args: impl IntoIterator<Item = S>,
) -> std::io::Result<ExitStatus> {
    tracing::debug!(target: COMMANDS, "run on this terminal: {}", program.display());
    let mut command = Command::new(program);
    environment::change(&mut command);
    command.args(args).status()
}

/// Runs a program with our standard input and in our process group, and returns how it ended and what it said on its
/// standard error; what it prints is dropped.
///
/// # Errors
///
/// If it cannot be started.
pub fn run_with_our_input<S: AsRef<OsStr>>(
    program: &Path,
    args: impl IntoIterator<Item = S>,
) -> std::io::Result<(ExitStatus, Vec<u8>)> {
    tracing::debug!(target: COMMANDS, "run with this input: {}", program.display());
    let mut command = Command::new(program);
    environment::change(&mut command);
    command.args(args).stdin(Stdio::inherit()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = command.spawn()?.wait_with_output()?;
    Ok((output.status, output.stderr))
}

/// Returns the file of a program, found in the directories of `path` as a shell would; a name with a
/// slash is the file.
#[must_use]
pub fn find_program(name: &str, path: &OsStr) -> Option<PathBuf> {
    if name.contains('/') {
        return is_program(Path::new(name)).then(|| name.into());
    }
    find_programs(name, path).next()
}

/// Returns all files of a program in the directories of `path`, in their order.
pub fn find_programs(name: &str, path: &OsStr) -> impl Iterator<Item = PathBuf> {
    std::env::split_paths(path).map(move |dir| dir.join(name)).filter(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_where_a_shell_finds_it() {
        let path = OsStr::new("/nonexistent:/usr/bin:/bin");
        let found = find_program("sh", path).unwrap();
        assert!(run_attached(&found, ["-c", "exit 3"]).unwrap().code() == Some(3));
        assert!(find_program("no-such-program", path).is_none());
        assert!(find_program("/bin/sh", OsStr::new("")).is_some());
        assert!(find_program("/etc/passwd", path).is_none());
    }
}
