//! The plan of a cluster's names in the host's /etc/hosts.

use super::{Action, Plan, PlanError, Step};
use crate::model::{ClusterRecord, HostnameSpec, NodeName, NodeRecord, SpecError, first_manager};
use crate::observed::{HostsEntry, Observed};

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
        recorded.push(plan.push(Step::cluster(Action::RecordCluster(record), vec![])));
    }
    plan_hosts(&mut plan, hostnames, &nodes, seen, &recorded);
    Ok(plan)
}

/// Plans the names in the host's /etc/hosts, once the cluster with these names is written down.
pub(super) fn plan_hosts(
    plan: &mut Plan,
    hostnames: &[HostnameSpec],
    nodes: &[NodeRecord],
    seen: &Observed,
    recorded: &[usize],
) {
    let mut wanted = hosts_entries(hostnames, nodes);
    let mut present = seen.hosts_entries.clone();
    wanted.sort();
    present.sort();
    if wanted != present {
        plan.push(Step::cluster(Action::PublishHosts(wanted), recorded.to_vec()));
    }
}

fn hosts_entries(hostnames: &[HostnameSpec], nodes: &[NodeRecord]) -> Vec<HostsEntry> {
    let target = |node: &Option<NodeName>| match node {
        Some(name) => nodes.iter().find(|node| node.name() == name),
        None => first_manager(nodes.iter()),
    };
    hostnames
        .iter()
        .filter_map(|hostname| {
            let address = target(&hostname.node)?.address;
            Some(HostsEntry { name: hostname.name.as_str().to_owned(), address })
        })
        .collect()
}
