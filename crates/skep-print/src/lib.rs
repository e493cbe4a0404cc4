//! What is printed, and the only place from which it is: all of it passes [`shown`] and is written by [`streams`].

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]

pub mod shown;
pub mod streams;
pub mod tabwriter;

use std::fmt;

/// Writes to standard output.
pub fn write_out(text: fmt::Arguments<'_>) {
    streams::write_stdout(shown::shown(&text.to_string()).as_bytes());
}

/// Writes to standard error.
pub fn write_err(text: fmt::Arguments<'_>) {
    streams::write_stderr(shown::shown(&text.to_string()).as_bytes());
}

/// Writes what a program or a shell is to read, byte by byte as it is; what is hidden in it is visible on a terminal.
pub fn write_exact(bytes: &[u8]) {
    match streams::shows_results() {
        true => streams::write_stdout(shown::shown_bytes(bytes).as_bytes()),
        false => streams::write_stdout(bytes),
    }
}

/// Writes bytes as they are, even to a terminal: only where the user asked for just that.
pub fn write_raw(bytes: &[u8]) {
    streams::write_stdout(bytes);
}

/// Prints a result, as `print!` does, to a reader that may go away.
#[macro_export]
macro_rules! out {
    ($($arguments:tt)*) => { $crate::write_out(format_args!($($arguments)*)) };
}

/// Prints a result and ends the line, as `println!` does, to a reader that may go away.
#[macro_export]
macro_rules! outln {
    () => { $crate::write_out(format_args!("\n")) };
    ($format:literal $($arguments:tt)*) => {
        $crate::write_out(format_args!("{}\n", format_args!($format $($arguments)*)))
    };
}

/// Prints a remark on standard error, as `err!` does.
#[macro_export]
macro_rules! err {
    ($($arguments:tt)*) => { $crate::write_err(format_args!($($arguments)*)) };
}

/// Prints a remark on standard error and ends the line, as `errln!` does.
#[macro_export]
macro_rules! errln {
    ($format:literal $($arguments:tt)*) => {
        $crate::write_err(format_args!("{}\n", format_args!($format $($arguments)*)))
    };
}
