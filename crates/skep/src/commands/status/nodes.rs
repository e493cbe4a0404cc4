//! The nodes of a cluster as `skep status` and `skep node ls` show them.

use serde_json::{Value, json};
use skep_core::model::{Role, Shape};
use skep_core::observed::{EngineState, Member, Observed, ObservedNode};

use crate::listing::{Column, Row};

/// A node, and what the swarm knows of it.
#[derive(Debug)]
pub(in crate::commands) struct NodeRow {
    node: ObservedNode,
    member: Option<Member>,
    subnet: String,
}

impl Row for NodeRow {
    const NAME: &'static str = "Name";
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("NODE", "Name", |it| it.node.record.name().to_string()),
        Column::only_named("HOSTNAME", "Hostname", |it| it.node.record.name().to_string()),
        Column::new("ROLE", "Role", |it| role(&it.node, it.member.as_ref()).to_owned()),
        Column::new("MACHINE", "Machine", |it| format!("{:?}", it.node.machine).to_lowercase()),
        Column::new("ADDRESS", "Address", |it| it.node.record.address.to_string()),
        Column::wide("SUBNET", "Subnet", |it| it.subnet.clone()),
        Column::wide("MAC", "MAC", |it| it.node.record.mac.to_string()),
        Column::wide("CPUS", "CPUs", |it| it.size(|shape| shape.cpus.to_string())),
        Column::wide("MEMORY", "Memory", |it| it.size(|shape| format!("{:#}", shape.memory))),
        Column::wide("DISK", "Disk", |it| it.size(|shape| format!("{:#}", shape.disk))),
        Column::new("SWARM", "Swarm", |it| swarm(&it.node, it.member.as_ref()).to_owned()),
        Column::only_named("STATUS", "Status", NodeRow::status),
        Column::without_field("AVAILABILITY", |it| {
            it.member.as_ref().map(|member| member.availability.clone()).unwrap_or_default()
        }),
        Column::only_named("AVAILABILITY", "Availability", NodeRow::availability),
        Column::only_named("MANAGER STATUS", "ManagerStatus", NodeRow::manager_status),
        Column::new("ENGINE", "EngineVersion", |it| {
            it.node.engine.version().unwrap_or_default().to_owned()
        }),
        Column::wide("ID", "ID", |it| it.member.iter().map(|it| it.id.as_str()).collect()),
        Column::new("LABELS", "Labels", NodeRow::labels),
    ];
}

/// What docker says of a node, in its words (`docker node ls --format`).
impl NodeRow {
    /// Returns a part of a virtual machine's size; nothing for a host, whose size is not known here.
    fn size(&self, part: impl Fn(Shape) -> String) -> String {
        self.node.record.spec.shape().map(part).unwrap_or_default()
    }

    fn status(&self) -> String {
        let word = match &self.member {
            Some(member) if member.ready => "Ready",
            Some(_) => "Down",
            None => "Unknown",
        };
        word.to_owned()
    }

    fn availability(&self) -> String {
        let word = match self.member.as_ref().map(|member| member.availability.as_str()) {
            Some("active") => "Active",
            Some("pause") => "Pause",
            Some("drain") => "Drain",
            Some(other) => other,
            None => "",
        };
        word.to_owned()
    }

    fn manager_status(&self) -> String {
        let word = match &self.member {
            Some(member) if member.leader => "Leader",
            Some(member) if member.role == Role::Worker => "",
            Some(member) if member.reachable => "Reachable",
            Some(_) => "Unreachable",
            None => "",
        };
        word.to_owned()
    }

    fn labels(&self) -> String {
        let labels = self.member.as_ref().map_or(&self.node.record.spec.labels, |it| &it.labels);
        labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    }
}

/// Returns the nodes of a cluster for people.
pub(in crate::commands) fn node_rows(seen: &Observed) -> Vec<NodeRow> {
    let subnet = seen.cluster.as_ref().map(|it| it.network.subnet.to_string()).unwrap_or_default();
    let row = |node: &ObservedNode| NodeRow {
        node: node.clone(),
        member: member(node, seen).cloned(),
        subnet: subnet.clone(),
    };
    seen.nodes.values().map(row).collect()
}

fn member<'a>(node: &ObservedNode, seen: &'a Observed) -> Option<&'a Member> {
    match &node.engine {
        EngineState::Member { id, .. } => seen.swarm.as_ref()?.member(id),
        _ => None,
    }
}

/// Tells whether a node is Ready.
pub(super) fn is_well(node: &ObservedNode, seen: &Observed) -> bool {
    member(node, seen).is_some_and(|member| member.ready)
}

fn role(node: &ObservedNode, member: Option<&Member>) -> &'static str {
    match member {
        Some(member) if member.leader => "leader",
        Some(member) => member.role.as_str(),
        None => node.record.spec.role.as_str(),
    }
}

fn swarm(node: &ObservedNode, member: Option<&Member>) -> &'static str {
    match (&node.engine, member) {
        (_, Some(member)) if member.ready => "ready",
        (_, Some(_)) => "down",
        (EngineState::Member { .. }, None) => "member",
        (EngineState::Inactive { .. }, _) => "none",
        (EngineState::Unreachable(_) | EngineState::Off, _) => "unknown",
    }
}

/// Returns one node for programs.
pub(in crate::commands) fn node_document(node: &ObservedNode, seen: &Observed) -> Value {
    let member = member(node, seen);
    let spec = &node.record.spec;
    let size = spec.kind.written_shape();
    let problem = match &node.engine {
        EngineState::Unreachable(reason) => reason.as_str(),
        _ => "",
    };
    json!({
        "name": node.record.name(),
        "role": member.map_or(spec.role, |member| member.role),
        "leader": member.is_some_and(|member| member.leader),
        "machine": node.machine,
        "address": node.record.address,
        "mac": node.record.mac,
        "cpus": size.cpus,
        "memory": size.memory,
        "disk": size.disk,
        "swarm": swarm(node, member),
        "availability": member.map(|member| member.availability.as_str()),
        "engine": node.engine.version(),
        "labels": member.map_or(&spec.labels, |member| &member.labels),
        "problem": problem,
    })
}
