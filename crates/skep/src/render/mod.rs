//! What is printed, and how it looks. All of it is written by [`skep_print`].

pub mod board;
pub mod events;
pub mod log;
pub mod progress;
pub mod table;
pub mod timings;
pub mod yaml;

use serde_json::Value;
use skep_core::plan::{Change, Mark};
use skep_print::{shown, streams, write_exact};

use crate::cli::Output;

/// Tells whether remarks go to a terminal whose lines can change.
pub fn redraws() -> bool {
    // Lines of a log between them would tear them apart.
    !crate::logging::prints() && obeys(streams::shows_remarks())
}

/// Tells whether a terminal, if it is one, may get control characters.
fn obeys(is_terminal: bool) -> bool {
    let variable = crate::environment::text_variable;
    let (term, no_color) = (variable("TERM"), variable("NO_COLOR"));
    progress::can_redraw(is_terminal, term.as_deref(), no_color.as_deref())
}

/// Prints a text in the place of the one before it, on a terminal that can do so; else below it.
pub fn write_screen(text: &str) {
    let text = screen(&shown::shown(text), obeys(streams::shows_results()));
    streams::write_stdout(text.as_bytes());
}

fn screen(text: &str, redraws: bool) -> String {
    match redraws {
        // Each line and what is below the last one is cleared as it is written over, so nothing flickers.
        true => format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")),
        false => format!("{text}\n"),
    }
}

/// Prints a diff, on a terminal with colors unless the user wants none (no-color.org).
pub fn write_changes(changes: &[Change]) {
    let colored = obeys(streams::shows_results());
    for change in changes {
        let line = shown::one_line(&change.to_string());
        let color = match change.change {
            Mark::Add => 32,
            Mark::Change => 33,
            Mark::Remove => 31,
        };
        let line = match colored {
            true => format!("\x1b[{color}m{line}\x1b[0m\n"),
            false => format!("{line}\n"),
        };
        streams::write_stdout(line.as_bytes());
    }
}

/// Prints what is for programs.
pub fn write_document(output: Output, value: &Value) {
    write_exact(document_text(output, value).as_bytes());
}

/// Returns what is for programs.
pub fn document_text(output: Output, value: &Value) -> String {
    shown::document(match output {
        Output::Yaml => yaml::yaml(value),
        Output::Json | Output::Table => format!("{value:#}\n"),
    })
}

/// Prints an object for programs on one line.
pub fn write_line(value: &Value) {
    write_exact(shown::document(format!("{value}\n")).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_written_over_and_a_log_goes_on() {
        assert_eq!(screen("a\nb\n", true), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(screen("a\nb\n", false), "a\nb\n\n");
    }
}
