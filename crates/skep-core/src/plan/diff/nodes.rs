//! What a plan changes of nodes.

use std::collections::BTreeMap;

use super::{Change, Kind, Mark, View};
use crate::model::{Availability, NodeKind, NodeName, NodeSpec, Shape, Size};
use crate::observed::{EngineState, MachineState, Member, ObservedNode};
use crate::plan::NodeAction;

impl View<'_> {
    /// Returns the changes of nodes: those that the cluster has after the plan in its order, then the others.
    pub(super) fn nodes(&self) -> Vec<Change> {
        let wanted = self.after.map_or(&[][..], |record| &record.nodes);
        let known = self.seen.nodes.keys();
        let planned = self.plan.steps.iter().filter_map(|step| step.action.node());
        let mut names: Vec<&NodeName> = Vec::new();
        for name in wanted.iter().map(|node| &node.name).chain(known).chain(planned) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.into_iter().flat_map(|name| self.node(name)).collect()
    }

    fn node(&self, name: &NodeName) -> Vec<Change> {
        let seen = self.seen.nodes.get(name);
        if self.actions_of(name).any(|action| *action == NodeAction::RemoveNode) {
            let removed = Change::of(Mark::Remove, Kind::Node, name.as_str());
            return vec![removed.from(match seen {
                None => "its record cannot be read".to_owned(),
                Some(node) if node.record.spec.is_host() => describe(&node.record.spec),
                Some(node) => format!("{}, with all its data", describe(&node.record.spec)),
            })];
        }
        let Some(node) = seen.filter(|node| node.disk || node.record.spec.is_host()) else {
            let spec = self.spec(name);
            let is_made = self.actions_of(name).next().is_some();
            let added = Change::of(Mark::Add, Kind::Node, name.as_str());
            return spec
                .filter(|_| is_made)
                .map(|spec| added.to(describe(spec)))
                .into_iter()
                .collect();
        };
        let mut changes = self.state(node);
        changes.extend(self.settings(node));
        changes.extend(self.work(node, changes.iter().any(|change| change.kind == Kind::State)));
        changes
    }

    /// Returns the node as it is wanted after the plan.
    fn spec(&self, name: &NodeName) -> Option<&NodeSpec> {
        let own = self.actions_of(name).filter_map(|action| match action {
            NodeAction::RecordNode(record) => Some(&record.spec),
            _ => None,
        });
        let wanted = self.after.and_then(|it| it.nodes.iter().find(|node| node.name == *name));
        wanted.or(own.last())
    }

    fn state(&self, node: &ObservedNode) -> Vec<Change> {
        let name = node.record.name();
        let (mut state, mut moved) = (node.machine, false);
        for action in self.actions_of(name) {
            state = match action {
                NodeAction::StartMachine | NodeAction::ForkMachine | NodeAction::ResumeMachine => {
                    MachineState::Running
                }
                NodeAction::StopMachine | NodeAction::KillMachine => MachineState::Stopped,
                NodeAction::PauseMachine => MachineState::Paused,
                _ => continue,
            };
            moved = true;
        }
        let from = word(node.machine);
        let to = if state == node.machine { "restarted" } else { word(state) };
        let change = Change::of(Mark::Change, Kind::State, "").from(from).to(to).on(name);
        moved.then_some(change).into_iter().collect()
    }

    fn settings(&self, node: &ObservedNode) -> Vec<Change> {
        let name = node.record.name();
        let recorded = &node.record.spec;
        let wanted = self.spec(name).unwrap_or(recorded);
        let (before, after) = (recorded.shape(), wanted.shape());
        let between = |kind, of: &dyn Fn(Shape) -> String| {
            Change::between(kind, "", before.map(of), after.map(of))
        };
        let mut changes = vec![
            between(Kind::Cpus, &|shape| shape.cpus.to_string()),
            between(Kind::Memory, &|shape| spaced(shape.memory)),
            between(Kind::Disk, &|shape| spaced(shape.disk)),
        ];
        let configured = self.actions_of(name).find_map(|action| match action {
            NodeAction::ConfigureMember { role, availability, set, unset, .. } => {
                Some((*role, *availability, set, unset))
            }
            _ => None,
        });
        let role = |role: crate::model::Role| Some(role.as_str().to_owned());
        match (configured, self.member(node)) {
            (Some((to, availability, set, unset)), Some(member)) => {
                changes.push(Change::between(Kind::Role, "", role(member.role), role(to)));
                let from = Some(member.availability.clone());
                let to = availability.map_or(from.clone(), |it| Some(it.as_str().to_owned()));
                changes.push(Change::between(Kind::Availability, "", from, to));
                let mut labels = member.labels.clone();
                labels.extend(set.clone());
                labels.retain(|key, _| !unset.contains(key));
                changes.extend(labels_between(&member.labels, &labels));
            }
            // The swarm has the wanted labels already, from skep or from another tool.
            (None, Some(_)) => {}
            (_, None) => {
                let before = self.before.and_then(|it| it.nodes.iter().find(|it| it.name == *name));
                let before = before.unwrap_or(recorded);
                let availability = |it: Option<Availability>| it.map(|it| it.as_str().to_owned());
                changes.push(Change::between(Kind::Role, "", role(before.role), role(wanted.role)));
                let (from, to) =
                    (availability(before.availability), availability(wanted.availability));
                changes.push(Change::between(Kind::Availability, "", from, to));
                changes.extend(labels_between(&before.labels, &wanted.labels));
            }
        }
        changes.into_iter().flatten().map(|change| change.on(name)).collect()
    }

    fn member(&self, node: &ObservedNode) -> Option<&Member> {
        match (&node.engine, &self.seen.swarm) {
            (EngineState::Member { id, .. }, Some(swarm)) => swarm.member(id),
            _ => None,
        }
    }

    /// Returns what is done with a node beside its state and its settings.
    fn work(&self, node: &ObservedNode, starts: bool) -> Option<Change> {
        let name = node.record.name();
        let is_told = |action: &&NodeAction| match action {
            // A machine that starts is always provided with what it needs.
            NodeAction::Provision | NodeAction::EnsureNodeKeys => !starts,
            NodeAction::JoinSwarm { .. }
            | NodeAction::InitSwarm
            | NodeAction::RecoverSwarm
            | NodeAction::LeaveSwarm { .. }
            | NodeAction::AdoptHost
            | NodeAction::ReleaseHost { .. }
            | NodeAction::OpenHost { .. }
            | NodeAction::RestartEngine
            | NodeAction::ConfigureEngine
            | NodeAction::UpgradeEngine
            | NodeAction::RenewNodeKeys
            | NodeAction::EnsureMachineKeys
            | NodeAction::RenewMachineKeys
            | NodeAction::CreateDisk { .. } => true,
            NodeAction::SetRegistry(_) => self.registries().is_empty(),
            _ => false,
        };
        let work: Vec<_> = self.actions_of(name).filter(is_told).map(ToString::to_string).collect();
        let change = Change::of(Mark::Change, Kind::Node, name.as_str());
        (!work.is_empty()).then(|| change.to(work.join(", ")))
    }
}

