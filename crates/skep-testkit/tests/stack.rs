//! Services of a swarm in memory are watched until they settle; time is the test's own.

use std::sync::Mutex;
use std::time::Duration;

use skep_core::event::Event;
use skep_core::fixtures;
use skep_core::model::Role;
use skep_core::services::{Service, SwarmNode, Task, TaskState, View};
use skep_docker::stack::{Ending, Error, Swarm, await_gone, report, watch};
use skep_testkit::fakes::FakeHost;

async fn host() -> FakeHost {
    FakeHost::formed(1, 0).await
}

fn view(state: TaskState, error: &str) -> View {
    let service = Service { stack: Some("shop".to_owned()), ..fixtures::service("s", "shop_web") };
    let task = Task {
        node: Some("n".to_owned()),
        error: error.to_owned(),
        container: Some("c".to_owned()),
        ..fixtures::task("t", "s", state)
    };
    let node = SwarmNode { role: Role::Manager, ..fixtures::swarm_node("n", "node0") };
    View { services: vec![service], tasks: vec![task], nodes: vec![node] }
}

async fn watched(host: &FakeHost, limit: u64) -> (Result<Ending, Error>, Vec<String>) {
    let told = Mutex::new(Vec::new());
    let events = |event| {
        if let Event::Service { text, .. } = event {
            told.lock().unwrap().push(text);
        }
    };
    let dir = host.cluster("demo");
    let swarm = Swarm { dir: &dir, engines: host, patience: Duration::from_secs(1) };
    let select = |view: &View| view.of_stack("shop");
    let ending = watch(swarm, &select, Duration::from_secs(limit), &events).await;
    (ending, told.into_inner().unwrap())
}

#[tokio::test]
async fn a_stack_is_watched_until_it_stays_as_it_was_asked_for() {
    let host = host().await;
    tokio::time::pause();
    host.set_views([view(TaskState::Preparing, ""), view(TaskState::Running, "")]);
    let (ending, told) = watched(&host, 60).await;
    let ending = ending.unwrap();
    assert!(!ending.late && ending.outcome.is_converged());
    let preparing =
        "0/1, nginx; shop_web.1 on node0: its node prepares the image, volumes and networks";
    assert_eq!(told, [preparing, "1/1 on node0, nginx"], "each change is told once");
    assert_eq!(report_of(&host, &ending).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_does_not_come_in_time_is_told_with_its_last_words() {
    let host = host().await;
    tokio::time::pause();
    host.set_views([view(TaskState::Starting, "it takes its time")]);
    let (ending, _) = watched(&host, 60).await;
    let ending = ending.unwrap();
    assert!(ending.late && !ending.outcome.is_converged());
    assert_eq!(report_of(&host, &ending).await, ["the last words of t"]);
}

#[tokio::test]
async fn a_health_check_that_takes_long_is_told_with_its_last_words() {
    let host = host().await;
    tokio::time::pause();
    host.set_views([view(TaskState::Starting, "")]);
    let (ending, told) = watched(&host, 30).await;
    let text = "0/1, nginx; shop_web.1 on node0: its container starts, or its health check has \
                not passed yet; its last check: exit code 1: c loads its data";
    assert_eq!(told, [text]);
    assert_eq!(ending.unwrap().outcome.services[0].to_string(), text, "the end says so too");
}

/// Returns a view in which the only node is down, as another manager would tell it.
fn down(view: View) -> View {
    let mut view = view;
    view.nodes[0].hostname = "node1".to_owned();
    view.nodes[0].ready = false;
    view
}

#[tokio::test]
async fn a_node_that_goes_down_is_named_and_the_watch_ends_in_time() {
    let host = host().await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    host.set_views([view(TaskState::Running, ""), down(view(TaskState::Running, ""))]);
    let (ending, told) = watched(&host, 30).await;
    let ending = ending.unwrap();
    assert!(ending.late && ending.silent.is_none() && ending.outcome.down.contains("node1"));
    assert_eq!(told.last().unwrap(), "0/1, nginx; shop_web.1 on node1: the node is down");
    assert!(began.elapsed() < Duration::from_secs(31), "{:?}", began.elapsed());
}

#[tokio::test]
async fn managers_that_fall_silent_are_told_beside_what_was_seen_last() {
    let host = host().await;
    tokio::time::pause();
    host.set_views([view(TaskState::Starting, "")]);
    let dir = host.cluster("demo");
    let swarm = Swarm { dir: &dir, engines: &host, patience: Duration::from_secs(1) };
    let warned = Mutex::new(Vec::new());
    let events = |event| match event {
        // What was seen is told once; after that nobody answers.
        Event::Service { .. } => host.lose_power(),
        Event::Warning(text) => warned.lock().unwrap().push(text),
        _ => {}
    };
    let ending = watch(swarm, &View::clone, Duration::from_secs(9), &events).await.unwrap();
    assert!(ending.late && matches!(ending.silent, Some(Error::NoManager(_))));
    assert!(ending.outcome.services[0].to_string().starts_with("0/1, nginx; shop_web.1"));
    assert_eq!(warned.into_inner().unwrap().len(), 1, "it is told once");
}

#[tokio::test]
async fn without_a_manager_it_is_told_that_none_answers() {
    let host = host().await;
    host.lose_power();
    tokio::time::pause();
    let (ending, _) = watched(&host, 2).await;
    assert!(matches!(ending, Err(Error::NoManager(why)) if why.contains("node0")));
}

#[tokio::test]
async fn a_stack_that_does_not_go_is_named_with_what_is_left() {
    let host = host().await;
    tokio::time::pause();
    let gone = async |limit| {
        let dir = host.cluster("demo");
        let swarm = Swarm { dir: &dir, engines: &host, patience: Duration::from_secs(1) };
        await_gone(swarm, "shop", Duration::from_secs(limit), &|_| ()).await.unwrap()
    };
    host.set_views([view(TaskState::Running, "")]);
    assert_eq!(gone(3).await, ["service shop_web"]);
    host.set_views([view(TaskState::Running, ""), View::default()]);
    assert_eq!(gone(3).await, Vec::<String>::new());
}

async fn report_of(host: &FakeHost, ending: &Ending) -> Vec<String> {
    let dir = host.cluster("demo");
    let swarm = Swarm { dir: &dir, engines: host, patience: Duration::from_secs(1) };
    let reports = report(swarm, &ending.outcome).await;
    reports.into_iter().flat_map(|report| report.log).collect()
}
