//! `skep firewall check`.

use std::time::Duration;

use serde_json::json;
use skep_core::observed::MachineState;
use skep_docker::engine::{PORT, remote};
use skep_driver::Driver as _;
use skep_net::netcheck::{self, Path, Peer, Report, Verdict};
use skep_print::outln;
use skep_store::Machine;
use tokio::task::JoinHandle;

use crate::cli::{FirewallCheck, Output};
use crate::context::Context;
use crate::error::{CliError, Context as _, code};
use crate::render::write_document;

/// What this host is called among nodes.
const HERE: &str = "this host";

/// How long a connection may take: the kernel makes it, however slow what runs above is.
const CONNECT: Duration = Duration::from_secs(10);

pub(super) async fn run(context: &Context, args: FirewallCheck) -> Result<u8, CliError> {
    let cluster = context.existing(args.cluster.cluster.as_ref())?;
    // Two that count at once would take each other's counters away.
    let run = context.run(None);
    let lock = run.lock(cluster.name()).await?;
    let driver = &run.driver;
    let mut report = Report::default();
    let mut running = Vec::new();
    for (name, record) in cluster.nodes().context("cannot list nodes")? {
        let record = record.context(&name)?;
        let machine = Machine { dir: cluster.machine_dir(record.name()), record };
        if machine.record.spec.is_vm() && driver.state(&machine).await != MachineState::Running {
            report.silent.push((name.to_string(), "it is not running".to_owned()));
        } else {
            let shell = driver.shell(&machine);
            running.push((name, machine, shell));
        }
    }
    let peers: Vec<_> = running
        .iter()
        .map(|(name, machine, shell)| Peer {
            name: name.as_str(),
            address: machine.record.address,
            shell: &**shell,
            limit: args.timeout * driver.slowness(machine),
        })
        .collect();
    let found = netcheck::check(&peers).await;
    let from_here: Vec<_> = running.iter().flat_map(|(_, machine, _)| from_here(machine)).collect();
    for path in from_here {
        report.paths.push(path.await.context("a connection")?);
    }
    report.paths.extend(found.paths);
    report.silent.extend(found.silent);
    lock.release();
    match args.output {
        Output::Table => print(&report),
        output => write_document(output, &document(&report)),
    }
    Ok(if report.is_open() { 0 } else { code::FAILED })
}

/// Connects to what this host needs of a node: its ssh server and its engine; to all at once.
fn from_here(machine: &Machine) -> Vec<JoinHandle<Path>> {
    let ssh = machine.record.spec.host().map_or(22, |host| host.port);
    let connect = |port: u16| {
        let (address, to) = (machine.record.address.to_string(), machine.record.name().to_string());
        tokio::spawn(async move {
            let open = remote::answers(&address, port, CONNECT).await;
            let verdict = if open { Verdict::Open } else { Verdict::Lost };
            Path { from: HERE.to_owned(), to, what: format!("tcp {port}"), verdict }
        })
    };
    [ssh, PORT].map(connect).into()
}

fn print(report: &Report) {
    let count = |wanted: fn(&Verdict) -> bool| {
        report.paths.iter().filter(|path| wanted(&path.verdict)).count()
    };
    for path in &report.paths {
        if !matches!(path.verdict, Verdict::Open | Verdict::Unknown) {
            outln!("{} to {}, {}: {}", path.from, path.to, path.what, words(path));
        }
    }
    for (node, reason) in &report.silent {
        outln!("{node} could not be checked: {reason}");
    }
    let open = count(|it| *it == Verdict::Open);
    let unknown = count(|it| *it == Verdict::Unknown);
    outln!("{open} of {} paths are open", report.paths.len() - unknown);
    if unknown > 0 {
        outln!("{unknown} could not be tested: these kernels do not send ESP (encrypted overlays)");
    }
}

fn words(path: &Path) -> String {
    let Path { from, to, .. } = path;
    match &path.verdict {
        Verdict::Open => "open".to_owned(),
        Verdict::Unknown => "not tried".to_owned(),
        Verdict::Dropped { at, rule: Some(rule) } => format!("dropped on {at} by {rule}"),
        Verdict::Dropped { at, rule: None } => format!("dropped on {at}"),
        Verdict::Lost if from == HERE => {
            format!("no answer; a firewall on {to} or in between may drop it")
        }
        Verdict::Lost => {
            format!("it left {from} and did not arrive; something in between drops it")
        }
        Verdict::Unanswered => format!("it arrived, but the answer of {to} did not return"),
    }
}

fn document(report: &Report) -> serde_json::Value {
    let path = |path: &Path| {
        let (at, rule) = match &path.verdict {
            Verdict::Dropped { at, rule } => (Some(at), rule.as_ref()),
            _ => (None, None),
        };
        json!({
            "from": path.from,
            "to": path.to,
            "what": path.what,
            "verdict": match path.verdict {
                Verdict::Open => "open",
                Verdict::Unknown => "unknown",
                Verdict::Dropped { .. } => "dropped",
                Verdict::Lost => "lost",
                Verdict::Unanswered => "unanswered",
            },
            "at": at,
            "rule": rule,
        })
    };
    json!({
        "format": 1,
        "open": report.is_open(),
        "paths": report.paths.iter().map(path).collect::<Vec<_>>(),
        "silent": report.silent.iter().map(|(node, reason)| json!({"node": node, "reason": reason})).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use skep_testkit::schema::assert_described;

    use super::*;

    #[test]
    fn a_report_fits_its_schema() {
        let verdicts = [
            Verdict::Open,
            Verdict::Unknown,
            Verdict::Dropped { at: "node1".into(), rule: Some("ufw-user-input".into()) },
            Verdict::Dropped { at: "node1".into(), rule: None },
            Verdict::Lost,
            Verdict::Unanswered,
        ];
        let path = |verdict| Path {
            from: HERE.to_owned(),
            to: "node1".into(),
            what: "tcp 2377".into(),
            verdict,
        };
        let report = Report {
            paths: verdicts.map(path).into(),
            silent: vec![("node2".into(), "no answer".into())],
        };
        assert_described("firewall-check", &document(&report).to_string());
    }
}
