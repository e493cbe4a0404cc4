//! Logs of nodes in memory: what is read, and that a log that is followed outlives its node's restart; time is the test's own.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use skep_core::fixtures;
use skep_core::model::{NodeName, Role};
use skep_core::services::{Service, SwarmNode, Task, TaskState, View};
use skep_docker::engine::ServiceLine;
use skep_docker::stack::Swarm;
use skep_ops::Error;
use skep_ops::logs::{
    LogEvent, LogOf, LogOptions, ServiceLogEvent, ServiceLogOptions, read_logs, read_services,
};
use skep_store::Machine;
use skep_testkit::fakes::FakeHost;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// How long something may take to be told, in the test's time.
const LIMIT: Duration = Duration::from_secs(60);

async fn host() -> FakeHost {
    host_of(1, 1).await
}

async fn host_of(managers: usize, workers: usize) -> FakeHost {
    let host = FakeHost::formed(managers, workers).await;
    tokio::time::pause();
    host
}

fn machines(host: &FakeHost) -> Vec<Machine> {
    let cluster = host.cluster("demo");
    let machine = |name: NodeName| Machine {
        dir: cluster.machine_dir(&name),
        record: cluster.node(&name).unwrap(),
    };
    [0, 1].map(|number| machine(NodeName::numbered(number))).into()
}

fn docker_log(machine: &Machine) -> PathBuf {
    let dir = machine.dir.join("log/docker");
    std::fs::create_dir_all(&dir).unwrap();
    dir.join("current")
}

