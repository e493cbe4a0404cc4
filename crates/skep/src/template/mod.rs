//! Go's text/template, as far as `ls --format` and `inspect --format` need it: the whole language and
//! its built-in functions, with the texts of its errors, but no methods and no function values.
//!
//! Values are data only ([`Value`]): a template can neither call nor change anything.

mod compare;
mod exec;
mod field;
mod funcs;
mod lex;
mod literal;
mod node;
mod parse;
mod print;
mod value;

pub use exec::Template;
pub use funcs::Function;
pub use value::{Struct, Value};

#[cfg(test)]
mod tests;
