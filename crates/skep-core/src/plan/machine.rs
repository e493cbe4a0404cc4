//! The part of a plan that makes machines with engines that answer, and what they stand on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::images::baked;
use super::swarm::Progress;
use super::{Birth, ClusterAction, DiskBase, NodeAction, Plan, Step};
use crate::model::{Admits, ClusterRecord, ImageSet, NodeName, NodeRecord, Role, Shape};
use crate::observed::{EngineState, MachineState, Observed};

/// What all nodes stand on: the places of its steps, empty where nothing has to be done.
pub(super) struct Base {
    /// What makes a node's certificate and keys.
    keys: NodeAction,
    pub cluster: Vec<usize>,
    credentials: Vec<usize>,
    image: Vec<usize>,
    /// By shape, where machines are forked.
    templates: BTreeMap<Shape, Template>,
    /// The nodes whose engine starts anew after its machine was forked.
    restarted: BTreeSet<NodeName>,
    network: Vec<usize>,
    /// The addresses of all nodes.
    addresses: BTreeSet<Ipv4Addr>,
}

/// A template to make copies of.
struct Template {
    step: usize,
    /// The container images that it has: all that the cluster wants, or none.
    images: Vec<ImageSet>,
}

/// Plans what all these nodes stand on.
pub(super) fn plan_base(
    plan: &mut Plan,
    record: &ClusterRecord,
    seen: &Observed,
    nodes: &[&NodeRecord],
    birth: Birth,
) -> Base {
    let mut base = Base {
        keys: NodeAction::EnsureNodeKeys,
        cluster: Vec::new(),
        credentials: Vec::new(),
        image: Vec::new(),
        templates: BTreeMap::new(),
        restarted: BTreeSet::new(),
        network: Vec::new(),
        addresses: addresses(nodes.iter().copied(), seen),
    };
    if seen.cluster.as_ref() != Some(record) {
        base.cluster.push(
            plan.push(Step::cluster(
                ClusterAction::RecordCluster(Box::new(record.clone())),
                vec![],
            )),
        );
    }
    if !seen.certificates {
        let step = Step::cluster(ClusterAction::EnsureCredentials, base.cluster.clone());
        base.credentials.push(plan.push(step));
    }
    let has_machines = nodes.iter().any(|node| node.spec.is_vm());
    // A disk that is there stands on an image of its own.
    let needs_disk = |node: &NodeRecord| {
        node.spec.is_vm() && seen.nodes.get(node.name()).is_none_or(|seen| !seen.disk)
    };
    if nodes.iter().any(|node| needs_disk(node)) {
        let step =
            Step::cluster(ClusterAction::EnsureImage(record.image.clone()), base.cluster.clone());
        base.image.push(plan.push(step));
    }
    if let Birth::Fork { restart_engine } = birth {
        if restart_engine {
            base.restarted.extend(nodes.iter().map(|node| node.name().clone()));
        }
        for shape in
            nodes.iter().filter(|node| needs_disk(node)).filter_map(|node| node.spec.shape())
        {
            base.templates.entry(shape).or_insert_with(|| {
                let images = baked(record, seen, shape);
                let action = ClusterAction::EnsureTemplate { shape, images: images.clone() };
                let step = plan.push(Step::cluster(action, base.image.clone()));
                Template { step, images }
            });
        }
    }
    if has_machines && !seen.bridge {
        let step = Step::cluster(
            ClusterAction::EnsureBridge(record.network.clone()),
            base.cluster.clone(),
        );
        base.network.push(plan.push(step));
    }
    let admits = admits(record, nodes);
    if has_machines && (!seen.firewall || seen.admitted != admits) {
        // Once the bridge is there, which then forwards.
        let needs = [&base.cluster[..], &base.network].concat();
        let action = ClusterAction::EnsureFirewall { network: record.network.clone(), admits };
        base.network.push(plan.push(Step::cluster(action, needs)));
    }
    base
}

