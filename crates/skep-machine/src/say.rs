//! What is told while a command runs, and where: progress and warnings on the standard output, as
//! docker-machine has it, unless the command's result is to be evaluated by a shell.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use skep_print::{errln, outln};

/// Where progress goes. Clones tell the same.
#[derive(Debug, Clone)]
pub struct Say {
    debug: bool,
    aside: Arc<AtomicBool>,
}

impl Say {
    /// Creates what tells; debug lines only if wanted.
    #[must_use]
    pub fn new(debug: bool) -> Self {
        Self { debug, aside: Arc::new(AtomicBool::new(false)) }
    }

    /// Tells whether debug lines are wanted.
    #[must_use]
    pub fn debugs(&self) -> bool {
        self.debug
    }

    /// Keeps the standard output for the command's result from now on.
    pub fn step_aside(&self) {
        self.aside.store(true, Ordering::Relaxed);
    }

    /// Tells of progress.
    pub fn info(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        match self.aside.load(Ordering::Relaxed) {
            true => aside(text),
            false => outln!("{text}"),
        }
    }

    /// Tells of a failure that does not end the command.
    pub fn error(&self, text: impl AsRef<str>) {
        aside(text.as_ref());
    }

    /// Tells what only who looks for a fault wants to know.
    pub fn debug(&self, text: impl AsRef<str>) {
        if self.debug {
            aside(text.as_ref());
        }
    }
}

/// Writes a line to the standard error.
pub fn aside(text: &str) {
    errln!("{text}");
}
