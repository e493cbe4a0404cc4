//! The services of a swarm: what was asked for, what is there of it, and why the rest is not.
//!
//! ```text
//! View ── judge ──> Status of each service ── Watch, over time ──> settled or not
//! ```

mod constraint;
mod judge;
mod meaning;
mod placement;
mod problem;
mod spread;
mod watch;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::Role;

pub use judge::{Standing, Status, given_up, judge};
pub use meaning::Prospect;
pub use problem::{Cause, Problem, TaskRef};
pub use spread::{Spread, plan_rebalance};
pub use watch::{GRACE, HOLD, Outcome, Watch};

/// Services with their tasks, and the nodes on which they may run, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The services.
    pub services: Vec<Service>,
    /// Their tasks, those that ended among them.
    pub tasks: Vec<Task>,
    /// All nodes of the swarm.
    pub nodes: Vec<SwarmNode>,
}

/// A service as it is asked for (`docker service inspect`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its ID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The stack that it belongs to, if any.
    pub stack: Option<String>,
    /// The image, without the digest.
    pub image: String,
    /// Whether the image is named with a digest, which only a registry knows.
    pub pinned: bool,
    /// How many tasks it is to have.
    pub mode: Mode,
    /// Where it may run, such as `node.role==manager`.
    pub constraints: Vec<String>,
    /// What each task reserves.
    pub reserved: Resources,
    /// What each task may use at most; 0 for no limit.
    pub limits: Resources,
    /// How many of its tasks may be on one node; 0 for no limit.
    pub max_per_node: u64,
    /// When a task that ended gets a successor.
    pub restart: Restart,
    /// The drivers of its volumes, networks and log that a node may lack, such as `volume driver nfs`.
    pub drivers: Vec<String>,
    /// The ports that it publishes.
    pub ports: Vec<Port>,
    /// Whether it keeps data on the node that it runs on: a volume or a directory.
    pub local_data: bool,
    /// How its last update goes, if there was one.
    pub update: Option<Update>,
}

/// How many tasks a service is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// This many that run.
    Replicated(u64),
    /// One that runs on each node that it may run on.
    Global,
    /// This many that come to their end.
    Job(u64),
    /// One on each node, that comes to its end.
    GlobalJob,
}

/// When a task that ended gets a successor (`restart_policy`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    #[default]
    Any,
    /// If it failed.
    OnFailure,
    /// Never.
    None,
}

/// What a task reserves, or a node has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resources {
    /// Processors, in billionths of one.
    pub nano_cpus: i64,
    /// Memory in bytes.
    pub memory: i64,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its number on the nodes; 0 until the swarm has chosen it.
    pub published: u32,
    /// Its number in the container.
    pub target: u32,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Whether only the node on which a task runs answers, and not the routing mesh.
    pub host: bool,
}

/// How the update of a service goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Where it is.
    pub state: UpdateState,
    /// The swarm's own words.
    pub message: String,
}

/// Where an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateState {
    /// It goes on.
    Updating,
    /// It stopped, as tasks failed.
    Paused,
    /// It is done.
    Completed,
    /// It goes back.
    RollingBack,
    /// Going back stopped too.
    RollbackPaused,
    /// It has gone back.
    RolledBack,
}

/// A task (`docker service ps`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its ID.
    pub id: String,
    /// The service's ID.
    pub service: String,
    /// Its place among the replicas; none for one of each node.
    pub slot: Option<i64>,
    /// The ID of the node that it was given to.
    pub node: Option<String>,
    /// How far it is.
    pub state: TaskState,
    /// How far it is to be.
    pub desired: TaskState,
    /// Whether it is what the service asks for now, and not before its last change.
    pub current: bool,
    /// When it was made (RFC 3339).
    pub created: String,
    /// When its state last changed (RFC 3339).
    pub changed: String,
    /// What goes on, in the swarm's words.
    pub message: String,
    /// What went wrong, in the swarm's words.
    pub error: String,
    /// The container's ID.
    pub container: Option<String>,
    /// The code with which its container ended.
    pub exit_code: Option<i64>,
    /// Its image, without the digest.
    pub image: String,
}

/// How far a task is, in the order in which it goes (Docker Engine API, `TaskState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// It was made.
    New,
    /// It has what the swarm gives, such as addresses.
    Allocated,
    /// It has no node yet.
    Pending,
    /// It has a node.
    Assigned,
    /// Its node has taken it.
    Accepted,
    /// Its image and mounts are got.
    Preparing,
    /// It could start.
    Ready,
    /// It starts, or its health is not known yet.
    Starting,
    /// It runs.
    Running,
    /// It came to its end.
    Complete,
    /// It was ended.
    Shutdown,
    /// It failed.
    Failed,
    /// Its node could not take it.
    Rejected,
    /// It is to be removed.
    Remove,
    /// Its node is gone.
    Orphaned,
}

impl TaskState {
    /// Returns Docker's word for the state.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Allocated => "allocated",
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Remove => "remove",
            Self::Orphaned => "orphaned",
        }
    }
}

impl Task {
    /// Tells whether the swarm means the task to run, or to come to its end by itself.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.desired <= TaskState::Complete
    }

    /// Tells whether the task ended otherwise than it should.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        matches!(self.state, TaskState::Failed | TaskState::Rejected)
    }
}

/// A node as the scheduler sees it (`docker node inspect`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwarmNode {
    /// Its ID in the swarm.
    pub id: String,
    /// The engine's host name.
    pub hostname: String,
    /// Its part.
    pub role: Role,
    /// Whether its state is `ready`.
    pub ready: bool,
    /// `active`, `pause` or `drain`.
    pub availability: String,
    /// Its node labels.
    pub labels: BTreeMap<String, String>,
    /// The labels of its engine.
    pub engine_labels: BTreeMap<String, String>,
    /// Its operating system, such as `linux`.
    pub os: String,
    /// Its architecture, such as `x86_64`.
    pub architecture: String,
    /// What it has.
    pub resources: Resources,
}

impl SwarmNode {
    /// Tells whether the node takes new tasks.
    #[must_use]
    pub fn takes_tasks(&self) -> bool {
        self.ready && self.availability == "active"
    }
}

impl View {
    /// Returns the name of the node with that ID.
    #[must_use]
    pub fn hostname(&self, id: &str) -> Option<&str> {
        self.nodes.iter().find(|node| node.id == id).map(|node| node.hostname.as_str())
    }

    /// Returns the tasks of a service.
    pub fn tasks_of<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Task> {
        self.tasks.iter().filter(|task| task.service == service.id)
    }

    /// Returns a task's name, as `docker service ps` gives it.
    #[must_use]
    pub fn name_of(&self, service: &Service, task: &Task) -> String {
        let node = task.node.as_deref();
        match task.slot {
            Some(slot) => format!("{}.{slot}", service.name),
            None => {
                let node = node.and_then(|id| self.hostname(id)).unwrap_or("?");
                format!("{}.{node}", service.name)
            }
        }
    }

    /// Returns what belongs to one stack, with all nodes.
    #[must_use]
    pub fn of_stack(&self, stack: &str) -> Self {
        let of_it = |service: &&Service| service.stack.as_deref() == Some(stack);
        let services: Vec<_> = self.services.iter().filter(of_it).cloned().collect();
        let of_them = |task: &&Task| services.iter().any(|service| service.id == task.service);
        let tasks = self.tasks.iter().filter(of_them).cloned().collect();
        Self { services, tasks, nodes: self.nodes.clone() }
    }
}

#[cfg(test)]
mod tests;
