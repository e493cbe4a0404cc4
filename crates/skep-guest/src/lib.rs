//! The programs that run in guests, and the page of the probe service, as `build.rs` has built them.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]

/// The programs of every image, by their names: one makes a guest the node that it is to be, one keeps its clock, one
/// asks its engine, one keeps runc in memory, one is what containerd knows as runc.
pub const PROGRAMS: &[(&str, &[u8])] = &[
    ("identity", include_bytes!(concat!(env!("OUT_DIR"), "/identity"))),
    ("clock", include_bytes!(concat!(env!("OUT_DIR"), "/clock"))),
    ("ask", include_bytes!(concat!(env!("OUT_DIR"), "/ask"))),
    ("sealed", include_bytes!(concat!(env!("OUT_DIR"), "/sealed"))),
    ("runtime", include_bytes!(concat!(env!("OUT_DIR"), "/runtime"))),
];

/// Their sources, which are what an image's address counts: compilers differ in what they make of them.
pub const SOURCES: [&str; 6] = [
    include_str!("../guest/ask.rs"),
    include_str!("../guest/identity.rs"),
    include_str!("../guest/clock.rs"),
    include_str!("../guest/sealed.rs"),
    include_str!("../guest/runtime.rs"),
    include_str!("../guest/kernel.rs"),
];

/// The program of the probe service for hosts, which have no image of ours.
pub const PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probe"));

/// Its source.
pub const PROBE_SOURCE: &str = include_str!("../guest/probe.rs");

/// The guest's programs, for their tests. They share a file, as each is a separate crate.
#[cfg(test)]
#[allow(dead_code, clippy::duplicate_mod)]
#[path = "../guest/ask.rs"]
mod ask;
#[cfg(test)]
#[allow(dead_code, clippy::duplicate_mod)]
#[path = "../guest/clock.rs"]
mod clock;
#[cfg(test)]
#[allow(dead_code, clippy::duplicate_mod)]
#[path = "../guest/identity.rs"]
mod identity;
#[cfg(test)]
#[allow(dead_code)]
#[path = "../guest/runtime.rs"]
mod runtime;
#[cfg(test)]
#[allow(dead_code, clippy::duplicate_mod)]
#[path = "../guest/sealed.rs"]
mod sealed;
