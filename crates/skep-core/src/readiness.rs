//! What is verified of a cluster that is up, beyond what its swarm says of itself.

use serde::Serialize;

use crate::model::{NodeName, Role};
use crate::observed::{EngineState, MachineState, Observed, ObservedNode};

/// What a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// The engine's API, over TLS.
    Engine,
    /// The routing mesh: a published port.
    Ingress,
    /// An overlay network: names of one node's containers in another's, and the way to them.
    Overlay,
    /// The clock, beside the host's.
    Clock,
    /// How long certificates are valid.
    Certificate,
}

impl Subject {
    /// Returns the word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Ingress => "ingress",
            Self::Overlay => "overlay",
            Self::Clock => "clock",
            Self::Certificate => "certificate",
        }
    }
}

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is as it should be.
    Ok,
    /// It could not be told.
    Unknown,
    /// It works, and will not for long.
    Warning,
    /// It does not work.
    Failed,
}

impl Verdict {
    /// Returns the word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Check {
    /// What it is about.
    pub subject: Subject,
    /// The node, or none for the cluster as a whole.
    pub node: Option<NodeName>,
    /// What came out.
    pub verdict: Verdict,
    /// What was seen.
    pub text: String,
}

impl Check {
    /// Creates a check.
    #[must_use]
    pub fn new(
        subject: Subject,
        node: Option<&NodeName>,
        verdict: Verdict,
        text: impl Into<String>,
    ) -> Self {
        Self { subject, node: node.cloned(), verdict, text: text.into() }
    }
}

/// What can be verified of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verifiable {
    /// The nodes whose machines run.
    pub nodes: Vec<NodeName>,
    /// Those of them that belong to the swarm: a published port answers through each.
    pub members: Vec<NodeName>,
    /// Those of them that take tasks.
    pub open: Vec<NodeName>,
    /// The managers to ask, in this order.
    pub through: Vec<NodeName>,
    /// Whether a virtual machine is there, in whose image the service is that is published.
    pub has_image: bool,
    /// What is known already: nodes that cannot be asked anything.
    pub known: Vec<Check>,
}

/// Tells what can be verified of what was seen.
#[must_use]
pub fn verifiable(seen: &Observed) -> Verifiable {
    let mut found = Verifiable::default();
    let mut nodes: Vec<_> = seen.nodes.values().collect();
    nodes.sort_by_key(|node| node.record.index);
    for node in nodes {
        let name = node.record.name();
        if node.machine != MachineState::Running {
            let state = format!("the machine is {}", state_of(node));
            found.known.push(Check::new(Subject::Engine, Some(name), Verdict::Failed, state));
            continue;
        }
        found.nodes.push(name.clone());
        found.has_image |= node.record.spec.is_vm();
        let EngineState::Member { id, control, .. } = &node.engine else { continue };
        if *control && node.record.spec.role == Role::Manager {
            found.through.push(name.clone());
        }
        let member = seen.swarm.as_ref().and_then(|swarm| swarm.member(id));
        if member.is_some_and(|member| member.ready) {
            found.members.push(name.clone());
        }
        if member.is_some_and(|member| member.ready && member.availability == "active") {
            found.open.push(name.clone());
        }
    }
    found
}

fn state_of(node: &ObservedNode) -> &'static str {
    match node.machine {
        MachineState::Running => "running",
        MachineState::Paused => "paused",
        MachineState::Crashed => "crashed",
        MachineState::Stopped => "stopped",
    }
}

/// A second is nothing to a swarm; a node that was paused sets its clock itself, within half a minute.
const CLOCK_DOUBTFUL_MS: u64 = 1_000;

/// By so much, certificates and tokens begin to be refused, and logs to lie.
const CLOCK_WRONG_MS: u64 = 60_000;

/// Judges a clock by what it is behind the host's, in nanoseconds; less than nothing is ahead.
#[must_use]
pub fn judge_clock(node: &NodeName, behind_ns: i64) -> Check {
    let off = behind_ns.unsigned_abs() / 1_000_000;
    let verdict = match off {
        CLOCK_WRONG_MS.. => Verdict::Failed,
        CLOCK_DOUBTFUL_MS.. => Verdict::Warning,
        _ => Verdict::Ok,
    };
    let way = if behind_ns < 0 { "ahead of" } else { "behind" };
    let text = format!("{}.{:03} s {way} this host", off / 1000, off % 1000);
    Check::new(Subject::Clock, Some(node), verdict, text)
}

