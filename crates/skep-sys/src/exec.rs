//! Becoming another program.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::{COMMANDS, environment};

/// Replaces this process by a program, which so gets the terminal, the streams and the signals, and
/// whose exit code is ours. Returns only if that failed.
pub fn exec<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = S>,
    env: &[(&str, &OsStr)],
) -> std::io::Error {
    let program = program.as_ref();
    // Its arguments are the user's own, and may be what somebody types in a node.
    tracing::debug!(target: COMMANDS, "become {}", program.display());
    let mut command = Command::new(program);
    environment::change(&mut command);
    command.args(args).envs(env.iter().copied());
    command.exec()
}
