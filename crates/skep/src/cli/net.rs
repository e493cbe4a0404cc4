//! Where clusters have their networks.

use clap::ValueEnum;

/// Where networks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Net {
    /// Bridges of this host, which take root, or its leave (`sudo skep setup`).
    Bridge,
    /// A namespace of the user's own, which takes nobody's leave. Programs of this host get to nodes by the
    /// loopback.
    User,
}
