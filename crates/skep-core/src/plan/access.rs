//! The plan of what leads from the host to a node: names, ports of the loopback, the docker command's context.

use super::hosts::{plan_hosts, target};
use super::{ClusterAction, Plan, Step};
use crate::model::{ClusterRecord, NodeName, NodeRecord, Publication, first_manager};
use crate::observed::{ContextState, MachineState, Observed, ObservedNode};

/// Plans all ways from the host, once the cluster with them is written down. `network` are steps that make
/// the network anew, and `up` tells which nodes will be up.
pub(super) fn plan_access(
    plan: &mut Plan,
    record: &ClusterRecord,
    nodes: &[NodeRecord],
    seen: &Observed,
    up: &dyn Fn(&NodeName) -> bool,
    (recorded, network): (&[usize], &[usize]),
) {
    plan_hosts(plan, &record.hostnames, nodes, seen, up, recorded);
    plan_ports(plan, record, nodes, seen, up, &[recorded, network].concat());
    plan_context(plan, record, nodes, seen, recorded);
}

fn plan_ports(
    plan: &mut Plan,
    record: &ClusterRecord,
    nodes: &[NodeRecord],
    seen: &Observed,
    up: &dyn Fn(&NodeName) -> bool,
    needs: &[usize],
) {
    let mut ports = record.access.ports.clone();
    ports.sort_unstable();
    ports.dedup();
    // Hosts have ports and a loopback of their own; what they publish is reached there.
    let machines: Vec<_> = nodes.iter().filter(|it| it.spec.is_vm()).cloned().collect();
    if machines.is_empty() && !ports.is_empty() {
        let why =
            "loopback ports can only be published for virtual machines, and the cluster has none";
        plan.warnings.push(why.to_owned());
    }
    let to = target(None, true, &machines, up).filter(|_| !ports.is_empty());
    let wanted = to.map(|node| Publication { ports, to: node.address });
    let label = wanted.as_ref().map(Publication::label);
    if label != seen.published {
        let network = record.network.clone();
        let action = ClusterAction::PublishPorts { network, publication: wanted };
        plan.push(Step::cluster(action, needs.to_vec()));
    }
}

fn plan_context(
    plan: &mut Plan,
    record: &ClusterRecord,
    nodes: &[NodeRecord],
    seen: &Observed,
    needs: &[usize],
) {
    let Some(manager) = first_manager(nodes.iter()) else { return };
    let to = manager.address;
    match (&record.access.docker_config, &seen.context) {
        (Some(_), ContextState::Others) => plan.warnings.push(format!(
            "the docker context skep-{} does not belong to this cluster and is left unchanged",
            record.name
        )),
        (Some(_), ContextState::Ours { address, current: true }) if *address == Some(to) => {}
        (Some(config), state) => {
            let update = matches!(state, ContextState::Ours { .. });
            let action = ClusterAction::EnsureContext { config: config.clone(), to, update };
            plan.push(Step::cluster(action, needs.to_vec()));
        }
        (None, ContextState::Ours { .. }) => plan_no_context(plan, seen, needs),
        (None, _) => {}
    }
}

/// Plans that the context of the docker command, if it is the cluster's, gets the certificates that the client
/// has by then; returns what has to be waited for.
pub(super) fn plan_context_anew(plan: &mut Plan, seen: &Observed, after: usize) -> usize {
    let config = seen.cluster.as_ref().and_then(|cluster| cluster.access.docker_config.clone());
    let manager = first_manager(seen.nodes.values().map(|node| &node.record));
    match (config, manager, &seen.context) {
        (Some(config), Some(manager), ContextState::Ours { .. }) => {
            let action = ClusterAction::EnsureContext { config, to: manager.address, update: true };
            plan.push(Step::cluster(action, vec![after]))
        }
        _ => after,
    }
}

/// Plans that the docker command has no context of the cluster any more.
pub(super) fn plan_no_context(plan: &mut Plan, seen: &Observed, needs: &[usize]) {
    if let (ContextState::Ours { .. }, Some(config)) = (&seen.context, &seen.docker_config) {
        let action = ClusterAction::RemoveContext { config: config.clone() };
        plan.push(Step::cluster(action, needs.to_vec()));
    }
}

/// Plans that what follows a node that is up points at one, and nothing else.
#[must_use]
pub fn plan_follow(seen: &Observed) -> Plan {
    let mut plan = Plan::default();
    plan_ways(&mut plan, seen, &|node| {
        node.machine == MachineState::Running && node.engine.version().is_some()
    });
    plan
}

/// Plans where names and ports lead when only these nodes are up.
pub(super) fn plan_ways(plan: &mut Plan, seen: &Observed, up: &dyn Fn(&ObservedNode) -> bool) {
    let Some(cluster) = &seen.cluster else { return };
    let nodes: Vec<NodeRecord> = seen.nodes.values().map(|node| node.record.clone()).collect();
    let up = |name: &NodeName| seen.nodes.get(name).is_some_and(up);
    let last: Vec<usize> = (0..plan.steps.len()).collect();
    plan_hosts(plan, &cluster.hostnames, &nodes, seen, &up, &last);
    if seen.bridge && seen.firewall {
        plan_ports(plan, cluster, &nodes, seen, &up, &last);
    }
}
