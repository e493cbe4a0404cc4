//! Where clusters have their networks.

use clap::ValueEnum;

/// Where networks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Net {
    /// Bridges on this host; needs root, or `sudo skep setup` once.
    Bridge,
    /// A user namespace; needs no privileges. Nodes are reached through loopback addresses.
    User,
}
