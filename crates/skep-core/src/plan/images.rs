//! The part of a plan that gives engines container images.

use std::collections::BTreeMap;

use super::nodes::find;
use super::swarm::Progress;
use super::{Action, ClusterAction, Plan, PlanError, Step};
use crate::model::{ClusterRecord, EngineImages, ImageSet, NodeName, Shape};
use crate::observed::{EngineState, Observed};

/// Plans that the engines of these nodes have the cluster's images. What an engine that did not
/// answer has is planned after the next look, which such a plan asks for anyway.
pub(super) fn plan_images(
    plan: &mut Plan,
    sets: &[ImageSet],
    seen: &Observed,
    progress: &BTreeMap<NodeName, Progress>,
) {
    // Images take the nodes' processors, which the swarm needs to form.
    let is_ready =
        |step: &Step| matches!(step.action, Action::Cluster(ClusterAction::AwaitReady { .. }));
    let ready = plan.steps.iter().rposition(is_ready);
    let mut last = None;
    for set in sets {
        let lacks = |(name, node): &(&NodeName, &Progress)| match (node.fresh, node.answered) {
            (true, _) => !node.baked,
            (false, true) => !has_all(seen, name, set),
            (false, false) => false,
        };
        let nodes: Vec<_> = progress.iter().filter(lacks).collect();
        if nodes.is_empty() {
            continue;
        }
        let mut needs: Vec<usize> = nodes.iter().flat_map(|(_, node)| node.after.clone()).collect();
        // One set after the other: side by side each would only take longer.
        needs.extend(ready.into_iter().chain(last));
        needs.sort_unstable();
        needs.dedup();
        let nodes = nodes.into_iter().map(|(name, _)| name.clone()).collect();
        let action = ClusterAction::LoadImages { set: set.clone(), nodes };
        last = Some(plan.push(Step::cluster(action, needs)));
    }
}

/// Returns the plan without loading from these sources, and with a warning for each that it would have
/// needed: an image that cannot be had keeps no cluster from its start.
#[must_use]
pub fn without_images(plan: Plan, gone: &[String]) -> Plan {
    let mut left = Plan { steps: Vec::new(), ..plan };
    // The places of the steps that have to be done before each step's dependents.
    let mut places: Vec<Vec<usize>> = Vec::new();
    for step in plan.steps {
        let mut needs: Vec<usize> = step.needs.iter().flat_map(|it| places[*it].clone()).collect();
        needs.sort_unstable();
        needs.dedup();
        match &step.action {
            Action::Cluster(ClusterAction::LoadImages { set, nodes })
                if gone.contains(&set.source) =>
            {
                let names: Vec<_> = nodes.iter().map(NodeName::as_str).collect();
                let (names, source) = (names.join(", "), &set.source);
                left.warnings.push(format!(
                    "image {source} is missing on {names} and no longer on this host"
                ));
                places.push(needs);
            }
            _ => places.push(vec![left.push(Step { needs, ..step })]),
        }
    }
    left
}

/// Plans the loading of images into the engines of some nodes, or of all that run if none is named.
///
/// # Errors
///
/// If a node does not exist, or one that is named has no engine that answers.
pub fn plan_load(
    seen: &Observed,
    sets: &[ImageSet],
    names: &[NodeName],
) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    let mut chosen = Vec::new();
    let all: Vec<_> = seen.nodes.keys().cloned().collect();
    for name in if names.is_empty() { &all } else { names } {
        let node = find(seen, name)?;
        let reason = match &node.engine {
            EngineState::Off => "its machine is not running".to_owned(),
            EngineState::Unreachable(reason) => reason.clone(),
            EngineState::Inactive { .. } | EngineState::Member { .. } => {
                chosen.push(name);
                continue;
            }
        };
        if !names.is_empty() {
            return Err(PlanError::NoEngine { node: name.clone(), reason });
        }
        plan.warnings.push(format!("{name} gets no images: {reason}"));
    }
    let mut needs = Vec::new();
    for set in sets {
        let lacks = |name: &&&NodeName| !has_all(seen, name, set);
        let nodes: Vec<_> = chosen.iter().filter(lacks).map(|name| (*name).clone()).collect();
        if !nodes.is_empty() {
            let action = ClusterAction::LoadImages { set: set.clone(), nodes };
            needs = vec![plan.push(Step::cluster(action, needs))];
        }
    }
    Ok(plan)
}

/// Plans templates that have a recorded cluster's images, one for each shape of its nodes.
///
/// # Errors
///
/// If the cluster has no record.
pub fn plan_bake(seen: &Observed) -> Result<Plan, PlanError> {
    let record = seen.cluster.as_ref().ok_or(PlanError::NotRecorded)?;
    let mut plan = Plan::default();
    let mut shapes: Vec<_> = record.nodes.iter().filter_map(|node| node.shape()).collect();
    shapes.sort_unstable();
    shapes.dedup();
    shapes.retain(|shape| baked(record, seen, *shape).is_empty());
    if shapes.is_empty() || record.images.is_empty() {
        return Ok(plan);
    }
    let image = plan.push(Step::cluster(ClusterAction::EnsureImage(record.image.clone()), vec![]));
    let mut needs = vec![image];
    for shape in shapes {
        let action = ClusterAction::EnsureTemplate { shape, images: record.images.clone() };
        // One after the other: each keeps a processor and the disk busy.
        needs = vec![plan.push(Step::cluster(action, needs))];
    }
    Ok(plan)
}

/// Returns the cluster's images if there is a template of that shape that has them, else none.
pub(super) fn baked(record: &ClusterRecord, seen: &Observed, shape: Shape) -> Vec<ImageSet> {
    let wanted = EngineImages::of(&record.images);
    let fits = seen.baked.iter().any(|baked| {
        // Another one, with more images too, would have to be made.
        (&baked.image, baked.shape, &baked.images) == (&record.image, shape, &wanted)
    });
    if fits { record.images.clone() } else { Vec::new() }
}

fn has_all(seen: &Observed, name: &NodeName, set: &ImageSet) -> bool {
    let images = seen.nodes.get(name).and_then(|node| node.images.as_ref());
    images.is_some_and(|images| images.has_all(set))
}
