//! What is printed.

pub mod progress;
pub mod table;
mod yaml;

use std::fmt;
use std::io::Write;

use serde_json::Value;

use crate::cli::Output;

/// Writes to standard output. A reader such as `head` may have seen enough: that is no error.
pub fn write_out(text: fmt::Arguments<'_>) {
    let _ = std::io::stdout().write_fmt(text);
}

/// Prints what is for programs.
pub fn write_document(output: Output, value: &Value) {
    match output {
        Output::Yaml => write_out(format_args!("{}", yaml::yaml(value))),
        Output::Json | Output::Table => write_out(format_args!("{value:#}\n")),
    }
}

/// Prints a result, as `print!` does, to a reader that may go away.
#[macro_export]
macro_rules! out {
    ($($arguments:tt)*) => { $crate::render::write_out(format_args!($($arguments)*)) };
}

/// Prints a result and ends the line, as `println!` does, to a reader that may go away.
#[macro_export]
macro_rules! outln {
    () => { $crate::render::write_out(format_args!("\n")) };
    ($format:literal $($arguments:tt)*) => {
        $crate::render::write_out(format_args!("{}\n", format_args!($format $($arguments)*)))
    };
}
