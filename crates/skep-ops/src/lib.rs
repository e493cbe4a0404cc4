//! Carrying out plans: what the host must have ([`preflight`]), what is there ([`observe`]), and the steps from
//! that to what is wanted ([`converge`]).
//!
//! Nothing here prints, reads the environment or knows of flags: paths and choices come from the caller, progress
//! goes to it as events.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]

mod cluster;
pub mod cluster_events;
pub mod converge;
pub mod logs;
pub mod observe;
pub mod preflight;
mod session;

pub use cluster::Cluster;
pub use session::{
    Config, DockerCommand, Error, Events, Failed, Fate, Look, NetworkMode, NotReady, Refusal, Run,
    RunOptions, Session, Up, refuse_peers,
};
