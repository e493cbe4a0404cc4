//! `skep doctor`.

use std::path::PathBuf;

use clap::Args;

use super::{Accel, Output};

/// `skep doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
--try-vm makes machines and takes them away again: it boots one, forks many with 1 and with 4 CPUs,
verifies an overlay network, measures throughput and disk writes, and stops a slow container. That
takes some minutes, and much longer without KVM. Its report has no names of this host or its user in
it and is meant to be attached to a bug report.

Examples:
  skep doctor
  skep doctor --try-vm --json report.json")]
pub struct Doctor {
    /// Mend what can be mended without harm, after a question each.
    #[arg(long, conflicts_with = "try_vm")]
    pub fix: bool,
    /// Do not ask.
    #[arg(long, short, requires = "fix")]
    pub yes: bool,
    /// Try machines on this host, and report how well they work.
    #[arg(long)]
    pub try_vm: bool,
    /// With --try-vm: how many nodes are forked, with each number of CPUs.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub forks: u32,
    /// With --try-vm: write the report to this file too, as JSON.
    #[arg(long, value_name = "FILE", requires = "try_vm")]
    pub json: Option<PathBuf>,
    /// With --try-vm: what executes the guests; tried out if not given.
    #[arg(long, value_name = "KIND", env = "SKEP_ACCEL")]
    pub accel: Option<Accel>,
    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
}
