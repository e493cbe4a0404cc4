//! Becoming another program.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Replaces this process by a program, which so gets the terminal, the streams and the signals, and
/// whose exit code is ours. Returns only if that failed.
pub fn exec<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = S>,
    env: &[(&str, &OsStr)],
) -> std::io::Error {
    let mut command = Command::new(program);
    command.args(args).envs(env.iter().copied());
    command.exec()
}
