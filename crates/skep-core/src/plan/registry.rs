//! The part of a plan that lets one node serve a registry, and all others trust it, and those that are
//! there already.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::nodes::find;
use super::swarm::Progress;
use super::{ClusterAction, NodeAction, Plan, PlanError, Step};
use crate::model::{
    ClusterRecord, ClusterSpec, NodeName, NodeRecord, Registries, RegistrySpec, TrustedRegistry,
};
use crate::observed::{EngineState, Observed};

/// Plans that nodes have of the registry what is wanted. One that did not answer is planned for after
/// the next look, which such a plan asks for anyway.
pub(super) fn plan_registry(
    plan: &mut Plan,
    spec: &ClusterSpec,
    records: &[NodeRecord],
    seen: &Observed,
    progress: &BTreeMap<NodeName, Progress>,
) {
    if spec.registry.is_none() && spec.trusted.is_none() {
        return;
    }
    let address = spec.registry.as_ref().and_then(|it| address(it, records.iter()));
    for record in records {
        let name = record.name();
        // One that has failed is left as it is.
        let Some(node) = progress.get(name) else { continue };
        let wanted = registries(record, spec.registry.as_ref(), spec.trusted.as_deref(), address);
        let there = match (node.fresh, node.answered) {
            (true, _) => Some(""),
            (false, true) => seen.nodes[name].registry.as_deref(),
            (false, false) => continue,
        };
        if there != Some(&*wanted.to_string()) {
            warn_of_mirror(plan, record, &wanted);
            plan.push(Step::node(name, NodeAction::SetRegistry(wanted), node.after.clone()));
        }
    }
}

/// Plans that a cluster has another registry, or one that does not run any more.
///
/// It is written down first. Nodes that do not answer are told when they are next brought up.
///
/// # Errors
///
/// If the cluster cannot have such a registry, its node does not answer, or another node serves it.
pub fn plan_registry_change(seen: &Observed, registry: &RegistrySpec) -> Result<Plan, PlanError> {
    let cluster = seen.cluster.as_ref().ok_or(PlanError::NotRecorded)?;
    let node = find(seen, &registry.node)?;
    let elsewhere = cluster.registry.as_ref().filter(|it| it.runs && it.node != registry.node);
    if let Some(other) = elsewhere {
        let (there, wanted) = (other.node.clone(), registry.node.clone());
        return Err(PlanError::RegistryElsewhere { there, wanted });
    }
    if let (true, Some(reason)) = (registry.runs, silent(&node.engine)) {
        return Err(PlanError::NoEngine { node: registry.node.clone(), reason });
    }
    plan_change(seen, ClusterRecord { registry: Some(registry.clone()), ..cluster.clone() })
}

/// Plans that all engines trust these registries, which are there already, and no others but the cluster's
/// own.
///
/// It is written down first. Nodes that do not answer are told when they are next brought up.
///
/// # Errors
///
/// If the cluster cannot have such registries.
pub fn plan_trust(seen: &Observed, trusted: &[TrustedRegistry]) -> Result<Plan, PlanError> {
    let cluster = seen.cluster.as_ref().ok_or(PlanError::NotRecorded)?;
    plan_change(seen, ClusterRecord { trusted: Some(trusted.to_vec()), ..cluster.clone() })
}

fn silent(engine: &EngineState) -> Option<String> {
    match engine {
        EngineState::Off => Some("its machine is not running".to_owned()),
        EngineState::Unreachable(reason) => Some(reason.clone()),
        EngineState::Inactive { .. } | EngineState::Member { .. } => None,
    }
}

/// Plans that a record is written down, and that all nodes know its registries.
fn plan_change(seen: &Observed, record: ClusterRecord) -> Result<Plan, PlanError> {
    let problems = record.spec(seen.nodes.values().map(|node| &node.record)).problems();
    if !problems.is_empty() {
        return Err(PlanError::Spec(problems));
    }
    let (own, trusted) = (record.registry.clone(), record.trusted.clone());
    let mut plan = Plan::default();
    let mut needs = Vec::new();
    if seen.cluster.as_ref() != Some(&record) {
        needs
            .push(plan.push(Step::cluster(ClusterAction::RecordCluster(Box::new(record)), vec![])));
    }
    let address =
        own.as_ref().and_then(|it| address(it, seen.nodes.values().map(|node| &node.record)));
    for (name, node) in &seen.nodes {
        if let Some(reason) = silent(&node.engine) {
            let when = "the next `skep up` configures the registry on it";
            plan.warnings.push(format!("{name}: {when}: {reason}"));
            continue;
        }
        let wanted = registries(&node.record, own.as_ref(), trusted.as_deref(), address);
        // Where none was ever looked for, none is written down.
        if node.registry.as_deref().unwrap_or_default() != wanted.to_string() {
            warn_of_mirror(&mut plan, &node.record, &wanted);
            plan.push(Step::node(name, NodeAction::SetRegistry(wanted), needs.clone()));
        }
    }
    Ok(plan)
}

/// Returns the address of the registry's node, which is the registry's.
fn address<'a>(
    registry: &RegistrySpec,
    mut records: impl Iterator<Item = &'a NodeRecord>,
) -> Option<Ipv4Addr> {
    records.find(|record| *record.name() == registry.node).map(|record| record.address)
}

fn registries(
    record: &NodeRecord,
    own: Option<&RegistrySpec>,
    trusted: Option<&[TrustedRegistry]>,
    address: Option<Ipv4Addr>,
) -> Registries {
    Registries {
        own: own.zip(address).and_then(|(own, address)| own.part(record, address)),
        trusted: trusted.unwrap_or_default().to_vec(),
    }
}

/// Tells of a host that it does not pull through the mirror: that would be in its engine's own settings.
fn warn_of_mirror(plan: &mut Plan, record: &NodeRecord, wanted: &Registries) {
    let mirrored = wanted.own.as_ref().is_some_and(|own| own.mirror.is_some());
    if mirrored && record.spec.is_host() {
        let name = record.name();
        plan.warnings.push(format!(
            "{name} does not use the mirror, because skep does not change the settings of existing hosts' engines"
        ));
    }
}
