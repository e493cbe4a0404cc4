//! What is true of every plan's graph.

use std::collections::BTreeSet;

use skep_core::plan::{Action, ClusterAction, NodeAction, Plan, Step};

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
    let same_node = first.action.node() == second.action.node();
    match (&first.action, &second.action) {
        (
            Action::Cluster(ClusterAction::RecordCluster(_)),
            Action::Cluster(ClusterAction::EnsureBridge(_))
            | Action::Cluster(ClusterAction::EnsureFirewall { .. })
            | Action::Cluster(ClusterAction::EnsureCredentials)
            | Action::Node(_, NodeAction::RecordNode(_))
            | Action::Node(_, NodeAction::EnsureNodeKeys)
            | Action::Cluster(ClusterAction::PublishHosts(_))
            | Action::Node(_, NodeAction::RemoveNode),
        ) => true,
        (
            Action::Cluster(ClusterAction::EnsureBridge(_)),
            Action::Cluster(ClusterAction::EnsureFirewall { .. }),
        ) => true,
        (
            Action::Cluster(ClusterAction::EnsureCredentials),
            Action::Node(_, NodeAction::EnsureNodeKeys),
        ) => true,
        (
            Action::Cluster(ClusterAction::EnsureImage(_)),
            Action::Cluster(ClusterAction::EnsureTemplate { .. })
            | Action::Node(_, NodeAction::CreateDisk { .. })
            | Action::Node(_, NodeAction::ForkMachine)
            | Action::Node(_, NodeAction::StartMachine),
        ) => true,
        (
            Action::Cluster(ClusterAction::EnsureBridge(_)),
            Action::Node(_, NodeAction::ForkMachine)
            | Action::Node(_, NodeAction::StartMachine)
            | Action::Node(_, NodeAction::AwaitEngine),
        ) => true,
        (
            Action::Node(_, NodeAction::RecordNode(_)),
            Action::Node(_, NodeAction::EnsureNodeKeys)
            | Action::Node(_, NodeAction::CreateDisk { .. })
            | Action::Node(_, NodeAction::ForkMachine)
            | Action::Node(_, NodeAction::StartMachine)
            | Action::Node(_, NodeAction::Provision),
        )
        | (Action::Node(_, NodeAction::EnsureNodeKeys), Action::Node(_, NodeAction::Provision))
        | (
            Action::Node(_, NodeAction::CreateDisk { .. }),
            Action::Node(_, NodeAction::ForkMachine) | Action::Node(_, NodeAction::StartMachine),
        )
        | (
            Action::Node(_, NodeAction::LeaveSwarm { .. }),
            Action::Node(_, NodeAction::KillMachine) | Action::Node(_, NodeAction::RemoveNode),
        )
        | (Action::Node(_, NodeAction::KillMachine), Action::Node(_, NodeAction::RemoveNode)) => {
            same_node
        }
        (
            Action::Node(_, NodeAction::KillMachine),
            Action::Cluster(ClusterAction::RemoveLink(_))
            | Action::Cluster(ClusterAction::RemoveFirewall(_)),
        ) => true,
        (Action::Node(_, NodeAction::InitSwarm), Action::Node(_, NodeAction::JoinSwarm { .. })) => {
            true
        }
        (other, Action::Cluster(ClusterAction::RemoveCluster)) => {
            !matches!(other, Action::Cluster(ClusterAction::RemoveCluster))
        }
        _ => false,
    }
}
