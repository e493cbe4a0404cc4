//! Services over time: a state counts when it stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Standing, Status, Task, View, given_up, judge};

/// How long what was reached has to stay: as long as the swarm itself, by its default, watches a task
/// of an update for a failure.
pub const HOLD: Duration = Duration::from_secs(5);

/// How long the others may go on when one service will not get there: long enough that what comes with it
/// is seen too, such as two services that lack the same image.
pub const GRACE: Duration = Duration::from_secs(15);

/// Remembers since when each service is what it is, and where it was.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    since: BTreeMap<String, (Mark, Duration)>,
    /// Since when services are stuck.
    stuck: BTreeMap<String, Duration>,
    /// The IDs of the tasks that had failed before the first look: why may have been mended since.
    before: Option<BTreeSet<String>>,
    /// The IDs of the nodes that were to run something of them.
    places: BTreeSet<String>,
}

/// What has to stay the same.
type Mark = (Standing, BTreeSet<String>);

/// What was seen at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The services.
    pub services: Vec<Status>,
    /// The names of the nodes that are down, of those that had something to run.
    pub down: BTreeSet<String>,
    /// Whether there is nothing more to wait for: each service is what it stays, or one of them is stuck.
    pub settled: bool,
}

impl Outcome {
    /// Tells whether all is as it was asked for.
    #[must_use]
    pub fn is_converged(&self) -> bool {
        self.services.iter().all(|service| service.standing == Standing::Converged)
    }
}

impl Watch {
    /// Takes in what is seen at a time, which is counted from any moment on.
    pub fn look(&mut self, now: Duration, view: &View) -> Outcome {
        let services = judge(&self.without_the_past(view));
        let given = view.tasks.iter().filter(|task| task.is_wanted());
        self.places.extend(given.filter_map(|task| task.node.clone()));
        let down = view.nodes.iter().filter(|it| !it.ready && self.places.contains(&it.id));
        let down = down.map(|node| node.hostname.clone()).collect();
        self.since.retain(|id, _| services.iter().any(|service| service.id == *id));
        self.stuck.retain(|id, _| {
            services.iter().any(|it| it.id == *id && it.standing == Standing::Stuck)
        });
        let mut settled = true;
        let mut hopeless = false;
        for service in &services {
            let mark = (service.standing, service.tasks.clone());
            let entry = self.since.entry(service.id.clone()).or_insert_with(|| (mark.clone(), now));
            if entry.0 != mark {
                *entry = (mark, now);
            }
            let held = now.saturating_sub(entry.1) >= HOLD;
            // What ends by itself cannot fail any more.
            let rests = service.standing == Standing::Converged && service.wanted == 0;
            settled &= service.standing != Standing::Working && (held || rests);
            if service.standing == Standing::Stuck {
                let began = *self.stuck.entry(service.id.clone()).or_insert(now);
                hopeless |= now.saturating_sub(began) >= GRACE;
            }
        }
        Outcome { services, down, settled: settled || hopeless }
    }

    /// Returns a view without the failures before the first look, of services that go on trying.
    fn without_the_past(&mut self, view: &View) -> View {
        let failed = || view.tasks.iter().filter(|task| task.has_failed());
        let before =
            self.before.get_or_insert_with(|| failed().map(|task| task.id.clone()).collect());
        let given_up: BTreeSet<_> = given_up(view).into_iter().map(|it| it.id.as_str()).collect();
        let counts =
            |task: &&Task| !before.contains(&task.id) || given_up.contains(task.service.as_str());
        View { tasks: view.tasks.iter().filter(counts).cloned().collect(), ..view.clone() }
    }
}
