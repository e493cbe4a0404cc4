//! What happens to a cluster: its machines, containers, nodes, services and tasks.
//!
//! | kind | seen by |
//! | --- | --- |
//! | container | the events of each node's engine |
//! | node, service | the events of a manager; if it stops, another one is asked |
//! | task | a manager's view of its tasks about once a second, as Docker has no events of tasks: of several states between two looks, only the last is reported |
//! | machine | a look at this host about once a second |

mod engines;
mod history;
mod nodes;
mod tasks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use skep_docker::stack::Swarm;
use skep_driver::Driver;
use skep_store::ClusterDir;
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::Run;
use engines::EngineWatch;
use history::History;
use nodes::{watch_engines, watch_machines};
use tasks::watch_tasks;

/// How often tasks and machines are looked at, and how soon an engine is asked again that broke off.
const AGAIN: Duration = Duration::from_secs(1);

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// A member of the swarm.
    Node,
    /// A service of the swarm.
    Service,
    /// A task of a service. The action is its new state, or `removed`.
    Task,
    /// A container on a node.
    Container,
    /// A machine on this host: `started`, `paused`, `crashed`, `stopped`, `removed`.
    Machine,
    /// This watch: `lost` if an engine does not respond, so that events may be missing from then on; `resumed` if it does again.
    Watch,
}

impl EventKind {
    /// All kinds that can be chosen; events of the watch itself are always told.
    pub const ALL: [Self; 5] =
        [Self::Node, Self::Service, Self::Task, Self::Container, Self::Machine];

    /// Returns its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Service => "service",
            Self::Task => "task",
            Self::Container => "container",
            Self::Machine => "machine",
            Self::Watch => "watch",
        }
    }
}

/// Something that happened. Texts come from guests and are not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterEvent {
    /// When: as the engine says; of tasks, when the state was reached; of machines, when it was seen.
    pub time: OffsetDateTime,
    /// What it is about.
    pub kind: EventKind,
    /// What happened.
    pub action: String,
    /// The name of what it is about.
    pub name: String,
    /// Its ID, empty if it has none.
    pub id: String,
    /// The node on which it happened, if it is on one.
    pub node: Option<String>,
    /// What else is known.
    pub attributes: BTreeMap<String, String>,
}

/// Which events are told.
#[derive(Debug, Clone)]
pub struct EventOptions {
    /// The kinds.
    pub kinds: BTreeSet<EventKind>,
    /// Also what is known from then on: the last 256 events of each engine, and the present state of tasks that reached it
    /// since. Nothing is known of machines.
    pub since: Option<OffsetDateTime>,
    /// Up to when; without it there is no end.
    pub until: Option<OffsetDateTime>,
}

/// Receives the events.
pub type EventSink<'a> = &'a (dyn Fn(ClusterEvent) + Send + Sync);

impl Run<'_> {
    /// Reports what happens to a cluster until `options.until`, or until the caller drops the future. Past events are reported in
    /// the order of its times if `until` does, too.
    pub async fn cluster_events(
        &self,
        dir: &ClusterDir,
        options: &EventOptions,
        told: EventSink<'_>,
    ) {
        watch_cluster(self.swarm(dir), &self.driver, options, told).await;
    }
}

/// Tells what happens to a cluster, as [`Run::cluster_events`] does, through a driver of machines.
pub async fn watch_cluster(
    swarm: Swarm<'_>,
    driver: &dyn Driver,
    options: &EventOptions,
    told: EventSink<'_>,
) {
    let now = OffsetDateTime::now_utc();
    let Some(until) = options.until else {
        return watch(swarm, driver, options, told).await;
    };
    let left = Duration::try_from(until - now).unwrap_or_default();
    if !left.is_zero() {
        let _ = timeout(left, watch(swarm, driver, options, told)).await;
        return;
    }
    let all = Mutex::new(Vec::new());
    let keep = |event| all.lock().expect("nobody panics with it").push(event);
    let history = History { swarm, options, told: &keep };
    history.read().await;
    let mut all = all.into_inner().expect("nobody panics with it");
    all.sort_by_key(|event: &ClusterEvent| event.time);
    all.into_iter().for_each(told);
}

async fn watch(swarm: Swarm<'_>, driver: &dyn Driver, options: &EventOptions, told: EventSink<'_>) {
    let wants = |kind| options.kinds.contains(&kind);
    let of_swarm = async {
        if wants(EventKind::Node) || wants(EventKind::Service) {
            EngineWatch::new(swarm, None, options, told).watch().await;
        }
    };
    let of_tasks = async {
        if wants(EventKind::Task) {
            watch_tasks(swarm, options.since, told).await;
        }
    };
    let of_machines = async {
        if wants(EventKind::Machine) {
            match watch_machines(swarm.dir, driver, told).await {}
        }
    };
    let of_containers = async {
        if wants(EventKind::Container) {
            match watch_engines(swarm, options, told).await {}
        }
    };
    tokio::join!(of_swarm, of_tasks, of_machines, of_containers);
}
