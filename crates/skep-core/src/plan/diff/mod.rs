//! What a plan changes, for people: `+ node2`, `~ label a=b -> a=c on node1`, `- port 8080`.
//!
//! Invariants: an empty plan changes nothing. What a new cluster or node needs for itself is not told apart from
//! it; of what exists, everything that a plan restores is named. Waiting and verifying change nothing.

mod cluster;
mod nodes;

use std::fmt;

use serde::Serialize;

use super::{Action, ClusterAction, NodeAction, Plan};
use crate::model::{ClusterName, ClusterRecord, NodeName};
use crate::observed::Observed;

/// One thing that a plan adds, changes or removes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Which of them.
    pub change: Mark,
    /// What kind of thing it is.
    pub kind: Kind,
    /// The thing's name; empty if there is one of its kind only.
    pub name: String,
    /// The node that it belongs to, if any.
    pub node: Option<NodeName>,
    /// What it is now, if that is known and there is something.
    pub from: Option<String>,
    /// What it becomes, or what is done about it.
    pub to: Option<String>,
}

/// What happens to a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// It is added.
    Add,
    /// It is changed.
    Change,
    /// It is removed.
    Remove,
}

/// A kind of thing that a plan changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A cluster.
    Cluster,
    /// A node.
    Node,
    /// The state of a node's machine.
    State,
    /// A node's role in the swarm.
    Role,
    /// A node's virtual CPUs.
    Cpus,
    /// A node's memory.
    Memory,
    /// A node's disk.
    Disk,
    /// A swarm label of a node.
    Label,
    /// Whether a node takes tasks.
    Availability,
    /// An entry of the swarm.
    SwarmEntry,
    /// A port of the host's loopback.
    Port,
    /// A cluster whose nodes and this one's may reach each other.
    Peer,
    /// A name in the host's /etc/hosts.
    Hostname,
    /// A docker context.
    Context,
    /// A container image.
    Image,
    /// The cluster's registry.
    Registry,
    /// A registry that exists already.
    TrustedRegistry,
    /// A network interface of the host.
    Interface,
    /// Firewall rules of the host.
    Firewall,
    /// Certificates of the cluster.
    Certificates,
    /// A service of the swarm.
    Service,
    /// A stack.
    Stack,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Node => "node",
            Self::State => "state",
            Self::Role => "role",
            Self::Cpus => "CPUs",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Label => "label",
            Self::Availability => "availability",
            Self::SwarmEntry => "swarm entry",
            Self::Port => "port",
            Self::Peer => "peer",
            Self::Hostname => "hostname",
            Self::Context => "docker context",
            Self::Image => "image",
            Self::Registry => "registry",
            Self::TrustedRegistry => "trusted registry",
            Self::Interface => "interface",
            Self::Firewall => "firewall rules",
            Self::Certificates => "certificates",
            Self::Service => "service",
            Self::Stack => "stack",
        }
    }
}

impl Mark {
    /// Returns the sign that stands for it in a diff.
    #[must_use]
    pub const fn sign(self) -> char {
        match self {
            Self::Add => '+',
            Self::Change => '~',
            Self::Remove => '-',
        }
    }
}

impl fmt::Display for Change {
    /// Writes one line of a diff.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.change.sign())?;
        let Self { kind, name, node, from, to, .. } = self;
        let name = match kind {
            // A node's name needs no word before it.
            Kind::Node => name.clone(),
            Kind::Label => format!("label {}", label(name, from.as_ref().or(to.as_ref()))),
            _ if name.is_empty() => kind.word().to_owned(),
            _ => format!("{} {name}", kind.word()),
        };
        f.write_str(&name)?;
        match (kind, from, to) {
            (Kind::Label, Some(_), Some(to)) => write!(f, " -> {}", label(&self.name, Some(to)))?,
            (Kind::Label, ..) => {}
            (_, Some(from), Some(to)) => write!(f, " {from} -> {to}")?,
            (_, Some(text), None) | (_, None, Some(text)) => write!(f, "  {text}")?,
            (_, None, None) => {}
        }
        node.as_ref().map_or(Ok(()), |node| write!(f, " on {node}"))
    }
}

