//! What has become of each service.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::problem::{find, is_repeated, too_large};
use super::{
    Mode, Problem, Prospect, Restart, Service, SwarmNode, Task, TaskState, Update, UpdateState,
    View, meaning, placement,
};

/// How many tasks of a service have to fail for one reason that may have come too early, such as before
/// its image.
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
    /// Whether they all have done their work: a job, or a service that is not restarted.
    pub done: bool,
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
        if self.done {
            write!(f, "; done")?;
        }
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

/// Returns the services that the swarm has given up: their tasks failed, and it starts no others. Deploying
/// the same again does not start them either.
#[must_use]
pub fn given_up(view: &View) -> Vec<&Service> {
    let statuses = judge(view).into_iter();
    let services = view.services.iter().zip(statuses);
    let given_up = services.filter(|(service, status)| {
        status.standing == Standing::Stuck && is_given_up(view, service)
    });
    given_up.map(|(service, _)| service).collect()
}

fn judge_one(view: &View, service: &Service) -> Status {
    let counted = counted_nodes(view, service);
    let done = done(view, service, counted.as_ref());
    let counts = |task: &&Task| done.contains(&task.id.as_str()) || is_open(service, task);
    let wanted_tasks: Vec<&Task> = view.tasks_of(service).filter(counts).collect();
    let is_good = |task: &&Task| done.contains(&task.id.as_str()) || runs(view, service, task);
    let good: Vec<&Task> = wanted_tasks.iter().copied().filter(is_good).collect();
    let wanted = match service.mode {
        Mode::Replicated(count) | Mode::Job(count) => count,
        Mode::Global | Mode::GlobalJob => counted.map_or(0, |nodes| nodes.len() as u64),
    };
    let running = good.len() as u64;
    let complete = running == wanted && wanted_tasks.len() == good.len();
    let problem = match complete {
        true => nowhere(view, service, wanted),
        false => too_large(view, service)
            .or_else(|| find(view, service, false))
            .or_else(|| ended(view, service, &wanted_tasks))
            .or_else(|| lost(view, service, &wanted_tasks))
            .or_else(|| on_its_way(view, service, &wanted_tasks)),
    };
    let given_up = !complete && is_given_up(view, service);
    let problem = match given_up {
        true => Some(with_restart(problem, view, service)),
        false => problem,
    };
    let update = service.update.as_ref().map(|update| (update, update.state));
    let (standing, problem) = match update {
        Some((
            update,
            UpdateState::Paused | UpdateState::RollbackPaused | UpdateState::RolledBack,
        )) => (Standing::Stuck, Some(of_update(view, service, update, find(view, service, true)))),
        Some((_, UpdateState::Updating | UpdateState::RollingBack)) => (Standing::Working, problem),
        _ if complete => (Standing::Converged, problem),
        _ if given_up || problem.as_ref().is_some_and(|it| is_final(view, service, it)) => {
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
        done: complete && running > 0 && done.len() == good.len(),
        standing,
        problem,
    }
}

/// Returns the IDs of the nodes of which each is to have a task; none if tasks are counted otherwise.
fn counted_nodes<'a>(view: &'a View, service: &Service) -> Option<BTreeSet<&'a str>> {
    if let Mode::Replicated(_) | Mode::Job(_) = service.mode {
        return None;
    }
    let has_task = |node: &SwarmNode| {
        let mut tasks = view.tasks_of(service);
        tasks.any(|task| task.is_wanted() && task.node.as_ref() == Some(&node.id))
    };
    // A node that is paused keeps the task that it has.
    let counts = |node: &&&SwarmNode| {
        node.takes_tasks() || node.ready && node.availability == "pause" && has_task(node)
    };
    let fitting = placement::fitting(service, &view.nodes);
    Some(fitting.iter().filter(counts).map(|node| node.id.as_str()).collect())
}

const fn is_job(service: &Service) -> bool {
    matches!(service.mode, Mode::Job(_) | Mode::GlobalJob)
}

/// Tells whether a task has done its work: a job's, or one that its service does not restart after it
/// ended well.
fn is_done(service: &Service, task: &Task) -> bool {
    let once = is_job(service) || service.restart != Restart::Any;
    once && task.current && task.state == TaskState::Complete
}

