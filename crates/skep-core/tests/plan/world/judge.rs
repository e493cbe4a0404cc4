//! Whether a cluster is what its specification says.

use std::collections::BTreeSet;

use skep_core::model::{ClusterSpec, Registries, Role, first_manager};
use skep_core::observed::{EngineState, HostsEntry, Member};

use super::{Part, World};

impl World {
    /// Panics with what is missing, if anything is.
    pub fn assert_meets(&self, spec: &ClusterSpec) {
        let cluster = self.cluster.as_ref().expect("the cluster is recorded");
        let bridge = &cluster.network.bridge;
        assert_eq!(self.links.get(bridge), Some(&Part::Whole), "bridge");
        assert_eq!(self.tables.get(bridge), Some(&Part::Whole), "firewall");
        assert_eq!(cluster.hostnames, spec.hostnames);
        self.assert_names_resolve(spec);

        let manager = spec.managers().next().expect("a cluster has a manager");
        let swarm = self.manager_of(&manager.name).expect("the first manager answers as one");
        let mut ids = BTreeSet::new();
        for wanted in &spec.nodes {
            let node = self.node(&wanted.name);
            assert_eq!(&node.record.spec, wanted);
            let EngineState::Member { id, control, .. } = self.engine(node) else {
                panic!("{} is no member", wanted.name);
            };
            let member = self.swarms[swarm].members.get(&id);
            let member = member.unwrap_or_else(|| panic!("{} is in another swarm", wanted.name));
            assert_eq!(control, wanted.role == Role::Manager, "{}", wanted.name);
            assert_eq!(member.voter, control, "{}", wanted.name);
            let mut labels = wanted.labels.clone();
            if wanted.is_host() {
                labels.insert(Member::NODE_LABEL.to_owned(), wanted.name.to_string());
            }
            assert_eq!(member.labels, labels, "{}", wanted.name);
            let images = &node.disk.as_ref().expect("it runs").images;
            assert!(spec.images.iter().all(|set| images.has_all(set)), "{}", wanted.name);
            if spec.registry.is_some() || spec.trusted.is_some() {
                let own = spec.registry.as_ref().and_then(|registry| {
                    registry.part(&node.record, self.node(&registry.node).record.address)
                });
                let trusted = spec.trusted.clone().unwrap_or_default();
                let there = &node.disk.as_ref().expect("it runs").registry;
                assert_eq!(*there, Registries { own, trusted }.to_string());
            }
            let takes_tasks = wanted.availability.unwrap_or(member.availability);
            assert_eq!(member.availability, takes_tasks, "{}", wanted.name);
            ids.insert(id);
        }
        let wanted = |host: &str| spec.nodes.iter().any(|node| node.name.as_str() == host);
        for (id, member) in &self.swarms[swarm].members {
            assert!(ids.contains(id) || !wanted(&member.hostname), "stale {id}: {member:?}");
        }
    }

    fn assert_names_resolve(&self, spec: &ClusterSpec) {
        let wanted_nodes =
            || self.nodes.values().map(|it| &it.record).filter(|it| spec.node(it.name()).is_some());
        let entries = spec.hostnames.iter().map(|hostname| {
            let target = match &hostname.node {
                Some(name) => Some(&self.node(name).record),
                None => first_manager(wanted_nodes()),
            };
            let address = target.expect("the name's node is recorded").address;
            HostsEntry { name: hostname.name.as_str().to_owned(), address }
        });
        let found: BTreeSet<_> = self.hosts.iter().cloned().collect();
        assert_eq!(found, entries.collect(), "/etc/hosts");
    }
}
