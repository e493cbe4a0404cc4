//! What skep knows of Docker: the engine's API, container images, stacks that converge, and contexts of the docker command.

pub mod contexts;
pub mod engine;
pub mod oci;
pub mod stack;
