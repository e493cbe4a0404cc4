//! `skep certs`.

use clap::{Args, Subcommand};

use super::{ClusterArg, DryRun};

/// `skep certs`.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// List a cluster's certificates and when they expire.
    Show(crate::commands::Certs),
    /// Renew the certificates of the client and all nodes; containers keep running.
    Renew(CertsChange),
    /// Rotate the CA, which revokes all earlier certificates; containers keep running.
    Rotate(CertsChange),
}

/// `skep certs renew` and `skep certs rotate`.
#[derive(Debug, Args)]
pub struct CertsChange {
    #[command(flatten)]
    pub cluster: ClusterArg,
    #[command(flatten)]
    pub dry_run: DryRun,
    /// Do not ask for confirmation before restarting the engines of hosts.
    #[arg(long, short)]
    pub yes: bool,
}
