//! Go's text/template for options such as `--format`: the whole language and its built-in functions, with the texts of its
//! errors, but no methods and no function values.
//!
//! Values are data only ([`Value`]): a template can neither call nor change anything, and no template ends the process.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]

mod compare;
mod exec;
mod field;
mod funcs;
mod lex;
mod literal;
mod node;
mod parse;
mod print;
mod quote;
mod value;

pub use exec::Template;
pub use funcs::Function;
pub use quote::go_quote;
pub use value::{Struct, Value};

#[cfg(test)]
mod tests;
