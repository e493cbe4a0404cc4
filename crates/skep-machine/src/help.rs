//! Help, rendered from the tables of commands and options.

use std::fmt::Write as _;

use skep_print::tabwriter::{self, align};

use super::argparse::Opt;
use super::table::{COMMANDS, CommandSpec};

/// The version that is told: scripts cut it out and compare it.
pub const VERSION: &str = "0.16.2, build bd45ab13";

/// Returns the help of the whole; `name` is what the program was called by.
#[must_use]
pub fn application(name: &str, options: &[Opt]) -> String {
    let mut text = format!(
        "Usage: {name} [OPTIONS] COMMAND [arg...]\n\n\
         Create and manage machines running Docker.\n\n\
         Version: {VERSION}\n\n\
         Author:\n  Docker Machine Contributors - <https://github.com/docker/machine>\n\n\
         Options:\n"
    );
    for option in options {
        let _ = writeln!(text, "  {}", option.line());
    }
    text.push_str("  \nCommands:\n");
    for command in &COMMANDS {
        let _ = writeln!(text, "  {}\t{}", command.name, command.usage);
    }
    let _ = write!(text, "  \nRun '{name} COMMAND --help' for more information on a command.\n");
    align(&text, tabwriter::HELP)
}

/// Returns the help of a command with these options.
#[must_use]
pub fn command(spec: &CommandSpec, options: &[Opt]) -> String {
    let mark = if options.is_empty() { "" } else { "[OPTIONS] " };
    let mut text =
        format!("Usage: docker-machine {} {mark}[arg...]\n\n{}\n", spec.name, spec.usage);
    if !spec.description.is_empty() {
        let _ = write!(text, "\nDescription:\n   {}\n", spec.description);
    }
    if !options.is_empty() {
        text.push_str("\nOptions:\n   \n");
        for option in options {
            let _ = writeln!(text, "   {}", option.line());
        }
    }
    align(&text, tabwriter::HELP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::global_options;

    #[test]
    fn reference() {
        let mut text = application("docker-machine", &global_options("STORE"));
        for spec in &COMMANDS {
            let _ = write!(text, "\n## {}\n\n{}", spec.name, command(spec, spec.options));
        }
        insta::assert_snapshot!(text);
    }
}