/// Plans that the table of a network lets in no host but those among the nodes that stay. Without a table nobody gets in.
pub(super) fn plan_shut_out(
    plan: &mut Plan,
    record: &ClusterRecord,
    staying: &[&NodeRecord],
    seen: &Observed,
    needs: Vec<usize>,
) -> Option<usize> {
    let admits = admits(record, staying);
    let has_table = seen.firewall && staying.iter().any(|node| node.spec.is_vm());
    (has_table && seen.admitted != admits).then(|| {
        let action = ClusterAction::EnsureFirewall { network: record.network.clone(), admits };
        plan.push(Step::cluster(action, needs))
    })
}

/// Returns who reaches the cluster's machines from outside of its network.
fn admits(record: &ClusterRecord, nodes: &[&NodeRecord]) -> Admits {
    let hosts = nodes.iter().filter(|node| node.spec.is_host()).map(|node| node.address);
    let outside: BTreeSet<_> = hosts.filter(|it| !record.network.subnet.contains(it)).collect();
    let mut peers = record.peers.clone();
    peers.sort_unstable();
    Admits { hosts: outside.into_iter().collect(), peers }
}

impl Base {
    /// Returns the steps that make the network.
    pub(super) fn network(&self) -> &[usize] {
        &self.network
    }

    /// Lets each machine have keys of its own kind.
    pub(super) fn with_keys(self, keys: NodeAction) -> Self {
        Self { keys, ..self }
    }

    /// Lets the engines of these nodes start anew if their machines are forked.
    pub(super) fn with_restarted(mut self, nodes: impl IntoIterator<Item = NodeName>) -> Self {
        self.restarted.extend(nodes);
        self
    }
}

