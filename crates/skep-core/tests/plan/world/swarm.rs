//! Swarms: who belongs to one, and when its managers can decide.

use std::collections::BTreeMap;

use skep_core::model::{Availability, NodeName, Role};
use skep_core::observed::MachineState;

use super::{Fault, Node, World};

/// A swarm, as its managers' disks hold it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swarm {
    /// Its members by ID.
    pub members: BTreeMap<String, SwarmMember>,
}

/// An entry of a swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwarmMember {
    /// The engine's host name.
    pub hostname: String,
    /// The part that it is asked to play.
    pub role: Role,
    /// Whether it counts for the majority.
    pub voter: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it takes tasks.
    pub availability: Availability,
}

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

    /// Tells whether a majority of the swarm's managers runs.
    pub fn has_quorum(&self, swarm: usize) -> bool {
        self.is_majority(swarm, None, |id| self.is_up(swarm, id))
    }

    /// Tells whether the disks of a majority of the swarm's managers are there.
    pub fn survives(&self, swarm: usize) -> bool {
        self.is_majority(swarm, None, |id| self.holder(swarm, id).is_some())
    }

    fn is_majority(&self, swarm: usize, without: Option<&str>, up: impl Fn(&str) -> bool) -> bool {
        let voters: Vec<_> = self.swarms[swarm]
            .members
            .iter()
            .filter(|(id, member)| member.voter && Some(id.as_str()) != without)
            .map(|(id, _)| up(id))
            .collect();
        voters.iter().filter(|up| **up).count() * 2 > voters.len()
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
        let id = self.list(swarm, name, role);
        if let Some(member) = self.swarms[swarm].members.get_mut(&id) {
            member.voter = role == Role::Manager;
        }
        let node = self.node_mut(name);
        node.session = true;
        node.disk.as_mut().expect("it runs").membership = Some((swarm, id));
    }

    /// Enters a node into the swarm's list; it has no vote yet.
    pub(super) fn list(&mut self, swarm: usize, name: &NodeName, role: Role) -> String {
        let id = format!("id{}", self.next());
        let hostname = name.as_str().to_owned();
        let labels = BTreeMap::new();
        let availability = Availability::Active;
        let member = SwarmMember { hostname, role, voter: false, labels, availability };
        self.swarms[swarm].members.insert(id.clone(), member);
        id
    }

    /// Makes a manager the only one of its swarm.
    pub(super) fn recover(&mut self, name: &NodeName) -> Result<(), Fault> {
        let membership = self.node(name).disk.as_ref().and_then(|disk| disk.membership.clone());
        let Some((swarm, id)) = membership else {
            return Err(Fault::Failed("it is no member".to_owned()));
        };
        for (other, member) in &mut self.swarms[swarm].members {
            if *other != id {
                (member.voter, member.role) = (false, Role::Worker);
            }
        }
        Ok(())
    }

    /// Gives an entry another role, as far as Docker lets it.
    pub(super) fn set_role(&mut self, swarm: usize, id: &str, role: Role) -> Result<(), String> {
        let voter = self.swarms[swarm].members[id].voter;
        let alone = || !self.is_majority(swarm, Some(id), |other| self.is_up(swarm, other));
        if role == Role::Worker && voter && alone() {
            return Err(format!("without {id} the managers would be no majority"));
        }
        let up = self.is_up(swarm, id);
        let member = self.swarms[swarm].members.get_mut(id).expect("it was just there");
        member.role = role;
        member.voter = role == Role::Manager && (voter || up);
        Ok(())
    }
}
