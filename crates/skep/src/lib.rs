//! The command line of skep: commands, rendering and exit codes. It runs no process and writes no
//! state itself; `skep_sys` does.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]

pub mod background;
pub mod cli;
pub mod commands;
pub mod context;
pub mod environment;
pub mod error;
pub mod file;
pub mod listing;
pub mod logging;
pub mod machine;
pub mod privileged_helper;
pub(crate) mod redact;
pub mod render;
pub mod rights;
