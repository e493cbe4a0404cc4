//! Why no node takes a task: which constraint keeps them all away, and what they have instead.

use super::constraint::Constraint;
use super::{Service, SwarmNode};

/// Returns the nodes that meet all constraints of a service.
pub(super) fn fitting<'a>(service: &Service, nodes: &'a [SwarmNode]) -> Vec<&'a SwarmNode> {
    let constraints = parsed(service);
    nodes.iter().filter(|node| constraints.iter().all(|(_, it)| it.is_met(node))).collect()
}

fn parsed(service: &Service) -> Vec<(&str, Constraint)> {
    let texts = service.constraints.iter();
    texts.filter_map(|text| Some((text.as_str(), Constraint::parse(text)?))).collect()
}

/// Tells in words why no node meets the constraints of a service; none if one that takes tasks does.
pub(super) fn explain(service: &Service, nodes: &[SwarmNode]) -> Option<String> {
    let constraints = parsed(service);
    let fitting = fitting(service, nodes);
    if fitting.iter().any(|node| node.takes_tasks()) {
        return None;
    }
    if !fitting.is_empty() {
        let all: Vec<_> = constraints.iter().map(|(text, _)| *text).collect();
        let away: Vec<_> =
            fitting.iter().map(|node| format!("{} is {}", node.hostname, absence(node))).collect();
        return Some(match all.is_empty() {
            true => format!("no node takes tasks: {}", away.join(", ")),
            false => format!("only for {} there is a node: {}", all.join(" and "), away.join(", ")),
        });
    }
    let unmet = constraints.iter().filter(|(_, it)| !nodes.iter().any(|node| it.is_met(node)));
    let unmet: Vec<_> = unmet.map(|(text, it)| one_unmet(text, it, nodes)).collect();
    if !unmet.is_empty() {
        return Some(unmet.join("; "));
    }
    let each = constraints.iter().map(|(text, it)| {
        let nodes = nodes.iter().filter(|node| it.is_met(node));
        let names: Vec<_> = nodes.map(|node| node.hostname.as_str()).collect();
        format!("{text} ({})", names.join(", "))
    });
    Some(format!("no node meets all of {}", each.collect::<Vec<_>>().join(" and ")))
}

/// Returns why a node takes no tasks.
fn absence(node: &SwarmNode) -> &'static str {
    match node.availability.as_str() {
        _ if !node.ready => "down",
        "drain" => "drained",
        "pause" => "paused for new tasks",
        _ => "not available",
    }
}

fn one_unmet(text: &str, constraint: &Constraint, nodes: &[SwarmNode]) -> String {
    let values = nodes.iter().filter_map(|node| {
        let value = constraint.found(node).filter(|value| !value.is_empty())?;
        Some(format!("{value} on {}", node.hostname))
    });
    let values: Vec<_> = values.collect();
    if !values.is_empty() {
        return format!("no node meets {text}: {} is {}", constraint.key, values.join(", "));
    }
    if !constraint.is_about_a_label() {
        return format!("no node meets {text}");
    }
    let labels = nodes.iter().filter(|node| !node.labels.is_empty()).map(|node| {
        let labels: Vec<_> = node.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        format!("{} on {}", labels.join(" "), node.hostname)
    });
    let labels: Vec<_> = labels.collect();
    match labels.is_empty() {
        true => format!("no node meets {text}: no node has any labels"),
        false => format!("no node meets {text}: the labels are {}", labels.join(", ")),
    }
}