fn append(file: &PathBuf, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn options(of: &str, tail: Option<usize>, follow: bool) -> LogOptions {
    let of = match of {
        "console" => LogOf::Console,
        service => LogOf::Service(service.to_owned()),
    };
    LogOptions { of, since: None, tail, follow }
}

fn shown(event: LogEvent) -> String {
    match event {
        LogEvent::Line { node, text } => {
            format!("{node} | {}", String::from_utf8(text).unwrap().trim_end())
        }
        LogEvent::Note { node, text } => format!("{node}: {text}"),
    }
}

/// Reads logs that are not followed.
async fn read(host: &FakeHost, options: &LogOptions) -> (Vec<String>, Vec<Error>) {
    let (tell, mut told) = unbounded_channel();
    let failed =
        read_logs(host, &machines(host), options, &|event| tell.send(event).unwrap()).await;
    drop(tell);
    let mut all = Vec::new();
    while let Some(event) = told.recv().await {
        all.push(shown(event));
    }
    (all, failed)
}

#[tokio::test]
async fn each_nodes_log_is_read_and_one_that_is_off_hides_no_other() {
    let host = host().await;
    let [first, second] = <[Machine; 2]>::try_from(machines(&host)).unwrap();
    append(&docker_log(&first), "a\nb\nc\n");
    append(&docker_log(&second), "d\n");
    let (all, failed) = read(&host, &options("docker", None, false)).await;
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(all, ["node0 | a", "node0 | b", "node0 | c", "node1 | d"]);
    let (all, _) = read(&host, &options("docker", Some(2), false)).await;
    assert_eq!(all, ["node0 | b", "node0 | c", "node1 | d"]);

    host.set_running(&host.cluster("demo"), first.record.name(), false);
    let (all, failed) = read(&host, &options("docker", None, false)).await;
    assert_eq!(all, ["node1 | d"]);
    assert!(
        matches!(&failed[..], [Error::NotRunning(node)] if node.as_str() == "node0"),
        "{failed:?}"
    );
    let (_, failed) = read(&host, &options("mirror", None, false)).await;
    assert!(matches!(&failed[..], [_, Error::NoLog { .. }]), "{failed:?}");
}

/// Follows logs while `story` goes on, which ends it.
async fn follow(host: &FakeHost, of: &str, story: impl AsyncFnOnce(UnboundedReceiver<LogEvent>)) {
    let (tell, told) = unbounded_channel();
    let (machines, options) = (machines(host), options(of, None, true));
    let told_to = |event| tell.send(event).unwrap();
    tokio::select! {
        failed = read_logs(host, &machines, &options, &told_to) => panic!("it ended: {failed:?}"),
        () = story(told) => {}
    }
}

async fn next(told: &mut UnboundedReceiver<LogEvent>) -> String {
    shown(timeout(LIMIT, told.recv()).await.expect("nothing is told").unwrap())
}

#[tokio::test]
async fn a_service_log_is_followed_past_a_restart_and_nothing_is_told_twice() {
    let host = host().await;
    let machines = machines(&host);
    let log = docker_log(&machines[1]);
    append(&docker_log(&machines[0]), "");
    append(&log, "one\n");
    let (cluster, node) = (host.cluster("demo"), machines[1].record.name());
    follow(&host, "docker", async |mut told| {
        assert_eq!(next(&mut told).await, "node1 | one");
        append(&log, "two\nthr");
        assert_eq!(next(&mut told).await, "node1 | two");
        host.set_running(&cluster, node, false);
        assert_eq!(next(&mut told).await, "node1: it is not running; waiting for it");
        assert!(timeout(LIMIT, told.recv()).await.is_err(), "it is told once");
        append(&log, "ee\nfour\n");
        host.set_running(&cluster, node, true);
        for line in ["node1: it responds again", "node1 | three", "node1 | four"] {
            assert_eq!(next(&mut told).await, line);
        }
        assert!(timeout(LIMIT, told.recv()).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn a_console_is_followed_into_the_machines_next_life() {
    let host = host().await;
    let machines = machines(&host);
    let log = machines[0].dir.join("console.log");
    let say = |text: &str| skep_sys::write_atomic(&log, 0o600, text.as_bytes()).unwrap();
    say("boot\n");
    let (cluster, node) = (host.cluster("demo"), machines[0].record.name());
    follow(&host, "console", async |mut told| {
        assert_eq!(next(&mut told).await, "node0 | boot");
        say("boot\nlogin\n");
        assert_eq!(next(&mut told).await, "node0 | login");
        host.set_running(&cluster, node, false);
        assert_eq!(next(&mut told).await, "node0: it is not running; waiting for it");
        std::fs::remove_file(&log).unwrap();
        host.set_running(&cluster, node, true);
        assert_eq!(next(&mut told).await, "node0: it responds again");
        say("boot again\n");
        assert_eq!(next(&mut told).await, "node0 | boot again");
    })
    .await;
}

/// Two services, each with a task on node0.
fn view() -> View {
    let service = |id: &str| Service {
        stack: Some("shop".to_owned()),
        ..fixtures::service(id, &format!("shop_{id}"))
    };
    let task = |service: &str| Task {
        node: Some("n".to_owned()),
        ..fixtures::task(&format!("{service}-task"), service, TaskState::Running)
    };
    let node = SwarmNode { role: Role::Manager, ..fixtures::swarm_node("n", "node0") };
    let services = ["web", "db"];
    View {
        services: services.map(service).into(),
        tasks: services.map(task).into(),
        nodes: vec![node],
    }
}

fn say(host: &FakeHost, service: &str, second: u32, text: &str) {
    let line = ServiceLine {
        time: format!("2026-01-02T03:04:{second:02}.000000000Z"),
        task: format!("{service}-task"),
        node: "n".to_owned(),
        is_error: false,
        text: text.as_bytes().to_vec(),
    };
    host.say_line(service, line);
}

fn told_of(event: ServiceLogEvent) -> String {
    match event {
        ServiceLogEvent::Note(text) => format!("note: {text}"),
        ServiceLogEvent::Line(it) => {
            format!("{}@{} {}", it.task, it.node, String::from_utf8(it.line.text).unwrap())
        }
    }
}

#[tokio::test]
async fn lines_of_several_services_are_in_the_order_of_their_times() {
    let host = host().await;
    host.set_views([view()]);
    say(&host, "web", 5, "third");
    say(&host, "web", 1, "first");
    say(&host, "db", 3, "second");
    let dir = host.cluster("demo");
    let swarm = Swarm { dir: &dir, engines: &host, patience: LIMIT };
    let told = std::sync::Mutex::new(Vec::new());
    let tell = |event| told.lock().unwrap().push(told_of(event));
    let services = ["web".to_owned(), "db".to_owned()];
    read_services(swarm, &services, &ServiceLogOptions::default(), &tell).await.unwrap();
    let lines = ["shop_web.1@node0 first", "shop_db.1@node0 second", "shop_web.1@node0 third"];
    assert_eq!(told.into_inner().unwrap(), lines);
}

#[tokio::test]
async fn a_stack_is_followed_from_one_manager_to_the_next_until_it_is_removed() {
    let host = host_of(3, 0).await;
    host.set_views([view()]);
    say(&host, "web", 1, "one");
    let dir = host.cluster("demo");
    let swarm = Swarm { dir: &dir, engines: &host, patience: LIMIT };
    let (tell, mut told) = unbounded_channel();
    let told_to = |event| tell.send(told_of(event)).unwrap();
    let options = ServiceLogOptions { follow: true, ..ServiceLogOptions::default() };
    let services = ["web".to_owned()];
    let reading = read_services(swarm, &services, &options, &told_to);
    let story = async {
        let mut next =
            async || timeout(LIMIT, told.recv()).await.expect("nothing is told").unwrap();
        assert_eq!(next().await, "shop_web.1@node0 one");
        say(&host, "web", 2, "two");
        assert_eq!(next().await, "shop_web.1@node0 two");
        // Each manager ends once: the one that is asked is among them.
        for number in 0..3 {
            let node = NodeName::numbered(number);
            host.set_running(&dir, &node, false);
            tokio::time::sleep(Duration::from_secs(30)).await; // wait: for another manager to be asked
            host.set_running(&dir, &node, true);
        }
        say(&host, "web", 3, "three");
        let line = loop {
            let line = next().await;
            if !line.starts_with("note: ") {
                break line;
            }
        };
        assert_eq!(line, "shop_web.1@node0 three", "nothing is told twice");
        host.set_views([View::default()]);
    };
    let (ended, ()) = tokio::join!(timeout(10 * LIMIT, reading), story);
    ended.expect("it ends with the service").unwrap();
}
