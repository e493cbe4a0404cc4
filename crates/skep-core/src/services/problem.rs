//! What keeps a task from running, read from the swarm's own words with the table in
//! [`meaning`](super::meaning). What is not understood is told as it is.

use std::fmt;

use super::meaning::{self, Place, Prospect, Row};
use super::{Resources, Service, SwarmNode, Task, TaskState, View, placement};

/// What keeps a service from what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The kind.
    pub cause: Cause,
    /// Whether waiting helps.
    pub prospect: Prospect,
    /// The task that tells of it.
    pub task: Option<TaskRef>,
    /// What went wrong, in words.
    pub text: String,
    /// What to do, as commands to type.
    pub advice: Vec<String>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No node meets the constraints, or takes tasks.
    NoNode,
    /// The nodes that would do are down; they may come back.
    NodesDown,
    /// No node has enough left.
    NoResources,
    /// No node has the platform.
    Platform,
    /// No node has the plugin.
    NoPlugin,
    /// More tasks are wanted than may be on the nodes.
    TooManyReplicas,
    /// The port is taken on every node that it could be on, or on this one.
    PortTaken,
    /// The node does not get the image.
    NoImage,
    /// What is to be mounted is not there.
    NoMount,
    /// The engine does not take a setting.
    Setting,
    /// The command is not in the image, or cannot be executed.
    NoCommand,
    /// The container could not be started, for another reason.
    NotStarted,
    /// Something in the network does not answer yet.
    NotReached,
    /// The health check fails.
    Unhealthy,
    /// Nothing is wrong: the node prepares what it needs.
    Preparing,
    /// Nothing is wrong: the health check has not passed yet.
    HealthPending,
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
    /// Tells whether nothing is wrong so far.
    #[must_use]
    pub const fn is_on_its_way(self) -> bool {
        matches!(self, Self::Preparing | Self::HealthPending)
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

impl Problem {
    /// Makes the problem that a row of the table tells of.
    pub(super) fn of(
        row: &Row,
        view: &View,
        service: &Service,
        task: Option<&Task>,
        text: String,
    ) -> Self {
        let image = task.map_or(&service.image, |task| &task.image);
        let cause = match row.cause {
            Cause::Exits(_) => Cause::Exits(task.map_or(0, exit_code)),
            cause => cause,
        };
        let task = task.map(|task| reference(view, service, task));
        let node = task.as_ref().and_then(|task| task.node.as_deref()).unwrap_or("NODE");
        let advice = row.advice.replace("{service}", &service.name);
        let advice = advice.replace("{node}", node).replace("{image}", image);
        let advice = Some(advice).filter(|it| !it.is_empty()).into_iter().collect();
        Self { cause, prospect: row.prospect, task, text, advice }
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
    let (row, text) = read(view, service, task);
    Some(Problem::of(row, view, service, Some(task), text))
}

/// Tells whether enough tasks of a service failed for the same reason as that one.
pub(super) fn is_repeated(view: &View, service: &Service, id: &str, times: usize) -> bool {
    let failed = || view.tasks_of(service).filter(|it| it.current && it.has_failed());
    let Some(last) = view.tasks_of(service).find(|task| task.id == id) else { return false };
    let row = |task: &Task| meaning::of_error(&task.error, task.state == TaskState::Rejected);
    let same = |task: &Task| match row(last) == row(task) {
        // Texts of known reasons name the container or its directory.
        true => row(task).place == Place::Error || task.error == last.error,
        false => false,
    };
    failed().filter(|task| same(task)).count() >= times
}

/// Tells of a service that asks for more than any node that it may be on has.
pub(super) fn too_large(view: &View, service: &Service) -> Option<Problem> {
    let nodes = placement::fitting(service, &view.nodes);
    let wanted = Resources {
        nano_cpus: service.reserved.nano_cpus.max(service.limits.nano_cpus),
        // More memory than there is may be allowed, but not reserved.
        memory: service.reserved.memory,
    };
    let exceeds = |node: &&SwarmNode| {
        let has = node.resources;
        wanted.nano_cpus > has.nano_cpus || wanted.memory > has.memory
    };
    // A node that has not told what it has yet may have enough.
    let known = nodes.iter().all(|node| node.resources != Resources::default());
    if nodes.is_empty() || !known || !nodes.iter().all(exceeds) {
        return None;
    }
    let limit = service.limits.nano_cpus > service.reserved.nano_cpus;
    let asks = match limit {
        true => "its limits and reservations need",
        false => "it reserves",
    };
    let largest = nodes.iter().map(|node| {
        let has = Resources {
            memory: if wanted.memory > 0 { node.resources.memory } else { 0 },
            ..node.resources
        };
        format!("{} has {}", node.hostname, amounts(has).join(" and "))
    });
    let largest: Vec<_> = largest.collect();
    let text = format!("{asks} {}, but {}", amounts(wanted).join(" and "), largest.join(", "));
    Some(Problem::of(&meaning::TOO_LARGE, view, service, None, text))
}

pub(super) fn reference(view: &View, service: &Service, task: &Task) -> TaskRef {
    let node = task.node.as_deref().and_then(|id| view.hostname(id)).map(str::to_owned);
    let name = view.name_of(service, task);
    // The swarm tells a container's ID when its task has started, which a health check puts off. The
    // engine names the container after the task.
    let named = || {
        let slot = task.slot.map(|slot| slot.to_string());
        let place = slot.or_else(|| task.node.clone())?;
        let has_container = task.state == TaskState::Starting;
        has_container.then(|| format!("{}.{place}.{}", service.name, task.id))
    };
    let container = task.container.clone().or_else(named);
    TaskRef { id: task.id.clone(), name, node, container }
}

/// Returns what a task's error means, and how to tell it.
fn read(view: &View, service: &Service, task: &Task) -> (&'static Row, String) {
    let error = task.error.trim();
    if error.to_lowercase().starts_with("no suitable node") {
        return read_explanation(view, service, error);
    }
    let row = meaning::of_error(error, task.state == TaskState::Rejected);
    let text = match row.cause {
        Cause::NoImage => {
            format!("there is no image {} on the node, nor in its registry", task.image)
        }
        Cause::PortTaken => ports(service, error),
        Cause::NoCommand => {
            let words = "unable to start container process: ";
            let text = error.rsplit_once(words).map_or(error, |(_, rest)| rest);
            format!("its command cannot be started: {text}")
        }
        // Only a plain code says nothing beyond itself.
        Cause::Exits(_) if error.ends_with(')') => {
            format!("its container ended with code {}", exit_code(task))
        }
        _ => error.to_owned(),
    };
    (row, text)
}

/// Returns what the scheduler's explanation means, and how to tell it.
fn read_explanation(view: &View, service: &Service, error: &str) -> (&'static Row, String) {
    let fitting = placement::fitting(service, &view.nodes);
    let may_come_back = fitting.iter().any(|it| !it.ready && it.availability == "active");
    let row = meaning::of_explanation(error);
    if let Some(text) = placement::explain(service, &view.nodes) {
        let away =
            meaning::of_explanation("not available for new tasks").filter(|_| !may_come_back);
        return (away.unwrap_or(&meaning::NODES_DOWN), text);
    }
    match row {
        _ if may_come_back => (&meaning::NODES_DOWN, error.to_owned()),
        None => (&meaning::UNKNOWN, error.to_owned()),
        // A node does by now: the scheduler has not looked again yet.
        Some(row) if row.cause == Cause::NoNode => (&meaning::NODES_DOWN, error.to_owned()),
        Some(row) => {
            let text = match row.cause {
                Cause::NoResources => resources(service, error),
                Cause::PortTaken => ports(service, error),
                Cause::NoPlugin if !service.drivers.is_empty() => {
                    format!("no node has {}: {error}", service.drivers.join(" or "))
                }
                Cause::TooManyReplicas => {
                    format!("max_replicas_per_node is {}: {error}", service.max_per_node)
                }
                _ => error.to_owned(),
            };
            (row, text)
        }
    }
}

/// Returns the code with which a task's container ended.
fn exit_code(task: &Task) -> i64 {
    let said = task.error.rsplit_once("non-zero exit (").and_then(|(_, rest)| rest.split_once(')'));
    said.and_then(|(code, _)| code.parse().ok()).or(task.exit_code).unwrap_or(0)
}

/// Returns resources in words; none of what is 0.
fn amounts(resources: Resources) -> Vec<String> {
    let mut amounts = Vec::new();
    if resources.nano_cpus > 0 {
        let hundredths = resources.nano_cpus / 10_000_000;
        amounts.push(format!("{}.{:02} CPUs", hundredths / 100, hundredths % 100));
    }
    if resources.memory > 0 {
        amounts.push(format!("{} MiB of memory", resources.memory >> 20));
    }
    amounts
}

fn resources(service: &Service, error: &str) -> String {
    let wanted = amounts(service.reserved);
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
