//! The plan that leaves nothing of a cluster.

use super::access::plan_no_context;
use super::nodes::{Parting, plan_release};
use super::{ClusterAction, NodeAction, Plan, Step};
use crate::model::NodeName;
use crate::observed::{Leftover, MachineState, Observed};

/// Plans the removal of everything that carries the cluster's name.
///
/// Machines are ended without ceremony: their data goes with them. What holds a machine's process
/// is removed only after the process, and the cluster's directory last, so that an interrupted
/// `down` is finished by the next one.
#[must_use]
pub fn plan_down(seen: &Observed) -> Plan {
    plan_down_parting(seen, Parting::default())
}

/// Plans as [`plan_down`], with hosts let go as it is said.
#[must_use]
pub fn plan_down_parting(seen: &Observed, parting: Parting) -> Plan {
    let mut plan = Plan::default();
    let mut ended = Vec::new();
    let mut all = Vec::new();
    for (name, node) in &seen.nodes {
        let mut needs = Vec::new();
        if node.record.spec.is_host() {
            needs = plan_release(&mut plan, node, parting, needs);
        } else if node.machine != MachineState::Stopped {
            needs.push(plan.push(Step::node(name, NodeAction::KillMachine, vec![])));
            ended.extend(&needs);
        }
        all.push(plan.push(Step::node(name, NodeAction::RemoveNode, needs)));
    }
    for leftover in &seen.leftovers {
        // A record that cannot be read may still stand beside a running process.
        if let Leftover::Node(name) = leftover
            && let Ok(name) = name.parse::<NodeName>()
        {
            let killed = plan.push(Step::node(&name, NodeAction::KillMachine, vec![]));
            ended.push(killed);
            all.push(plan.push(Step::node(&name, NodeAction::RemoveNode, vec![killed])));
        }
    }
    let mut links = Vec::new();
    let mut tables = Vec::new();
    if let Some(cluster) = &seen.cluster {
        // Also where they were not seen: what a crash left unfinished does not count as there, and
        // nothing would name it once the record is gone.
        tables.push(cluster.network.bridge.clone());
        links.push(cluster.network.bridge.clone());
    }
    for leftover in &seen.leftovers {
        match leftover {
            Leftover::Link(name) => links.push(name.clone()),
            Leftover::FirewallTable(name) => tables.push(name.clone()),
            Leftover::Node(_) | Leftover::Directory => {}
        }
    }
    links.sort();
    links.dedup();
    tables.sort();
    tables.dedup();
    for name in tables {
        all.push(plan.push(Step::cluster(ClusterAction::RemoveFirewall(name), ended.clone())));
    }
    for name in links {
        all.push(plan.push(Step::cluster(ClusterAction::RemoveLink(name), ended.clone())));
    }
    if !seen.hosts_entries.is_empty() {
        all.push(plan.push(Step::cluster(ClusterAction::PublishHosts(Vec::new()), vec![])));
    }
    let before = plan.steps.len();
    plan_no_context(&mut plan, seen, &[]);
    all.extend(before..plan.steps.len());
    if seen.cluster.is_some() || seen.leftovers.contains(&Leftover::Directory) {
        plan.push(Step::cluster(ClusterAction::RemoveCluster, all));
    }
    plan
}