fn labels_between(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<Option<Change>> {
    let mut keys: Vec<_> = before.keys().chain(after.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    // It tells which node a host is, and is skep's own.
    let keys = keys.into_iter().filter(|key| *key != Member::NODE_LABEL);
    keys.map(|key| {
        Change::between(Kind::Label, key, before.get(key).cloned(), after.get(key).cloned())
    })
    .collect()
}

/// Returns what a node is, in a few words.
fn describe(spec: &NodeSpec) -> String {
    let mut words = vec![spec.role.as_str().to_owned()];
    match &spec.kind {
        NodeKind::Host(host) => words.push(format!("host {}", host.address)),
        NodeKind::Vm(Shape { cpus, memory, disk }) => {
            words.push(format!("{cpus} {}", if *cpus == 1 { "CPU" } else { "CPUs" }));
            words.push(format!("{} memory", spaced(*memory)));
            words.push(format!("{} disk", spaced(*disk)));
        }
    }
    words.extend(spec.availability.map(|it| format!("availability {}", it.as_str())));
    words.extend(spec.labels.iter().map(|(key, value)| format!("label {key}={value}")));
    words.join(", ")
}

/// Returns a size with a blank before its unit.
fn spaced(size: Size) -> String {
    let text = size.to_string();
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    format!("{number} {unit}")
}

const fn word(state: MachineState) -> &'static str {
    match state {
        MachineState::Running => "running",
        MachineState::Paused => "paused",
        MachineState::Crashed => "crashed",
        MachineState::Stopped => "stopped",
    }
}
