//! Which cluster: the rule of the whole command line.
//!
//! - A command about a cluster takes it as a word: `skep status demo`.
//! - A command about something in a cluster, such as nodes, images or stacks, takes `-c demo`: `skep node ls -c demo`. Its
//!   words name that something. `-c` of `stack deploy` is docker's, so the cluster has only `--cluster` there.
//!
//! Whoever does not know the rule is understood nevertheless where nothing else can be meant, which no help mentions.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use skep_core::model::ClusterName;

/// What is understood beside the usual way.
const OTHER: &str = "other_cluster";

/// The cluster as a word; `-c` is understood.
#[derive(Debug, Clone, Default)]
pub struct ClusterArg {
    /// The cluster, if it is named.
    pub cluster: Option<ClusterName>,
}

/// The cluster as an option.
#[derive(Debug, Clone, Args)]
pub struct ClusterOption {
    /// The cluster [default: the only one].
    #[arg(long, short = 'c', value_name = "CLUSTER", env = "SKEP_CLUSTER")]
    pub cluster: Option<ClusterName>,
}

/// The cluster as an option of a command that takes no words; one is understood.
#[derive(Debug, Clone)]
pub struct ClusterWord {
    /// The cluster, if it is named.
    pub cluster: Option<ClusterName>,
}

fn word(id: &'static str) -> Arg {
    Arg::new(id).value_name("CLUSTER").value_parser(clap::value_parser!(ClusterName))
}

fn described(arg: Arg) -> Arg {
    arg.env("SKEP_CLUSTER").help("The cluster [default: the only one]")
}

fn option(id: &'static str) -> Arg {
    word(id).long("cluster").short('c')
}

/// Returns the cluster that is named in either way; in both, the two may contradict each other.
fn named(matches: &ArgMatches) -> Result<Option<ClusterName>, clap::Error> {
    let get = |id| matches.get_one::<ClusterName>(id).cloned();
    let (usual, other) = (get("cluster"), get(OTHER));
    let is_typed = matches.value_source("cluster") == Some(ValueSource::CommandLine);
    match (usual, other) {
        (Some(usual), Some(other)) if is_typed => Err(clap::Error::raw(
            clap::error::ErrorKind::ArgumentConflict,
            format!("the cluster is named twice: {usual} and {other}\n"),
        )),
        (usual, other) => Ok(other.or(usual)),
    }
}

/// Implements clap's traits for one that adds these arguments.
macro_rules! cluster_args {
    ($name:ident, $usual:expr, $other:expr) => {
        impl FromArgMatches for $name {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Ok(Self { cluster: named(matches)? })
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                *self = Self::from_arg_matches(matches)?;
                Ok(())
            }
        }

        impl Args for $name {
            fn augment_args(command: Command) -> Command {
                command.arg(described($usual("cluster"))).arg($other(OTHER).hide(true))
            }

            fn augment_args_for_update(command: Command) -> Command {
                Self::augment_args(command)
            }
        }
    };
}

cluster_args!(ClusterArg, word, option);
cluster_args!(ClusterWord, option, word);

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::CommandFactory;

    use crate::cli::{Cli, Refusal};

    fn read(line: &str) -> Result<String, String> {
        let line: Vec<_> = line.split_whitespace().map(OsString::from).collect();
        match Cli::read(&line, &|_| None) {
            Ok(cli) => Ok(format!("{:?}", cli.command)),
            Err(Refusal::Said(error)) => Err(error.to_string()),
            Err(Refusal::Told(error)) => Err(error.message),
        }
    }

    #[test]
    fn the_cluster_is_understood_as_a_word_and_as_an_option() {
        for line in [
            "up",
            "down",
            "status",
            "start",
            "stop",
            "env",
            "config",
            "support-bundle",
            "certs show",
            "certs renew",
            "certs rotate",
            "node ls",
            "stack ls",
            "image ls",
            "image bake",
            "hosts ls",
            "hosts follow",
            "registry start",
            "registry stop",
            "registry status",
            "firewall check",
        ] {
            let word = read(&format!("skep {line} demo")).unwrap();
            assert!(word.contains("\"demo\""), "{word}");
            for option in ["-c demo", "--cluster demo", "--cluster=demo"] {
                assert_eq!(
                    read(&format!("skep {line} {option}")).unwrap(),
                    word,
                    "{line} {option}"
                );
            }
            let told = read(&format!("skep {line} demo -c other")).unwrap_err();
            assert!(told.contains("the cluster is named twice: "), "{told}");
        }
    }

    /// A command about a cluster shows the word in its help, all others show the option; none shows both.
    #[test]
    fn help_shows_one_way_by_the_rule() {
        const ABOUT_A_CLUSTER: [&str; 12] = [
            "up",
            "down",
            "status",
            "start",
            "stop",
            "env",
            "config",
            "events",
            "support-bundle",
            "certs show",
            "certs renew",
            "certs rotate",
        ];
        let mut root = Cli::command();
        root.build();
        let (mut words, mut wrong) = (Vec::new(), Vec::new());
        let mut open: Vec<_> = root.get_subcommands().map(|it| (it, String::new())).collect();
        while let Some((command, group)) = open.pop() {
            let name = format!("{group}{}", command.get_name());
            let shown = command.get_arguments().filter(|it| !it.is_hide_set());
            let mut shown: Vec<_> = shown.filter(|it| it.get_id() == "cluster").collect();
            match shown.pop() {
                Some(arg) if arg.is_positional() => words.push(name.clone()),
                Some(arg) if arg.get_short() == Some('c') || name == "stack deploy" => (),
                Some(_) => wrong.push(name.clone()),
                None => (),
            }
            open.extend(command.get_subcommands().map(|it| (it, format!("{name} "))));
        }
        words.sort_unstable();
        let mut expected = ABOUT_A_CLUSTER;
        expected.sort_unstable();
        assert_eq!(words, expected);
        assert_eq!(wrong, [""; 0]);
    }
}
