//! From the words of a command line to a command, or to what to type instead.

use std::ffi::OsString;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches};

use super::Cli;
use crate::error::CliError;

/// Why there is no command.
#[derive(Debug)]
pub enum Refusal {
    /// Help, the version, or what is wrong in clap's words.
    Said(clap::Error),
    /// What skep knows better.
    Told(CliError),
}

/// Commands that people try, by other tools or by guess, and what does it here. A word that means one command only
/// is an alias of it.
const MEANT: &[(&str, &[&str])] = &[
    ("add", &["skep node add"]),
    ("clusters", &["skep ls"]),
    ("connect", &["skep ssh NODE"]),
    ("deploy", &["skep stack deploy -c FILE STACK"]),
    ("drain", &["skep node drain NODE"]),
    ("images", &["skep image ls"]),
    ("info", &["skep status", "skep doctor  # this host"]),
    ("inspect", &["skep node inspect NODE", "skep config  # a cluster as a file"]),
    ("kill", &["skep node kill NODE"]),
    ("label", &["skep node label KEY=VALUE@NODE"]),
    ("load", &["skep image load IMAGE"]),
    ("nodes", &["skep node ls"]),
    ("pause", &["skep node pause NODE"]),
    ("promote", &["skep node promote NODE"]),
    ("prune", &["skep cache prune"]),
    ("ps", &["skep status  # nodes", "skep stack ps STACK  # tasks"]),
    ("restart", &["skep node restart NODE", "skep stop && skep start  # the whole cluster"]),
    ("run", &["skep docker -- service create IMAGE"]),
    ("scale", &["skep node add -n 2"]),
    ("service", &["skep docker -- service ls"]),
    ("services", &["skep stack services STACK", "skep docker -- service ls"]),
    ("shell", &["skep ssh NODE"]),
    ("stacks", &["skep stack ls"]),
    ("use", &["eval $(skep env CLUSTER)"]),
];

impl Cli {
    /// Reads a command line, the program's name first. A variable that is set and empty counts as unset.
    ///
    /// # Errors
    ///
    /// What is printed in place of running a command.
    pub fn read(
        line: &[OsString],
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Refusal> {
        let mut command = without_empty(Self::command(), variable);
        let read = command.try_get_matches_from_mut(line);
        let read = read.and_then(|matches| Self::from_arg_matches(&matches));
        read.map_err(|said| match suggested(&said, line) {
            Some(error) => Refusal::Told(error),
            None => Refusal::Said(nearest(said).format(&mut command)),
        })
    }
}

/// Lets options forget variables that are empty: a script that has nothing to say often says so that way.
fn without_empty(
    command: clap::Command,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> clap::Command {
    let is_empty = |arg: &clap::Arg| {
        let name = arg.get_env().and_then(|name| name.to_str());
        name.and_then(variable).is_some_and(|value| value.is_empty())
    };
    let command = command.mut_args(|arg| match is_empty(&arg) {
        true => arg.env(Resettable::Reset),
        false => arg,
    });
    command.mut_subcommands(|command| without_empty(command, variable))
}

/// Returns what to type in place of what clap refuses, if skep knows better than the nearest spelling.
fn suggested(said: &clap::Error, line: &[OsString]) -> Option<CliError> {
    let text = |kind| match said.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let words: Vec<_> = line.iter().skip(1).filter_map(|word| word.to_str()).collect();
    let mut plain = words.iter().copied().filter(|word| !word.starts_with('-'));
    let first = plain.next()?;
    match said.kind() {
        ErrorKind::InvalidSubcommand if text(ContextKind::InvalidSubcommand) == Some(first) => {
            let (_, commands) = MEANT.iter().find(|(word, _)| *word == first)?;
            let error = CliError::usage(format!("there is no command `{first}`"));
            Some(commands.iter().fold(error, |error, command| error.hint(*command)))
        }
        ErrorKind::UnknownArgument if ["start", "stop"].contains(&first) => {
            let node = text(ContextKind::InvalidArg).filter(|word| !word.starts_with('-'))?;
            let cluster = plain.next()?;
            let error = CliError::usage(format!("skep {first} takes a cluster, not nodes"));
            Some(error.hint(format!("skep node {first} {node} --cluster {cluster}")))
        }
        _ => None,
    }
}

/// Leaves only the names that are nearest to what was typed: `support-bundle` is not what `upp` was meant to be.
fn nearest(mut said: clap::Error) -> clap::Error {
    let (Some(ContextValue::String(typed)), Some(ContextValue::Strings(names))) =
        (said.get(ContextKind::InvalidSubcommand), said.get(ContextKind::SuggestedSubcommand))
    else {
        return said;
    };
    let distance = |name: &String| strsim::damerau_levenshtein(name, typed);
    let least = names.iter().map(distance).min().filter(|it| *it <= 1 + typed.len() / 4);
    let is_nearest = |name: &&String| Some(distance(name)) == least;
    let names: Vec<String> = names.iter().filter(is_nearest).cloned().collect();
    said.remove(ContextKind::SuggestedSubcommand);
    if !names.is_empty() {
        said.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(names));
    }
    said
}

#[cfg(test)]
mod tests {
    use clap::builder::ValueParser;

    use super::*;