/// Judges how far the clocks of nodes are apart.
#[must_use]
pub fn judge_clocks(behind_ns: &[(NodeName, i64)]) -> Option<Check> {
    let (first, least) = behind_ns.iter().min_by_key(|(_, behind)| *behind)?;
    let (last, most) = behind_ns.iter().max_by_key(|(_, behind)| *behind)?;
    if behind_ns.len() < 2 {
        return None;
    }
    let Check { verdict, .. } = judge_clock(first, most.saturating_sub(*least));
    let apart = most.saturating_sub(*least) / 1_000_000;
    let text = format!("{}.{:03} s apart at most, {last} from {first}", apart / 1000, apart % 1000);
    Some(Check::new(Subject::Clock, None, verdict, text))
}

/// So many days before its end a certificate is worth a word.
const LAST_DAYS: i64 = 30;

/// Judges a certificate by the days for which it is still valid.
#[must_use]
pub fn judge_certificate(node: Option<&NodeName>, what: &str, days: i64) -> Check {
    let (verdict, text) = match days {
        ..0 => (Verdict::Failed, format!("{what} has expired")),
        0..LAST_DAYS => (Verdict::Warning, format!("{what} is valid for {days} more days")),
        _ => (Verdict::Ok, format!("{what} is valid for {days} more days")),
    };
    Check::new(Subject::Certificate, node, verdict, text)
}

/// Judges what a task on an overlay network says of the tasks of its service. Its first line is `here NODE`,
/// each other an address that its name has, and the node that answers there.
///
/// # Errors
///
/// If no other node's task answered; with what was seen.
pub fn judge_overlay(page: &str) -> Result<String, String> {
    let mut lines = page.lines();
    let here = lines.next().and_then(|line| line.strip_prefix("here "));
    let here = here.ok_or("the task did not say where it is")?.trim().to_owned();
    let mut silent = Vec::new();
    let mut found = 0;
    for line in lines {
        let Some((address, node)) = line.split_once(' ') else { continue };
        found += 1;
        match node.trim() {
            "" => silent.push(address.to_owned()),
            node if node != here => {
                return Ok(format!("{here} resolves and reaches {node} ({address})"));
            }
            _ => {}
        }
    }
    Err(match silent.first() {
        Some(address) => format!("{here} resolves {address}, but nothing answers there"),
        None => format!("{here} resolves {found} tasks, none of them on another node"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: usize) -> NodeName {
        NodeName::numbered(number)
    }

    #[test]
    fn a_clock_is_judged_by_how_far_it_is_off() {
        let seen = |ns| {
            let check = judge_clock(&node(0), ns);
            (check.verdict, check.text)
        };
        assert_eq!(seen(12_345_678), (Verdict::Ok, "0.012 s behind this host".into()));
        assert_eq!(seen(-2_000_000_000), (Verdict::Warning, "2.000 s ahead of this host".into()));
        assert_eq!(seen(i64::MAX).0, Verdict::Failed);
        assert_eq!(seen(i64::MIN).0, Verdict::Failed);
        let both = judge_clocks(&[(node(0), -700_000_000), (node(1), 700_000_000)]).unwrap();
        assert_eq!(both.verdict, Verdict::Warning, "each is near the host, and they are not");
        assert_eq!(both.text, "1.400 s apart at most, node1 from node0");
        assert_eq!(judge_clocks(&[(node(0), 0)]), None);
    }

    #[test]
    fn a_certificate_is_judged_by_its_last_days() {
        let verdict = |days| judge_certificate(None, "it", days).verdict;
        assert_eq!(
            [-1, 0, 29, 30].map(verdict),
            [Verdict::Failed, Verdict::Warning, Verdict::Warning, Verdict::Ok]
        );
    }

    #[test]
    fn names_on_an_overlay_are_those_of_another_node_that_answers() {
        let well = "here node0\n10.0.1.3 node0\n10.0.1.4 node1\n";
        assert_eq!(judge_overlay(well).unwrap(), "node0 resolves and reaches node1 (10.0.1.4)");
        let alone = judge_overlay("here node0\n10.0.1.3 node0\n").unwrap_err();
        assert_eq!(alone, "node0 resolves 1 tasks, none of them on another node");
        let silent = judge_overlay("here node0\n10.0.1.3 node0\n10.0.1.4 \n").unwrap_err();
        assert_eq!(silent, "node0 resolves 10.0.1.4, but nothing answers there");
        assert!(judge_overlay("").is_err());
    }
}
