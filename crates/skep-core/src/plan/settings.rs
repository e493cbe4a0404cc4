//! Plans for what nodes are in the swarm: role, labels, availability.

use super::nodes::{check_majority, find};
use super::power::refuse_hosts;
use super::swarm::{in_control, plan_entries};
use super::{Action, ClusterAction, NodeAction, Plan, PlanError, Step};
use crate::model::{Availability, NodeName, NodeRecord, NodeSpec, Role};
use crate::observed::{EngineState, MachineState, Observed, ObservedNode};

/// Plans other roles, labels or availabilities of nodes, and waits until those that are drained are
/// idle.
///
/// The wish is written down first, so that `up` goes on with it and never undoes it. Of a node that
/// does not run it takes effect when the node is next brought up.
///
/// # Errors
///
/// If a node does not exist, one that runs does not answer, no manager does, or the managers that would
/// stay are no majority.
pub fn plan_settings(
    seen: &Observed,
    names: &[NodeName],
    edit: impl Fn(&mut NodeSpec),
) -> Result<Plan, PlanError> {
    let cluster = seen.cluster.as_ref().ok_or(PlanError::NotRecorded)?;
    names.iter().try_for_each(|name| find(seen, name).map(|_| ()))?;
    let before = cluster.spec(seen.nodes.values().map(|node| &node.record));
    let mut spec = before.clone();
    spec.nodes.iter_mut().filter(|node| names.contains(&node.name)).for_each(edit);
    if spec.managers().next().is_none() {
        return Err(PlanError::Quorum(
            "this would remove the last manager and destroy the swarm".to_owned(),
        ));
    }
    let problems = spec.problems();
    if !problems.is_empty() {
        return Err(PlanError::Spec(problems));
    }
    let changed = |name: &NodeName| {
        let node = &seen.nodes[name];
        let spec = spec.node(name).expect("it is recorded").clone();
        NodeRecord { spec, ..node.record.clone() }
    };
    let records: Vec<NodeRecord> = names.iter().map(changed).collect();
    check_swarm(seen, &records)?;

    let deaf = |record: &&NodeRecord| {
        let node = &seen.nodes[record.name()];
        node.machine == MachineState::Running && !is_member(node)
    };
    if let Some(record) = records.iter().find(deaf) {
        return Err(PlanError::NoMember { node: record.name().clone() });
    }

    let mut plan = Plan::default();
    if before.managers().count() != spec.managers().count() {
        plan.warnings = spec.warnings();
    }
    let mut recorded = Vec::new();
    let record = crate::model::ClusterRecord { nodes: spec.nodes, ..cluster.clone() };
    if record != *cluster {
        recorded
            .push(plan.push(Step::cluster(ClusterAction::RecordCluster(Box::new(record)), vec![])));
    }
    let (awake, asleep): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|record| is_member(&seen.nodes[record.name()]));
    for record in asleep {
        let name = record.name();
        plan.warnings
            .push(format!("{name} is not in the swarm now; `skep up` applies the settings"));
    }
    let through = through(seen, &awake);
    let mut after = recorded;
    for record in &awake {
        let interim = super::machine::interim_record(record, seen);
        if interim != seen.nodes[record.name()].record {
            let step = Step::node(record.name(), NodeAction::RecordNode(interim), after.clone());
            after = vec![plan.push(step)];
        }
    }
    let steps = plan_entries(&mut plan, &awake, seen, &through, &after);
    await_effect(&mut plan, &awake, seen, &through, &steps);
    Ok(plan)
}

fn is_member(node: &ObservedNode) -> bool {
    matches!(node.engine, EngineState::Member { .. })
}

/// Returns the managers to ask: those that become workers last, as they answer only until then.
fn through(seen: &Observed, records: &[NodeRecord]) -> Vec<NodeName> {
    let is_worker = |name: &&NodeName| {
        records.iter().any(|it| it.name() == *name && it.spec.role == Role::Worker)
    };
    let all = in_control(records, seen);
    let (last, first): (Vec<_>, Vec<_>) = all.iter().partition(is_worker);
    first.into_iter().chain(last).cloned().collect()
}

/// Refuses what the swarm could not follow.
fn check_swarm(seen: &Observed, records: &[NodeRecord]) -> Result<(), PlanError> {
    let Some(swarm) = &seen.swarm else {
        return Err(PlanError::Quorum(
            "no manager answers, or those that do are no majority; start the others first \
             (skep start)"
                .to_owned(),
        ));
    };
    let demoted = records.iter().filter(|record| record.spec.role == Role::Worker);
    let gone: Vec<String> = demoted
        .filter_map(|record| match &seen.nodes[record.name()].engine {
            EngineState::Member { id, .. } => Some(id.clone()),
            _ => None,
        })
        .collect();
    match swarm.members.iter().any(|it| it.role == Role::Manager && gone.contains(&it.id)) {
        true => check_majority(swarm, &gone),
        false => Ok(()),
    }
}

