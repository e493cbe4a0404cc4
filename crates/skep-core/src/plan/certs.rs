//! Plans that give a cluster new certificates while it goes on.
//!
//! A change of the authority visits each node twice: before clients go by the new authority, all nodes
//! have to admit its clients, and only after that may they refuse those of the old one. So clients
//! of this host get answers from every node at every moment, wherever it is cut off.

use super::access::plan_context_anew;
use super::{ClusterAction, NodeAction, Plan, PlanError, Step};
use crate::observed::{MachineState, Observed, ObservedNode, Rotation};

/// Plans new certificates for the client and all nodes, by the same authority.
///
/// # Errors
///
/// If a node cannot be given its own.
pub fn plan_renew(seen: &Observed) -> Result<Plan, PlanError> {
    let mut plan = checked(seen)?;
    let client = plan.push(Step::cluster(ClusterAction::RenewCredentials, vec![]));
    plan_context_anew(&mut plan, seen, client);
    deliver(&mut plan, seen, &NodeAction::RenewNodeKeys, client);
    warn_of_sleepers(&mut plan, seen);
    Ok(plan)
}

/// Plans another certificate authority in the place of the one there is, from where an earlier change
/// was cut off. Of one that is out of time (it has ended, or a clock that was wrong made it) no client
/// gets in anyway: the first visit to the nodes is left out.
///
/// # Errors
///
/// If a node cannot be told: it would go on admitting clients of the old authority.
pub fn plan_rotate(
    seen: &Observed,
    rotation: Rotation,
    out_of_time: bool,
) -> Result<Plan, PlanError> {
    let mut plan = checked(seen)?;
    let mut spread = Vec::new();
    if out_of_time && rotation == Rotation::Withdrawing {
        // What came with the change that was cut off is out of time itself.
        spread.push(plan.push(Step::cluster(ClusterAction::WithdrawAuthority, vec![])));
    }
    if out_of_time || rotation != Rotation::Withdrawing {
        let prepared = plan.push(Step::cluster(ClusterAction::PrepareAuthority, spread));
        spread = match out_of_time {
            true => vec![prepared],
            false => deliver(&mut plan, seen, &NodeAction::EnsureNodeKeys, prepared),
        };
    }
    let switched = plan.push(Step::cluster(ClusterAction::SwitchAuthority, spread));
    // The docker command's own copy changes before the first node refuses it, too.
    let ready = plan_context_anew(&mut plan, seen, switched);
    let told = deliver(&mut plan, seen, &NodeAction::EnsureNodeKeys, ready);
    let withdrawn = plan.push(Step::cluster(ClusterAction::WithdrawAuthority, told));
    plan_context_anew(&mut plan, seen, withdrawn);
    warn_of_sleepers(&mut plan, seen);
    Ok(plan)
}

/// Refuses where a node that runs cannot be told anything.
fn checked(seen: &Observed) -> Result<Plan, PlanError> {
    seen.cluster.as_ref().ok_or(PlanError::NotRecorded)?;
    for node in seen.nodes.values() {
        let name = node.record.name();
        let reason = match node.machine {
            MachineState::Paused => format!("it is paused (skep node resume {name})"),
            MachineState::Crashed => "it has crashed (skep up restarts it)".to_owned(),
            MachineState::Stopped if node.record.spec.is_host() => {
                format!(
                    "the host does not answer (skep node rm --force {name} removes it from the cluster)"
                )
            }
            _ => continue,
        };
        return Err(PlanError::Deaf { node: name.clone(), reason });
    }
    Ok(Plan::default())
}

/// Plans that each node has keys and certificates; returns what the last of it is.
///
/// A virtual machine's go to the proxy in front of its engine, all at the same time. A host's engine
/// has to start anew for them, so hosts are done one after the other: managers keep their majority.
fn deliver(plan: &mut Plan, seen: &Observed, keys: &NodeAction, after: usize) -> Vec<usize> {
    let mut last = Vec::new();
    let mut host = after;
    for node in seen.nodes.values() {
        let name = node.record.name();
        let is_host = node.record.spec.is_host();
        let needs = if is_host { host } else { after };
        let mut step = plan.push(Step::node(name, keys.clone(), vec![needs]));
        if !sleeps(node) {
            let give = if is_host { NodeAction::AdoptHost } else { NodeAction::Provision };
            step = plan.push(Step::node(name, give, vec![step]));
            step = plan.push(Step::node(name, NodeAction::AwaitEngine, vec![step]));
        }
        if is_host {
            host = step;
        }
        last.push(step);
    }
    if last.is_empty() { vec![after] } else { last }
}

fn sleeps(node: &ObservedNode) -> bool {
    node.record.spec.is_vm() && node.machine == MachineState::Stopped
}

fn warn_of_sleepers(plan: &mut Plan, seen: &Observed) {
    let sleepers = seen.nodes.values().filter(|node| sleeps(node));
    let warning = |node: &ObservedNode| {
        format!("{} is not running; it gets its certificate when it starts", node.record.name())
    };
    plan.warnings.extend(sleepers.map(warning));
}
