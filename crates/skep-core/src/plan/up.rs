//! The plan that makes a cluster what its specification says.

use std::collections::{BTreeMap, BTreeSet};

use super::access::plan_access;
use super::images::plan_images;
use super::machine::{plan_base, plan_machine};
use super::network::{choose_network, user_of};
use super::power::kept;
use super::registry::plan_registry;
use super::swarm::{in_control, plan_swarm};
use super::{Action, ClusterAction, Plan, PlanError, Step};
use crate::model::{
    Access, ClusterRecord, ClusterSpec, Mac, NetworkRecord, NodeKind, NodeName, NodeRecord,
    NodeSpec, Role, node_room,
};
use crate::observed::{MachineState, Observed, ObservedNode};

/// How machines that are not there yet come to life. One that has a disk always boots it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Birth {
    /// As copies of a template.
    Fork {
        /// Whether their engines restart; until then each has the template's ID.
        restart_engine: bool,
    },
    /// By booting the image.
    Boot,
}

/// What `up` is asked to do beside making the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpOptions {
    /// How new machines come to life.
    pub birth: Birth,
    /// Wait until every node is Ready.
    pub wait: bool,
    /// What is verified then.
    pub verify: Verify,
}

/// What is verified when every node is Ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Nothing.
    Nothing,
    /// The routing mesh on every node, and each node by itself.
    Mesh,
    /// The same, and an overlay network between two nodes if their machines are not emulated.
    #[default]
    Fitting,
    /// All of it.
    All,
}

impl Default for UpOptions {
    fn default() -> Self {
        Self { birth: Birth::Fork { restart_engine: false }, wait: true, verify: Verify::default() }
    }
}

/// Plans what makes the cluster that was seen the one that is wanted.
///
/// Nodes that exist and are not wanted are kept, with a warning: losing data takes a command that
/// says so.
///
/// # Errors
///
/// If the specification contradicts itself, or what exists, or the host has no room for it.
pub fn plan_up(spec: &ClusterSpec, seen: &Observed, options: UpOptions) -> Result<Plan, PlanError> {
    plan_up_without(spec, seen, options, &BTreeSet::new())
}

/// As [`plan_up`], in a run in which these nodes have failed: they are left as they are, and the others become what they
/// can without them. If no manager tells of a swarm, none is formed: it may be theirs.
///
/// # Errors
///
/// As [`plan_up`].
pub fn plan_up_without(
    spec: &ClusterSpec,
    seen: &Observed,
    options: UpOptions,
    failed: &BTreeSet<NodeName>,
) -> Result<Plan, PlanError> {
    let problems = spec.problems();
    if !problems.is_empty() {
        return Err(PlanError::Spec(problems));
    }
    let mut plan = Plan { warnings: spec.warnings(), ..Plan::default() };
    let record = cluster_record(spec, seen)?;
    let records = node_records(spec, seen, &record.network, 0, &mut plan.warnings)?;
    warn_about_unwanted(spec, seen, &mut plan.warnings);
    warn_about_peers(spec, seen, &mut plan.warnings);
    if record.image != spec.image {
        plan.warnings.push(format!(
            "the image stays as it is, as the nodes' disks are built on it; to change it: \
             skep down {name}, then up again",
            name = spec.name
        ));
    }

    let needed = unwanted_but_needed(spec, seen, &mut plan.warnings);
    let machines: Vec<&NodeRecord> = records.iter().chain(needed).collect();
    let base = plan_base(&mut plan, &record, seen, &machines, options.birth)
        .with_restarted(joining_managers(&records, seen));
    let mut progress = BTreeMap::new();
    for node in machines.into_iter().filter(|node| !failed.contains(node.name())) {
        let done = plan_machine(&mut plan, node, seen, &base);
        progress.insert(node.name().clone(), done);
    }
    if failed.is_empty() || seen.swarm.is_some() {
        let mut rest = records.clone();
        rest.retain(|node| !failed.contains(node.name()));
        plan_swarm(&mut plan, &rest, seen, &progress, options);
    }
    plan_registry(&mut plan, spec, &records, seen, &progress);
    plan_images(&mut plan, &spec.images, seen, &progress);
    let ways = (&base.cluster[..], base.network());
    plan_access(&mut plan, &record, &records, seen, &|node| !failed.contains(node), ways);
    Ok(plan)
}

