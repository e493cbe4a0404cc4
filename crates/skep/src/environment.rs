//! Variables of the environment. One that is set and empty counts as unset, as a shell's `VARIABLE= skep` means it.

use std::ffi::OsString;

/// Returns a variable.
#[must_use]
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Returns a variable whose value is text.
#[must_use]
pub fn text_variable(name: &str) -> Option<String> {
    variable(name)?.into_string().ok()
}
