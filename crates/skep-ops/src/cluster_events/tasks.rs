//! What becomes of tasks.

use std::collections::{BTreeMap, HashMap};

use skep_core::services::{Service, Task, TaskState, View};
use skep_docker::stack::{self, Swarm};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::engines::Contact;
use super::{AGAIN, ClusterEvent, EventKind, EventSink};

/// Looks at tasks again and again, and tells what has changed.
pub(super) async fn watch_tasks(
    swarm: Swarm<'_>,
    since: Option<OffsetDateTime>,
    told: EventSink<'_>,
) {
    let mut contact = Contact { name: "tasks".to_owned(), node: None, is_lost: false, told };
    let mut tasks = Tasks::default();
    loop {
        let look = async { Ok::<_, stack::Error>(swarm.manager().await?.view().await?) };
        match look.await {
            Ok(view) => {
                contact.had();
                tasks.look(&view, since).into_iter().for_each(told);
            }
            Err(error) => contact.lost(&error),
        }
        // wait: Docker has no events of tasks.
        tokio::time::sleep(AGAIN).await;
    }
}

/// The tasks at the last look: their states, and what they were.
#[derive(Default)]
pub(super) struct Tasks {
    last: Option<HashMap<String, (TaskState, ClusterEvent)>>,
}

impl Tasks {
    /// Returns what has changed since the last look; at the first, what has since a time.
    pub(super) fn look(&mut self, view: &View, since: Option<OffsetDateTime>) -> Vec<ClusterEvent> {
        let mut events = Vec::new();
        let mut seen = HashMap::new();
        for (service, task) in
            view.services.iter().flat_map(|it| view.tasks_of(it).map(move |task| (it, task)))
        {
            let event = task_event(view, service, task);
            let is_new = match &self.last {
                Some(last) => last.get(&task.id).is_none_or(|(state, _)| *state != task.state),
                None => since.is_some_and(|since| event.time >= since),
            };
            events.extend(is_new.then(|| event.clone()));
            seen.insert(task.id.clone(), (task.state, event));
        }
        for (id, (state, event)) in self.last.iter().flatten() {
            // Of those that have ended, the swarm keeps the last ones only.
            if !seen.contains_key(id) && *state < TaskState::Complete {
                let time = OffsetDateTime::now_utc();
                events.push(ClusterEvent { time, action: "removed".to_owned(), ..event.clone() });
            }
        }
        events.sort_by(|one, other| (one.time, &one.name).cmp(&(other.time, &other.name)));
        self.last = Some(seen);
        events
    }
}

fn task_event(view: &View, service: &Service, task: &Task) -> ClusterEvent {
    let known = OffsetDateTime::parse(&task.changed, &Rfc3339).ok();
    // Docker says 0 of containers that run.
    let exit_code = task.exit_code.filter(|_| task.state >= TaskState::Complete);
    let mut attributes: BTreeMap<String, String> = [
        ("service", service.name.clone()),
        ("desired", task.desired.as_str().to_owned()),
        ("image", task.image.clone()),
        ("message", task.message.clone()),
        ("error", task.error.clone()),
        ("container", task.container.clone().unwrap_or_default()),
        ("exitCode", exit_code.map(|code| code.to_string()).unwrap_or_default()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    attributes.retain(|_, value| !value.is_empty());
    ClusterEvent {
        time: known.unwrap_or_else(OffsetDateTime::now_utc),
        kind: EventKind::Task,
        action: task.state.as_str().to_owned(),
        name: view.name_of(service, task),
        id: task.id.clone(),
        node: task.node.as_deref().and_then(|id| view.hostname(id)).map(str::to_owned),
        attributes,
    }
}
