//! What engines in memory say without an end: logs of services, and events.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::{StreamExt as _, try_unfold};
use skep_core::model::NodeName;
use skep_docker::engine::{EngineEvent, EventsWanted, ServiceLine, Stream};
use skep_store::ClusterDir;

use super::{FakeHost, State};

/// How soon a stream looks for more.
const AGAIN: Duration = Duration::from_millis(100);

/// What engines have to say.
#[derive(Default)]
pub(crate) struct Said {
    /// Lines of services by their IDs.
    lines: BTreeMap<String, Vec<ServiceLine>>,
    /// Events of the machines with these directories, and, without one, of the swarm.
    events: Vec<(Option<PathBuf>, EngineEvent)>,
}

impl FakeHost {
    /// Adds a line to the log of a service.
    pub fn say_line(&self, service: &str, line: ServiceLine) {
        self.state().said.lines.entry(service.to_owned()).or_default().push(line);
    }

    /// Adds an event of the engine of a node.
    pub fn say_event(&self, cluster: &ClusterDir, node: &NodeName, event: EngineEvent) {
        self.state().said.events.push((Some(cluster.machine_dir(node)), event));
    }

    /// Adds an event of the swarm.
    pub fn say_swarm_event(&self, event: EngineEvent) {
        self.state().said.events.push((None, event));
    }
}

/// Returns the lines of a service. The connection to a machine that ends says nothing any more.
pub(super) fn lines(
    state: &Arc<Mutex<State>>,
    machine: &Path,
    service: &str,
    follow: bool,
) -> Stream<ServiceLine> {
    let service = service.to_owned();
    stream(state, machine, follow, move |state, from| {
        let line = state.said.lines.get(&service)?.get(from)?;
        Some((from + 1, Some(line.clone())))
    })
}

/// Returns the events of a machine's engine, and of the swarm.
pub(super) fn events(
    state: &Arc<Mutex<State>>,
    machine: &Path,
    wanted: &EventsWanted,
) -> Stream<EngineEvent> {
    let (dir, wanted) = (machine.to_owned(), wanted.clone());
    let follow = wanted.until.is_none();
    stream(state, machine, follow, move |state, from| {
        let (of, event) = state.said.events.get(from)?;
        let is_of_it = of.as_ref().is_none_or(|of| *of == dir);
        let is_wanted = wanted.types.contains(&&*event.kind)
            && wanted.since.is_none_or(|since| event.time >= since);
        Some((from + 1, (is_of_it && is_wanted).then(|| event.clone())))
    })
}

fn stream<T: Send + 'static>(
    state: &Arc<Mutex<State>>,
    machine: &Path,
    follow: bool,
    next: impl Fn(&State, usize) -> Option<(usize, Option<T>)> + Send + Sync + 'static,
) -> Stream<T> {
    let (state, machine, next) = (state.clone(), machine.to_owned(), Arc::new(next));
    let read = move |from: usize| {
        let (state, machine, next) = (state.clone(), machine.clone(), next.clone());
        async move {
            let mut from = from;
            loop {
                let ready = {
                    let state = state.lock().expect("no test panics here");
                    state.running.contains(&machine).then(|| next(&state, from))
                };
                match ready {
                    Some(Some((after, Some(item)))) => return Ok(Some((item, after))),
                    Some(Some((after, None))) => {
                        from = after;
                        continue;
                    }
                    Some(None) if !follow => return Ok(None),
                    Some(None) => {}
                    // Nothing comes through it any more, also when the machine runs again.
                    None => std::future::pending().await,
                }
                // wait: nothing wakes whoever waits for more.
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    try_unfold(0, read).boxed()
}
