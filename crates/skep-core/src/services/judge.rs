//! What has become of each service.

use std::collections::BTreeSet;
use std::fmt;

use super::problem::{find, reference};
use super::{
    Cause, Mode, Problem, Service, SwarmNode, Task, TaskState, Update, UpdateState, View, placement,
};

/// How many tasks of a service have to fail for a lasting cause before it is given up: the first may
/// have come too early, such as before its image.
const TRIES: usize = 2;

/// A service at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The service's ID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its image, without the digest.
    pub image: String,
    /// How many of its tasks run, or, of a job, have come to their end.
    pub running: u64,
    /// How many are wanted.
    pub wanted: u64,
    /// The names of the nodes that they run on.
    pub nodes: BTreeSet<String>,
    /// The IDs of these tasks.
    pub tasks: BTreeSet<String>,
    /// What that means.
    pub standing: Standing,
    /// What is wrong, if anything is.
    pub problem: Option<Problem>,
}

impl fmt::Display for Status {
    /// Writes it as one line, without the service's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.running, self.wanted)?;
        if !self.nodes.is_empty() {
            let nodes: Vec<_> = self.nodes.iter().map(String::as_str).collect();
            write!(f, " on {}", nodes.join(", "))?;
        }
        write!(f, ", {}", self.image)?;
        match &self.problem {
            Some(problem) => write!(f, "; {problem}"),
            None => Ok(()),
        }
    }
}

/// What the state of a service means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// What is wanted runs, and nothing else; a job has come to its end.
    Converged,
    /// It is on its way.
    Working,
    /// It will not get there by itself.
    Stuck,
}

/// Tells of each service what has become of it.
#[must_use]
pub fn judge(view: &View) -> Vec<Status> {
    view.services.iter().map(|service| judge_one(view, service)).collect()
}

fn judge_one(view: &View, service: &Service) -> Status {
    let wanted_tasks: Vec<&Task> =
        view.tasks_of(service).filter(|task| task.is_wanted() || is_done(service, task)).collect();
    let good: Vec<&Task> =
        wanted_tasks.iter().copied().filter(|task| is_good(view, service, task)).collect();
    let wanted = wanted(view, service);
    let running = good.len() as u64;
    let complete = running == wanted && wanted_tasks.len() == good.len();
    let problem = match complete {
        true => nowhere(view, service),
        false => find(view, service, false)
            .or_else(|| ended(view, service, &wanted_tasks))
            .or_else(|| lost(view, service, &wanted_tasks)),
    };
    let update = service.update.as_ref().map(|update| (update, update.state));
    let (standing, problem) = match update {
        Some((
            update,
            UpdateState::Paused | UpdateState::RollbackPaused | UpdateState::RolledBack,
        )) => (Standing::Stuck, Some(of_update(update, find(view, service, true)))),
        Some((_, UpdateState::Updating | UpdateState::RollingBack)) => (Standing::Working, problem),
        _ if complete => (Standing::Converged, problem),
        _ if problem.as_ref().is_some_and(|it| is_final(view, service, it)) => {
            (Standing::Stuck, problem)
        }
        _ => (Standing::Working, problem),
    };
    let nodes = good.iter().filter_map(|task| view.hostname(task.node.as_deref()?));
    Status {
        id: service.id.clone(),
        name: service.name.clone(),
        image: service.image.clone(),
        running,
        wanted,
        nodes: nodes.map(str::to_owned).collect(),
        tasks: good.iter().map(|task| task.id.clone()).collect(),
        standing,
        problem,
    }
}

