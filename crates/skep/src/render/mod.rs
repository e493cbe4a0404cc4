//! What is printed.

pub mod progress;
pub mod table;

use std::fmt;
use std::io::Write;

/// Writes to standard output. A reader such as `head` may have seen enough: that is no error.
pub fn write_out(text: fmt::Arguments<'_>) {
    let _ = std::io::stdout().write_fmt(text);
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
