//! The plan of a cluster's names in the host's /etc/hosts.

use super::{ClusterAction, Plan, PlanError, Step};
use crate::model::{ClusterRecord, HostnameSpec, NodeName, NodeRecord, SpecError, first_manager};
use crate::observed::{HostsEntry, MachineState::Running, Observed};

/// Plans other names for the host's /etc/hosts, and nothing else.
///
/// # Errors
///
/// If a name points at a node that does not exist, or is given twice.
pub fn plan_hostnames(seen: &Observed, hostnames: &[HostnameSpec]) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    let Some(cluster) = &seen.cluster else { return Ok(plan) };
    let nodes: Vec<NodeRecord> = seen.nodes.values().map(|node| node.record.clone()).collect();
    let record = ClusterRecord { hostnames: hostnames.to_vec(), ..cluster.clone() };
    let problems: Vec<_> = record
        .spec(nodes.iter())
        .problems()
        .into_iter()
        .filter(|it| matches!(it, SpecError::UnknownNode { .. } | SpecError::DuplicateHostname(_)))
        .collect();
    if !problems.is_empty() {
        return Err(PlanError::Spec(problems));
    }
    let mut recorded = Vec::new();
    if record != *cluster {
        recorded
            .push(plan.push(Step::cluster(ClusterAction::RecordCluster(Box::new(record)), vec![])));
    }
    let up = |name: &NodeName| seen.nodes.get(name).is_some_and(|it| it.machine == Running);
    plan_hosts(&mut plan, hostnames, &nodes, seen, &up, &recorded);
    Ok(plan)
}

/// Plans the names in the host's /etc/hosts, once the cluster with these names is written down; `up` tells
/// which nodes will be up.
pub(super) fn plan_hosts(
    plan: &mut Plan,
    hostnames: &[HostnameSpec],
    nodes: &[NodeRecord],
    seen: &Observed,
    up: &dyn Fn(&NodeName) -> bool,
    recorded: &[usize],
) {
    let mut wanted = hosts_entries(hostnames, nodes, up);
    let mut present = seen.hosts_entries.clone();
    wanted.sort();
    present.sort();
    if wanted != present {
        plan.push(Step::cluster(ClusterAction::PublishHosts(wanted), recorded.to_vec()));
    }
}

/// Returns the node that something points at: the one that is named, or the first manager; if it follows, and
/// that one is down, the first manager that is up, or the first node.
pub(super) fn target<'a>(
    name: Option<&NodeName>,
    follow: bool,
    nodes: &'a [NodeRecord],
    up: &dyn Fn(&NodeName) -> bool,
) -> Option<&'a NodeRecord> {
    let chosen = match name {
        Some(name) => nodes.iter().find(|node| node.name() == name),
        None => first_manager(nodes.iter()),
    };
    if !follow || chosen.is_some_and(|node| up(node.name())) {
        return chosen;
    }
    let alive = || nodes.iter().filter(|node| up(node.name()));
    let other = first_manager(alive()).or_else(|| alive().min_by_key(|node| node.index));
    other.or(chosen)
}

fn hosts_entries(
    hostnames: &[HostnameSpec],
    nodes: &[NodeRecord],
    up: &dyn Fn(&NodeName) -> bool,
) -> Vec<HostsEntry> {
    hostnames
        .iter()
        .filter_map(|hostname| {
            let address = target(hostname.node.as_ref(), hostname.follow, nodes, up)?.address;
            Some(HostsEntry { name: hostname.name.as_str().to_owned(), address })
        })
        .collect()
}
