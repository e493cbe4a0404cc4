//! What skep knows of Docker: the engine's API, container images, stacks that converge, and contexts of the docker command.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]

pub mod contexts;
pub mod engine;
pub mod oci;
pub mod program;
pub mod stack;
