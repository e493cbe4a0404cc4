//! `skep logs`.

use clap::{Args, ValueEnum};
use skep_core::model::{ClusterName, NodeRecord};
use skep_ops::logs::{LogEvent, LogOf, LogOptions};
use skep_print::errln;
use skep_store::{ClusterDir, Machine};
use time::OffsetDateTime;

use crate::cli::{ClusterOption, NodeRef, moment};
use crate::context::Context;
use crate::error::{CliError, Context as _};
use crate::render::log::{LogWriter, until_nobody_reads};

/// `skep logs`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep logs node1                             what node1 printed on its console
  skep logs --service docker -n 20            the engine's last lines, of every node
  skep logs --service docker --since 10m -f node0 node1")]
pub struct Logs {
    #[command(flatten)]
    cluster: ClusterOption,
    /// The nodes, as NODE or CLUSTER/NODE [default: all nodes of the cluster].
    #[arg(value_name = "NODE")]
    nodes: Vec<NodeRef>,
    /// Print the log of this service on the nodes, not their consoles.
    #[arg(long, value_name = "SERVICE")]
    service: Option<Service>,
    /// Go on with new lines, also after a node was restarted.
    #[arg(long, short)]
    follow: bool,
    /// Only lines from then on, for example 10m or 2026-01-02T15:04:05Z. Console lines have no times.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<OffsetDateTime>,
    /// Number of lines to print from the end of each log [default: all].
    #[arg(long, short = 'n', value_name = "N", value_parser = tail)]
    tail: Option<Tail>,
    /// Print control characters unescaped, on a terminal too (pipes and files always get them).
    #[arg(long)]
    raw: bool,
}

/// How many lines of the past.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tail(pub Option<usize>);

/// Reads how many lines are wanted.
pub(super) fn tail(text: &str) -> Result<Tail, String> {
    match (text, text.parse()) {
        ("all", _) => Ok(Tail(None)),
        (_, Ok(lines)) => Ok(Tail(Some(lines))),
        _ => Err("write a number of lines, for example 20, or all".to_owned()),
    }
}

/// A service in a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Service {
    /// Guest agent.
    Agent,
    /// containerd.
    Containerd,
    /// Docker Engine.
    Docker,
    /// Pull-through cache.
    Mirror,
    /// Registry of the cluster.
    Registry,
    /// SSH server.
    Sshd,
    /// TLS endpoint of the engine.
    Tls,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Containerd => "containerd",
            Self::Docker => "docker",
            Self::Mirror => "mirror",
            Self::Registry => "registry",
            Self::Sshd => "sshd",
            Self::Tls => "tls",
        }
    }
}

pub(super) async fn run(context: &Context, args: &Logs) -> Result<(), CliError> {
    if args.since.is_some() && args.service.is_none() {
        let message = "--since needs a service's log: the lines of consoles have no times";
        return Err(CliError::usage(message).hint("skep logs --service docker --since 10m"));
    }
    let cluster = context.existing(cluster_of(args)?.as_ref())?;
    let machines = machines(context, &cluster, args)?;
    let options = LogOptions {
        of: args.service.map_or(LogOf::Console, |it| LogOf::Service(it.name().to_owned())),
        since: args.since,
        tail: args.tail.and_then(|tail| tail.0),
        follow: args.follow,
    };
    let names: Vec<_> = machines.iter().map(|it| it.record.name().to_string()).collect();
    let writer = LogWriter::new(names, machines.len() > 1, args.raw);
    let told = |event| match event {
        LogEvent::Line { node, text } => writer.line(node.as_str(), &text),
        LogEvent::Note { node, text } => errln!("{node}: {text}"),
    };
    let run = context.run(None);
    let failed = tokio::select! {
        failed = run.logs(&machines, &options, &told) => failed,
        () = until_nobody_reads() => Vec::new(),
    };
    let hinted = |error: skep_ops::Error| match (args.service, &machines[..]) {
        (None, _) => CliError::from(error),
        (Some(_), [only]) => {
            CliError::from(error).hint(format!("skep logs {}", only.record.name()))
        }
        (Some(_), _) => CliError::from(error).hint("skep status"),
    };
    let mut failed = failed.into_iter().map(hinted);
    let Some(first) = failed.next() else { return Ok(()) };
    failed.for_each(|error| errln!("error: {}", error.message));
    Err(first)
}

/// Returns the cluster that nodes and options name, if they name one.
fn cluster_of(args: &Logs) -> Result<Option<ClusterName>, CliError> {
    let mut named = args.nodes.iter().filter_map(|node| node.cluster.as_ref());
    let Some(first) = named.next() else { return Ok(args.cluster.cluster.clone()) };
    match named.find(|other| *other != first) {
        Some(other) => {
            Err(CliError::usage(format!("{first} and {other} are two clusters; name nodes of one")))
        }
        None => Ok(Some(first.clone())),
    }
}

/// Returns the machines whose logs are wanted. If none is named and consoles are wanted, hosts are left out, as their
/// consoles are not ours.
fn machines(
    context: &Context,
    cluster: &ClusterDir,
    args: &Logs,
) -> Result<Vec<Machine>, CliError> {
    let mut records: Vec<NodeRecord> = Vec::new();
    for name in args.nodes.iter().map(|node| &node.node) {
        if records.iter().all(|record| record.name() != name) {
            let is_cluster = || {
                name.as_str().parse().is_ok_and(|it| context.session.store.cluster(&it).exists())
            };
            let record = context.node(cluster, name);
            records.push(record.map_err(|error| match is_cluster() {
                true => error.hint(format!("skep logs --cluster {name}  # all its nodes")),
                false => error,
            })?);
        }
    }
    if args.nodes.is_empty() {
        for (name, record) in cluster.nodes().context("cannot list nodes")? {
            match record {
                Ok(record) => records.push(record),
                Err(error) => errln!("warning: {name}: {}", skep_sys::chain(&error)),
            }
        }
        records.sort_by_key(|record| record.index);
        records.retain(|record| args.service.is_some() || record.spec.is_vm());
    }
    let machine = |record: NodeRecord| Machine { dir: cluster.machine_dir(record.name()), record };
    let machines: Vec<_> = records.into_iter().map(machine).collect();
    match machines.is_empty() {
        true => {
            let message = format!("cluster {} has no node with a console", cluster.name());
            Err(CliError::usage(message).hint("skep logs --service docker"))
        }
        false => Ok(machines),
    }
}
