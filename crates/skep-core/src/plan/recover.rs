//! Plans for a swarm whose managers are no majority any more and cannot be brought back.

use super::nodes::find;
use super::{ClusterAction, NodeAction, Plan, PlanError, Step};
use crate::model::{NodeName, NodeRecord, Role};
use crate::observed::{EngineState, MachineState, Observed, ObservedNode};

/// Plans that one manager forms the swarm anew from what it knows. Managers that run leave the old one
/// first, so that there are never two; the next `up` lets them join.
///
/// # Errors
///
/// If the node does not exist or is no manager that answers, the swarm can still decide, or a manager
/// sleeps that would come back with the old swarm.
pub fn plan_recover(seen: &Observed, name: &NodeName) -> Result<Plan, PlanError> {
    let node = find(seen, name)?;
    let refuse = |text: String| Err(PlanError::Quorum(text));
    if seen.swarm.is_some() {
        return refuse("most of the managers work, so the swarm needs no recovery".to_owned());
    }
    if !is_running_manager(node) {
        return refuse(format!(
            "{name} is not a manager that responds; start it first (skep node start {name})"
        ));
    }
    let mut plan = Plan::default();
    let mut left = Vec::new();
    for (other, found) in seen.nodes.iter().filter(|(other, _)| *other != name) {
        let manager = found.record.spec.role == Role::Manager;
        match found.machine {
            _ if is_running_manager(found) => {
                // There is nobody to tell the ID to.
                let action = NodeAction::LeaveSwarm { id: String::new(), through: Vec::new() };
                left.push(plan.push(Step::node(other, action, vec![])));
            }
            MachineState::Stopped | MachineState::Paused | MachineState::Crashed
                if manager && found.disk =>
            {
                return refuse(format!(
                    "{other} is a manager that sleeps, and would come back with the old swarm: start it \
                     (skep node start {other}), which may mend all, or remove it with its data \
                     (skep node rm --force {other})"
                ));
            }
            _ => {}
        }
    }
    let through = vec![name.clone()];
    let await_ready = ClusterAction::AwaitReady { nodes: through.clone(), through };
    // An engine that forms its swarm anew tells nobody of the networks it is in already, its part of the
    // routing mesh among them, until it has started anew (seen with Docker 26.1).
    let mut after = left;
    for action in [NodeAction::RecoverSwarm, NodeAction::RestartEngine, NodeAction::AwaitEngine] {
        after = vec![plan.push(Step::node(name, action, after))];
    }
    plan.push(Step::cluster(await_ready, after));
    Ok(plan)
}

/// Tells whether a node runs the managers' part, as far as it can tell: without a leader, engines do not
/// answer what they are asked of their swarm.
fn is_running_manager(node: &ObservedNode) -> bool {
    let asked = match &node.engine {
        EngineState::Member { control, .. } => *control,
        EngineState::Unreachable(_) => node.record.spec.role == Role::Manager,
        EngineState::Inactive { .. } | EngineState::Off => false,
    };
    asked && node.machine == MachineState::Running
}

/// Plans that a swarm which was formed anew forgets the managers that left.
#[must_use]
pub fn plan_forget_lost(seen: &Observed, name: &NodeName) -> Plan {
    let mut plan = Plan::default();
    let Some(swarm) = &seen.swarm else { return plan };
    let own = seen.nodes.get(name).map(|node| &node.engine);
    for member in swarm.members.iter().filter(|it| it.role == Role::Manager) {
        let is_own = matches!(own, Some(EngineState::Member { id, .. }) if *id == member.id);
        let known = |record: &NodeRecord| record.name().as_str() == member.hostname;
        let lives = seen.nodes.values().any(|node| {
            known(&node.record)
                && matches!(&node.engine, EngineState::Member { id, .. } if *id == member.id)
        });
        if !is_own && !lives {
            let action =
                ClusterAction::ForgetMember { id: member.id.clone(), through: vec![name.clone()] };
            let needs = plan.steps.len().checked_sub(1).into_iter().collect();
            plan.push(Step::cluster(action, needs));
        }
    }
    plan
}
