//! The part of a plan that makes engines a swarm.
//!
//! Which engine belongs to a swarm is known only by asking it. So a first plan goes as far as it
//! can be known: a node without a disk has an engine without a swarm. If a node has a disk and its
//! engine was not asked, the plan ends with "look again", because forming a second swarm beside one
//! that only sleeps would lose the first.

use std::collections::BTreeMap;

use super::machine::{addresses, all_but, interim_record};
use super::{ClusterAction, NodeAction, Plan, Step, UpOptions, Verify};
use crate::model::{Availability, NodeName, NodeRecord, Role};
use crate::observed::{EngineState, Member, Observed};

/// How far the plan has brought a node.
pub(super) struct Progress {
    /// Whether its engine begins without any state.
    pub fresh: bool,
    /// Whether it begins with all images of the cluster.
    pub baked: bool,
    /// Whether its engine was seen to answer.
    pub answered: bool,
    /// The steps after which its engine answers in the guest, which may be before it answers over TLS.
    pub inside: Vec<usize>,
    /// The steps after which its engine answers and what it is to be is written down.
    pub after: Vec<usize>,
}

/// Plans the swarm of these nodes; `progress` may tell of others that could hold it.
pub(super) fn plan_swarm(
    plan: &mut Plan,
    nodes: &[NodeRecord],
    seen: &Observed,
    progress: &BTreeMap<NodeName, Progress>,
    options: UpOptions,
) {
    if !progress.values().all(|node| node.fresh || node.answered) {
        plan.look_again = true;
        return;
    }
    Swarm { plan, nodes, seen, progress }.run(options);
}

/// Plans what makes these nodes' entries of the swarm what their records say; returns the last steps. Each
/// comes after the steps that `after` has for it. Demotions come one after the other.
pub(super) fn plan_entries(
    plan: &mut Plan,
    nodes: &[NodeRecord],
    seen: &Observed,
    through: &[NodeName],
    after: &[usize],
) -> Vec<usize> {
    let progress = BTreeMap::new();
    let mut swarm = Swarm { plan, nodes, seen, progress: &progress };
    let mut last = Vec::new();
    let mut demoted = Vec::new();
    for node in nodes {
        let earlier = if swarm.is_demoted(node) { &demoted } else { &Vec::new() };
        let needs = [after, earlier].concat();
        if let Some(step) = swarm.plan_configuration(node, through, needs) {
            if swarm.is_demoted(node) {
                demoted = vec![step];
            }
            last.push(step);
        }
    }
    last
}

/// Returns the nodes that run the managers' part, those that go on with it first.
pub(super) fn in_control(nodes: &[NodeRecord], seen: &Observed) -> Vec<NodeName> {
    let (mut plan, progress) = (Plan::default(), BTreeMap::new());
    Swarm { plan: &mut plan, nodes, seen, progress: &progress }.members_in_control()
}

struct Swarm<'a> {
    plan: &'a mut Plan,
    nodes: &'a [NodeRecord],
    seen: &'a Observed,
    progress: &'a BTreeMap<NodeName, Progress>,
}

