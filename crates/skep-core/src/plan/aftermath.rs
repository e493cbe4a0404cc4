//! What becomes of a cluster when steps of bringing it up have failed.
//!
//! Rollback is for what never became a cluster. As soon as a swarm was formed, everything is kept: the nodes
//! that work may already be in use, and the next `up` goes on with the others.

use std::fmt;

use super::down::plan_down;
use super::{ClusterAction, Plan, Step};
use crate::model::{ClusterName, NodeName};
use crate::observed::{EngineState, MachineState, Observed, ObservedNode};

/// What is known of a run that failed, beside what is there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Whether the cluster was first recorded by this run.
    pub is_new: bool,
    /// Whether a step that forms the swarm was done.
    pub formed: bool,
}

/// What is done after a run that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aftermath {
    /// There never was a swarm: all that was made is removed.
    Remove(Plan),
    /// The cluster is kept; the plan only removes what served a verification.
    Keep(Plan),
}

/// Plans what is done after a run that failed.
///
/// In doubt the cluster is kept: an engine that does not answer at the moment may hold a swarm that was seen to be
/// formed, and whoever could reach it may have put something there.
#[must_use]
pub fn plan_aftermath(attempt: Attempt, seen: &Observed) -> Aftermath {
    let is_member = |node: &ObservedNode| matches!(node.engine, EngineState::Member { .. });
    if attempt.is_new && !attempt.formed && !seen.nodes.values().any(is_member) {
        return Aftermath::Remove(plan_down(seen));
    }
    let mut plan = Plan::default();
    if seen.swarm.as_ref().is_some_and(|swarm| swarm.probed) {
        let control =
            |node: &ObservedNode| matches!(node.engine, EngineState::Member { control: true, .. });
        let managers = seen.nodes.iter().filter(|(_, node)| control(node));
        let through = managers.map(|(name, _)| name.clone()).collect();
        plan.push(Step::cluster(ClusterAction::RemoveProbe { through }, vec![]));
    }
    Aftermath::Keep(plan)
}

/// Which nodes of a cluster work, and what is wrong with the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The cluster.
    pub cluster: ClusterName,
    /// How many nodes it is to have.
    pub wanted: usize,
    /// Whether a manager told of the swarm: else no node is known to be Ready.
    pub is_known: bool,
    /// The nodes that are not Ready, each with the reason.
    pub missing: Vec<(NodeName, String)>,
}

impl Standing {
    /// Judges a cluster by what was seen of it; none if nothing is recorded of it.
    #[must_use]
    pub fn of(seen: &Observed) -> Option<Self> {
        let cluster = seen.cluster.as_ref()?;
        let mut names: Vec<&NodeName> = cluster.nodes.iter().map(|node| &node.name).collect();
        names.extend(seen.nodes.keys());
        names.sort();
        names.dedup();
        let missing = names.iter().filter_map(|name| {
            let reason = match seen.nodes.get(*name) {
                Some(node) => why_not_ready(node, seen)?,
                None => "not created yet".to_owned(),
            };
            Some(((*name).clone(), reason))
        });
        let missing = missing.collect();
        let is_known = seen.swarm.is_some();
        Some(Self { cluster: cluster.name.clone(), wanted: names.len(), is_known, missing })
    }

    /// Tells whether every node is Ready.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_known && self.missing.is_empty()
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, wanted, is_known, missing } = self;
        let ready = wanted - missing.len();
        match is_known {
            true => write!(f, "cluster {cluster} is kept: {ready} of {wanted} nodes are Ready")?,
            false => {
                write!(f, "cluster {cluster} is kept; no manager reports which nodes are Ready")?
            }
        }
        for (node, reason) in missing {
            write!(f, "\n  {node}: {reason}")?;
        }
        Ok(())
    }
}

fn why_not_ready(node: &ObservedNode, seen: &Observed) -> Option<String> {
    match (node.machine, &node.engine) {
        (MachineState::Stopped, _) => Some("the machine is not running".to_owned()),
        (MachineState::Paused, _) => Some("the machine is paused".to_owned()),
        (_, EngineState::Off) => Some("the engine was not asked".to_owned()),
        (_, EngineState::Unreachable(reason)) => {
            Some(format!("the engine does not answer: {reason}"))
        }
        (_, EngineState::Inactive { .. }) => Some("it has not joined the swarm".to_owned()),
        (_, EngineState::Member { id, .. }) => {
            // Where no manager answers, that is said once.
            match seen.swarm.as_ref()?.member(id) {
                Some(member) if member.ready => None,
                Some(_) => Some("the swarm reports it as down".to_owned()),
                None => Some("the swarm does not know it".to_owned()),
            }
        }
    }
}