/// Returns the managers that join others, all but the one that forms the swarm.
///
/// An engine draws the time after which it wants to be elected from a sequence that is chosen when it starts
/// (etcd's raft 3.5, `globalRand`). Two that join with the same one stand for election at the same time, again and
/// again, once the leader is gone. Who forms the swarm has drawn more often than they have.
fn joining_managers(records: &[NodeRecord], seen: &Observed) -> Vec<NodeName> {
    let is_new = seen.nodes.values().all(|node| !node.disk);
    let forms = is_new && in_control(records, seen).is_empty();
    let managers = records.iter().filter(|node| node.spec.role == Role::Manager);
    managers.map(|node| node.name().clone()).skip(usize::from(forms)).collect()
}

/// Plans only what makes a new cluster's choice of a subnet and a bridge known to all: whoever holds
/// the right to choose carries it out before anybody else may.
///
/// # Errors
///
/// As [`plan_up`].
pub fn plan_reservation(spec: &ClusterSpec, seen: &Observed) -> Result<Plan, PlanError> {
    plan_up(spec, seen, UpOptions::default()).map(reservation)
}

/// Returns the part of a plan that makes the choice of a subnet and a bridge known.
#[must_use]
pub fn reservation(plan: Plan) -> Plan {
    let reserves = |step: &Step| {
        matches!(
            step.action,
            Action::Cluster(ClusterAction::RecordCluster(_) | ClusterAction::EnsureBridge(_))
        )
    };
    let wanted: Vec<bool> = plan.steps.iter().map(reserves).collect();
    Plan { steps: kept(plan.steps, &wanted), look_again: true, warnings: Vec::new() }
}

pub(super) fn cluster_record(
    spec: &ClusterSpec,
    seen: &Observed,
) -> Result<ClusterRecord, PlanError> {
    let network = match &seen.cluster {
        Some(recorded) => {
            if let Some(wanted) = spec.subnet.filter(|wanted| *wanted != recorded.network.subnet) {
                return Err(PlanError::SubnetFixed {
                    cluster: spec.name.clone(),
                    recorded: recorded.network.subnet,
                    wanted,
                });
            }
            let user = user_of(recorded.network.subnet, &seen.host);
            if let (false, Some((used, by))) = (seen.bridge, user) {
                // Somebody else came to it while the cluster was down.
                return Err(PlanError::SubnetTaken { subnet: recorded.network.subnet, used, by });
            }
            recorded.network.clone()
        }
        None => choose_network(&spec.name, spec.subnet, &seen.host)?,
    };
    // A cluster keeps the image that it began with: its nodes' disks are built on it.
    let image = seen.cluster.as_ref().map_or_else(|| spec.image.clone(), |old| old.image.clone());
    Ok(ClusterRecord {
        name: spec.name.clone(),
        network,
        image,
        nodes: spec.nodes.clone(),
        hostnames: spec.hostnames.clone(),
        images: spec.images.clone(),
        access: access_record(spec, seen)?,
        peers: spec.peers.clone(),
        registry: spec.registry.clone(),
        trusted: spec.trusted.clone(),
    })
}

/// Returns the ways from the host with where the docker command's context is, or is to be.
fn access_record(spec: &ClusterSpec, seen: &Observed) -> Result<Access, PlanError> {
    let taken = |port: &u16| seen.host.ports.iter().find(|(other, _)| other == port);
    if let Some((port, by)) = spec.access.ports.iter().find_map(taken) {
        return Err(PlanError::PortTaken { port: *port, by: by.clone() });
    }
    let docker_config = seen.docker_config.clone().filter(|_| !spec.access.no_context);
    Ok(Access { docker_config, ..spec.access.clone() })
}

