//! Which nodes there are, and what becomes of their machines on this host.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use skep_core::model::{NodeName, NodeRecord};
use skep_core::observed::MachineState;
use skep_docker::stack::Swarm;
use skep_driver::Driver;
use skep_store::{ClusterDir, Machine};
use time::OffsetDateTime;
use tokio::time::timeout;

use super::engines::EngineWatch;
use super::{AGAIN, ClusterEvent, EventKind, EventOptions, EventSink};

/// Watches the engine of each node, also of those that are added meanwhile.
pub(super) async fn watch_engines(
    swarm: Swarm<'_>,
    options: &EventOptions,
    told: EventSink<'_>,
) -> Infallible {
    let watch = async |name: NodeName| {
        EngineWatch::new(swarm, Some(name.clone()), options, told).watch().await;
        name
    };
    let mut engines = FuturesUnordered::new();
    let mut watched = BTreeSet::new();
    loop {
        for name in machines(swarm.dir).into_keys() {
            if watched.insert(name.clone()) {
                engines.push(watch(name));
            }
        }
        let until_removed = async {
            while let Some(removed) = engines.next().await {
                watched.remove(&removed);
            }
            std::future::pending::<()>().await;
        };
        // wait: nothing announces a new node.
        let _ = timeout(AGAIN, until_removed).await;
    }
}

/// Watches the machines on this host.
pub(super) async fn watch_machines(
    dir: &ClusterDir,
    driver: &dyn Driver,
    told: EventSink<'_>,
) -> Infallible {
    let mut before: Option<BTreeMap<NodeName, MachineState>> = None;
    loop {
        let machines = machines(dir);
        let look =
            async |(name, machine): (&NodeName, _)| (name.clone(), driver.state(machine).await);
        let now = futures_util::future::join_all(machines.iter().map(look)).await;
        let now = now.into_iter().collect();
        if let Some(before) = &before {
            machine_events(before, &now).into_iter().for_each(told);
        }
        before = Some(now);
        // wait: nothing announces what becomes of a machine's process.
        tokio::time::sleep(AGAIN).await;
    }
}

/// Returns the machines of a cluster whose records can be read.
pub(super) fn machines(dir: &ClusterDir) -> BTreeMap<NodeName, Machine> {
    let records = dir.nodes().unwrap_or_default().into_iter().filter_map(|(_, record)| record.ok());
    let machine = |record: NodeRecord| {
        (record.name().clone(), Machine { dir: dir.machine_dir(record.name()), record })
    };
    records.map(machine).collect()
}

/// Tells what has become of machines between two looks.
fn machine_events(
    before: &BTreeMap<NodeName, MachineState>,
    now: &BTreeMap<NodeName, MachineState>,
) -> Vec<ClusterEvent> {
    let event = |name: &NodeName, action: &str| ClusterEvent {
        time: OffsetDateTime::now_utc(),
        kind: EventKind::Machine,
        action: action.to_owned(),
        name: name.to_string(),
        id: String::new(),
        node: Some(name.to_string()),
        attributes: BTreeMap::new(),
    };
    let gone = before.keys().filter(|name| !now.contains_key(*name));
    let mut events: Vec<_> = gone.map(|name| event(name, "removed")).collect();
    for (name, state) in now {
        let last = before.get(name).copied().unwrap_or(MachineState::Stopped);
        let action = match (last, *state) {
            (last, state) if last == state => continue,
            (MachineState::Paused, MachineState::Running) => "resumed",
            (_, MachineState::Running) => "started",
            (_, MachineState::Paused) => "paused",
            (_, MachineState::Crashed) => "crashed",
            (_, MachineState::Stopped) => "stopped",
        };
        events.push(event(name, action));
    }
    events
}
