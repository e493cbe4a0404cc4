//! `skep doctor`.

use std::path::PathBuf;

use clap::Args;

use super::{Accel, Output};

/// `skep doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
--try-vm creates machines and removes them again: it boots one, forks many with 1 and with 4 CPUs,
verifies an overlay network, measures throughput and disk writes, and stops a slow container. This
takes some minutes, and much longer without KVM. The report contains no names of this host or user;
attach it to bug reports.

Examples:
  skep doctor
  skep doctor --try-vm --json report.json")]
pub struct Doctor {
    /// Apply safe fixes, asking before each.
    #[arg(long, conflicts_with = "try_vm")]
    pub fix: bool,
    /// With --fix: do not ask for confirmation.
    #[arg(long, short, requires = "fix")]
    pub yes: bool,
    /// Create test machines on this host and report how well they work.
    #[arg(long)]
    pub try_vm: bool,
    /// With --try-vm: number of nodes to fork, for each number of CPUs.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = forks)]
    pub forks: u32,
    /// With --try-vm: also write the report to this file, as JSON.
    #[arg(long, value_name = "FILE", requires = "try_vm")]
    pub json: Option<PathBuf>,
    /// With --try-vm: accelerator [default: auto-detect].
    #[arg(long, value_name = "KIND", env = "SKEP_ACCEL")]
    pub accel: Option<Accel>,
    /// Output format.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,
}

/// Reads how many nodes are forked.
fn forks(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(number @ 1..=1000) => Ok(number),
        _ => Err("write a number from 1 to 1000, for example 20".to_owned()),
    }
}
