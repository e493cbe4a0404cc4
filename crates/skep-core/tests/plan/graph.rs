//! What is true of every plan's graph.

use std::collections::BTreeSet;

use skep_core::plan::{Action, Plan, Step};

/// Panics if a step needs one that does not come before it, or if something is made before what
/// names it is written down.
pub fn check(plan: &Plan) {
    for (at, step) in plan.steps.iter().enumerate() {
        assert!(step.needs.iter().all(|need| *need < at), "step {} of\n{plan}", at + 1);
        let distinct: BTreeSet<_> = step.needs.iter().collect();
        assert_eq!(distinct.len(), step.needs.len(), "step {} of\n{plan}", at + 1);
        let before = ancestors(plan, at);
        for (other, earlier) in plan.steps.iter().enumerate() {
            let needed = other != at && must_precede(earlier, step);
            assert!(
                !needed || before.contains(&other),
                "step {} has to need {} in\n{plan}",
                at + 1,
                other + 1
            );
        }
    }
}

fn ancestors(plan: &Plan, at: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open = plan.steps[at].needs.clone();
    while let Some(next) = open.pop() {
        if found.insert(next) {
            open.extend(&plan.steps[next].needs);
        }
    }
    found
}

/// Tells whether the first step, if both are in one plan, has to be done before the second.
fn must_precede(first: &Step, second: &Step) -> bool {
    let same_node = first.node == second.node;
    match (&first.action, &second.action) {
        (
            Action::RecordCluster(_),
            Action::EnsureBridge(_)
            | Action::EnsureFirewall { .. }
            | Action::EnsureCredentials
            | Action::RecordNode(_)
            | Action::EnsureNodeKeys
            | Action::PublishHosts(_)
            | Action::RemoveNode,
        ) => true,
        (Action::EnsureBridge(_), Action::EnsureFirewall { .. }) => true,
        (Action::EnsureCredentials, Action::EnsureNodeKeys) => true,
        (
            Action::EnsureImage(_),
            Action::EnsureTemplate { .. }
            | Action::CreateDisk { .. }
            | Action::ForkMachine
            | Action::StartMachine,
        ) => true,
        (
            Action::EnsureBridge(_),
            Action::ForkMachine | Action::StartMachine | Action::AwaitEngine,
        ) => true,
        (
            Action::RecordNode(_),
            Action::EnsureNodeKeys
            | Action::CreateDisk { .. }
            | Action::ForkMachine
            | Action::StartMachine
            | Action::Provision,
        )
        | (Action::EnsureNodeKeys, Action::Provision)
        | (Action::CreateDisk { .. }, Action::ForkMachine | Action::StartMachine)
        | (Action::LeaveSwarm { .. }, Action::KillMachine | Action::RemoveNode)
        | (Action::KillMachine, Action::RemoveNode) => same_node,
        (Action::KillMachine, Action::RemoveLink(_) | Action::RemoveFirewall(_)) => true,
        (Action::InitSwarm, Action::JoinSwarm { .. }) => true,
        (other, Action::RemoveCluster) => !matches!(other, Action::RemoveCluster),
        _ => false,
    }
}
