//! `--dry-run`.

use clap::{Args, ValueEnum};

/// Whether anything is changed, and how what would be is printed.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct DryRun {
    /// Print what would change as a diff, and change nothing; -v adds the steps.
    #[arg(long)]
    pub dry_run: bool,
    /// Output format; json prints events as JSON lines, and one document with --dry-run.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: WorkFormat,
}

impl DryRun {
    /// Tells whether events are wanted as JSON lines.
    #[must_use]
    pub fn wants_events(self) -> bool {
        !self.dry_run && self.output == WorkFormat::Json
    }
}

/// How work, or what would be done, is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum WorkFormat {
    /// For people: progress, or a diff.
    #[default]
    Text,
    /// For programs.
    Json,
}