/// Returns a record for each wanted node, with the identity that it has or a new one.
pub(super) fn node_records(
    spec: &ClusterSpec,
    seen: &Observed,
    network: &NetworkRecord,
    first: u32,
    warnings: &mut Vec<String>,
) -> Result<Vec<NodeRecord>, PlanError> {
    let mut taken: Vec<u32> = seen.nodes.values().map(|node| node.record.index).collect();
    let room = u32::try_from(node_room(network.subnet)).unwrap_or(u32::MAX);
    let mut records = Vec::new();
    for node in &spec.nodes {
        let record = match seen.nodes.get(&node.name) {
            Some(existing) => {
                check_change(node, existing, warnings)?;
                NodeRecord { spec: node.clone(), ..existing.record.clone() }
            }
            None => {
                let mut places = (first.min(room)..room).chain(0..first.min(room));
                let index = places.find(|index| !taken.contains(index)).ok_or_else(|| {
                    PlanError::SubnetFull { subnet: network.subnet, node: node.name.clone() }
                })?;
                taken.push(index);
                new_record(node, index, network)
            }
        };
        records.push(record);
    }
    Ok(records)
}

fn new_record(node: &NodeSpec, index: u32, network: &NetworkRecord) -> NodeRecord {
    let address = node.host().map_or(network.node_address(index), |host| host.address);
    NodeRecord {
        spec: node.clone(),
        index,
        address,
        mac: Mac::for_address(address),
        // Subnets of clusters on one host do not overlap, so the address makes a unique name.
        tap: format!("skt{:08x}", u32::from(address)),
    }
}

fn check_change(
    wanted: &NodeSpec,
    existing: &ObservedNode,
    warnings: &mut Vec<String>,
) -> Result<(), PlanError> {
    let recorded = &existing.record.spec;
    let at = |spec: &NodeSpec| spec.host().map(|host| host.address);
    if at(wanted) != at(recorded) {
        let what = |spec: &NodeSpec| match &spec.kind {
            NodeKind::Host(host) => format!("the host {}", host.address),
            NodeKind::Vm(_) => "a virtual machine".to_owned(),
        };
        return Err(PlanError::AnotherMachine {
            node: wanted.name.clone(),
            recorded: what(recorded),
            wanted: what(wanted),
        });
    }
    let (Some(new), Some(old)) = (wanted.shape(), recorded.shape()) else { return Ok(()) };
    if new.disk < old.disk {
        return Err(PlanError::DiskShrinks {
            node: wanted.name.clone(),
            recorded: old.disk,
            wanted: new.disk,
        });
    }
    if new != old && existing.machine != MachineState::Stopped {
        warnings.push(format!(
            "{name}: the new size takes effect when the machine next starts: \
             skep node restart {name}",
            name = wanted.name
        ));
    }
    Ok(())
}

fn warn_about_unwanted(spec: &ClusterSpec, seen: &Observed, warnings: &mut Vec<String>) {
    for name in seen.nodes.keys().filter(|name| spec.node(name).is_none()) {
        warnings.push(format!(
            "{name} is no longer wanted and is kept; to remove it with its data: \
             skep node rm {name} --cluster {}",
            spec.name
        ));
    }
}

/// Says which peers nothing is open to, and what opens it.
fn warn_about_peers(spec: &ClusterSpec, seen: &Observed, warnings: &mut Vec<String>) {
    if !spec.peers.is_empty() && !spec.has_machines() {
        warnings.push("peers have no effect: the cluster has no virtual machines".to_owned());
        return;
    }
    let name = &spec.name;
    for peer in &spec.peers {
        let why = match seen.host.clusters.get(peer) {
            Some(names) if names.contains(name) => continue,
            Some(_) => format!("cluster {peer} does not name {name} as a peer"),
            None => format!("there is no cluster {peer}"),
        };
        warnings
            .push(format!("{peer} has no access yet, because {why}: skep up {peer} --peer {name}"));
    }
}

/// Returns managers that are not wanted and sleep, if no manager tells of the swarm: they may be the
/// ones that hold it, or that the others miss for a majority.
fn unwanted_but_needed<'a>(
    spec: &ClusterSpec,
    seen: &'a Observed,
    warnings: &mut Vec<String>,
) -> Vec<&'a NodeRecord> {
    if seen.swarm.is_some() {
        return Vec::new();
    }
    let sleeps = |node: &&ObservedNode| node.disk && node.engine.version().is_none();
    let records = seen.nodes.values().filter(sleeps).map(|node| &node.record);
    let managers = records.filter(|record| record.spec.role == Role::Manager);
    let needed: Vec<_> = managers.filter(|record| spec.node(record.name()).is_none()).collect();
    let started = needed.iter().map(|record| record.name());
    warnings.extend(
        started
            .map(|name| format!("starting {name}, because it may be needed to recover the swarm")),
    );
    needed
}
