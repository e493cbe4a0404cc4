//! What is logged of external programs: each has a line for its start and one for its end.

use std::time::Instant;

use super::Cmd;

/// The target of events that tell of programs (`tracing`).
pub const COMMANDS: &str = "skep::command";

/// A run of a program in the log: its start, and its end whatever that is.
pub(super) struct Logged {
    command: String,
    began: Instant,
    ended: bool,
}

impl Logged {
    pub(super) fn begin(command: &Cmd) -> Self {
        let command = log_line(command);
        tracing::debug!(target: COMMANDS, "run {command}");
        Self { command, began: Instant::now(), ended: false }
    }

    pub(super) fn end(&mut self, how: &str) {
        self.ended = true;
        let (took, command) = (self.began.elapsed().as_secs_f64(), &self.command);
        // A log has a line for each event.
        let how = how.replace('\n', " | ");
        tracing::debug!(target: COMMANDS, "{how} after {took:.3} s: {command}");
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        if !self.ended {
            self.end("given up");
        }
    }
}

/// Returns a command line as it is logged: that of a script is long.
pub(super) fn log_line(command: &Cmd) -> String {
    const MOST: usize = 1000;
    let mut line = command.to_string();
    if let Some((end, _)) = line.char_indices().nth(MOST) {
        line.truncate(end);
        line.push('…');
    }
    line
}