/// Returns the IDs of the tasks that have done their work, of a service the last one in each place. One
/// on a node that takes no part any more does not count, nor does one that has a successor.
fn done<'a>(
    view: &'a View,
    service: &'a Service,
    counted: Option<&BTreeSet<&str>>,
) -> BTreeSet<&'a str> {
    let place = |task: &'a Task| (task.slot, task.node.as_deref().filter(|_| task.slot.is_none()));
    let has_part = |task: &&Task| {
        counted.is_none_or(|nodes| task.node.as_deref().is_some_and(|id| nodes.contains(id)))
    };
    let all = view.tasks_of(service).filter(|task| is_done(service, task)).filter(has_part);
    if is_job(service) {
        return all.map(|task| task.id.as_str()).collect();
    }
    let mut last = BTreeMap::new();
    let mut all: Vec<&'a Task> = all.collect();
    all.sort_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
    last.extend(all.into_iter().map(|task| (place(task), task.id.as_str())));
    for task in view.tasks_of(service).filter(|task| is_open(service, task)) {
        last.remove(&place(task));
    }
    last.into_values().collect()
}

/// Tells whether the swarm still means a task to do something. Of a job only the current iteration
/// counts; the tasks of earlier ones stay in the list for a while.
fn is_open(service: &Service, task: &Task) -> bool {
    task.is_wanted() && !is_done(service, task) && (task.current || !is_job(service))
}

/// Tells whether a task runs as it should. What is known of a task is what its node said last.
fn runs(view: &View, service: &Service, task: &Task) -> bool {
    !is_job(service) && task.current && task.state == TaskState::Running && !is_lost(view, task)
}

/// Tells whether the swarm has ended its attempts: tasks were there, and none is to come.
fn is_given_up(view: &View, service: &Service) -> bool {
    let of_it = || view.tasks_of(service).filter(|task| task.current);
    of_it().next().is_some() && !of_it().any(|task| is_open(service, task))
}

/// Adds how a service that was given up is started again.
fn with_restart(problem: Option<Problem>, view: &View, service: &Service) -> Problem {
    let text = "its tasks ended, and the swarm starts no others".to_owned();
    let given_up = Problem::of(&meaning::GIVEN_UP, view, service, None, text);
    match problem {
        Some(problem) => Problem {
            advice: problem.advice.into_iter().chain(given_up.advice).collect(),
            ..problem
        },
        None => given_up,
    }
}

/// Tells whether a task was given to a node that is down.
fn is_lost(view: &View, task: &Task) -> bool {
    task.node.as_ref().is_some_and(|id| view.nodes.iter().any(|it| it.id == *id && !it.ready))
}

/// Tells of a service that is complete as it has nowhere to be.
fn nowhere(view: &View, service: &Service, wanted: u64) -> Option<Problem> {
    let everywhere = matches!(service.mode, Mode::Global | Mode::GlobalJob);
    if !everywhere || wanted > 0 {
        return None;
    }
    let text = placement::explain(service, &view.nodes)?;
    let row = meaning::of_explanation("scheduling constraints not satisfied")?;
    Some(Problem::of(row, view, service, None, text))
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
    let text = "its container came to its end, and its restart policy starts no other".to_owned();
    Some(Problem::of(&meaning::NOT_RESTARTED, view, service, Some(last), text))
}

/// Tells of a service whose task is on a node that is down; the swarm gives it to another one soon.
fn lost(view: &View, service: &Service, wanted: &[&Task]) -> Option<Problem> {
    let task = wanted.iter().find(|task| !is_done(service, task) && is_lost(view, task))?;
    let text = "the node is down".to_owned();
    Some(Problem::of(&meaning::NODES_DOWN, view, service, Some(task), text))
}

/// Tells what a task waits for that nothing is wrong with.
fn on_its_way(view: &View, service: &Service, wanted: &[&Task]) -> Option<Problem> {
    let current = wanted.iter().filter(|task| task.current);
    let told = |task: &&&Task| match task.state {
        TaskState::Preparing => Some(&meaning::PREPARING),
        TaskState::Starting => Some(&meaning::STARTING),
        _ => None,
    };
    let (row, task) = current.filter_map(|task| Some((told(&task)?, *task))).next()?;
    Some(Problem::of(row, view, service, Some(task), row.meaning.to_owned()))
}

fn of_update(view: &View, service: &Service, update: &Update, problem: Option<Problem>) -> Problem {
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
        None => Problem::of(&meaning::UPDATE, view, service, None, words),
    }
}

/// Tells whether a problem stays until somebody acts.
fn is_final(view: &View, service: &Service, problem: &Problem) -> bool {
    match problem.prospect {
        Prospect::Hopeless => true,
        Prospect::HopelessTwice => {
            problem.task.as_ref().is_some_and(|task| is_repeated(view, service, &task.id, TRIES))
        }
        Prospect::Waiting | Prospect::Done => false,
    }
}
