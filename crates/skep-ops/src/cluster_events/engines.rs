//! The events of one engine, or of a swarm.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use futures_util::StreamExt as _;
use skep_core::model::NodeName;
use skep_docker::engine::{self, Engine, EngineEvent, EventsWanted};
use skep_docker::stack::{self, Swarm};
use time::OffsetDateTime;
use tokio::time::timeout;

use super::{AGAIN, ClusterEvent, EventKind, EventOptions, EventSink};

/// How long a silent connection is believed to be one: a machine that loses its power ends none, and nothing comes through the old
/// one when it runs again. Asking again for events since the last one loses nothing.
const SILENCE: Duration = Duration::from_secs(10);

/// How many of the last events are known again: as many as an engine remembers.
const KNOWN: usize = 256;

/// Whether an engine responds; reported only when it changes.
pub(super) struct Contact<'a> {
    pub name: String,
    pub node: Option<String>,
    pub is_lost: bool,
    pub told: EventSink<'a>,
}

impl<'a> Contact<'a> {
    /// Returns the contact with a node's engine, or with the swarm.
    pub(super) fn with(node: Option<&NodeName>, told: EventSink<'a>) -> Self {
        let node = node.map(NodeName::to_string);
        let name = node.clone().unwrap_or_else(|| "swarm".to_owned());
        Self { name, node, is_lost: false, told }
    }

    pub(super) fn lost(&mut self, reason: &dyn std::error::Error) {
        if !std::mem::replace(&mut self.is_lost, true) {
            self.tell("lost", [("error".to_owned(), skep_sys::chain(reason))].into());
        }
    }

    pub(super) fn had(&mut self) {
        if std::mem::take(&mut self.is_lost) {
            self.tell("resumed", BTreeMap::new());
        }
    }

    fn tell(&self, action: &str, attributes: BTreeMap<String, String>) {
        (self.told)(ClusterEvent {
            time: OffsetDateTime::now_utc(),
            kind: EventKind::Watch,
            action: action.to_owned(),
            name: self.name.clone(),
            id: String::new(),
            node: self.node.clone(),
            attributes,
        });
    }
}

/// Watches the events of one engine, or of the swarm through whichever manager answers.
pub(super) struct EngineWatch<'a> {
    swarm: Swarm<'a>,
    node: Option<NodeName>,
    wanted: EventsWanted,
    told: EventSink<'a>,
    contact: Contact<'a>,
    /// The last events reported: an engine reports past events again after a reconnection.
    known: VecDeque<(i128, String, String)>,
}

impl<'a> EngineWatch<'a> {
    pub(super) fn new(
        swarm: Swarm<'a>,
        node: Option<NodeName>,
        options: &EventOptions,
        told: EventSink<'a>,
    ) -> Self {
        let since = options.since.unwrap_or_else(OffsetDateTime::now_utc);
        Self {
            wanted: EventsWanted {
                types: types(node.is_some(), &options.kinds),
                since: Some(since.unix_timestamp_nanos()),
                until: None,
            },
            contact: Contact::with(node.as_ref(), told),
            swarm,
            node,
            told,
            known: VecDeque::new(),
        }
    }

    /// Watches without an end, or until the node is removed.
    pub(super) async fn watch(mut self) {
        loop {
            if self.node.as_ref().is_some_and(|node| self.swarm.dir.node(node).is_err()) {
                return;
            }
            if let Err(error) = self.watch_one().await {
                self.contact.lost(&error);
            }
            // wait: nothing announces that an engine is there again.
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Watches one connection until it is silent for a while, or breaks.
    async fn watch_one(&mut self) -> Result<(), stack::Error> {
        let engine = engine_of(self.swarm, self.node.as_ref()).await?;
        let mut events = engine.events(&self.wanted).await?;
        self.contact.had();
        loop {
            let Ok(event) = timeout(SILENCE, events.next()).await else { return Ok(()) };
            let Some(event) = event.transpose()? else { break };
            let known = (event.time, event.id.clone(), event.action.clone());
            if self.known.contains(&known) {
                continue;
            }
            self.wanted.since = self.wanted.since.max(Some(event.time));
            self.known.push_back(known);
            if self.known.len() > KNOWN {
                self.known.pop_front();
            }
            if let Some(event) = read(event, self.node.as_ref()) {
                (self.told)(event);
            }
        }
        Err(engine::Error::Garbled("the engine ended its events".into()).into())
    }
}

/// Returns a node's engine, or the one of whichever manager answers.
pub(super) async fn engine_of(
    swarm: Swarm<'_>,
    node: Option<&NodeName>,
) -> Result<Box<dyn Engine>, stack::Error> {
    match node {
        Some(node) => swarm.node(node),
        None => swarm.manager().await,
    }
}

/// Returns Docker's types of the kinds that are wanted.
pub(super) fn types(of_node: bool, kinds: &BTreeSet<EventKind>) -> Vec<&'static str> {
    let of_engine = |kind: &EventKind| match kind {
        EventKind::Container => of_node,
        EventKind::Node | EventKind::Service => !of_node,
        _ => false,
    };
    kinds.iter().filter(|kind| of_engine(kind)).map(|kind| kind.as_str()).collect()
}

pub(super) fn read(event: EngineEvent, node: Option<&NodeName>) -> Option<ClusterEvent> {
    let kind = EventKind::ALL.into_iter().find(|kind| kind.as_str() == event.kind)?;
    let mut attributes = event.attributes;
    let name = attributes.remove("name").unwrap_or_else(|| event.id.clone());
    Some(ClusterEvent {
        time: OffsetDateTime::from_unix_timestamp_nanos(event.time).ok()?,
        kind,
        action: event.action,
        name,
        id: event.id,
        node: node.map(NodeName::to_string),
        attributes,
    })
}