fn label(key: &str, value: Option<&String>) -> String {
    format!("{key}={}", value.map_or("", String::as_str))
}

impl Change {
    /// Returns what deploying a stack changes.
    #[must_use]
    pub fn stack(name: &str, exists: bool) -> Self {
        match exists {
            true => Self::of(Mark::Change, Kind::Stack, name).to("deploy again"),
            false => Self::of(Mark::Add, Kind::Stack, name),
        }
    }

    /// Returns what removing a stack changes.
    #[must_use]
    pub fn no_stack(name: &str) -> Self {
        Self::of(Mark::Remove, Kind::Stack, name)
    }

    fn of(change: Mark, kind: Kind, name: impl Into<String>) -> Self {
        Self { change, kind, name: name.into(), node: None, from: None, to: None }
    }

    /// Returns the change from one value to another; none if they are the same.
    fn between(
        kind: Kind,
        name: impl Into<String>,
        from: Option<String>,
        to: Option<String>,
    ) -> Option<Self> {
        let change = match (&from, &to) {
            (None, Some(_)) => Mark::Add,
            (Some(_), None) => Mark::Remove,
            (from, to) if from == to => return None,
            _ => Mark::Change,
        };
        Some(Self { from, to, ..Self::of(change, kind, name) })
    }

    fn from(self, text: impl Into<String>) -> Self {
        Self { from: Some(text.into()), ..self }
    }

    fn to(self, text: impl Into<String>) -> Self {
        Self { to: Some(text.into()), ..self }
    }

    fn on(self, node: &NodeName) -> Self {
        Self { node: Some(node.clone()), ..self }
    }
}

/// Returns what a plan for the cluster of that name changes of what was seen.
#[must_use]
pub fn diff(name: &ClusterName, seen: &Observed, plan: &Plan) -> Vec<Change> {
    if plan.is_empty() {
        return Vec::new();
    }
    let view = View::new(name, seen, plan);
    let mut changes: Vec<Change> = view.cluster().into_iter().collect();
    changes.extend(view.nodes());
    changes.extend(view.ports());
    changes.extend(view.peers());
    changes.extend(view.hostnames());
    changes.extend(view.context());
    changes.extend(view.images());
    changes.extend(view.registries());
    changes.extend(view.network());
    changes.extend(view.rest());
    changes
}

/// A plan with what it starts from and where it leads.
struct View<'a> {
    name: &'a ClusterName,
    seen: &'a Observed,
    plan: &'a Plan,
    /// What is recorded now.
    before: Option<&'a ClusterRecord>,
    /// What is recorded after the plan; none if the cluster is removed.
    after: Option<&'a ClusterRecord>,
    /// Whether the cluster is removed.
    removed: bool,
}

impl<'a> View<'a> {
    fn new(name: &'a ClusterName, seen: &'a Observed, plan: &'a Plan) -> Self {
        let removed = plan
            .steps
            .iter()
            .any(|step| step.action == Action::Cluster(ClusterAction::RemoveCluster));
        let recorded = plan.steps.iter().rev().find_map(|step| match &step.action {
            Action::Cluster(ClusterAction::RecordCluster(record)) => Some(&**record),
            _ => None,
        });
        let before = seen.cluster.as_ref();
        let after = recorded.or(before).filter(|_| !removed);
        Self { name, seen, plan, before, after, removed }
    }

    /// Returns what is done for the cluster as a whole.
    fn actions(&self) -> impl Iterator<Item = &'a ClusterAction> + use<'a> {
        self.plan.steps.iter().filter_map(|step| match &step.action {
            Action::Cluster(action) => Some(action),
            Action::Node(..) => None,
        })
    }

    /// Returns what is done with a node.
    fn actions_of(&self, node: &NodeName) -> impl Iterator<Item = &'a NodeAction> + use<'a> {
        let node = node.clone();
        self.plan.steps.iter().filter_map(move |step| match &step.action {
            Action::Node(name, action) if *name == node => Some(action),
            _ => None,
        })
    }

    /// Tells whether the cluster is there before the plan and after it.
    fn stays(&self) -> bool {
        self.before.is_some() && !self.removed
    }
}
