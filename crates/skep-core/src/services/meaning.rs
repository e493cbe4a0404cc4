//! What Swarm's words for a task, and the states of tasks, mean: the one table by which skep decides
//! whether waiting helps, and what it advises.
//!
//! The texts are those of the scheduler, the engine and the runtime (swarmkit's `manager/scheduler` and
//! `agent`, moby's `daemon/cluster/executor`). They are no interface: an unknown one is shown as it is
//! and waited for. docs/design/stacks-and-verification.md holds the same table; a test compares them.

use super::Cause;

/// Whether waiting helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Prospect {
    /// Nothing changes until somebody acts.
    Hopeless,
    /// Nothing changes if it happens twice: the first task may have come too early, as before its image.
    HopelessTwice,
    /// It may pass by itself.
    Waiting,
    /// It ended well, and nothing more is to come.
    Done,
}

impl Prospect {
    /// Returns the word for it in the documentation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hopeless => "hopeless",
            Self::HopelessTwice => "hopeless the second time",
            Self::Waiting => "waiting",
            Self::Done => "done",
        }
    }
}

/// Where something shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the scheduler's explanation: `no suitable node (...)`.
    Scheduler,
    /// In the error of a task.
    Error,
    /// In the states of a service, its tasks and nodes.
    State,
}

impl Place {
    /// Returns the word for it in the documentation.
    #[cfg(test)]
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Error => "task's error",
            Self::State => "state",
        }
    }
}

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) place: Place,
    /// Words in lower case of which one has to be there; of a state, its description.
    pub(super) words: &'static [&'static str],
    pub(super) meaning: &'static str,
    /// The kind of problem; what it holds is filled in.
    pub(super) cause: Cause,
    pub(super) prospect: Prospect,
    /// What to do, with `{service}`, `{node}` and `{image}` to fill in.
    pub(super) advice: &'static str,
}

const LOGS: &str = "skep docker -- service logs {service}";
const STATUS: &str = "skep status  # skep up starts what is down";
const LABELS: &str =
    "skep status  # then skep node label KEY=VALUE@NODE, or skep node activate NODE";
const EDIT: &str = "correct {service} in its stack file, and deploy it again";
const LOOK: &str = "skep docker -- service ps --no-trunc {service}";
/// Starts a service again that the swarm has given up: deploying what did not change does not.
const AGAIN: &str =
    "skep docker -- service update --force {service}  # starts it again, once its cause is mended";

const fn row(
    place: Place,
    words: &'static [&'static str],
    meaning: &'static str,
    cause: Cause,
    prospect: Prospect,
    advice: &'static str,
) -> Row {
    Row { place, words, meaning, cause, prospect, advice }
}

use Place::{Error, Scheduler, State};
use Prospect::{Hopeless, HopelessTwice, Waiting};

/// The scheduler's filters. It names all that keep nodes away; the first row that it names counts, so a
/// constraint that fits a node which then has no room stands below the room.
pub(super) static SCHEDULER: &[Row] = &[
    row(
        Scheduler,
        &["unsupported platform"],
        "no node has the image's platform",
        Cause::Platform,
        Hopeless,
        "use an image for the platform of the nodes",
    ),
    row(
        Scheduler,
        &["missing plugin"],
        "no node has the plugin for a volume, network or log driver",
        Cause::NoPlugin,
        Hopeless,
        "skep docker --node NODE -- plugin install PLUGIN  # or use a built-in driver",
    ),
    row(
        Scheduler,
        &["cannot fulfill requested csi volume mounts"],
        "there is no such cluster volume, or it cannot be on any node",
        Cause::NoMount,
        Hopeless,
        "skep docker -- volume ls --cluster",
    ),
    row(
        Scheduler,
        &["max replicas per node limit exceed"],
        "more replicas are asked for than `max_replicas_per_node` allows on the nodes",
        Cause::TooManyReplicas,
        Hopeless,
        "skep node add  # or ask for fewer replicas of {service}",
    ),
    row(
        Scheduler,
        &["host-mode port already in use"],
        "each node already publishes the port",
        Cause::PortTaken,
        Hopeless,
        "skep ssh {node} -- sudo ss -ltnup  # shows what uses the port; or publish another one",
    ),
    row(
        Scheduler,
        &["insufficient resources"],
        "no node has enough left of what the service reserves",
        Cause::NoResources,
        Hopeless,
        "skep node add --memory 4GiB  # or reserve less memory for the service",
    ),
    row(
        Scheduler,
        &["scheduling constraints not satisfied"],
        "no node meets the constraints",
        Cause::NoNode,
        Hopeless,
        LABELS,
    ),
    row(
        Scheduler,
        &["not available for new tasks"],
        "the nodes are drained or paused",
        Cause::NoNode,
        Hopeless,
        LABELS,
    ),
];