/// Returns how many tasks are wanted.
fn wanted(view: &View, service: &Service) -> u64 {
    match service.mode {
        Mode::Replicated(count) | Mode::Job(count) => count,
        Mode::Global | Mode::GlobalJob => {
            let has_task = |node: &SwarmNode| {
                let mut tasks = view.tasks_of(service);
                tasks.any(|task| task.is_wanted() && task.node.as_ref() == Some(&node.id))
            };
            // A node that is paused keeps the task that it has.
            let counts = |node: &&&SwarmNode| {
                node.takes_tasks() || node.ready && node.availability == "pause" && has_task(node)
            };
            placement::fitting(service, &view.nodes).iter().filter(counts).count() as u64
        }
    }
}

const fn is_job(service: &Service) -> bool {
    matches!(service.mode, Mode::Job(_) | Mode::GlobalJob)
}

/// Tells whether a job's task has done its work.
fn is_done(service: &Service, task: &Task) -> bool {
    is_job(service) && task.current && task.state == TaskState::Complete
}

fn is_good(view: &View, service: &Service, task: &Task) -> bool {
    match is_job(service) {
        true => task.current && task.state == TaskState::Complete,
        // What is known of a task is what its node said last.
        false => task.current && task.state == TaskState::Running && !is_lost(view, task),
    }
}

/// Tells whether a task was given to a node that is down.
fn is_lost(view: &View, task: &Task) -> bool {
    task.node.as_ref().is_some_and(|id| view.nodes.iter().any(|it| it.id == *id && !it.ready))
}

/// Tells of a service that is complete as it has nowhere to be.
fn nowhere(view: &View, service: &Service) -> Option<Problem> {
    let everywhere = matches!(service.mode, Mode::Global | Mode::GlobalJob);
    if !everywhere || wanted(view, service) > 0 {
        return None;
    }
    let text = placement::explain(service, &view.nodes)?;
    Some(Problem { cause: Cause::NoNode, task: None, text })
}

/// Tells of a service whose tasks have ended and get no successors.
fn ended(view: &View, service: &Service, wanted: &[&Task]) -> Option<Problem> {
    if is_job(service) || wanted.iter().any(|task| task.state < TaskState::Complete) {
        return None;
    }
    let mut ended: Vec<&Task> = view.tasks_of(service).filter(|task| task.current).collect();
    ended.sort_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
    let last = ended.last()?;
    if last.state != TaskState::Complete {
        return None;
    }
    Some(Problem {
        cause: Cause::NotRestarted,
        task: Some(reference(view, service, last)),
        text: "its container came to its end, and its restart policy starts no other".to_owned(),
    })
}

/// Tells of a service whose task is on a node that is down; the swarm gives it to another one soon.
fn lost(view: &View, service: &Service, wanted: &[&Task]) -> Option<Problem> {
    let task = wanted.iter().find(|task| !is_done(service, task) && is_lost(view, task))?;
    Some(Problem {
        cause: Cause::NodesDown,
        task: Some(reference(view, service, task)),
        text: "the node is down".to_owned(),
    })
}

fn of_update(update: &Update, problem: Option<Problem>) -> Problem {
    let what = match update.state {
        UpdateState::RolledBack => "the update was rolled back",
        UpdateState::RollbackPaused => "the rollback stopped",
        _ => "the update stopped",
    };
    let words = match update.message.is_empty() {
        true => what.to_owned(),
        false => format!("{what}: {}", update.message),
    };
    match problem {
        Some(problem) => Problem { text: format!("{words}; {}", problem.text), ..problem },
        None => Problem { cause: Cause::Update, task: None, text: words },
    }
}

/// Tells whether nothing will change by itself: no task is tried again, or each comes to the same end.
fn is_final(view: &View, service: &Service, problem: &Problem) -> bool {
    let of_it = || view.tasks_of(service).filter(|task| task.current);
    let given_up = of_it().next().is_some() && !of_it().any(Task::is_wanted);
    let waits = of_it().any(|task| task.is_wanted() && task.state <= TaskState::Pending);
    let failed = of_it().filter(|task| task.has_failed()).count();
    given_up && !is_job(service) || problem.cause.is_lasting() && (waits || failed >= TRIES)
}
