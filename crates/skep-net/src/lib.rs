//! The host's network: bridges, taps and addresses, packet filters, names in /etc/hosts, and who may make them.
//!
//! [`network`] is the trait that clusters get theirs from. Root makes them itself; ordinary users ask the
//! [`privileged_helper`], which [`setup`] installs, or have them in a user namespace of their own ([`userns`]).

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]

pub mod firewall;
pub mod forwarder;
pub mod host_firewall;
pub mod hosts;
pub mod netcheck;
pub mod network;
pub mod privileged_helper;
mod remote;
pub mod setup;
pub mod userns;
