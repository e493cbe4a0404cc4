//! `skep certs`.

use clap::{Args, Subcommand};

use super::{ClusterArg, DryRun, Output};

/// `skep certs`.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// List a cluster's certificates, and when they end.
    Show(Certs),
    /// Make the certificates of the client and all nodes anew; containers go on.
    Renew(CertsChange),
    /// Make another certificate authority, and all certificates by it; those of the old one, stolen ones
    /// too, open nothing any more. Containers go on.
    Rotate(CertsChange),
}

/// `skep certs show`.
#[derive(Debug, Args)]
pub struct Certs {
    #[command(flatten)]
    pub cluster: ClusterArg,
    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
}

/// `skep certs renew` and `skep certs rotate`.
#[derive(Debug, Args)]
pub struct CertsChange {
    #[command(flatten)]
    pub cluster: ClusterArg,
    #[command(flatten)]
    pub dry_run: DryRun,
    /// Do not ask; it is asked only where hosts' engines have to start anew.
    #[arg(long, short)]
    pub yes: bool,
}