/// Plans a node up to an engine that answers, and tells how far the swarm's plan can rely on it.
pub(super) fn plan_machine(
    plan: &mut Plan,
    node: &NodeRecord,
    seen: &Observed,
    base: &Base,
) -> Progress {
    let name = node.name();
    let found = seen.nodes.get(name);
    let machine = found.map_or(MachineState::Stopped, |found| found.machine);
    let fresh = node.spec.is_vm() && found.is_none_or(|found| !found.disk);
    // Without the cluster's certificates no answer counts: the node needs a new one too.
    let answered = seen.certificates
        && machine == MachineState::Running
        && found.is_some_and(|found| found.engine.version().is_some());

    let mut ready = base.cluster.clone();
    let record = interim_record(node, seen);
    if found.is_none_or(|found| found.record != record) {
        ready = vec![plan.push(Step::node(name, NodeAction::RecordNode(record), ready))];
    }
    // A record that is there says nothing of the certificate and keys that belong to it. They may
    // be missing, outdated or another authority's, so they are looked after before each start.
    let keys = (!answered).then(|| {
        let mut needs = [&ready[..], &base.credentials].concat();
        needs.sort_unstable();
        plan.push(Step::node(name, base.keys.clone(), needs))
    });
    let template = node.spec.shape().filter(|_| fresh);
    let template = template.and_then(|shape| base.templates.get(&shape));
    if fresh {
        let (on, step) = match template {
            Some(template) => {
                (DiskBase::Template { images: template.images.clone() }, Some(&template.step))
            }
            None => (DiskBase::Image, base.image.first()),
        };
        ready.extend(step);
        ready = vec![plan.push(Step::node(name, NodeAction::CreateDisk { on }, ready))];
    }
    let baked = template.is_some_and(|template| !template.images.is_empty());
    if answered {
        return Progress { fresh, baked, answered, inside: ready.clone(), after: ready };
    }
    if node.spec.is_host() {
        // Only its engine can tell whether it has state, and that is asked when it listens.
        let mut needs: Vec<_> = keys.into_iter().chain(ready).collect();
        needs.sort_unstable();
        needs.dedup();
        let adopted = plan.push(Step::node(name, NodeAction::AdoptHost, needs));
        let open = NodeAction::OpenHost { to: all_but(node, &base.addresses) };
        // It reaches virtual machines through the cluster's network.
        let mut needs = vec![plan.push(Step::node(name, open, vec![adopted]))];
        needs.extend(&base.network);
        needs.sort_unstable();
        let engine = plan.push(Step::node(name, NodeAction::AwaitEngine, needs));
        let after = vec![engine];
        return Progress { fresh: false, answered, baked: false, inside: after.clone(), after };
    }
    let guest = match machine {
        MachineState::Running => plan.push(Step::node(name, NodeAction::AwaitGuest, ready)),
        MachineState::Paused => plan.push(Step::node(name, NodeAction::ResumeMachine, ready)),
        MachineState::Stopped | MachineState::Crashed => {
            if machine == MachineState::Crashed {
                ready = vec![plan.push(Step::node(name, NodeAction::KillMachine, ready))];
            }
            ready.extend(template.is_none().then_some(&base.image).into_iter().flatten());
            ready.extend(&base.network);
            ready.sort_unstable();
            ready.dedup();
            let start = match template {
                Some(_) => NodeAction::ForkMachine,
                None => NodeAction::StartMachine,
            };
            let start = plan.push(Step::node(name, start, ready));
            plan.push(Step::node(name, NodeAction::AwaitGuest, vec![start]))
        }
    };
    let mut needs: Vec<_> = keys.into_iter().chain([guest]).collect();
    needs.sort_unstable();
    let mut provisioned = vec![plan.push(Step::node(name, NodeAction::Provision, needs))];
    let restarted = template.is_some() && base.restarted.contains(name);
    if restarted {
        provisioned = vec![plan.push(Step::node(name, NodeAction::RestartEngine, provisioned))];
    }
    if machine != MachineState::Stopped {
        provisioned.extend(&base.network);
        provisioned.sort_unstable();
    }
    // A copy's engine has never stopped.
    let runs = template.is_some() && !restarted;
    let inside = runs.then(|| provisioned.clone());
    let after = vec![plan.push(Step::node(name, NodeAction::AwaitEngine, provisioned))];
    Progress { fresh, baked, answered, inside: inside.unwrap_or_else(|| after.clone()), after }
}

/// Returns the addresses of these nodes and of all that there are.
pub(super) fn addresses<'a>(
    nodes: impl Iterator<Item = &'a NodeRecord>,
    seen: &Observed,
) -> BTreeSet<Ipv4Addr> {
    let present = seen.nodes.values().map(|node| node.record.address);
    nodes.map(|node| node.address).chain(present).collect()
}

pub(super) fn all_but(node: &NodeRecord, addresses: &BTreeSet<Ipv4Addr>) -> Vec<Ipv4Addr> {
    addresses.iter().copied().filter(|address| *address != node.address).collect()
}

/// Returns what is written down of a node before its swarm is asked to change.
///
/// What it gives up stays written down until the swarm has given it up: a label that no record has
/// would never be removed, and a manager that no record calls one would not be missed.
pub(super) fn interim_record(node: &NodeRecord, seen: &Observed) -> NodeRecord {
    let Some(found) = seen.nodes.get(node.name()).filter(|found| found.disk) else {
        return node.clone();
    };
    let mut record = node.clone();
    let member = match &found.engine {
        EngineState::Inactive { .. } => return record,
        EngineState::Member { id, .. } => seen.swarm.as_ref().and_then(|swarm| swarm.member(id)),
        EngineState::Off | EngineState::Unreachable(_) => None,
    };
    for (key, value) in &found.record.spec.labels {
        if member.is_none_or(|member| member.labels.contains_key(key)) {
            record.spec.labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    if found.record.spec.role == Role::Manager
        && member.is_none_or(|member| member.role == Role::Manager)
    {
        record.spec.role = Role::Manager;
    }
    record
}
