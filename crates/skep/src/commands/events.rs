//! `skep events`.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Value, json};
use skep_ops::cluster_events::{ClusterEvent, EventKind, EventOptions};
use skep_print::{outln, shown};
use time::OffsetDateTime;

use crate::cli::{ClusterArg, WorkFormat, moment};
use crate::context::Context;
use crate::error::CliError;
use crate::render::events::stamp;
use crate::render::log::until_nobody_reads;
use crate::render::write_line;

/// The number of the format.
const FORMAT: u32 = 1;

/// Labels that the engine gives to all containers of a swarm: the text output leaves them out.
const LABELS: &str = "com.docker.";

/// `skep events`.
#[derive(Debug, Args)]
#[command(after_help = "\
As docker events does, it goes on until it is interrupted; with --until it ends. Engines remember their last 256 events.
Docker has no events of tasks: skep looks at them, and at the machines, about once a second.
If an engine does not respond, a `watch lost` line says so, and `watch resumed` when it does again.

Examples:
  skep events --filter type=task --filter type=machine
  skep events --since 10m --until now -o json")]
pub struct Events {
    #[command(flatten)]
    cluster: ClusterArg,
    /// Also events from then on, for example 10m or 2026-01-02T15:04:05Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<OffsetDateTime>,
    /// End at that time, for example now or 2026-01-02T15:04:05Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<OffsetDateTime>,
    /// Only events of a type: type=node, service, task, container or machine; repeatable.
    #[arg(long, short, value_name = "type=TYPE", value_parser = filter)]
    filter: Vec<EventKind>,
    /// Output format; json prints one object per line.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    output: WorkFormat,
}

fn filter(text: &str) -> Result<EventKind, String> {
    let kind = text.strip_prefix("type=");
    let kind = kind.and_then(|name| EventKind::ALL.into_iter().find(|it| it.as_str() == name));
    let known = EventKind::ALL.map(EventKind::as_str).join(", ");
    kind.ok_or_else(|| format!("write type=TYPE, for example type=task; types are {known}"))
}

pub(super) async fn run(context: &Context, args: &Events) -> Result<(), CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    if let (Some(since), Some(until)) = (args.since, args.until)
        && since > until
    {
        return Err(CliError::usage("--since is later than --until"));
    }
    let all = EventKind::ALL.into_iter().collect::<BTreeSet<_>>();
    let chosen: BTreeSet<_> = args.filter.iter().copied().collect();
    let kinds = if chosen.is_empty() { all } else { chosen };
    let options = EventOptions { kinds, since: args.since, until: args.until };
    let told = |event: ClusterEvent| match args.output {
        WorkFormat::Json => write_line(&document(&event)),
        WorkFormat::Text => outln!("{}", shown::one_line(&line(&event))),
    };
    let run = context.run(None);
    tokio::select! {
        () = run.cluster_events(&dir, &options, &told) => {}
        () = until_nobody_reads() => {}
    }
    Ok(())
}

fn line(event: &ClusterEvent) -> String {
    let (time, kind) = (stamp(event.time), event.kind.as_str());
    let mut line = format!("{time} {kind} {} {}", event.action, event.name);
    if let Some(node) = event.node.as_ref().filter(|node| **node != event.name) {
        line.push_str(" on ");
        line.push_str(node);
    }
    let attributes = event.attributes.iter().filter(|(key, _)| !key.starts_with(LABELS));
    let attributes: Vec<_> = attributes.map(|(key, value)| format!("{key}={value}")).collect();
    if !attributes.is_empty() {
        line.push_str(&format!(" ({})", attributes.join(", ")));
    }
    line
}

fn document(event: &ClusterEvent) -> Value {
    json!({
        "format": FORMAT,
        "time": stamp(event.time),
        "type": event.kind.as_str(),
        "action": event.action,
        "name": event.name,
        "id": Some(&event.id).filter(|id| !id.is_empty()),
        "node": event.node,
        "attributes": event.attributes,
    })
}

#[cfg(test)]
mod tests {
    use skep_testkit::schema::assert_described;

    use super::*;

    fn event(kind: EventKind, id: &str, node: Option<&str>) -> ClusterEvent {
        ClusterEvent {
            time: OffsetDateTime::from_unix_timestamp(1_000_000_000).unwrap(),
            kind,
            action: "die".into(),
            name: "web.1".into(),
            id: id.into(),
            node: node.map(Into::into),
            attributes: [("exitCode", "7"), ("com.docker.swarm.task", "x"), ("image", "nginx")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        }
    }

    #[test]
    fn events_fit_their_schema() {
        for kind in EventKind::ALL.into_iter().chain([EventKind::Watch]) {
            assert_described("cluster-event", &document(&event(kind, "", None)).to_string());
            let document = document(&event(kind, "c1", Some("node1")));
            let document = assert_described("cluster-event", &document.to_string());
            assert_eq!(
                (&document["type"], &document["node"]),
                (&json!(kind.as_str()), &json!("node1"))
            );
        }
    }

    #[test]
    fn a_line_says_what_happened_to_what_and_where() {
        assert_eq!(
            line(&event(EventKind::Container, "c1", Some("node1"))),
            "2001-09-09T01:46:40.000Z container die web.1 on node1 (exitCode=7, image=nginx)"
        );
        let machine = ClusterEvent {
            name: "node1".into(),
            attributes: [].into(),
            ..event(EventKind::Machine, "", Some("node1"))
        };
        assert_eq!(line(&machine), "2001-09-09T01:46:40.000Z machine die node1");
    }

    #[test]
    fn a_filter_is_a_type() {
        assert_eq!(filter("type=task"), Ok(EventKind::Task));
        for wrong in ["task", "type=", "type=watch", "type=image", "node=node1"] {
            assert!(filter(wrong).unwrap_err().contains("type=task"), "{wrong}");
        }
    }
}
