//! Plans for single nodes of a cluster.

use super::access::plan_access;
use super::machine::{all_but, plan_shut_out};
use super::{ClusterAction, NodeAction, Plan, PlanError, Step};
use crate::model::{ClusterRecord, HostnameSpec, NodeName, NodeRecord, Role};
use crate::observed::{EngineState, MachineState, Member, Observed, ObservedNode, ObservedSwarm};

/// How hosts that exist without us are let go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parting {
    /// One that cannot be reached is forgotten as it is.
    pub forget: bool,
    /// Each keeps an engine that it was given, with its data.
    pub keep_engine: bool,
}

/// Plans the removal of nodes with their data.
///
/// A node that can be asked leaves the swarm first; the swarm forgets one that cannot. `force` goes
/// on where the managers that stay are no majority or do not answer, and tells the swarm nothing.
/// Hostnames that point at a node go with it.
///
/// # Errors
///
/// If a node does not exist, if no node would stay, or, without `force`, if the managers that would
/// stay could not go on.
pub fn plan_remove_nodes(
    seen: &Observed,
    names: &[NodeName],
    force: bool,
) -> Result<Plan, PlanError> {
    plan_parting(seen, names, force, Parting { forget: force, keep_engine: false })
}

/// Plans as [`plan_remove_nodes`], with hosts let go as it is said.
///
/// # Errors
///
/// As [`plan_remove_nodes`].
pub fn plan_parting(
    seen: &Observed,
    names: &[NodeName],
    force: bool,
    parting: Parting,
) -> Result<Plan, PlanError> {
    let cluster = seen.cluster.as_ref().ok_or(PlanError::NotRecorded)?;
    names.iter().try_for_each(|name| find(seen, name).map(|_| ()))?;
    let (mut leaving, staying): (Vec<&ObservedNode>, Vec<_>) =
        seen.nodes.values().partition(|node| names.contains(node.record.name()));
    if staying.is_empty() {
        return Err(PlanError::Quorum(
            "this would remove every node; to remove the cluster: skep down".to_owned(),
        ));
    }
    let served = cluster.registry.as_ref().filter(|it| it.runs && names.contains(&it.node));
    if let Some(registry) = served.filter(|_| !force) {
        return Err(PlanError::Registry(registry.node.clone()));
    }
    let through = match ask_through(seen, &leaving, &staying) {
        Ok(through) => through,
        Err(_) if force => Vec::new(),
        Err(error) => return Err(error),
    };

    // A manager that is down weighs on the majority for as long as it is counted.
    leaving.sort_by_key(|node| is_in_control(node));
    let mut plan = Plan::default();
    let recorded = plan_smaller(&mut plan, cluster, names);
    let mut previous_leave: Option<usize> = None;
    let mut left = Vec::new();
    for node in leaving {
        let name = node.record.name();
        let mut gone = recorded.clone();
        for id in if through.is_empty() { Vec::new() } else { swarm_ids(node, seen) } {
            // One after the other: each demotion changes what is a majority.
            let needs = previous_leave.map_or_else(|| recorded.clone(), |last| vec![last]);
            let action = NodeAction::LeaveSwarm { id, through: through.clone() };
            let leave = plan.push(Step::node(name, action, needs));
            previous_leave = Some(leave);
            gone.push(leave);
        }
        left.push((node, gone));
    }
    // While the records of those that leave are there: nothing else tells of them.
    let last = previous_leave.map_or_else(|| recorded.clone(), |last| vec![last]);
    let mut closed = plan_closing(&mut plan, &staying, last.clone());
    let records: Vec<_> = staying.iter().map(|node| &node.record).collect();
    closed.extend(plan_shut_out(&mut plan, cluster, &records, seen, last));
    for (node, mut gone) in left {
        let name = node.record.name();
        if node.record.spec.is_host() {
            gone = plan_release(&mut plan, node, parting, gone);
        } else if node.machine != MachineState::Stopped {
            gone = vec![plan.push(Step::node(name, NodeAction::KillMachine, gone))];
        }
        gone.extend(&closed);
        gone.sort_unstable();
        plan.push(Step::node(name, NodeAction::RemoveNode, gone));
    }
    let records: Vec<NodeRecord> = records.into_iter().cloned().collect();
    let hostnames = kept_hostnames(cluster, names);
    let up = |name: &NodeName| {
        seen.nodes.get(name).is_some_and(|node| node.machine == MachineState::Running)
    };
    let record = ClusterRecord { hostnames, ..cluster.clone() };
    plan_access(&mut plan, &record, &records, seen, &up, (&recorded, &[]));
    Ok(plan)
}

