//! How much is told while a command works.

use clap::{Arg, ArgAction, Args, Command};

/// What the user asked for on the command line.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Verbosity {
    /// Suppress progress output: print only results, warnings and errors.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print every step, not just one line per phase.
    #[arg(long, short, global = true)]
    pub verbose: bool,
    /// Print external commands and their durations on standard error.
    #[arg(long, global = true)]
    pub debug: bool,
}

/// How much progress is printed. Warnings and errors always are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// None.
    Quiet,
    /// One line per phase.
    #[default]
    Phases,
    /// Every step.
    Steps,
}

/// Commands that work in steps: progress is printed, of which `-q` prints less and `-v` more.
const STEPS: &[&str] = &[
    "up",
    "down",
    "start",
    "stop",
    "node add",
    "node rm",
    "node start",
    "node stop",
    "node restart",
    "node kill",
    "node pause",
    "node resume",
    "node promote",
    "node demote",
    "node drain",
    "node activate",
    "node label",
    "image load",
    "image bake",
    "registry start",
    "registry stop",
    "registry trust",
    "registry distrust",
    "swarm recover",
    "stack deploy",
    "stack rm",
    "rebalance",
    "hosts add",
    "hosts rm",
    "hosts follow",
    "certs renew",
    "certs rotate",
    "doctor",
];

/// Commands that print remarks, which `-q` leaves out, but work in no steps.
const REMARKS: &[&str] = &["support-bundle", "bench", "init", "firewall apply", "firewall remove"];

/// Commands that only print what skep itself knows: they run nothing of which `--debug` could tell.
const PURE: &[&str] =
    &["init", "config", "schema", "version", "man", "completions", "install-alias"];

/// Hides the options of [`Verbosity`] in the help of commands for which they do nothing. They are accepted by all: who
/// writes a script need not know which command prints what.
pub(super) fn without_idle(command: Command) -> Command {
    hide(command, "")
}

fn hide(command: Command, group: &str) -> Command {
    let path = format!("{group}{}", command.get_name());
    if command.has_subcommands() {
        return command.mut_subcommands(|inner| hide(inner, &format!("{path} ")));
    }
    let is_in = |list: &[&str]| list.contains(&path.as_str());
    let has_quiet = command.get_arguments().any(|arg| arg.get_id() == "quiet");
    let idle = [
        ("quiet", Some('q'), !has_quiet && !is_in(STEPS) && !is_in(REMARKS)),
        ("verbose", Some('v'), !is_in(STEPS)),
        ("debug", None, is_in(PURE)),
    ];
    // An argument of the command itself takes the place of the one that all commands have.
    idle.into_iter().filter(|(.., is_idle)| *is_idle).fold(command, |command, (name, short, _)| {
        let arg = Arg::new(name).long(name).action(ArgAction::SetTrue).hide(true);
        command.arg(if let Some(short) = short { arg.short(short) } else { arg })
    })
}

impl Verbosity {
    /// Returns how much progress is printed.
    #[must_use]
    pub fn detail(self) -> Detail {
        match self {
            Self { quiet: true, .. } => Detail::Quiet,
            Self { verbose: true, .. } => Detail::Steps,
            _ => Detail::Phases,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;
    use crate::cli::Cli;

    fn paths(command: &Command, group: &str, each: &mut impl FnMut(&str, &Command)) {
        for inner in command.get_subcommands().filter(|it| it.get_name() != "help") {
            let path = format!("{group}{}", inner.get_name());
            each(&path, inner);
            paths(inner, &format!("{path} "), each);
        }
    }

    #[test]
    fn help_has_the_options_that_do_something() {
        let mut root = Cli::command();
        root.build();
        let mut known = Vec::new();
        paths(&root, "", &mut |path, command| {
            known.push(path.to_owned());
            if command.has_subcommands() {
                return;
            }
            let shows = |id: &str| {
                command.get_arguments().any(|arg| arg.get_id() == id && !arg.is_hide_set())
            };
            // What prints events or a diff works in steps, as does whatever waits for machines.
            let takes = |id: &str| shows(id) && !["ls", "show"].iter().any(|it| path.ends_with(it));
            if takes("dry_run") && path != "setup" || shows("accel") && path != "bench" {
                assert!(shows("verbose"), "{path} works in steps, but its help has no -v");
            }
            if shows("format") && shows("output") {
                assert!(shows("quiet") && !shows("verbose"), "{path} is a list");
            }
        });
        for path in [STEPS, REMARKS, PURE].concat() {
            assert!(known.iter().any(|it| it == path), "there is no command {path}");
        }
    }

    #[test]
    fn a_hidden_option_counts_wherever_it_stands() {
        for line in ["skep -q version", "skep version -q", "skep schema --quiet"] {
            let mut root = Cli::command();
            let matches = root.try_get_matches_from_mut(line.split(' ')).unwrap();
            let cli = Cli::from_arg_matches(&matches).unwrap();
            assert_eq!(cli.verbosity.detail(), Detail::Quiet, "{line}");
        }
    }
}