/// What an engine, the runtime or the agent says of a task; the first row whose words are there counts,
/// so what may pass stands before what may be either.
pub(super) static ERRORS: &[Row] = &[
    row(
        Error,
        &["unhealthy container"],
        "the health check failed, and the container was stopped",
        Cause::Unhealthy,
        Waiting,
        "skep docker -- service logs {service}  # or give its health check a longer start_period",
    ),
    row(
        Error,
        &[
            "no such image",
            "pull access denied",
            "manifest unknown",
            "manifest for",
            "repository does not",
        ],
        "the image is neither on the node nor in its registry",
        Cause::NoImage,
        HopelessTwice,
        "docker save {image} | skep docker --node {node} -- load  # on each node, if it is in no registry",
    ),
    row(
        Error,
        &["port is already allocated", "address already in use"],
        "something on the node uses the port",
        Cause::PortTaken,
        HopelessTwice,
        "skep ssh {node} -- sudo ss -ltnup  # shows what uses the port; or publish another one",
    ),
    row(
        Error,
        &[
            "connection refused",
            "no route to host",
            "i/o timeout",
            "connection timed out",
            "deadline exceeded",
            "temporary failure in name resolution",
        ],
        "something that the container needs from the network does not answer yet",
        Cause::NotReached,
        Waiting,
        LOOK,
    ),
    row(
        Error,
        &[
            "network sandbox join failed",
            "could not find network attachment",
            "subnet sandbox join failed",
            "failed to get network",
            "not found in network",
        ],
        "the node has not joined the network yet",
        Cause::NotReached,
        Waiting,
        LOOK,
    ),
    row(
        Error,
        &["bind source path does not exist"],
        "the path to mount is not on the node",
        Cause::NoMount,
        HopelessTwice,
        "skep ssh {node}  # and create the path to mount",
    ),
    row(
        Error,
        &[
            "range of cpus is from",
            "minimum memory limit allowed",
            "unknown log opt",
            "logger: no log driver named",
            "invalid mount target",
            "invalid mount config",
            "invalid bind mount source",
            "invalid volume mount source",
            "invalid tmpfs source",
            "duplicate mount point",
            "volume name is too short",
            "gelf: endpoint",
            "gelf-address is a required",
            "includes invalid characters for a local volume name",
            "quota size requested but no quota support",
            "invalid option:",
            "invalid capadd",
            "invalid capdrop",
            "invalid isolation",
            "invalid hostname",
            "invalid ulimit",
        ],
        "the engine takes no such setting, on any node",
        Cause::Setting,
        Hopeless,
        EDIT,
    ),
    row(
        Error,
        &["is not enabled on this host", "failed to initialize logging driver"],
        "the log driver does not work on the node",
        Cause::Setting,
        HopelessTwice,
        "use another logging driver for {service}, such as json-file",
    ),
    row(
        Error,
        &["no such volume", "error while mounting volume", "failed to mount local volume"],
        "the volume cannot be mounted",
        Cause::NoMount,
        HopelessTwice,
        "skep docker --node {node} -- volume ls",
    ),
    row(
        Error,
        &[
            "error mounting ",
            "is not a shared mount",
            "is not a shared or slave mount",
            "cannot mkdir:",
        ],
        "the container's file system has no place for a mount or the working directory",
        Cause::NoMount,
        HopelessTwice,
        EDIT,
    ),
    row(
        Error,
        &["error during container init: open /proc/sys/"],
        "the node's kernel has no such sysctl",
        Cause::Setting,
        HopelessTwice,
        EDIT,
    ),
    row(
        Error,
        &["unable to find user", "unable to find group", "no matching entries in passwd file"],
        "the image has no such user",
        Cause::Setting,
        HopelessTwice,
        EDIT,
    ),
    row(
        Error,
        &[
            "executable file not found",
            "exec format error",
            "no such file or directory: unknown",
            "is a directory: unknown",
            "permission denied: unknown",
        ],
        "the command is not in the image, or cannot be executed",
        Cause::NoCommand,
        HopelessTwice,
        "check the command and entrypoint of {service}",
    ),
    row(
        Error,
        &[
            "assigned node no longer meets constraints",
            "assigned node no longer meets resource constraints",
        ],
        "the swarm moves the task to another node",
        Cause::Other,
        Waiting,
        LOOK,
    ),
    row(
        Error,
        &["task: non-zero exit ("],
        "the container ended with that code; what it needs may still be starting",
        Cause::Exits(0),
        Waiting,
        LOGS,
    ),
    row(
        Error,
        &["starting container failed"],
        "the engine could not start the container",
        Cause::NotStarted,
        HopelessTwice,
        LOOK,
    ),
];