/// Plans to wait for what the changes lead to.
fn await_effect(
    plan: &mut Plan,
    records: &[NodeRecord],
    seen: &Observed,
    through: &[NodeName],
    steps: &[usize],
) {
    let Some(swarm) = &seen.swarm else { return };
    let member = |record: &NodeRecord| match &seen.nodes[record.name()].engine {
        EngineState::Member { id, .. } => swarm.member(id),
        _ => None,
    };
    let all_ready = records.iter().all(|it| member(it).is_some_and(|member| member.ready));
    let mut ready = steps.to_vec();
    if !records.is_empty() && (!steps.is_empty() || !all_ready) {
        let nodes = records.iter().map(|record| record.name().clone()).collect();
        let action = ClusterAction::AwaitReady { nodes, through: through.to_vec() };
        ready = vec![plan.push(Step::cluster(action, ready))];
    }
    for record in records.iter().filter(|it| it.spec.availability == Some(Availability::Drain)) {
        let action = NodeAction::AwaitIdle { through: through.to_vec() };
        plan.push(Step::node(record.name(), action, ready.clone()));
    }
}

/// Plans that a node is emptied and stopped, for a restart that its services do not notice. What it is
/// to be afterwards is written down first, so that `up` ends what was begun.
///
/// # Errors
///
/// If the node does not exist, no manager answers, or the swarm would lose a majority that it could
/// keep.
pub fn plan_idle_stop(seen: &Observed, name: &NodeName) -> Result<Plan, PlanError> {
    let node = find(seen, name)?;
    refuse_hosts(&[node])?;
    let mut plan = Plan::default();
    let stop = |plan: &mut Plan, needs: Vec<usize>| {
        if node.machine != MachineState::Stopped {
            plan.push(Step::node(name, NodeAction::StopMachine, needs));
        }
    };
    let EngineState::Member { id, .. } = &node.engine else {
        stop(&mut plan, Vec::new());
        return Ok(plan);
    };
    let Some(swarm) = &seen.swarm else {
        check_swarm(seen, &[])?;
        return Ok(plan);
    };
    let Some(member) = swarm.member(id) else {
        stop(&mut plan, Vec::new());
        return Ok(plan);
    };
    if member.role == Role::Manager {
        let managers = || swarm.members.iter().filter(|it| it.role == Role::Manager);
        let left = managers().filter(|it| it.reachable && it.id != *id).count();
        let total = managers().count();
        match left * 2 > total {
            true => {}
            false if total < 3 => plan.warnings.push(format!(
                "the swarm has no quorum while {name} restarts, as it has only {total} manager(s)"
            )),
            false => {
                return Err(PlanError::Quorum(format!(
                    "while {name} restarts, only {left} of the {total} managers would respond, which is not a \
                     majority; start the others first (skep start)"
                )));
            }
        }
    }
    let present = Availability::from_word(&member.availability);
    let wanted = node.record.spec.availability.or(present).unwrap_or(Availability::Active);
    let pinned = plan_settings(seen, std::slice::from_ref(name), |node| {
        node.availability = Some(wanted);
    })?;
    let records: Vec<_> = pinned
        .steps
        .into_iter()
        .filter(|step| {
            matches!(
                step.action,
                Action::Cluster(ClusterAction::RecordCluster(_))
                    | Action::Node(_, NodeAction::RecordNode(_))
            )
        })
        .collect();
    for step in records {
        let needs = (0..plan.steps.len()).collect();
        plan.push(Step { needs, ..step });
    }
    let needs = (0..plan.steps.len()).collect();
    // A manager that is alone cannot tell that its tasks moved: they have nowhere to go.
    let elsewhere = swarm.members.iter().any(|other| other.id != *id && other.ready);
    if !elsewhere || member.availability == Availability::Drain.as_str() {
        stop(&mut plan, needs);
        return Ok(plan);
    }
    let through = through(seen, std::slice::from_ref(&node.record));
    let drain = NodeAction::ConfigureMember {
        role: member.role,
        availability: Some(Availability::Drain),
        set: std::collections::BTreeMap::new(),
        unset: Vec::new(),
        through: through.clone(),
    };
    let drained = plan.push(Step::node(name, drain, needs));
    let idle = plan.push(Step::node(name, NodeAction::AwaitIdle { through }, vec![drained]));
    stop(&mut plan, vec![idle]);
    Ok(plan)
}
