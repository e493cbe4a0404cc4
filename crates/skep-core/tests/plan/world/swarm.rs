//! Which machines are in which swarm, and whether its managers can decide.

use skep_core::fixtures::{Swarm, Up};
use skep_core::model::{NodeName, Role};
use skep_core::observed::MachineState;

use super::{Fault, Node, World};

impl World {
    fn holder(&self, swarm: usize, id: &str) -> Option<&Node> {
        self.nodes.values().find(|node| {
            let membership = node.disk.as_ref().and_then(|disk| disk.membership.as_ref());
            membership.is_some_and(|(at, held)| *at == swarm && held == id)
        })
    }

    /// Tells whether the engine with that ID runs and the others reach it.
    pub fn is_up(&self, swarm: usize, id: &str) -> bool {
        let runs = |node: &Node| node.machine == MachineState::Running;
        self.bridge_works() && self.holder(swarm, id).is_some_and(runs)
    }

    /// Returns whose engines run and reach each other.
    pub fn up(&self, swarm: usize) -> Up {
        let ids = self.swarms[swarm].members.keys();
        ids.filter(|id| self.is_up(swarm, id)).cloned().collect()
    }

    /// Tells whether a majority of the swarm's managers runs.
    pub fn has_quorum(&self, swarm: usize) -> bool {
        self.swarms[swarm].has_quorum(&self.up(swarm))
    }

    /// Tells whether the disks of a majority of the swarm's managers are there.
    pub fn survives(&self, swarm: usize) -> bool {
        let ids = self.swarms[swarm].members.keys();
        let there = ids.filter(|id| self.holder(swarm, id).is_some()).cloned().collect();
        self.swarms[swarm].has_quorum(&there)
    }

    /// Lets every engine that runs find its swarm, if there is a majority to find.
    pub fn settle(&mut self) {
        for name in self.nodes.keys().cloned().collect::<Vec<_>>() {
            let node = self.node(&name);
            let membership = node.disk.as_ref().and_then(|disk| disk.membership.clone());
            let Some((swarm, id)) = membership else { continue };
            let listed = self.swarms[swarm].members.contains_key(&id);
            if node.machine == MachineState::Running && listed && self.has_quorum(swarm) {
                self.node_mut(&name).session = true;
            }
        }
    }

    pub(super) fn form_swarm(&mut self, name: &NodeName) {
        for swarm in 0..self.swarms.len() {
            assert!(!self.survives(swarm), "a second swarm beside one whose managers survive");
        }
        self.swarms.push(Swarm::default());
        self.probed = false;
        self.enter(self.swarms.len() - 1, name, Role::Manager);
    }

    pub(super) fn enter(&mut self, swarm: usize, name: &NodeName, role: Role) {
        let id = self.next_id();
        self.swarms[swarm].enter(&id, name.as_str(), role);
        let node = self.node_mut(name);
        node.session = true;
        node.disk.as_mut().expect("it runs").membership = Some((swarm, id));
    }

    /// Enters a node into the swarm's list; it has no vote yet.
    pub(super) fn list(&mut self, swarm: usize, name: &NodeName, role: Role) -> String {
        let id = self.next_id();
        self.swarms[swarm].list(&id, name.as_str(), role);
        id
    }

    fn next_id(&mut self) -> String {
        format!("id{}", self.next())
    }

    /// Makes a manager the only one of its swarm.
    pub(super) fn recover(&mut self, name: &NodeName) -> Result<(), Fault> {
        let membership = self.node(name).disk.as_ref().and_then(|disk| disk.membership.clone());
        let Some((swarm, id)) = membership else {
            return Err(Fault::Failed("it is no member".to_owned()));
        };
        self.swarms[swarm].recover(&id);
        Ok(())
    }
}