/// A node rejected a task for a reason that no other row knows.
pub(super) static REJECTED: Row = row(
    State,
    &["a node rejects tasks for a reason that is not known"],
    "the node cannot take the task",
    Cause::NotStarted,
    HopelessTwice,
    LOOK,
);

/// Anything else.
pub(super) static UNKNOWN: Row =
    row(State, &["any other text"], "shown as it is", Cause::Other, Waiting, LOOK);

/// A node that would do is down.
pub(super) static NODES_DOWN: Row = row(
    State,
    &["a node that meets the constraints is down"],
    "it may come back",
    Cause::NodesDown,
    Waiting,
    STATUS,
);

/// A task is prepared.
pub(super) static PREPARING: Row = row(
    State,
    &["a task is `preparing`"],
    "its node prepares the image, volumes and networks",
    Cause::Preparing,
    Waiting,
    "",
);

/// A container runs, and its health is not known.
pub(super) static STARTING: Row = row(
    State,
    &["a task is `starting`"],
    "its container starts, or its health check has not passed yet",
    Cause::HealthPending,
    Waiting,
    LOGS,
);

/// More is asked for than any node has.
pub(super) static TOO_LARGE: Row = row(
    State,
    &["the CPU limit exceeds the CPUs of every node, or a reservation what every node has"],
    "no node is large enough",
    Cause::NoResources,
    Hopeless,
    "skep node add --cpus 4 --memory 4GiB  # or lower the limits and reservations of {service}",
);

/// Containers came to their end, and should not have.
pub(super) static NOT_RESTARTED: Row = row(
    State,
    &["a container exits with 0, restart condition `any`, attempts used up"],
    "the restart policy starts no other",
    Cause::NotRestarted,
    Hopeless,
    "skep docker -- service logs {service}  # or set another restart_policy",
);

/// Nothing is tried again.
pub(super) static GIVEN_UP: Row = row(
    State,
    &["all tasks failed, and the restart policy allows no more"],
    "the swarm has given the service up; deploying the same file does not start it again",
    Cause::Other,
    Hopeless,
    AGAIN,
);

/// An update went wrong.
pub(super) static UPDATE: Row = row(
    State,
    &["an update is paused or was rolled back"],
    "tasks of the new version failed",
    Cause::Update,
    Hopeless,
    LOGS,
);

/// A one-shot service did its work.
#[cfg(test)]
pub(super) static ONE_SHOT: Row = row(
    State,
    &["a container exits with 0, restart condition `on-failure` or `none`"],
    "a one-shot task has done its work",
    Cause::Other,
    Prospect::Done,
    "",
);

/// A job did its work.
#[cfg(test)]
pub(super) static JOB: Row = row(
    State,
    &["a job's task of the current iteration is `complete`"],
    "the job has done its work; earlier iterations do not count",
    Cause::Other,
    Prospect::Done,
    "",
);

/// The rows for states.
#[cfg(test)]
pub(super) static STATES: [&Row; 11] = [
    &NODES_DOWN,
    &PREPARING,
    &STARTING,
    &TOO_LARGE,
    &NOT_RESTARTED,
    &GIVEN_UP,
    &UPDATE,
    &ONE_SHOT,
    &JOB,
    &REJECTED,
    &UNKNOWN,
];

