//! `skep stack logs`.

use clap::Args;
use skep_core::services::{Service, View};
use skep_ops::logs::{ServiceLogEvent, ServiceLogOptions, TaskLine, read_services};
use skep_print::errln;
use time::OffsetDateTime;

use super::super::logs::{Tail, tail};
use super::list::view_of;
use crate::cli::{ClusterOption, moment};
use crate::context::Context;
use crate::error::{CliError, Context as _};
use crate::render::log::{LogWriter, until_nobody_reads};

/// How much of a task's ID is printed, as docker does.
const ID: usize = 12;

/// `skep stack logs`.
#[derive(Debug, Args)]
#[command(after_help = "\
Standard output and standard error of the containers both go to standard output.

Examples:
  skep stack logs shop                   all lines of all services, by time
  skep stack logs -f -n 20 shop web db   follow two services")]
pub struct StackLogs {
    #[command(flatten)]
    cluster: ClusterOption,
    /// Go on with new lines, also if a manager stops and another takes over.
    #[arg(long, short)]
    follow: bool,
    /// Only lines from then on, for example 10m or 2026-01-02T15:04:05Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<OffsetDateTime>,
    /// Number of lines to print from the end of each task's log [default: all].
    #[arg(long, short = 'n', value_name = "N", value_parser = tail)]
    tail: Option<Tail>,
    /// Print the time before each line.
    #[arg(long, short)]
    timestamps: bool,
    /// Leave the IDs of tasks out of their names.
    #[arg(long)]
    no_task_ids: bool,
    /// Print lines without the task and node before them.
    #[arg(long)]
    no_prefix: bool,
    /// The stack.
    #[arg(value_name = "STACK")]
    name: String,
    /// Services, with or without the stack's name [default: all of the stack].
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) async fn run(context: &Context, args: &StackLogs) -> Result<u8, CliError> {
    let view = view_of(context, &args.cluster, &args.name).await?;
    let services = select(&view, args)?;
    let options = ServiceLogOptions {
        since: args.since,
        tail: args.tail.and_then(|tail| tail.0),
        follow: args.follow,
    };
    let writer = LogWriter::new(Vec::new(), !args.no_prefix, false);
    let told = |event| match event {
        ServiceLogEvent::Line(TaskLine { task, node, line }) => {
            let id: String = line.task.chars().take(ID).collect();
            let place = match args.no_task_ids || id.is_empty() {
                true => format!("{task}@{node}"),
                false => format!("{task}.{id}@{node}"),
            };
            let time = if args.timestamps { format!("{} ", line.time) } else { String::new() };
            writer.line_with(&time, &place, &[&line.text, &b"\n"[..]].concat());
        }
        ServiceLogEvent::Note(text) => errln!("{}: {text}", args.name),
    };
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let run = context.run(None);
    let read = async {
        let read = read_services(run.swarm(&dir), &services, &options, &told).await;
        read.context(format!("stack {}: cannot read its logs", args.name))
    };
    tokio::select! {
        result = read => result?,
        () = until_nobody_reads() => {}
    }
    Ok(0)
}

/// Returns the IDs of the services that are meant.
fn select(view: &View, args: &StackLogs) -> Result<Vec<String>, CliError> {
    let short = |service: &Service| {
        let name = service.name.strip_prefix(&args.name).and_then(|it| it.strip_prefix('_'));
        name.unwrap_or(&service.name).to_owned()
    };
    for wanted in &args.services {
        if !view.services.iter().any(|it| it.name == *wanted || short(it) == *wanted) {
            let known: Vec<_> = view.services.iter().map(short).collect();
            let (name, known) = (&args.name, known.join(", "));
            return Err(CliError::usage(format!(
                "stack {name} has no service {wanted}; it has {known}"
            ))
            .hint(format!("skep stack services {name}")));
        }
    }
    let is_meant = |service: &&Service| {
        args.services.is_empty()
            || args.services.iter().any(|it| *it == service.name || *it == short(service))
    };
    Ok(view.services.iter().filter(is_meant).map(|service| service.id.clone()).collect())
}