/// Plans that hosts that stay let nobody in but each other and the machines that stay.
fn plan_closing(plan: &mut Plan, staying: &[&ObservedNode], needs: Vec<usize>) -> Vec<usize> {
    let addresses = staying.iter().map(|node| node.record.address).collect();
    let hosts = staying
        .iter()
        .filter(|node| node.record.spec.is_host() && node.machine == MachineState::Running);
    let mut closed = Vec::new();
    for node in hosts {
        let close = NodeAction::OpenHost { to: all_but(&node.record, &addresses) };
        closed.push(plan.push(Step::node(node.record.name(), close, needs.clone())));
    }
    closed
}

/// Plans that a host is as it was.
pub(super) fn plan_release(
    plan: &mut Plan,
    node: &ObservedNode,
    Parting { forget, keep_engine }: Parting,
    needs: Vec<usize>,
) -> Vec<usize> {
    let name = node.record.name();
    if forget && node.machine == MachineState::Stopped {
        plan.warnings.push(format!(
            "{name} ({}) does not answer, so skep's changes to it remain",
            node.record.address
        ));
        return needs;
    }
    vec![plan.push(Step::node(name, NodeAction::ReleaseHost { forget, keep_engine }, needs))]
}

/// Returns the managers that stay and answer, if they can go on after the others have left.
fn ask_through(
    seen: &Observed,
    leaving: &[&ObservedNode],
    staying: &[&ObservedNode],
) -> Result<Vec<NodeName>, PlanError> {
    let is_manager = |node: &&&ObservedNode| node.record.spec.role == Role::Manager;
    let total = staying.iter().filter(is_manager).count();
    if total == 0 {
        return Err(PlanError::Quorum(
            "this would remove the last manager and destroy the swarm".to_owned(),
        ));
    }
    let answering = staying.iter().filter(|node| is_in_control(node));
    let through: Vec<_> = answering.map(|node| node.record.name().clone()).collect();
    if leaving.iter().all(|node| !node.disk && swarm_ids(node, seen).is_empty()) {
        return Ok(through);
    }
    if through.is_empty() {
        return Err(PlanError::Quorum(
            "no manager that would stay answers; start the cluster first (skep start), \
             or remove without telling the swarm (--force)"
                .to_owned(),
        ));
    }
    let Some(swarm) = &seen.swarm else {
        let all = total + leaving.iter().filter(is_manager).count();
        let answer = through.len() + leaving.iter().filter(|node| is_in_control(node)).count();
        return Err(PlanError::Quorum(format!(
            "{answer} of the {all} managers answer, and they have no majority to let a node go; \
             start the others first (skep start), or remove without telling the swarm (--force)"
        )));
    };
    check_decides(swarm, seen)?;
    let gone: Vec<String> = leaving.iter().flat_map(|node| swarm_ids(node, seen)).collect();
    check_majority(swarm, &gone)?;
    Ok(through)
}

/// Refuses if the managers that answer cannot decide anything: for some seconds after the others have
/// ended, a leader goes on to tell of a swarm that it leads no more.
fn check_decides(swarm: &ObservedSwarm, seen: &Observed) -> Result<(), PlanError> {
    let managers = swarm.members.iter().filter(|member| member.role == Role::Manager);
    let (mut total, mut answer) = (0, 0);
    for member in managers {
        let mut nodes = seen.nodes.values();
        let node = nodes.find(|node| member.is_node(node.record.name()));
        total += 1;
        answer += usize::from(member.reachable && node.is_none_or(is_in_control));
    }
    if answer * 2 > total {
        return Ok(());
    }
    Err(PlanError::Quorum(format!(
        "{answer} of the {total} managers answer, and they have no majority to let a node go; \
         start the others first (skep start), or remove without telling the swarm (--force)"
    )))
}

