//! Plans that stop and start what exists.

use super::access::plan_ways;
use super::{Action, NodeAction, Plan, PlanError, Step, UpOptions, plan_up};
use crate::model::{NodeName, Role};
use crate::observed::{MachineState, Observed, ObservedNode};

/// How a machine is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// The guest shuts down; it is killed only if it does not follow in time.
    Graceful,
    /// The process ends at once.
    Kill,
}

/// Plans the stop of some nodes, or of all if none is named.
///
/// Workers go first, so that the managers' last word is about a whole swarm.
///
/// # Errors
///
/// If a node does not exist.
pub fn plan_stop(seen: &Observed, names: &[NodeName], mode: StopMode) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    let nodes = chosen(seen, names)?;
    let action = match mode {
        StopMode::Graceful => NodeAction::StopMachine,
        StopMode::Kill => NodeAction::KillMachine,
    };
    if !names.is_empty() {
        refuse_hosts(&nodes)?;
    }
    let is_host = |node: &&&ObservedNode| node.record.spec.is_host();
    let hosts = nodes.iter().filter(is_host).map(|node| node.record.name());
    plan.warnings.extend(hosts.map(|name| format!("{name} is an existing host and keeps running")));
    let mut workers = Vec::new();
    for role in [Role::Worker, Role::Manager] {
        let needs = workers.clone();
        let machines = nodes.iter().filter(|node| node.record.spec.is_vm());
        for node in machines.filter(|node| node.record.spec.role == role) {
            if node.machine != MachineState::Stopped {
                let step = Step::node(node.record.name(), action.clone(), needs.clone());
                let step = plan.push(step);
                if role == Role::Worker && mode == StopMode::Graceful {
                    workers.push(step);
                }
            }
        }
    }
    if !names.is_empty() {
        plan_ways(&mut plan, seen, &|node| is_running(node) && !is_among(node, names));
    }
    Ok(plan)
}

/// Plans that machines halt; those that do not run are left alone.
///
/// # Errors
///
/// If a node does not exist.
pub fn plan_pause(seen: &Observed, names: &[NodeName]) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    let nodes = chosen(seen, names)?;
    refuse_hosts(&nodes)?;
    for node in nodes {
        let name = node.record.name();
        match node.machine {
            MachineState::Running => {
                plan.push(Step::node(name, NodeAction::PauseMachine, vec![]));
            }
            MachineState::Paused => {}
            MachineState::Stopped => plan.warnings.push(format!("{name} is not running")),
            MachineState::Crashed => {
                plan.warnings.push(format!("{name} has crashed; skep up restarts it"));
            }
        }
    }
    plan_ways(&mut plan, seen, &|node| is_running(node) && !is_among(node, names));
    Ok(plan)
}

/// Plans that machines which halt go on, up to engines that answer; others are left alone.
///
/// # Errors
///
/// As [`plan_start`].
pub fn plan_resume(
    seen: &Observed,
    names: &[NodeName],
    options: UpOptions,
) -> Result<Plan, PlanError> {
    let (paused, others): (Vec<_>, Vec<_>) =
        chosen(seen, names)?.into_iter().partition(|node| node.machine == MachineState::Paused);
    let stopped = others.iter().filter(|node| node.machine == MachineState::Stopped);
    let warnings: Vec<_> =
        stopped.map(|node| format!("{} is not running", node.record.name())).collect();
    let paused: Vec<_> = paused.into_iter().map(|node| node.record.name().clone()).collect();
    match paused.is_empty() {
        true => Ok(Plan { warnings, ..Plan::default() }),
        false => Ok(Plan { warnings, ..plan_start(seen, &paused, options)? }),
    }
}

/// Plans the start of some nodes, or of all if none is named, up to a swarm that is whole again.
///
/// # Errors
///
/// If the cluster or a node does not exist, or its record cannot be followed on this host.
pub fn plan_start(
    seen: &Observed,
    names: &[NodeName],
    options: UpOptions,
) -> Result<Plan, PlanError> {
    let cluster = seen.cluster.as_ref().ok_or(PlanError::NotRecorded)?;
    let chosen = chosen(seen, names)?;
    let spec = cluster.spec(seen.nodes.values().map(|node| &node.record));
    let plan = plan_up(&spec, seen, options)?;
    match names.is_empty() {
        true => Ok(plan),
        false => {
            let mut plan = part(plan, &chosen);
            plan_ways(&mut plan, seen, &|node| is_running(node) || is_among(node, names));
            Ok(plan)
        }
    }
}

fn is_running(node: &ObservedNode) -> bool {
    node.machine == MachineState::Running
}

fn is_among(node: &ObservedNode, names: &[NodeName]) -> bool {
    names.contains(node.record.name())
}

/// Returns what starts these nodes, and what that needs; a whole swarm is not waited for.
fn part(plan: Plan, chosen: &[&ObservedNode]) -> Plan {
    let is_chosen = |name: &NodeName| chosen.iter().any(|node| node.record.name() == name);
    let mut wanted = vec![false; plan.steps.len()];
    for (index, step) in plan.steps.iter().enumerate().rev() {
        let starts = match &step.action {
            Action::Node(node, action) => is_chosen(node) && !is_swarm_step(action),
            Action::Cluster(_) => false,
        };
        if starts || wanted[index] {
            wanted[index] = true;
            step.needs.iter().for_each(|need| wanted[*need] = true);
        }
    }
    Plan { steps: kept(plan.steps, &wanted), look_again: false, ..plan }
}

/// Refuses to switch what is not ours.
pub(super) fn refuse_hosts(nodes: &[&ObservedNode]) -> Result<(), PlanError> {
    match nodes.iter().find(|node| node.record.spec.is_host()) {
        Some(host) => Err(PlanError::Host(host.record.name().clone())),
        None => Ok(()),
    }
}

fn is_swarm_step(action: &NodeAction) -> bool {
    matches!(
        action,
        NodeAction::InitSwarm
            | NodeAction::JoinSwarm { .. }
            | NodeAction::ConfigureMember { .. }
            | NodeAction::LeaveSwarm { .. }
    )
}

/// Returns the steps that are wanted, with all that they need, numbered anew.
pub(super) fn kept(steps: Vec<Step>, wanted: &[bool]) -> Vec<Step> {
    let mut places = Vec::new();
    let mut kept = Vec::new();
    for (step, wanted) in steps.into_iter().zip(wanted) {
        places.push(kept.len());
        if *wanted {
            let needs = step.needs.iter().map(|need| places[*need]).collect();
            kept.push(Step { needs, ..step });
        }
    }
    kept
}

fn chosen<'a>(seen: &'a Observed, names: &[NodeName]) -> Result<Vec<&'a ObservedNode>, PlanError> {
    if names.is_empty() {
        return Ok(seen.nodes.values().collect());
    }
    names.iter().map(|name| super::nodes::find(seen, name)).collect()
}
