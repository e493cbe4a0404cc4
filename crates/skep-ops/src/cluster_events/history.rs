//! What lies in the past.

use std::time::Duration;

use futures_util::StreamExt as _;
use skep_core::model::NodeName;
use skep_docker::engine::{self, EventsWanted};
use skep_docker::stack::{self, Swarm};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};

use super::engines::{Contact, engine_of, read, types};
use super::nodes::machines;
use super::tasks::Tasks;
use super::{ClusterEvent, EventKind, EventOptions, EventSink};

/// How long engines may take to tell what they remember.
const HISTORY: Duration = Duration::from_secs(20);

/// What lies in the past.
pub(super) struct History<'a> {
    pub swarm: Swarm<'a>,
    pub options: &'a EventOptions,
    pub told: EventSink<'a>,
}

impl History<'_> {
    /// Reads all of it.
    pub(super) async fn read(&self) {
        let nodes = machines(self.swarm.dir);
        let nodes = nodes.keys().filter(|_| self.options.kinds.contains(&EventKind::Container));
        let mut engines: Vec<_> = nodes.map(|name| self.of(Some(name))).collect();
        if !types(false, &self.options.kinds).is_empty() {
            engines.push(self.of(None));
        }
        tokio::join!(futures_util::future::join_all(engines), self.tasks());
    }

    /// Reads what an engine remembers.
    async fn of(&self, node: Option<&NodeName>) {
        let wanted = EventsWanted {
            types: types(node.is_some(), &self.options.kinds),
            since: Some(self.options.since.map_or(0, OffsetDateTime::unix_timestamp_nanos)),
            until: self.options.until.map(OffsetDateTime::unix_timestamp_nanos),
        };
        let end = Instant::now() + HISTORY;
        let read = async {
            let engine = engine_of(self.swarm, node).await?;
            let mut events = engine.events(&wanted).await?;
            while let Some(event) = events.next().await.transpose()? {
                if let Some(event) = read(event, node) {
                    (self.told)(event);
                }
            }
            Ok::<_, stack::Error>(())
        };
        let late = || engine::Error::Garbled("it does not tell its events in time".into()).into();
        if let Err(error) = timeout_at(end, read).await.unwrap_or_else(|_| Err(late())) {
            Contact::with(node, self.told).lost(&error);
        }
    }

    async fn tasks(&self) {
        if !self.options.kinds.contains(&EventKind::Task) {
            return;
        }
        let look = async { Ok::<_, stack::Error>(self.swarm.manager().await?.view().await?) };
        match look.await {
            Ok(view) => {
                let since = self.options.since.unwrap_or(OffsetDateTime::UNIX_EPOCH);
                let events = Tasks::default().look(&view, Some(since)).into_iter();
                let is_past =
                    |it: &ClusterEvent| self.options.until.is_none_or(|end| it.time <= end);
                events.filter(is_past).for_each(self.told);
            }
            Err(error) => Contact::with(None, self.told).lost(&error),
        }
    }
}
