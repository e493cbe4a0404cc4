//! `skep status`.

mod nodes;
mod watch;

use serde_json::{Value, json};
use skep_core::model::{NodeName, Role};
use skep_core::observed::{EngineState, Leftover, Observed};
use skep_core::readiness::{Check, Subject, Verdict, verifiable};
use skep_ops::Run;
use skep_ops::observe::Damage;
use skep_store::ClusterDir;

use nodes::is_well;
pub(super) use nodes::{NodeRow, node_document, node_rows};
use skep_print::out;
pub(super) use watch::watch;

use crate::cli::{Output, Status};
use crate::context::Context;
use crate::error::{CliError, code};
use crate::listing::text_table;
use crate::render::table::table;
use crate::render::write_document;

/// The number of the JSON output's format.
const FORMAT: u32 = 2;

pub(super) async fn run(context: &Context, args: Status) -> Result<u8, CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let run = context.run(None);
    let seen = run.observe_within(&dir, Damage::List, args.timeout).await?;
    let checks = match args.verify {
        true => Some(verify(&run, &dir, &seen).await?),
        false => None,
    };
    match args.output {
        Output::Json | Output::Yaml => {
            let mut document = json(&dir, &seen);
            if let Some(checks) = &checks {
                document["checks"] = checks.iter().map(|check| checked(check, &dir)).collect();
            }
            write_document(args.output, &document);
        }
        Output::Table => {
            let checks = checks_text(checks.as_deref().unwrap_or_default(), &dir);
            out!("{}{checks}", text(&dir, &seen));
        }
    }
    let works = checks.iter().flatten().all(|check| check.verdict != Verdict::Failed);
    Ok(if is_whole(&seen) && works { 0 } else { code::FAILED })
}

fn is_whole(seen: &Observed) -> bool {
    seen.leftovers.is_empty() && seen.nodes.values().all(|node| is_well(node, seen))
}

/// Verifies a cluster, which no other skep may change meanwhile.
pub(super) async fn verify(
    run: &Run<'_>,
    dir: &ClusterDir,
    seen: &Observed,
) -> Result<Vec<Check>, CliError> {
    let cluster = run.lock(dir.name()).await?;
    let events = |_| ();
    let checks = run.step_context(&cluster, &events).verify(&verifiable(seen)).await;
    cluster.release();
    Ok(checks)
}

/// Returns the command that may mend what a check found.
fn remedy(check: &Check, dir: &ClusterDir) -> Option<String> {
    if check.verdict < Verdict::Warning {
        return None;
    }
    let cluster = dir.name();
    let node = check.node.as_ref().map(NodeName::as_str);
    Some(match (check.subject, node) {
        (Subject::Engine, Some(node)) => {
            format!("skep node restart {node} --cluster {cluster}")
        }
        (Subject::Engine, None) => format!("skep up {cluster}"),
        (Subject::Ingress, Some(node)) => {
            format!("skep logs {cluster}/{node} --service docker  # then skep node restart {node}")
        }
        (Subject::Ingress, None) => format!("skep up {cluster}"),
        (Subject::Overlay, _) => format!(
            "skep logs {cluster}/NODE --service docker  # between hosts: UDP port 4789, and 7946"
        ),
        // After a pause it sets itself; what somebody has set it to on purpose stays.
        (Subject::Clock, Some(node)) => format!(
            "skep ssh {cluster}/{node} 'sudo date -s @'$(date +%s)  # if it persists for 30 s"
        ),
        (Subject::Clock, None) => format!("skep status {cluster} --verify  # after 30 s"),
        (Subject::Certificate, _) => format!("skep certs renew {cluster}"),
    })
}

fn checks_text(checks: &[Check], dir: &ClusterDir) -> String {
    if checks.is_empty() {
        return String::new();
    }
    let row = |check: &Check| {
        let node = check.node.as_ref().map_or("-", NodeName::as_str);
        let (subject, verdict) = (check.subject.as_str(), check.verdict.as_str());
        vec![subject.into(), node.into(), verdict.into(), check.text.clone()]
    };
    let rows: Vec<_> = checks.iter().map(row).collect();
    let mut text = format!("\n{}", table(&["CHECK", "NODE", "STATUS", "DETAILS"], &rows));
    for check in checks {
        if let Some(remedy) = remedy(check, dir) {
            let node = check.node.as_ref().map(|node| format!(" of {node}")).unwrap_or_default();
            text += &format!("try       for {}{node}: {remedy}\n", check.subject.as_str());
        }
    }
    text
}