/// Refuses if the managers that stay when these entries are gone, or are managers no more, are no
/// majority.
pub(super) fn check_majority(swarm: &ObservedSwarm, gone: &[String]) -> Result<(), PlanError> {
    let stay = |member: &&Member| member.role == Role::Manager && !gone.contains(&member.id);
    let total = swarm.members.iter().filter(stay).count();
    let reachable = swarm.members.iter().filter(stay).filter(|member| member.reachable).count();
    if reachable * 2 <= total {
        return Err(PlanError::Quorum(format!(
            "{reachable} of the {total} managers that would stay answer, which is no majority; \
             start them first (skep start)"
        )));
    }
    Ok(())
}

fn is_in_control(node: &ObservedNode) -> bool {
    matches!(node.engine, EngineState::Member { control: true, .. })
}

/// Returns the IDs of all the swarm's entries that are this node, or were.
fn swarm_ids(node: &ObservedNode, seen: &Observed) -> Vec<String> {
    let own = match &node.engine {
        EngineState::Member { id, .. } => Some(id),
        _ => None,
    };
    let members = seen.swarm.iter().flat_map(|swarm| &swarm.members);
    let name = node.record.name();
    // Beside an engine that answers, an entry that is ready is somebody else's.
    let others = members
        .filter(|member| member.is_node(name) && (own.is_none() || !member.ready))
        .map(|member| &member.id)
        .filter(|id| Some(*id) != own);
    own.into_iter().chain(others).cloned().collect()
}

fn kept_hostnames(cluster: &ClusterRecord, leaving: &[NodeName]) -> Vec<HostnameSpec> {
    let stays = |hostname: &&HostnameSpec| {
        hostname.node.as_ref().is_none_or(|node| !leaving.contains(node))
    };
    cluster.hostnames.iter().filter(stays).cloned().collect()
}

/// Plans a record without the nodes that leave and without names that point at them: a cluster whose
/// names point at nothing could not be started any more.
fn plan_smaller(plan: &mut Plan, cluster: &ClusterRecord, leaving: &[NodeName]) -> Vec<usize> {
    let hostnames = kept_hostnames(cluster, leaving);
    let mut record = ClusterRecord { hostnames, ..cluster.clone() };
    if record.registry.as_ref().is_some_and(|registry| leaving.contains(&registry.node)) {
        record.registry = None;
        if cluster.registry.as_ref().is_some_and(|registry| registry.runs) {
            plan.warnings
                .push("this also removes the registry, which runs on that node".to_owned());
        }
    }
    record.nodes.retain(|node| !leaving.contains(&node.name));
    if record == *cluster {
        return Vec::new();
    }
    let lost = cluster.hostnames.iter().filter(|it| !record.hostnames.contains(it));
    plan.warnings.extend(lost.filter_map(|hostname| {
        let node = hostname.node.as_ref()?;
        Some(format!("this also removes the host name {}, which points to {node}", hostname.name))
    }));
    vec![plan.push(Step::cluster(ClusterAction::RecordCluster(Box::new(record)), vec![]))]
}

pub(super) fn find<'a>(seen: &'a Observed, name: &NodeName) -> Result<&'a ObservedNode, PlanError> {
    let cluster = seen.cluster.as_ref().ok_or(PlanError::NotRecorded)?;
    seen.nodes.get(name).ok_or_else(|| PlanError::UnknownNode {
        cluster: cluster.name.clone(),
        node: name.clone(),
        known: seen.nodes.keys().map(NodeName::as_str).collect::<Vec<_>>().join(", "),
    })
}
