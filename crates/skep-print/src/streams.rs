//! The two outputs, which may be closed, full, or without a reader.
//!
//! - Standard error is for people. That it cannot be written changes nothing: the work goes on, and its exit code says
//!   how it ended.
//! - Standard output is for results. Its first failure is remembered, later writes are left out, and the work goes on.
//!   If all else went well, the failure decides the exit code at the end ([`failure`]).
//!
//! So no write can panic or end a command in the midst, and machines are never left half made for want of a reader.

#![allow(clippy::disallowed_methods, reason = "this is where everything is printed")]

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

/// The first failure to write to standard output, of which a process has one.
static FAILURE: OnceLock<io::Error> = OnceLock::new();

/// Writes to standard output, as long as that works.
pub fn write_stdout(bytes: &[u8]) {
    if is_lost() {
        return;
    }
    let mut out = io::stdout();
    // What is left in its buffer would fail at the end of the process, where nobody sees it.
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        let _ = FAILURE.set(error);
    }
}

/// Writes to standard error, if that works.
pub fn write_stderr(bytes: &[u8]) {
    let _ = io::stderr().write_all(bytes);
}

/// Tells whether results go to a terminal.
#[must_use]
pub fn shows_results() -> bool {
    io::stdout().is_terminal()
}

/// Tells whether remarks go to a terminal.
#[must_use]
pub fn shows_remarks() -> bool {
    io::stderr().is_terminal()
}

/// Tells whether nobody gets what is written to standard output: what only prints may end.
#[must_use]
pub fn is_lost() -> bool {
    FAILURE.get().is_some()
}

/// Remembers that something else could not write to standard output.
pub fn lost(error: io::Error) {
    let _ = FAILURE.set(error);
}

/// Returns what first went wrong with standard output.
#[must_use]
pub fn failure() -> Option<&'static io::Error> {
    FAILURE.get()
}
