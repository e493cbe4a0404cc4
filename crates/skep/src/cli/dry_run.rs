//! `--dry-run`.

use clap::{Args, ValueEnum};

/// Whether anything is changed, and how what would be is printed.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct DryRun {
    /// Print what would change as a diff, and change nothing; -v adds the steps.
    #[arg(long)]
    pub dry_run: bool,
    /// Output format of --dry-run.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t, requires = "dry_run")]
    pub output: PlanFormat,
}

/// How a plan is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// A diff for people.
    #[default]
    Diff,
    /// One JSON document: changes, steps, warnings.
    Json,
}