fn checked(check: &Check, dir: &ClusterDir) -> Value {
    let Check { subject, node, verdict, text } = check;
    json!({
        "check": subject,
        "node": node,
        "verdict": verdict,
        "text": text,
        "remedy": remedy(check, dir),
    })
}

/// Returns the status for people.
fn text(dir: &ClusterDir, seen: &Observed) -> String {
    let mut text = text_table(&node_rows(seen), false) + "\n";
    let mut line = |title: &str, value: String| text += &format!("{title:<9} {value}\n");
    let yes = |there: bool, text: String| if there { text } else { format!("{text} (missing)") };
    if let Some(cluster) = &seen.cluster {
        let network = &cluster.network;
        line("subnet", network.subnet.to_string());
        line("bridge", yes(seen.bridge, network.bridge.clone()));
        line("firewall", yes(seen.firewall, format!("table inet {}", network.bridge)));
    }
    for entry in &seen.hosts_entries {
        line("hosts", format!("{} {}", entry.address, entry.name));
    }
    line("files", dir.path().display().to_string());
    for damaged in unreadable(dir) {
        line("problem", damaged);
    }
    for leftover in &seen.leftovers {
        line("leftover", format!("{}: {}", what(leftover), way_out(leftover, dir, seen)));
    }
    for warning in super::certs::warnings(dir) {
        line("warning", warning);
    }
    for (name, node) in &seen.nodes {
        if let EngineState::Unreachable(reason) = &node.engine {
            line("problem", format!("{name}: its engine does not respond: {reason}"));
        }
    }
    text
}

/// Returns what is wrong with records of a cluster.
fn unreadable(dir: &ClusterDir) -> Vec<String> {
    let nodes = dir.nodes().into_iter().flatten();
    let errors = dir.record().err().into_iter().chain(nodes.filter_map(|(_, node)| node.err()));
    errors.map(|error| skep_sys::chain(&error)).collect()
}

/// Returns what to do about a leftover. The cluster is removed last: it may be whole but for a record.
fn way_out(leftover: &Leftover, dir: &ClusterDir, seen: &Observed) -> String {
    let name = dir.name();
    match leftover {
        Leftover::Link(link) if seen.cluster.is_some() => {
            format!("sudo ip link delete {link} removes it")
        }
        Leftover::FirewallTable(table) if seen.cluster.is_some() => {
            format!("sudo nft delete table inet {table} removes it")
        }
        Leftover::Directory if seen.nodes.is_empty() && matches!(dir.record(), Ok(None)) => {
            format!("skep up {name} continues it, skep down {name} removes it")
        }
        _ => format!(
            "skep support-bundle {name} collects what can be read; \
             skep down {name} removes the cluster and all its data"
        ),
    }
}

fn what(leftover: &Leftover) -> String {
    match leftover {
        Leftover::Link(name) => format!("interface {name}"),
        Leftover::FirewallTable(name) => format!("firewall table {name}"),
        Leftover::Node(name) => format!("node {name} (unreadable record)"),
        Leftover::Directory => "a cluster (unreadable record)".to_owned(),
    }
}

pub(super) fn json(dir: &ClusterDir, seen: &Observed) -> Value {
    let network = seen.cluster.as_ref().map(|cluster| &cluster.network);
    let managers = seen.nodes.values().filter(|node| node.record.spec.role == Role::Manager);
    json!({
        "format": FORMAT,
        "name": dir.name(),
        "subnet": network.map(|network| network.subnet),
        "bridge": network.map(|network| &network.bridge),
        "bridge_up": seen.bridge,
        "firewall": seen.firewall,
        "managers": managers.count(),
        "swarm_id": seen.swarm.as_ref().map(|swarm| &swarm.id),
        "directory": dir.path(),
        "hosts": seen.hosts_entries.iter().map(|entry| &entry.name).collect::<Vec<_>>(),
        "leftovers": seen.leftovers,
        "warnings": super::certs::warnings(dir),
        "nodes": seen.nodes.values().map(|node| node_document(node, seen)).collect::<Vec<_>>(),
    })
}
