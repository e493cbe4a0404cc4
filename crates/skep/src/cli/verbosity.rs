//! How much is told while a command works.

use clap::Args;

/// What the user asked for on the command line.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Verbosity {
    /// Suppress progress output: print only results, warnings and errors.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print every step, not just one line per phase.
    #[arg(long, short, global = true)]
    pub verbose: bool,
    /// Print external commands and their durations on standard error.
    #[arg(long, global = true)]
    pub debug: bool,
}

/// How much progress is printed. Warnings and errors always are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// None.
    Quiet,
    /// One line per phase.
    #[default]
    Phases,
    /// Every step.
    Steps,
}

impl Verbosity {
    /// Returns how much progress is printed.
    #[must_use]
    pub fn detail(self) -> Detail {
        match self {
            Self { quiet: true, .. } => Detail::Quiet,
            Self { verbose: true, .. } => Detail::Steps,
            _ => Detail::Phases,
        }
    }
}
