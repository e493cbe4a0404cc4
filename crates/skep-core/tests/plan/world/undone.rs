//! Steps that a crash cuts off in their middle.

use skep_core::model::Role;
use skep_core::observed::{EngineState, MachineState};
use skep_core::plan::{Action, ClusterAction, NodeAction, Step};

use super::{Part, World};

impl World {
    /// Does the first half of a step, if it has one: those that are a single write have none.
    pub fn apply_half(&mut self, step: &Step) {
        match &step.action {
            Action::Cluster(ClusterAction::EnsureBridge(network)) => {
                self.links.entry(network.bridge.clone()).or_insert(Part::Half);
            }
            Action::Cluster(ClusterAction::EnsureFirewall { network, .. }) => {
                self.tables.entry(network.bridge.clone()).or_insert(Part::Half);
            }
            Action::Cluster(ClusterAction::RemoveFirewall(name)) => {
                self.tables.entry(name.clone()).and_modify(|part| *part = Part::Half);
            }
            // The process waits for the state of which it is to be a copy.
            Action::Node(name, NodeAction::ForkMachine) => {
                let node = self.node_mut(name);
                node.machine = MachineState::Paused;
                if let Some(disk) = &mut node.disk {
                    disk.virgin = false;
                }
            }
            // Some have them, the others do not.
            Action::Cluster(ClusterAction::LoadImages { set, nodes }) => {
                let _ = self.load(&nodes[0], set);
            }
            // The managers list a node before it knows its ID.
            Action::Node(name, NodeAction::JoinSwarm { role, through }) => {
                let inactive = matches!(self.engine(self.node(name)), EngineState::Inactive { .. });
                if let (true, Ok(swarm)) = (inactive, self.ask(through)) {
                    self.list(swarm, name, *role);
                }
            }
            // The node has left, and its entry is still there.
            Action::Node(name, NodeAction::LeaveSwarm { id, through }) => {
                let Ok(swarm) = self.ask(through) else { return self.settle() };
                let up = self.up(swarm);
                if self.swarms[swarm].set_role(id, Role::Worker, &up).is_ok()
                    && self.node(name).machine == MachineState::Running
                {
                    self.leave(name);
                }
            }
            _ => {}
        }
        self.settle();
    }
}