/// Returns the row for an error of a task.
pub(super) fn of_error(error: &str, rejected: bool) -> &'static Row {
    let lower = error.to_lowercase();
    let known = ERRORS.iter().find(|row| row.words.iter().any(|words| lower.contains(words)));
    known.unwrap_or(if rejected { &REJECTED } else { &UNKNOWN })
}

/// Returns the row for an explanation of the scheduler.
pub(super) fn of_explanation(error: &str) -> Option<&'static Row> {
    let lower = error.to_lowercase();
    SCHEDULER.iter().find(|row| row.words.iter().any(|words| lower.contains(words)))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const DOCUMENT: &str = include_str!("../../../../docs/design/stacks-and-verification.md");

    /// Returns the table as the documentation has it.
    fn table() -> String {
        let mut text = "| Where | Words or state | Meaning | Then | Advice |\n| --- | --- | --- | --- | --- |\n".to_owned();
        for row in SCHEDULER.iter().chain(ERRORS).chain(STATES) {
            let words = match row.place {
                Place::State => row.words.join(", "),
                _ => row
                    .words
                    .iter()
                    .map(|it| format!("`{}`", it.trim()))
                    .collect::<Vec<_>>()
                    .join(", "),
            };
            let advice = match row.advice {
                "" => String::new(),
                advice => format!("`{}`", advice.replace('|', "\\|")),
            };
            let (place, then) = (row.place.as_str(), row.prospect.as_str());
            writeln!(text, "| {place} | {words} | {} | {then} | {advice} |", row.meaning).unwrap();
        }
        text
    }

    #[test]
    fn the_documentation_has_the_same_table() {
        let begin = DOCUMENT.find("| Where |").expect("the document has the table");
        let rows = DOCUMENT[begin..].lines().take_while(|line| line.starts_with('|'));
        let found: String = rows.map(|line| format!("{line}\n")).collect();
        assert_eq!(found, table(), "copy the table from here:\n{}", table());
    }

    #[test]
    fn each_answer_of_a_real_swarm_has_its_row() {
        // What a swarm of two nodes with engine 26.1 said of services that were made to fail.
        insta::assert_snapshot!(judged(include_str!("answers-26.1.txt")));
    }

    #[test]
    fn each_answer_of_an_older_swarm_has_its_row() {
        // What a swarm of one node with engine 20.10 said.
        insta::assert_snapshot!(judged(include_str!("answers-20.10.txt")));
    }

    fn judged(answers: &str) -> String {
        let mut text = String::new();
        for line in answers.lines() {
            let (state, error) = line.split_once(": ").unwrap();
            let row = match error.starts_with("no suitable node") {
                true => of_explanation(error).unwrap(),
                false => of_error(error, state == "rejected"),
            };
            writeln!(text, "{}: {:?}\n    {line}", row.prospect.as_str(), row.cause).unwrap();
        }
        text
    }

    #[test]
    fn each_row_is_reached_by_each_of_its_words() {
        for row in SCHEDULER {
            for words in row.words {
                let said = format!("no suitable node ({words} on 2 nodes)");
                assert_eq!(of_explanation(&said), Some(row), "{words}");
            }
        }
        for row in ERRORS {
            for words in row.words {
                assert_eq!(of_error(&words.to_uppercase(), true), row, "{words}");
            }
        }
        assert_eq!(of_explanation("no suitable node (bad omens on 2 nodes)"), None);
        assert_eq!(of_error("bad omens", false), &UNKNOWN);
        assert_eq!(of_error("bad omens", true), &REJECTED);
    }

    #[test]
    fn what_may_pass_is_told_from_what_stays() {
        // The log server may start later; a driver that this host lacks does not come.
        let start = "starting container failed: failed to create task for container: failed to initialize logging driver: ";
        let server = format!("{start}dial tcp 127.0.0.1:24224: connect: connection refused");
        assert_eq!(of_error(&server, false).prospect, Prospect::Waiting);
        let journal = format!("{start}journald is not enabled on this host");
        assert_eq!(of_error(&journal, false).prospect, Prospect::HopelessTwice);
        assert_eq!(of_error("task: non-zero exit (1)", false).prospect, Prospect::Waiting);
        assert_eq!(
            of_error("starting container failed: bad omens", false).cause,
            Cause::NotStarted
        );
    }
}
