//! What keeps a task from running, read from the swarm's own words. These are not an interface, so
//! what is not understood is told as it is.

use std::fmt;

use super::{Service, Task, View, placement};

/// What keeps a service from what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The kind.
    pub cause: Cause,
    /// The task that tells of it.
    pub task: Option<TaskRef>,
    /// What went wrong, in words.
    pub text: String,
}

/// A task that a problem shows in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRef {
    /// Its ID.
    pub id: String,
    /// Its name, such as `web.1`.
    pub name: String,
    /// The name of its node, if it was given to one.
    pub node: Option<String>,
    /// Its container, if there was one.
    pub container: Option<String>,
}

/// The kinds of problems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// No node meets the constraints, or takes tasks.
    NoNode,
    /// The nodes that would do are down; they may come back.
    NodesDown,
    /// No node has enough left.
    NoResources,
    /// The port is taken on every node that it could be on, or on this one.
    PortTaken,
    /// The node does not get the image.
    NoImage(String),
    /// What is to be mounted is not there.
    NoMount,
    /// The command is not in the image, or cannot be executed.
    NoCommand,
    /// The health check fails.
    Unhealthy,
    /// The container ends with this code.
    Exits(i64),
    /// The containers have ended, and the restart policy starts no others.
    NotRestarted,
    /// An update stopped or went back.
    Update,
    /// Something else.
    Other,
}

impl Cause {
    /// Tells whether waiting is no remedy: the same will happen again until somebody acts.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        match self {
            Self::NoNode
            | Self::NoResources
            | Self::PortTaken
            | Self::NoImage(_)
            | Self::NoMount
            | Self::NoCommand
            | Self::NotRestarted
            | Self::Update => true,
            // What it needs may still be starting.
            Self::NodesDown | Self::Unhealthy | Self::Exits(_) | Self::Other => false,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(task) = &self.task {
            write!(f, "{}", task.name)?;
            if let Some(node) = &task.node {
                write!(f, " on {node}")?;
            }
            write!(f, ": ")?;
        }
        f.write_str(&self.text)
    }
}

/// Returns the problem that a service's tasks tell of, the newest one. Of an update that went back or
/// stopped, those before the service's last change tell.
pub(super) fn find(view: &View, service: &Service, any: bool) -> Option<Problem> {
    let mut tasks: Vec<&Task> = view.tasks_of(service).filter(|task| any || task.current).collect();
    tasks.sort_by(|a, b| (&b.created, &b.id).cmp(&(&a.created, &a.id)));
    let waits = |task: &&&Task| task.is_wanted() && !task.error.is_empty();
    let task = tasks
        .iter()
        .find(waits)
        .or_else(|| tasks.iter().find(|task| task.has_failed() && !task.error.is_empty()))?;
    let (cause, text) = read(view, service, task);
    Some(Problem { cause, task: Some(reference(view, service, task)), text })
}

pub(super) fn reference(view: &View, service: &Service, task: &Task) -> TaskRef {
    let node = task.node.as_deref().and_then(|id| view.hostname(id)).map(str::to_owned);
    let name = view.name_of(service, task);
    TaskRef { id: task.id.clone(), name, node, container: task.container.clone() }
}

/// Words of a swarm that tell of a cause; the first that are found count.
const WORDS: [(&str, Cause); 13] = [
    ("unhealthy container", Cause::Unhealthy),
    ("port is already allocated", Cause::PortTaken),
    ("address already in use", Cause::PortTaken),
    ("host-mode port already in use", Cause::PortTaken),
    ("insufficient resources", Cause::NoResources),
    ("bind source path does not exist", Cause::NoMount),
    ("invalid mount config", Cause::NoMount),
    ("no such volume", Cause::NoMount),
    ("error while mounting volume", Cause::NoMount),
    ("executable file not found", Cause::NoCommand),
    ("exec format error", Cause::NoCommand),
    ("no such file or directory: unknown", Cause::NoCommand),
    ("permission denied: unknown", Cause::NoCommand),
];

/// Words that tell that an image is not to be had.
const IMAGE: [&str; 5] = [
    "no such image",
    "pull access denied",
    "manifest unknown",
    "manifest for",
    "repository does not",
];

fn read(view: &View, service: &Service, task: &Task) -> (Cause, String) {
    let error = task.error.trim();
    let lower = error.to_lowercase();
    if IMAGE.iter().any(|words| lower.contains(words)) {
        let text = format!("there is no image {} on the node, nor in its registry", task.image);
        return (Cause::NoImage(task.image.clone()), text);
    }
    if lower.starts_with("no suitable node")
        && let Some(text) = placement::explain(service, &view.nodes)
    {
        let fitting = placement::fitting(service, &view.nodes);
        let may_come_back = fitting.iter().any(|it| !it.ready && it.availability == "active");
        return (if may_come_back { Cause::NodesDown } else { Cause::NoNode }, text);
    }
    let known = WORDS.iter().find(|(words, _)| lower.contains(words)).map(|(_, cause)| cause);
    match (known, task.exit_code) {
        (Some(Cause::NoResources), _) => (Cause::NoResources, resources(service, error)),
        (Some(Cause::PortTaken), _) => (Cause::PortTaken, ports(service, error)),
        (Some(Cause::NoCommand), _) => {
            let words = "unable to start container process: ";
            let text = error.rsplit_once(words).map_or(error, |(_, rest)| rest);
            (Cause::NoCommand, format!("its command cannot be started: {text}"))
        }
        (Some(cause), _) => (cause.clone(), error.to_owned()),
        (None, Some(code)) if task.has_failed() && code != 0 => {
            (Cause::Exits(code), format!("its container ended with code {code}"))
        }
        // A node does by now: the scheduler has not looked again yet.
        _ if lower.starts_with("no suitable node") => (Cause::NodesDown, error.to_owned()),
        _ => (Cause::Other, error.to_owned()),
    }
}

fn resources(service: &Service, error: &str) -> String {
    let mut wanted = Vec::new();
    if service.reserved.nano_cpus > 0 {
        let hundredths = service.reserved.nano_cpus / 10_000_000;
        wanted.push(format!("{}.{:02} CPUs", hundredths / 100, hundredths % 100));
    }
    if service.reserved.memory > 0 {
        wanted.push(format!("{} MiB of memory", service.reserved.memory >> 20));
    }
    match wanted.is_empty() {
        true => error.to_owned(),
        false => format!("no node has {} left: {error}", wanted.join(" and ")),
    }
}

fn ports(service: &Service, error: &str) -> String {
    let ports = service.ports.iter().filter(|port| port.host);
    let ports: Vec<_> = ports.map(|port| format!("{}/{}", port.published, port.protocol)).collect();
    match ports.is_empty() {
        true => error.to_owned(),
        false => format!("{} of the node is taken: {error}", ports.join(", ")),
    }
}
