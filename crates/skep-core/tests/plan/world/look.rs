//! What a look finds.

use skep_core::model::{ClusterRecord, NodeName, Role};
use skep_core::observed::{
    EngineState, Leftover, MachineState, Observed, ObservedNode, ObservedSwarm,
};

use super::{Node, Part, World};

const VERSION: &str = "26.1.5";

impl World {
    /// Looks at the cluster and its host.
    pub fn look(&self) -> Observed {
        let bridge = self.cluster.as_ref().map(|cluster| cluster.network.bridge.as_str());
        let unrecorded = |name: &&String| Some(name.as_str()) != bridge;
        let links = self.links.keys().filter(unrecorded).cloned().map(Leftover::Link);
        let tables = self.tables.keys().filter(unrecorded).cloned().map(Leftover::FirewallTable);
        let whole = |part: Option<&Part>| part == Some(&Part::Whole);
        Observed {
            host: self.host.clone(),
            cluster: self.cluster.clone(),
            certificates: self.authority.is_some(),
            bridge: bridge.is_some_and(|name| whole(self.links.get(name))),
            firewall: bridge.is_some_and(|name| whole(self.tables.get(name))),
            admitted: self.admitted.clone(),
            hosts_entries: self.hosts.clone(),
            published: self.published.clone().filter(|_| !self.tables.is_empty()),
            docker_config: self.docker_config.clone(),
            context: self.context.clone(),
            nodes: self.nodes.iter().map(|(name, node)| (name.clone(), self.see(node))).collect(),
            swarm: self.see_swarm(),
            leftovers: links.chain(tables).collect(),
            baked: self.baked.clone(),
        }
    }

    fn see(&self, node: &Node) -> ObservedNode {
        let engine = self.engine(node);
        let images = node.disk.as_ref().map(|disk| disk.images.clone());
        let registry = node.disk.as_ref().map(|disk| disk.registry.clone());
        ObservedNode {
            record: node.record.clone(),
            disk: node.disk.is_some(),
            machine: node.machine,
            images: images.filter(|_| engine.version().is_some()),
            // It is looked at where one is written down.
            registry: registry.filter(|_| {
                let known = |it: &ClusterRecord| it.registry.is_some() || it.trusted.is_some();
                self.cluster.as_ref().is_some_and(known) && engine.version().is_some()
            }),
            engine,
        }
    }

    /// Returns what the node's engine answers.
    pub fn engine(&self, node: &Node) -> EngineState {
        match node.machine {
            MachineState::Stopped => return EngineState::Off,
            MachineState::Paused => return EngineState::Unreachable("paused".to_owned()),
            MachineState::Crashed => return EngineState::Unreachable("crashed".to_owned()),
            MachineState::Running => {}
        }
        let disk = node.disk.as_ref().expect("a machine that runs has a disk");
        if !self.bridge_works() || self.authority.is_none() || disk.delivered != self.authority {
            return EngineState::Unreachable("no answer".to_owned());
        }
        let version = VERSION.to_owned();
        let Some((swarm, id)) = &disk.membership else { return EngineState::Inactive { version } };
        let Some(member) = self.swarms[*swarm].members.get(id).filter(|_| node.session) else {
            return EngineState::Unreachable("its swarm is not ready".to_owned());
        };
        EngineState::Member { version, id: id.clone(), control: member.role == Role::Manager }
    }

    fn see_swarm(&self) -> Option<ObservedSwarm> {
        let manager = self.nodes.keys().find(|name| self.manager_of(name).is_some())?;
        let index = self.manager_of(manager)?;
        let members = self.swarms[index].tell(&self.up(index));
        Some(ObservedSwarm { id: format!("swarm{index}"), members, probed: self.probed })
    }

    /// Returns the swarm that the node can speak for: it answers, as a manager, with a majority.
    pub fn manager_of(&self, name: &NodeName) -> Option<usize> {
        let node = self.nodes.get(name)?;
        if !matches!(self.engine(node), EngineState::Member { control: true, .. }) {
            return None;
        }
        let (swarm, _) = node.disk.as_ref()?.membership.as_ref()?;
        self.has_quorum(*swarm).then_some(*swarm)
    }
}
