//! Services whose tasks are not evenly spread, as after a node came back: the swarm moves no task
//! that runs.

use std::collections::BTreeMap;

use super::{Mode, Service, TaskState, View, placement};

/// A service and where its tasks run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// The service's ID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How many tasks run on each node that they may run on, by its name.
    pub nodes: BTreeMap<String, usize>,
    /// Why it is better left where it is, if it is.
    pub keep: Option<&'static str>,
}

/// Returns the services whose tasks could be spread more evenly over the nodes they may run on.
#[must_use]
pub fn plan_rebalance(view: &View) -> Vec<Spread> {
    view.services.iter().filter_map(|service| spread(view, service)).collect()
}

fn spread(view: &View, service: &Service) -> Option<Spread> {
    let Mode::Replicated(_) = service.mode else { return None };
    let runs = |node: &str| {
        let on_it = view.tasks_of(service).filter(|task| task.node.as_deref() == Some(node));
        on_it.filter(|task| task.state == TaskState::Running && task.is_wanted()).count()
    };
    let nodes = placement::fitting(service, &view.nodes).into_iter();
    let nodes = nodes.filter(|node| node.takes_tasks());
    let nodes: BTreeMap<String, usize> =
        nodes.map(|node| (node.hostname.clone(), runs(&node.id))).collect();
    let (most, least) = (nodes.values().max()?, nodes.values().min()?);
    if most - least < 2 {
        return None;
    }
    let keep =
        service.local_data.then_some("it keeps data on its nodes, which would not move along");
    Some(Spread { id: service.id.clone(), name: service.name.clone(), nodes, keep })
}
