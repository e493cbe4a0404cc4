//! Plans for machines that are in no swarm of skep's: docker-machine's, which share a network.
//!
//! What they share is a cluster without a swarm, whose record has no nodes: each machine's own record is
//! what is wanted of it.

use ipnet::Ipv4Net;

use super::machine::{plan_base, plan_machine};
use super::network::user_of;
use super::up::{Birth, cluster_record, node_records};
use super::{NodeAction, Plan, PlanError, Step, plan_down};
use crate::model::{ClusterRecord, ClusterSpec, NodeName, NodeSpec};
use crate::observed::{HostFacts, Leftover, Observed};

/// Where users of a driver of docker-machine expect its machines: scripts and tutorials have addresses written down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsualAddresses {
    /// The network, which is taken if it is free.
    pub subnet: Option<Ipv4Net>,
    /// The place of the first machine in the network, counted from the first address that a machine can have.
    pub first: u32,
}

impl UsualAddresses {
    /// Returns the network if nothing uses it and this user may have it.
    fn free(self, host: &HostFacts) -> Option<Ipv4Net> {
        let may_have = |subnet: &Ipv4Net| {
            host.granted.as_ref().is_none_or(|granted| granted.iter().any(|it| it.contains(subnet)))
        };
        self.subnet.filter(|subnet| may_have(subnet) && user_of(*subnet, host).is_none())
    }
}

/// Plans the machines of `spec` up to engines that answer, with all that they stand on; others are
/// left alone.
///
/// # Errors
///
/// If a machine is described wrongly, or the host has no room for it.
pub fn plan_machines_up(
    spec: &ClusterSpec,
    seen: &Observed,
    birth: Birth,
    usual: UsualAddresses,
) -> Result<Plan, PlanError> {
    let problems: Vec<_> = spec.nodes.iter().flat_map(NodeSpec::problems).collect();
    if !problems.is_empty() {
        return Err(PlanError::Spec(problems));
    }
    let mut plan = Plan::default();
    let usual_subnet = || usual.free(&seen.host).filter(|_| seen.cluster.is_none());
    let spec = &ClusterSpec { subnet: spec.subnet.or_else(usual_subnet), ..spec.clone() };
    let record = ClusterRecord { nodes: Vec::new(), ..cluster_record(spec, seen)? };
    let records = node_records(spec, seen, &record.network, usual.first, &mut plan.warnings)?;
    let machines: Vec<_> = records.iter().collect();
    let base = plan_base(&mut plan, &record, seen, &machines, birth);
    let base = base.with_keys(NodeAction::EnsureMachineKeys);
    for machine in machines {
        plan_machine(&mut plan, machine, seen, &base);
    }
    Ok(plan)
}

/// Plans the set-up of the engine of a machine that runs; `anew` makes its certificate anew first.
#[must_use]
pub fn plan_machine_engine(name: &NodeName, anew: bool) -> Plan {
    let mut plan = Plan::default();
    let mut last = Vec::new();
    let renewal = [NodeAction::RenewMachineKeys, NodeAction::Provision];
    let renewal = if anew { &renewal[..] } else { &[] };
    for action in renewal.iter().chain(&[NodeAction::ConfigureEngine, NodeAction::AwaitEngine]) {
        last = vec![plan.push(Step::node(name, action.clone(), last))];
    }
    plan
}

/// Plans the upgrade of the engine of a machine that runs.
#[must_use]
pub fn plan_machine_upgrade(name: &NodeName) -> Plan {
    let mut plan = Plan::default();
    let upgrade = plan.push(Step::node(name, NodeAction::UpgradeEngine, vec![]));
    plan.push(Step::node(name, NodeAction::AwaitEngine, vec![upgrade]));
    plan
}

/// Plans the removal of a machine, and with the last one that of what they shared.
///
/// What is left of one whose record is gone or cannot be read is removed too: its directory says
/// which process is its own.
#[must_use]
pub fn plan_machine_removal(seen: &Observed, name: &NodeName) -> Plan {
    let own = Leftover::Node(name.to_string());
    let mut all = seen.clone();
    if !all.nodes.contains_key(name) && !all.leftovers.contains(&own) {
        all.leftovers.push(own.clone());
    }
    let is_other = |it: &Leftover| matches!(it, Leftover::Node(_)) && *it != own;
    if all.nodes.keys().any(|other| other != name) || all.leftovers.iter().any(is_other) {
        all.nodes.retain(|other, _| other == name);
        all.leftovers.retain(|leftover| *leftover == own);
        all = Observed { nodes: all.nodes, leftovers: all.leftovers, ..Observed::default() };
    }
    plan_down(&all)
}
