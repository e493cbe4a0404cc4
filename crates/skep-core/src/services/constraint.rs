//! Placement constraints, as the swarm's scheduler reads them (`docker service create`,
//! `--constraint`): compared without regard to case, and a label that is not there is empty.

use super::SwarmNode;

/// One constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Constraint {
    /// What is compared, such as `node.labels.disk`.
    pub key: String,
    equal: bool,
    value: String,
}

/// Words before the key of a label.
const LABELS: [&str; 2] = ["node.labels.", "engine.labels."];

impl Constraint {
    /// Reads a constraint; none if the swarm would not take it either.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (key, equal, value) = match (text.split_once("!="), text.split_once("==")) {
            (Some((key, value)), _) => (key, false, value),
            (_, Some((key, value))) => (key, true, value),
            _ => return None,
        };
        Some(Self { key: key.trim().to_owned(), equal, value: value.trim().to_owned() })
    }

    /// Tells whether a node meets it. One about something that is not known here counts as met: the
    /// scheduler knows better.
    pub(super) fn is_met(&self, node: &SwarmNode) -> bool {
        let Some(found) = self.found(node) else { return true };
        found.eq_ignore_ascii_case(&self.value) == self.equal
    }

    /// Returns what a node has in the place of the key.
    pub(super) fn found<'a>(&self, node: &'a SwarmNode) -> Option<&'a str> {
        let key = self.key.as_str();
        let label = |prefix: &str| {
            let (head, rest) = key.split_at_checked(prefix.len())?;
            head.eq_ignore_ascii_case(prefix).then_some(rest)
        };
        if let Some(name) = label(LABELS[0]) {
            return Some(node.labels.get(name).map_or("", String::as_str));
        }
        if let Some(name) = label(LABELS[1]) {
            return Some(node.engine_labels.get(name).map_or("", String::as_str));
        }
        match key.to_ascii_lowercase().as_str() {
            "node.id" => Some(&node.id),
            "node.hostname" => Some(&node.hostname),
            "node.role" => Some(node.role.as_str()),
            "node.platform.os" => Some(&node.os),
            "node.platform.arch" => Some(&node.architecture),
            _ => None,
        }
    }

    /// Tells whether it is about a label.
    pub(super) fn is_about_a_label(&self) -> bool {
        LABELS.iter().any(|prefix| {
            self.key.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    fn node() -> SwarmNode {
        SwarmNode {
            labels: [("tier".to_owned(), "web".to_owned())].into(),
            engine_labels: [("disk".to_owned(), "ssd".to_owned())].into(),
            ..fixtures::swarm_node("n1", "node1")
        }
    }

    #[test]
    fn constraints_are_met_as_the_scheduler_says() {
        for met in [
            "node.labels.tier==web",
            "node.labels.tier == WEB",
            "node.labels.tier!=db",
            "node.labels.none != x",
            "engine.labels.disk==ssd",
            "node.role==worker",
            "node.hostname==node1",
            "node.platform.os==linux",
            "node.ip==10.0.0.0/8",
        ] {
            assert!(Constraint::parse(met).unwrap().is_met(&node()), "{met}");
        }
        for unmet in ["node.labels.tier==db", "node.labels.none==x", "node.role!=worker"] {
            assert!(!Constraint::parse(unmet).unwrap().is_met(&node()), "{unmet}");
        }
        assert_eq!(Constraint::parse("node.role=worker"), None);
    }
}
