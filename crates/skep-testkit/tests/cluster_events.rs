//! What happens to a cluster in memory, as it is told; time is the test's own.

use std::collections::BTreeSet;
use std::time::Duration;

use skep_core::fixtures;
use skep_core::model::NodeName;
use skep_core::services::{TaskState, View};
use skep_docker::engine::EngineEvent;
use skep_docker::stack::Swarm;
use skep_ops::cluster_events::{ClusterEvent, EventKind, EventOptions, watch_cluster};
use skep_testkit::fakes::FakeHost;
use time::OffsetDateTime;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// How long something may take to be told, in the test's time.
const LIMIT: Duration = Duration::from_secs(60);

async fn host() -> FakeHost {
    let host = FakeHost::formed(3, 0).await;
    tokio::time::pause();
    host
}

/// An event so many seconds after now.
fn event(kind: &str, action: &str, name: &str, seconds: i128) -> EngineEvent {
    EngineEvent {
        time: OffsetDateTime::now_utc().unix_timestamp_nanos() + seconds * 1_000_000_000,
        kind: kind.to_owned(),
        action: action.to_owned(),
        id: format!("{name}-id"),
        attributes: [("name".to_owned(), name.to_owned())].into(),
    }
}

fn view(states: &[TaskState]) -> View {
    let service = fixtures::service("s", "web");
    let task =
        |(number, state): (usize, &TaskState)| fixtures::task(&format!("t{number}"), "s", *state);
    let tasks = states.iter().enumerate().map(task).collect();
    View { services: vec![service], tasks, nodes: Vec::new() }
}

fn options(kinds: &[EventKind]) -> EventOptions {
    let kinds = kinds.iter().copied().collect::<BTreeSet<_>>();
    EventOptions { kinds, since: None, until: None }
}

fn shown(event: &ClusterEvent) -> String {
    format!("{} {} {}", event.kind.as_str(), event.action, event.name)
}

async fn watch(
    host: &FakeHost,
    options: &EventOptions,
    story: impl AsyncFnOnce(UnboundedReceiver<ClusterEvent>),
) {
    let dir = host.cluster("demo");
    let swarm = Swarm { dir: &dir, engines: host, patience: LIMIT };
    let (tell, told) = unbounded_channel();
    let told_to = |event| tell.send(event).unwrap();
    tokio::select! {
        () = watch_cluster(swarm, host, options, &told_to) => panic!("it ended"),
        () = story(told) => {}
    }
}

async fn next(told: &mut UnboundedReceiver<ClusterEvent>) -> String {
    shown(&timeout(LIMIT, told.recv()).await.expect("nothing is told").unwrap())
}

#[tokio::test]
async fn machines_and_tasks_are_told_when_they_change() {
    let host = host().await;
    let dir = host.cluster("demo");
    let node = NodeName::numbered(1);
    host.set_views([
        view(&[TaskState::Running]),
        view(&[TaskState::Failed, TaskState::Preparing]),
        view(&[TaskState::Failed, TaskState::Running]),
        view(&[]),
    ]);
    watch(&host, &options(&[EventKind::Task]), async |mut told| {
        let mut all = BTreeSet::new();
        for _ in 0..4 {
            all.insert(next(&mut told).await);
        }
        // The task that ended is one that the swarm forgets some day, which is no event.
        let wanted = ["task failed", "task preparing", "task removed", "task running"];
        assert_eq!(all.into_iter().collect::<Vec<_>>(), wanted.map(|it| format!("{it} web.1")));
        assert!(timeout(LIMIT, told.recv()).await.is_err());
    })
    .await;
    watch(&host, &options(&[EventKind::Machine]), async |mut told| {
        tokio::time::sleep(Duration::from_secs(3)).await; // wait: for the first look
        host.set_running(&dir, &node, false);
        assert_eq!(next(&mut told).await, "machine stopped node1");
        host.set_running(&dir, &node, true);
        assert_eq!(next(&mut told).await, "machine started node1");
    })
    .await;
}

#[tokio::test]
async fn events_of_engines_go_on_after_a_restart_and_are_told_once() {
    let host = host().await;
    let dir = host.cluster("demo");
    let node = NodeName::numbered(1);
    watch(&host, &options(&[EventKind::Container, EventKind::Service]), async |mut told| {
        host.say_event(&dir, &node, event("container", "start", "web.1", 1));
        host.say_event(&dir, &node, event("network", "connect", "bridge", 1));
        assert_eq!(next(&mut told).await, "container start web.1");
        host.set_running(&dir, &node, false);
        let mut lost = next(&mut told).await;
        // The manager that was asked for the swarm's events may be the same machine.
        if lost == "watch lost swarm" {
            lost = next(&mut told).await;
        }
        assert_eq!(lost, "watch lost node1");
        host.say_event(&dir, &node, event("container", "die", "web.1", 2));
        host.say_swarm_event(event("service", "update", "web", 2));
        host.set_running(&dir, &node, true);
        let mut all = BTreeSet::new();
        while !all.contains("container die web.1") || !all.contains("service update web") {
            assert!(all.insert(next(&mut told).await), "it is told twice: {all:?}");
        }
        assert!(all.remove("watch resumed node1"), "{all:?}");
        all.remove("watch resumed swarm");
        all.remove("watch lost swarm");
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(timeout(LIMIT, told.recv()).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn the_past_is_told_in_its_order_and_ends() {
    let host = host().await;
    let dir = host.cluster("demo");
    host.say_event(&dir, &NodeName::numbered(2), event("container", "die", "web.2", -1));
    host.say_event(&dir, &NodeName::numbered(0), event("container", "start", "web.1", -3));
    host.say_swarm_event(event("node", "update", "node1", -2));
    host.say_swarm_event(event("node", "update", "long ago", -900));
    host.set_running(&dir, &NodeName::numbered(1), false);
    let now = OffsetDateTime::now_utc();
    let all = EventOptions {
        kinds: EventKind::ALL.into(),
        since: Some(now - Duration::from_secs(60)),
        until: Some(now),
    };
    let swarm = Swarm { dir: &dir, engines: &host, patience: LIMIT };
    let told = std::sync::Mutex::new(Vec::new());
    let tell = |event: ClusterEvent| told.lock().unwrap().push(shown(&event));
    timeout(LIMIT, watch_cluster(swarm, &host, &all, &tell)).await.expect("it ends");
    let told = told.into_inner().unwrap();
    let wanted =
        ["container start web.1", "node update node1", "container die web.2", "watch lost node1"];
    assert_eq!(told, wanted);
}
