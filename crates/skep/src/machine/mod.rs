//! What skep brings to its docker-machine face ([`skep_machine`]): virtual machines, and its own commands on them.

mod by_name;
mod machines;

pub use by_name::{Listed, line_for, list};
pub use machines::Machines;