    #[test]
    fn suggestions_are_near_what_was_typed() {
        for (typed, wanted) in [
            ("upp", Some("up")),
            ("statsu", Some("status")),
            ("sotp", Some("stop")),
            ("doctro", Some("doctor")),
            ("registri", Some("registry")),
            ("frobnicate", None),
        ] {
            let Err(Refusal::Said(error)) = read(&format!("skep {typed}")) else {
                panic!("{typed}")
            };
            assert_eq!(error.kind(), ErrorKind::InvalidSubcommand);
            let told = error.to_string();
            let tip = told.lines().find(|line| line.contains("tip:")).unwrap_or_default();
            let quoted: Vec<_> = tip.split('\'').skip(1).step_by(2).collect();
            assert_eq!(quoted, wanted.into_iter().collect::<Vec<_>>(), "{told}");
        }
    }

    /// Every option whose value is no free text is given one that cannot be right.
    #[test]
    fn a_value_that_does_not_parse_is_answered_with_what_to_write() {
        let (mut tried, mut wrong) = (0, String::new());
        let mut root = Cli::command();
        root.build();
        visit(&root, &mut Vec::new(), &mut |path, arg| {
            let mut words = vec!["skep".to_owned()];
            words.extend(path.iter().cloned());
            let Some(long) = arg.get_long() else { return };
            words.push(format!("--{long}=?"));
            let Err(error) = Cli::command().try_get_matches_from(&words) else { return };
            if error.kind() != ErrorKind::ValueValidation {
                return;
            }
            tried += 1;
            let told = error.to_string();
            let helps = ["for example", "such as", ": use ", "write "];
            if !helps.iter().any(|it| told.contains(it)) {
                wrong.push_str(&format!("{}: {told}\n", words.join(" ")));
            }
        });
        assert!(tried > 40, "{tried}");
        assert_eq!(wrong, "");
    }

    fn visit(
        command: &clap::Command,
        path: &mut Vec<String>,
        each: &mut impl FnMut(&[String], &clap::Arg),
    ) {
        let free = [ValueParser::string(), ValueParser::path_buf()].map(|it| it.type_id());
        for arg in command.get_arguments() {
            if !free.contains(&arg.get_value_parser().type_id()) {
                each(path, arg);
            }
        }
        for inner in command.get_subcommands().filter(|it| it.get_name() != "help") {
            path.push(inner.get_name().to_owned());
            visit(inner, path, each);
            path.pop();
        }
    }

    fn read(line: &str) -> Result<Cli, Refusal> {
        let line: Vec<_> = line.split_whitespace().map(OsString::from).collect();
        Cli::read(&line, &|_| None)
    }

    #[test]
    fn what_people_type_is_a_command_or_leads_to_one() {
        for (line, usual) in [
            ("skep create", "skep up"),
            ("skep delete", "skep down"),
            ("skep rm", "skep down"),
            ("skep remove", "skep down"),
            ("skep list", "skep ls"),
            ("skep exec node0 ls -l", "skep ssh node0 ls -l"),
            ("skep node list", "skep node ls"),
            ("skep node remove node1", "skep node rm node1"),
            ("skep stack list", "skep stack ls"),
            ("skep stack delete a", "skep stack rm a"),
            ("skep image list", "skep image ls"),
            ("skep hosts list", "skep hosts ls"),
            ("skep cache list", "skep cache ls"),
        ] {
            let command = |line| format!("{:?}", read(line).unwrap().command);
            assert_eq!(command(line), command(usual), "{line}");
        }
        for (word, hints) in MEANT {
            let Err(Refusal::Told(error)) = read(&format!("skep -q {word} x")) else {
                panic!("{word}");
            };
            assert_eq!(error.message, format!("there is no command `{word}`"));
            assert_eq!(error.hints, *hints);
        }
        let Err(Refusal::Told(error)) = read("skep stop demo node1") else { panic!() };
        assert_eq!(error.hints, ["skep node stop node1 --cluster demo"]);
        for other in ["skep frob", "skep node ps", "skep stop --frob", "skep", "skep --version"] {
            assert!(matches!(read(other), Err(Refusal::Said(_))), "{other}");
        }
    }

    /// What stops waits for what the guests' own limits allow, and creates nothing.
    #[test]
    fn commands_refuse_options_that_would_do_nothing() {
        for line in [
            "skep stop --no-wait",
            "skep stop --cold",
            "skep stop --timeout 5s",
            "skep start --cold",
            "skep start --unique-engine-ids",
            "skep node stop node1 --accel tcg",
            "skep node kill node1 --verify all",
            "skep node start node1 --no-verify",
            "skep node restart node1 --no-wait",
            "skep firewall remove --for node --source 10.1.0.0/24",
            "skep firewall remove --for node --interface eth0",
        ] {
            let Err(Refusal::Said(error)) = read(line) else { panic!("{line}") };
            assert_eq!(error.kind(), ErrorKind::UnknownArgument, "{line}");
        }
    }

    #[test]
    fn what_is_advised_can_be_typed() {
        let all = MEANT.iter().flat_map(|(_, hints)| hints.iter());
        for hint in all.filter(|hint| hint.starts_with("skep ")) {
            let line = hint.split("  #").next().unwrap().split(" && ").next().unwrap();
            let line = line.replace("NODE", "node1").replace("STACK", "stack");
            assert!(read(&line).is_ok(), "{hint}");
        }
    }
}