impl Swarm<'_> {
    fn run(mut self, options: UpOptions) {
        let before = self.plan.steps.len();
        let mut through = self.members_in_control();
        // Labels and roles that could not be seen are compared when they can.
        self.plan.look_again = self.seen.swarm.is_none() && !through.is_empty();
        let mut formed = Vec::new();
        if through.is_empty() {
            let first = self.nodes.iter().find(|node| node.spec.role == Role::Manager);
            let first = first.expect("a valid specification has a manager").name().clone();
            formed.push(self.form(&first));
            formed.extend(&self.progress[&first].after);
            through.push(first);
        }
        let opened = self.open_hosts();
        let (demoted, others): (Vec<_>, Vec<_>) =
            self.nodes.iter().partition(|node| self.is_demoted(node));
        let mut configured = Vec::new();
        for node in others {
            configured.extend(self.plan_member(node, &through, &formed, &opened));
        }
        self.forget_stale(&through, &mut configured);

        // Those that become managers can be asked from here on, those that were may not be.
        let wanted = self.nodes.iter().filter(|node| node.spec.role == Role::Manager);
        let promoted = wanted.map(|node| node.name().clone());
        let promoted: Vec<_> = promoted.filter(|name| !through.contains(name)).collect();
        through.extend(promoted);
        if !demoted.is_empty() && !configured.is_empty() {
            // A new manager counts for the majority only when the others reach it.
            let stay = self.nodes.iter().filter(|node| !self.is_demoted(node));
            let nodes = stay.map(|node| node.name().clone()).collect();
            let action = ClusterAction::AwaitReady { nodes, through: through.clone() };
            configured = vec![self.plan.push(Step::cluster(action, configured))];
        }
        for node in demoted {
            // After all that adds to the majority, and one after the other.
            let needs = [&configured[..], &self.progress[node.name()].after].concat();
            configured.extend(self.plan_configuration(node, &through, needs));
        }

        let changed = self.plan.steps.len() > before;
        let names: Vec<_> = self.nodes.iter().map(|node| node.name().clone()).collect();
        let probed = self.seen.swarm.as_ref().is_some_and(|swarm| swarm.probed);
        let open: Vec<_> = self.nodes.iter().filter(|node| self.takes_tasks(node)).collect();
        let open: Vec<_> = open.into_iter().map(|node| node.name().clone()).collect();
        // Where no node takes tasks there is nothing to verify with.
        let verify = match options.verify {
            _ if !options.wait || open.is_empty() => Verify::Nothing,
            // One alone has nobody to find on a network.
            Verify::Fitting | Verify::All if open.len() == 1 => Verify::Mesh,
            verify => verify,
        };
        let verified = verify != Verify::Nothing;
        if probed && !verified {
            let action = ClusterAction::RemoveProbe { through: through.clone() };
            self.plan.push(Step::cluster(action, vec![]));
        }
        if options.wait && (changed || !self.all_ready() || probed && verified) {
            // In a new swarm the first manager can begin while the others join.
            let early = verified && !formed.is_empty() && open.contains(&through[0]);
            let early = early.then(|| {
                let first = vec![through[0].clone()];
                let action =
                    ClusterAction::StartProbe { nodes: first.clone(), verify, through: first };
                self.plan.push(Step::cluster(action, formed.clone()))
            });
            let needs = if configured.is_empty() { formed.clone() } else { configured };
            let action =
                ClusterAction::AwaitReady { nodes: names.clone(), through: through.clone() };
            let ready = self.plan.push(Step::cluster(action, needs));
            if verified {
                let started = early.unwrap_or_else(|| {
                    let (nodes, through) = (open.clone(), through.clone());
                    let action = ClusterAction::StartProbe { nodes, verify, through };
                    self.plan.push(Step::cluster(action, vec![ready]))
                });
                let mut needs = vec![started, ready];
                needs.sort_unstable();
                let nodes = names.clone();
                let action = ClusterAction::VerifyNetworks { nodes, open, verify, through };
                self.plan.push(Step::cluster(action, needs));
                let action = ClusterAction::VerifyNodes { nodes: names };
                self.plan.push(Step::cluster(action, vec![ready]));
            }
        }
    }

    fn form(&mut self, first: &NodeName) -> usize {
        let mut needs = self.progress[first].inside.clone();
        needs.extend(self.leave_lost_swarm(first));
        self.plan.push(Step::node(first, NodeAction::InitSwarm, needs))
    }

    /// Tells whether the node may run tasks when all this is done.
    fn takes_tasks(&self, node: &NodeRecord) -> bool {
        match (node.spec.availability, self.member(node.name())) {
            (Some(wanted), _) => wanted == Availability::Active,
            (None, Some(member)) => member.availability == Availability::Active.as_str(),
            (None, None) => true,
        }
    }

    fn is_demoted(&self, node: &NodeRecord) -> bool {
        let member = self.member(node.name());
        node.spec.role == Role::Worker && member.is_some_and(|it| it.role == Role::Manager)
    }

    /// Returns the nodes that run the managers' part of a swarm, those that go on with it first.
    fn members_in_control(&self) -> Vec<NodeName> {
        let in_control = |name: &NodeName| {
            matches!(
                self.seen.nodes.get(name).map(|node| &node.engine),
                Some(EngineState::Member { control: true, .. })
            )
        };
        let managers = self.nodes.iter().filter(|node| node.spec.role == Role::Manager);
        let managers: Vec<_> = managers.map(NodeRecord::name).collect();
        let others = self.seen.nodes.keys().filter(|name| !managers.contains(name));
        managers.iter().copied().chain(others).filter(|name| in_control(name)).cloned().collect()
    }

    /// Plans that hosts let a node in before it joins.
    fn open_hosts(&mut self) -> Vec<usize> {
        if self.nodes.iter().all(|node| self.stays(node.name())) {
            return Vec::new();
        }
        let addresses = addresses(self.nodes.iter(), self.seen);
        // Members that are kept though nobody wants them count, too.
        let wanted = |name: &NodeName| self.nodes.iter().any(|node| node.name() == name);
        let kept = self.seen.nodes.values().map(|found| &found.record);
        let kept = kept.filter(|node| !wanted(node.name()) && self.stays(node.name()));
        let hosts = self.nodes.iter().chain(kept).filter(|node| node.spec.is_host());
        let hosts: Vec<_> = hosts.collect();
        let mut opened = Vec::new();
        for node in hosts {
            let open = NodeAction::OpenHost { to: all_but(node, &addresses) };
            let done = self.progress.get(node.name());
            let needs = done.map(|done| done.after.clone()).unwrap_or_default();
            opened.push(self.plan.push(Step::node(node.name(), open, needs)));
        }
        opened
    }

    /// Tells whether a node goes on in the swarm that it is in.
    fn stays(&self, name: &NodeName) -> bool {
        self.joined(name) && !self.is_lost(name)
    }

    /// Plans one node's membership; returns the last steps, if there is anything to do.
    fn plan_member(
        &mut self,
        node: &NodeRecord,
        through: &[NodeName],
        formed: &[usize],
        opened: &[usize],
    ) -> Vec<usize> {
        let name = node.name();
        let last = if !formed.is_empty() && through[0] == *name {
            formed.to_vec()
        } else if self.stays(name) {
            Vec::new()
        } else {
            let mut needs = self.progress[name].after.clone();
            needs.extend(formed.iter().chain(opened));
            needs.extend(self.leave_lost_swarm(name));
            let action = NodeAction::JoinSwarm { role: node.spec.role, through: through.to_vec() };
            vec![self.plan.push(Step::node(name, action, needs))]
        };
        let needs = if last.is_empty() { &self.progress[name].after } else { &last };
        match self.plan_configuration(node, through, needs.clone()) {
            Some(configured) => vec![configured],
            None => last,
        }
    }

    /// Plans one member's role and labels; returns the last step, if there is anything to do.
    fn plan_configuration(
        &mut self,
        node: &NodeRecord,
        through: &[NodeName],
        needs: Vec<usize>,
    ) -> Option<usize> {
        let name = node.name();
        let member = self.member(name);
        let (set, unset) = self.label_changes(node, member.as_ref());
        let role_differs = member.as_ref().is_some_and(|member| member.role != node.spec.role);
        let availability = availability_change(node, member.as_ref());
        if set.is_empty() && unset.is_empty() && !role_differs && availability.is_none() {
            return None;
        }
        let (role, through) = (node.spec.role, through.to_vec());
        let action = NodeAction::ConfigureMember { role, availability, set, unset, through };
        let configured = self.plan.push(Step::node(name, action, needs));
        if interim_record(node, self.seen) == *node {
            return Some(configured);
        }
        let action = NodeAction::RecordNode(node.clone());
        Some(self.plan.push(Step::node(name, action, vec![configured])))
    }

    /// Plans that a node leaves a swarm of which no manager is left.
    fn leave_lost_swarm(&mut self, name: &NodeName) -> Option<usize> {
        let engine = self.seen.nodes.get(name).map(|node| &node.engine);
        match engine {
            Some(EngineState::Member { id, .. }) if self.is_lost(name) => {
                let action = NodeAction::LeaveSwarm { id: id.clone(), through: Vec::new() };
                Some(self.plan.push(Step::node(name, action, vec![])))
            }
            _ => None,
        }
    }

    /// Tells whether a node is a worker of a swarm that the managers, if any, know nothing of.
    fn is_lost(&self, name: &NodeName) -> bool {
        let engine = self.seen.nodes.get(name).map(|node| &node.engine);
        let Some(EngineState::Member { id, control: false, .. }) = engine else { return false };
        match &self.seen.swarm {
            Some(swarm) => swarm.member(id).is_none(),
            None => self.members_in_control().is_empty(),
        }
    }

    fn joined(&self, name: &NodeName) -> bool {
        matches!(
            self.seen.nodes.get(name).map(|node| &node.engine),
            Some(EngineState::Member { .. })
        )
    }

    fn member(&self, name: &NodeName) -> Option<Member> {
        match &self.seen.nodes.get(name)?.engine {
            EngineState::Member { id, .. } => self.seen.swarm.as_ref()?.member(id).cloned(),
            _ => None,
        }
    }

    /// Returns labels to set, and keys of labels that an earlier specification set.
    fn label_changes(
        &self,
        node: &NodeRecord,
        member: Option<&Member>,
    ) -> (BTreeMap<String, String>, Vec<String>) {
        let none = BTreeMap::new();
        let present = member.map_or(&none, |member| &member.labels);
        let earlier =
            self.seen.nodes.get(node.name()).map_or(&none, |seen| &seen.record.spec.labels);
        let mut wanted = node.spec.labels.clone();
        if node.spec.is_host() {
            wanted.insert(Member::NODE_LABEL.to_owned(), node.name().to_string());
        }
        let set = wanted
            .iter()
            .filter(|(key, value)| present.get(*key) != Some(value))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let unset = earlier
            .keys()
            .filter(|key| !wanted.contains_key(*key) && present.contains_key(*key))
            .cloned()
            .collect();
        (set, unset)
    }

    /// Plans the removal of entries that carry a node's name and are not that node's engine.
    fn forget_stale(&mut self, through: &[NodeName], configured: &mut Vec<usize>) {
        let Some(swarm) = &self.seen.swarm else { return };
        let after = configured.clone();
        for member in &swarm.members {
            let mut engines = self.seen.nodes.values().map(|node| &node.engine);
            let alive = engines
                .any(|engine| matches!(engine, EngineState::Member { id, .. } if *id == member.id));
            let ours = self.nodes.iter().any(|node| member.is_node(node.name()));
            if ours && !alive && !member.ready {
                let action = ClusterAction::ForgetMember {
                    id: member.id.clone(),
                    through: through.to_vec(),
                };
                configured.push(self.plan.push(Step::cluster(action, after.clone())));
            }
        }
    }

    fn all_ready(&self) -> bool {
        self.nodes.iter().all(|node| self.member(node.name()).is_some_and(|member| member.ready))
    }
}

/// Returns the availability that has to be set; a new member is active.
fn availability_change(node: &NodeRecord, member: Option<&Member>) -> Option<Availability> {
    let present = member.map_or(Availability::Active.as_str(), |member| &member.availability);
    node.spec.availability.filter(|wanted| wanted.as_str() != present)
}
