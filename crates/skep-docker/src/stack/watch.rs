//! Looks at services again and again, until they settle.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use skep_core::event::Event;
use skep_core::services::{Cause, Outcome, Problem, Standing, Status, View, Watch, judge};
use tokio::time::{Instant, timeout};

use super::{Error, Swarm};

/// How long the last look may take when the time is nearly over.
const LAST: Duration = Duration::from_secs(15);

/// How soon services are looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How soon a container is asked again for its last health check, and how long it may take to answer.
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// How many of a container's last lines are told.
const LINES: usize = 10;

/// The code of a container that was killed, as by a kernel without memory.
const KILLED: i64 = 137;

/// How a watch ended.
#[derive(Debug)]
pub struct Ending {
    /// What was seen last.
    pub outcome: Outcome,
    /// Whether the time was over before the services had settled.
    pub late: bool,
    /// Why there was no answer at the end, if there was none; then the outcome is older.
    pub silent: Option<Error>,
}

/// Watches the services that `select` leaves until they have settled, or for `limit`.
///
/// # Errors
///
/// If in all that time no manager answered.
pub async fn watch(
    swarm: Swarm<'_>,
    select: &(dyn Fn(&View) -> View + Send + Sync),
    limit: Duration,
    events: &(dyn Fn(Event) + Send + Sync),
) -> Result<Ending, Error> {
    let began = Instant::now();
    let mut watch = Watch::default();
    let mut told = Told::default();
    let mut checks = Checks::default();
    let mut last = None;
    loop {
        let left = limit.saturating_sub(began.elapsed());
        let looked = timeout(left.max(LAST), look(swarm)).await;
        let looked = looked.unwrap_or_else(|_| Err(Error::NoManager("it takes too long".into())));
        let late = began.elapsed() >= limit;
        match looked {
            Ok(view) => {
                let mut outcome = watch.look(began.elapsed(), &select(&view));
                checks.add(swarm, &mut outcome, began.elapsed()).await;
                told.tell(&outcome, events);
                if outcome.settled || late {
                    let late = !outcome.settled;
                    return Ok(Ending { outcome, late, silent: None });
                }
                last = Some(outcome);
            }
            // A manager that does not answer may be about to hand over to another.
            Err(error) if !late => told.silence(&error, events),
            Err(error) => {
                return match last {
                    Some(outcome) => Ok(Ending { outcome, late, silent: Some(error) }),
                    None => Err(error),
                };
            }
        }
        // wait: the swarm's events tell of tasks only what polling tells too, and may be missed
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Looks at all services for `limit`, or until each either is what was asked for or tells why not: what
/// follows from a node that was drained shows a moment later.
///
/// # Errors
///
/// If no manager answers.
pub async fn glance(swarm: Swarm<'_>, limit: Duration) -> Result<Vec<Status>, Error> {
    let began = Instant::now();
    loop {
        let services = judge(&look(swarm).await?);
        let wrong = |problem: &Problem| !problem.cause.is_on_its_way();
        let clear = |it: &Status| {
            it.standing == Standing::Converged || it.problem.as_ref().is_some_and(wrong)
        };
        if services.iter().all(clear) || began.elapsed() >= limit {
            return Ok(services);
        }
        // wait: the scheduler does not announce that it found no place for a task
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn look(swarm: Swarm<'_>) -> Result<View, Error> {
    Ok(swarm.manager().await?.view().await?)
}

/// What the health checks of containers said last that are not healthy yet.
#[derive(Default)]
struct Checks {
    /// By container, with the time of asking.
    said: BTreeMap<String, (Duration, Option<String>)>,
}

impl Checks {
    /// Adds to each service that waits for a health check what that said last.
    async fn add(&mut self, swarm: Swarm<'_>, outcome: &mut Outcome, now: Duration) {
        let problems = outcome.services.iter_mut().filter_map(|it| it.problem.as_mut());
        for problem in problems.filter(|problem| problem.cause == Cause::HealthPending) {
            let Some(container) = problem.task.as_ref().and_then(|task| task.container.clone())
            else {
                continue;
            };
            let fresh = self.said.get(&container).is_some_and(|(at, _)| now < *at + ASK_AGAIN);
            if !fresh {
                let said = last_check(swarm, problem).await;
                self.said.insert(container.clone(), (now, said));
            }
            if let Some((_, Some(said))) = self.said.get(&container) {
                problem.text.push_str(&format!("; its last check: {said}"));
            }
        }
    }
}

/// Returns what the health check of a problem's container said last; none if it cannot be had soon.
async fn last_check(swarm: Swarm<'_>, problem: &Problem) -> Option<String> {
    let task = problem.task.as_ref()?;
    let container = task.container.as_ref()?;
    let engine = swarm.node(&task.node.as_ref()?.parse().ok()?).ok()?;
    timeout(ASK_AGAIN, engine.container(container)).await.ok()?.ok()?.last_check
}

/// What was told already.
#[derive(Default)]
struct Told {
    services: BTreeMap<String, String>,
    down: BTreeSet<String>,
    silent: bool,
}

impl Told {
    /// Tells of each service and node what has changed.
    fn tell(&mut self, outcome: &Outcome, events: &(dyn Fn(Event) + Send + Sync)) {
        self.silent = false;
        for node in outcome.down.difference(&self.down) {
            events(Event::Warning(format!(
                "{node} is down; its tasks go elsewhere or wait for it"
            )));
        }
        for node in self.down.difference(&outcome.down) {
            events(Event::Note(format!("{node} is up again")));
        }
        self.down.clone_from(&outcome.down);
        for status in &outcome.services {
            let text = status.to_string();
            if self.services.get(&status.id) != Some(&text) {
                self.services.insert(status.id.clone(), text.clone());
                let done = status.standing == Standing::Converged;
                events(Event::Service { name: status.name.clone(), text, done });
            }
        }
    }

    /// Tells once that no manager answers.
    fn silence(&mut self, error: &Error, events: &(dyn Fn(Event) + Send + Sync)) {
        if !self.silent {
            self.silent = true;
            events(Event::Warning(skep_sys::chain(error)));
        }
    }
}

/// What is known of a service that is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The service.
    pub status: Status,
    /// The last lines that the container wrote.
    pub log: Vec<String>,
    /// Whether it ended for want of memory.
    pub out_of_memory: bool,
    /// The code and output of the last health check of a container that it made unhealthy.
    pub check: Option<String>,
}

impl Report {
    /// Returns what is known without asking anybody.
    #[must_use]
    pub fn of(status: &Status) -> Self {
        Self { status: status.clone(), log: Vec::new(), out_of_memory: false, check: None }
    }
}

/// Gathers what is known of services that are not what was asked for; what cannot be had is left out.
pub async fn report(swarm: Swarm<'_>, outcome: &Outcome) -> Vec<Report> {
    let mut reports = Vec::new();
    let bad = outcome.services.iter().filter(|it| it.standing != Standing::Converged);
    for status in bad {
        let mut report = Report::of(status);
        let problem = status.problem.as_ref();
        if let Some((problem, task)) = problem.and_then(|it| Some((it, it.task.as_ref()?)))
            && let Some(container) = &task.container
        {
            if let Ok(manager) = swarm.manager().await {
                report.log = manager.task_log(&task.id, LINES).await.unwrap_or_default();
            }
            if problem.cause == Cause::Unhealthy {
                report.check = last_check(swarm, problem).await;
            }
            let node = task.node.as_ref().and_then(|node| node.parse().ok());
            if let (Cause::Exits(KILLED), Some(node)) = (&problem.cause, node)
                && let Ok(engine) = swarm.node(&node)
            {
                let found = engine.container(container).await.unwrap_or_default();
                report.out_of_memory = found.out_of_memory;
            }
        }
        reports.push(report);
    }
    reports
}
