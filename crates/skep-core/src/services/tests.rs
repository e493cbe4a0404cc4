//! What is judged otherwise by a small difference. What real swarms answer is judged in skep-docker.

use std::time::Duration;

use super::*;
use crate::fixtures;

fn node(name: &str, availability: &str, labels: &[(&str, &str)]) -> SwarmNode {
    SwarmNode {
        ready: availability != "down",
        availability: if availability == "down" { "active" } else { availability }.to_owned(),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..fixtures::swarm_node(&format!("id-{name}"), name)
    }
}

fn service(mode: Mode, constraints: &[&str]) -> Service {
    Service {
        mode,
        constraints: constraints.iter().map(|it| (*it).to_owned()).collect(),
        ..fixtures::service("web", "web")
    }
}

fn task(number: i64, node: &str, state: TaskState, desired: TaskState) -> Task {
    Task {
        slot: Some(number),
        node: (!node.is_empty()).then(|| format!("id-{node}")),
        desired,
        created: format!("2026-01-01T00:00:0{number}Z"),
        ..fixtures::task(&format!("t{number}"), "web", state)
    }
}

fn running(number: i64, node: &str) -> Task {
    task(number, node, TaskState::Running, TaskState::Running)
}

fn nowhere(number: i64) -> Task {
    let pending = task(number, "", TaskState::Pending, TaskState::Running);
    Task { error: "no suitable node (1 node not available for new tasks)".to_owned(), ..pending }
}

fn only(view: &View) -> Status {
    judge(view).remove(0)
}

#[test]
fn a_node_that_fits_and_is_away_is_named() {
    let nodes = vec![
        node("node0", "active", &[]),
        node("node1", "drain", &[("tier", "web")]),
        node("node2", "down", &[("tier", "web")]),
    ];
    let constraints = &["node.labels.tier==web"];
    let services = vec![service(Mode::Replicated(1), constraints)];
    let mut view = View { services, tasks: vec![nowhere(1)], nodes };
    let status = only(&view);
    assert_eq!(status.standing, Standing::Working, "one that is down may come back");
    assert_eq!(
        status.problem.unwrap().to_string(),
        "web.1: only for node.labels.tier==web there is a node: node1 is drained, node2 is down"
    );
    view.nodes.pop();
    assert_eq!(only(&view).standing, Standing::Stuck, "one that is drained does not by itself");
}

#[test]
fn labels_that_exist_are_told_where_none_has_the_key() {
    let text = |nodes: Vec<SwarmNode>| {
        let services = vec![service(Mode::Replicated(1), &["node.labels.tier==web"])];
        let status = only(&View { services, tasks: vec![nowhere(1)], nodes });
        status.problem.unwrap().text
    };
    assert_eq!(
        text(vec![node("node0", "active", &[]), node("node1", "active", &[("disk", "ssd")])]),
        "no node meets node.labels.tier==web: the labels are disk=ssd on node1"
    );
    assert_eq!(
        text(vec![node("node0", "active", &[])]),
        "no node meets node.labels.tier==web: no node has any labels"
    );
}

#[test]
fn one_of_each_node_counts_the_nodes_that_take_tasks() {
    let view = |tasks: Vec<Task>| View {
        services: vec![service(Mode::Global, &[])],
        tasks,
        nodes: vec![
            node("node0", "active", &[]),
            node("node1", "drain", &[]),
            node("node2", "pause", &[]),
            node("node3", "down", &[]),
        ],
    };
    let status = only(&view(vec![running(1, "node0")]));
    assert_eq!((status.running, status.wanted, status.standing), (1, 1, Standing::Converged));
    // A node that was paused later keeps its task.
    let status = only(&view(vec![running(1, "node0"), running(2, "node2")]));
    assert_eq!((status.running, status.wanted, status.standing), (2, 2, Standing::Converged));
    assert_eq!(only(&view(Vec::new())).standing, Standing::Working);
}

#[test]
fn a_task_that_is_to_go_keeps_a_service_from_having_converged() {
    let nodes = vec![node("node0", "active", &[])];
    let services = vec![service(Mode::Replicated(1), &[])];
    let old = Task { current: false, ..running(2, "node0") };
    let view = View { services, tasks: vec![running(1, "node0"), old], nodes };
    assert_eq!(only(&view).standing, Standing::Working);
    let mut done = view.clone();
    done.tasks[1].desired = TaskState::Shutdown;
    assert_eq!(only(&done).standing, Standing::Converged);
}

#[test]
fn a_node_that_goes_down_is_named_until_its_tasks_are_elsewhere() {
    let view = |second: &str, tasks: Vec<Task>| View {
        services: vec![service(Mode::Replicated(1), &[])],
        tasks,
        nodes: vec![node("node0", "active", &[]), node("node1", second, &[])],
    };
    let mut watch = Watch::default();
    let mut look = |seconds: u64, view: &View| {
        let outcome = watch.look(Duration::from_secs(seconds), view);
        (outcome.services[0].to_string(), outcome.down.into_iter().collect::<Vec<_>>())
    };
    assert_eq!(
        look(0, &view("active", vec![running(1, "node1")])),
        ("1/1 on node1, nginx".to_owned(), vec![])
    );
    // What the node said last is that the task runs.
    assert_eq!(
        look(1, &view("down", vec![running(1, "node1")])),
        ("0/1, nginx; web.1 on node1: the node is down".to_owned(), vec!["node1".to_owned()])
    );
    let given_up = task(1, "node1", TaskState::Running, TaskState::Shutdown);
    let elsewhere = view("down", vec![given_up, running(2, "node0")]);
    assert_eq!(look(2, &elsewhere), ("1/1 on node0, nginx".to_owned(), vec!["node1".to_owned()]));
    assert!(watch.look(Duration::from_secs(2) + HOLD, &elsewhere).settled);
    // A node that had nothing of it is nobody's concern here.
    let mut other = Watch::default();
    assert_eq!(other.look(Duration::ZERO, &view("down", vec![running(2, "node0")])).down.len(), 0);
}

#[test]
fn a_failure_that_may_pass_is_waited_out() {
    let nodes = vec![node("node0", "active", &[])];
    let services = vec![service(Mode::Replicated(1), &[])];
    let failed = |number: i64, error: &str, exit_code: Option<i64>| Task {
        error: error.to_owned(),
        exit_code,
        ..task(number, "node0", TaskState::Failed, TaskState::Shutdown)
    };
    let next = task(9, "", TaskState::Ready, TaskState::Ready);
    let judged = |tasks: Vec<Task>| {
        let view = View { services: services.clone(), tasks, nodes: nodes.clone() };
        let status = only(&view);
        (status.standing, status.problem.map(|problem| problem.cause))
    };
    let exits = |number| failed(number, "task: non-zero exit (1)", Some(1));
    let (standing, cause) = judged(vec![exits(1), exits(2), exits(3), next.clone()]);
    assert_eq!((standing, cause), (Standing::Working, Some(Cause::Exits(1))));
    // The swarm's own end of patience is the end.
    assert_eq!(judged(vec![exits(1), exits(2)]).0, Standing::Stuck);
    let image = |number| failed(number, "No such image: nginx:latest", None);
    assert_eq!(judged(vec![image(1), next.clone()]).0, Standing::Working);
    assert_eq!(judged(vec![image(1), image(2), next]).0, Standing::Stuck);
}

#[test]
fn uneven_services_are_spread_anew_unless_they_keep_data() {
    let nodes = vec![
        node("node0", "active", &[]),
        node("node1", "active", &[]),
        node("node2", "drain", &[]),
    ];
    let uneven = |tasks: Vec<Task>, local_data: bool| {
        let services = vec![Service { local_data, ..service(Mode::Replicated(3), &[]) }];
        plan_rebalance(&View { services, tasks, nodes: nodes.clone() })
    };
    assert_eq!(
        uneven(vec![running(1, "node0"), running(2, "node0"), running(3, "node1")], false),
        []
    );
    let heap = vec![running(1, "node0"), running(2, "node0"), running(3, "node0")];
    let spread = uneven(heap.clone(), false).remove(0);
    assert_eq!(spread.nodes, [("node0".to_owned(), 3), ("node1".to_owned(), 0)].into());
    assert_eq!(spread.keep, None);
    assert!(uneven(heap, true)[0].keep.is_some());
}

/// Returns tasks of one place that failed one after the other, and one that is to come.
fn failing(state: TaskState, error: &str, times: i64) -> Vec<Task> {
    let failed = (1..=times).map(|number| Task {
        slot: Some(1),
        error: error.to_owned(),
        ..task(number, "node0", state, TaskState::Shutdown)
    });
    let next = Task { slot: Some(1), ..task(9, "node0", TaskState::Ready, TaskState::Ready) };
    failed.chain([next]).collect()
}

fn one_node(services: Vec<Service>, tasks: Vec<Task>) -> View {
    let has = Resources { nano_cpus: 1_000_000_000, memory: 1 << 30 };
    View {
        services,
        tasks,
        nodes: vec![SwarmNode { resources: has, ..node("node0", "active", &[]) }],
    }
}

#[test]
fn only_the_current_iteration_of_a_job_counts() {
    let done = |number: i64, current: bool| Task {
        current,
        exit_code: Some(0),
        ..task(number, "node0", TaskState::Complete, TaskState::Complete)
    };
    let job = |tasks| only(&one_node(vec![service(Mode::Job(1), &[])], tasks));
    let status = job(vec![done(1, false), done(2, true)]);
    assert_eq!((status.running, status.standing), (1, Standing::Converged));
    assert_eq!(status.to_string(), "1/1 on node0, nginx; done");
    assert_eq!(
        job(vec![done(1, false)]).standing,
        Standing::Working,
        "its tasks are still to come"
    );
    // One that is not tried again ends before its time.
    let failed = |current: bool, desired| Task {
        current,
        error: "task: non-zero exit (1)".to_owned(),
        exit_code: Some(1),
        ..task(2, "node0", TaskState::Failed, desired)
    };
    let status = job(vec![done(1, false), failed(true, TaskState::Shutdown)]);
    assert_eq!(status.standing, Standing::Stuck);
    let problem = status.problem.unwrap();
    assert_eq!(problem.cause, Cause::Exits(1));
    assert_eq!(
        problem.advice,
        [
            "skep docker -- service logs web",
            "skep docker -- service update --force web  # starts it again, once its cause is mended",
        ]
    );
    let status = job(vec![failed(false, TaskState::Shutdown), done(3, true)]);
    assert_eq!(status.standing, Standing::Converged);
}

#[test]
fn a_job_on_each_node_counts_the_nodes_that_take_part() {
    let services = vec![service(Mode::GlobalJob, &[])];
    let done = |number, node| Task {
        slot: None,
        ..task(number, node, TaskState::Complete, TaskState::Complete)
    };
    let nodes = vec![node("node0", "active", &[]), node("node1", "drain", &[])];
    let view = View { services, tasks: vec![done(1, "node0"), done(2, "node1")], nodes };
    let status = only(&view);
    assert_eq!((status.running, status.wanted, status.standing), (1, 1, Standing::Converged));
}

#[test]
fn a_service_that_is_not_restarted_and_ended_well_is_done() {
    let judged = |restart, mode, tasks| {
        let service = Service { restart, ..service(mode, &[]) };
        let status = only(&one_node(vec![service], tasks));
        (status.standing, status.running, status.done)
    };
    let ended = |number| Task {
        exit_code: Some(0),
        ..task(number, "node0", TaskState::Complete, TaskState::Shutdown)
    };
    let two = Mode::Replicated(2);
    for restart in [Restart::OnFailure, Restart::None] {
        assert_eq!(judged(restart, two, vec![ended(1), ended(2)]), (Standing::Converged, 2, true));
        assert_eq!(
            judged(restart, two, vec![ended(1), running(2, "node0")]),
            (Standing::Converged, 2, false)
        );
        let failed = Task {
            error: "task: non-zero exit (3)".to_owned(),
            exit_code: Some(3),
            ..task(2, "node0", TaskState::Failed, TaskState::Shutdown)
        };
        assert_eq!(judged(restart, two, vec![ended(1), failed]), (Standing::Stuck, 1, false));
    }
    // One that is to go on and used up its attempts is not done.
    assert_eq!(judged(Restart::Any, two, vec![ended(1), ended(2)]), (Standing::Stuck, 0, false));
    // A successor takes the place of one that ended, and so do what came of it.
    let earlier = Task { slot: Some(2), ..ended(1) };
    assert_eq!(
        judged(Restart::OnFailure, Mode::Replicated(1), vec![earlier, running(2, "node0")]),
        (Standing::Converged, 1, false)
    );
}

#[test]
fn a_node_that_rejects_tasks_twice_for_one_reason_does_so_again() {
    let judged = |state, error, times| {
        let services = vec![service(Mode::Replicated(1), &[])];
        let status = only(&one_node(services, failing(state, error, times)));
        (status.standing, status.problem.unwrap())
    };
    use TaskState::{Failed, Rejected};
    for (state, error) in [
        (Rejected, "some words that nobody knows"),
        (Failed, "starting container failed: some words that nobody knows"),
        (
            Failed,
            "starting container failed: unable to find user nosuch: no matching entries in passwd file",
        ),
    ] {
        assert_eq!(judged(state, error, 1).0, Standing::Working, "{error}");
        let (standing, problem) = judged(state, error, 2);
        assert_eq!((standing, problem.text.as_str()), (Standing::Stuck, error));
    }
    assert_eq!(judged(Failed, "some words that nobody knows", 4).0, Standing::Working);
    let (standing, problem) = judged(Failed, "task: non-zero exit (128)", 4);
    assert_eq!(standing, Standing::Working);
    assert_eq!(problem.text, "its container ended with code 128");
    // Two reasons are not one.
    let mut tasks = failing(Rejected, "one reason", 2);
    tasks[0].error = "another reason".to_owned();
    let services = vec![service(Mode::Replicated(1), &[])];
    assert_eq!(only(&one_node(services, tasks)).standing, Standing::Working);
}

#[test]
fn what_no_node_can_ever_give_is_told_at_once() {
    let told = |service: Service, reason: &str| {
        let error = format!("no suitable node ({reason})");
        let pending = Task { error, ..nowhere(3) };
        let tasks = if reason.is_empty() { Vec::new() } else { vec![pending] };
        let status = only(&one_node(vec![service], tasks));
        assert_eq!(status.standing, Standing::Stuck, "{reason}");
        let problem = status.problem.unwrap();
        (problem.cause, problem.text)
    };
    let plain = || service(Mode::Replicated(3), &[]);
    let spread = Service { max_per_node: 1, ..plain() };
    assert_eq!(
        told(spread, "max replicas per node limit exceed"),
        (
            Cause::TooManyReplicas,
            "max_replicas_per_node is 1: no suitable node (max replicas per node limit exceed)"
                .into()
        )
    );
    let driver = Service { drivers: vec!["volume driver rexray".into()], ..plain() };
    assert_eq!(
        told(driver, "missing plugin on 1 node").1,
        "no node has volume driver rexray: no suitable node (missing plugin on 1 node)"
    );
    // Without waiting for an engine to say so.
    let limits = Resources { nano_cpus: 2_000_000_000, memory: 0 };
    assert_eq!(
        told(Service { limits, ..plain() }, "").1,
        "its limits and reservations need 2.00 CPUs, but node0 has 1.00 CPUs"
    );
    let reserved = Resources { nano_cpus: 0, memory: 2 << 30 };
    let large = "it reserves 2048 MiB of memory, but node0 has 1.00 CPUs and 1024 MiB of memory";
    assert_eq!(told(Service { reserved, ..plain() }, "").1, large);
}

#[test]
fn a_node_that_is_down_may_still_take_what_the_others_do_not() {
    let services = vec![Service { max_per_node: 1, ..service(Mode::Replicated(2), &[]) }];
    let error =
        "no suitable node (max replicas per node limit exceed; 1 node not available for new tasks)";
    let pending = Task { error: error.to_owned(), ..nowhere(2) };
    let nodes = vec![node("node0", "active", &[]), node("node1", "down", &[])];
    let view = View { services, tasks: vec![running(1, "node0"), pending], nodes };
    assert_eq!(only(&view).standing, Standing::Working);
}

#[test]
fn one_service_that_is_stuck_ends_the_watch_after_a_grace() {
    let services = vec![
        service(Mode::Replicated(1), &[]),
        Service { id: "api".into(), name: "api".into(), ..service(Mode::Replicated(1), &[]) },
    ];
    let of_api = |task: Task| Task { service: "api".into(), id: format!("a{}", task.id), ..task };
    let crashes = failing(TaskState::Failed, "task: non-zero exit (1)", 3);
    let plugin =
        Task { error: "no suitable node (missing plugin on 1 node)".to_owned(), ..nowhere(1) };
    let tasks = [plugin].into_iter().chain(crashes.into_iter().map(of_api)).collect();
    let view = one_node(services, tasks);
    let mut watch = Watch::default();
    assert!(!watch.look(Duration::ZERO, &view).settled);
    assert!(!watch.look(GRACE - Duration::from_secs(1), &view).settled);
    assert!(watch.look(GRACE, &view).settled);
    // Both only try again: that may help.
    let mut other = view.clone();
    other.tasks.remove(0);
    let mut watch = Watch::default();
    assert!(!watch.look(Duration::ZERO, &other).settled);
    assert!(!watch.look(GRACE * 4, &other).settled);
}

#[test]
fn failures_before_the_watch_do_not_count_while_the_swarm_goes_on() {
    let services = vec![service(Mode::Replicated(1), &[])];
    let error = "invalid mount config for type \"bind\": bind source path does not exist: /data";
    let mut view = one_node(services, failing(TaskState::Rejected, error, 3));
    assert_eq!(only(&view).standing, Standing::Stuck);
    let mut watch = Watch::default();
    assert_eq!(watch.look(Duration::ZERO, &view).services[0].standing, Standing::Working);
    for id in ["b1", "b2"] {
        let again = Task { id: id.to_owned(), ..view.tasks[0].clone() };
        view.tasks.push(again);
    }
    assert_eq!(watch.look(Duration::ZERO, &view).services[0].standing, Standing::Stuck);
    // Where nothing more is tried, what was is the reason.
    view.tasks.retain(|task| task.has_failed());
    assert_eq!(given_up(&view).len(), 1);
    let outcome = Watch::default().look(Duration::ZERO, &view);
    assert_eq!(outcome.services[0].standing, Standing::Stuck);
}

#[test]
fn what_goes_well_and_takes_its_time_says_what_it_waits_for() {
    let told = |state| {
        let services = vec![service(Mode::Replicated(1), &[])];
        let task = task(1, "node0", state, TaskState::Running);
        let status = only(&one_node(services, vec![task]));
        assert_eq!(status.standing, Standing::Working);
        let text = status.to_string();
        (text, status.problem.unwrap().task.unwrap().container)
    };
    let (text, container) = told(TaskState::Starting);
    assert_eq!(
        text,
        "0/1, nginx; web.1 on node0: its container starts, or its health check has not passed yet"
    );
    assert_eq!(container.as_deref(), Some("web.1.t1"), "as the engine names it");
    let (text, container) = told(TaskState::Preparing);
    assert_eq!(
        text,
        "0/1, nginx; web.1 on node0: its node prepares the image, volumes and networks"
    );
    assert_eq!(container, None);
}

#[test]
fn a_service_that_was_given_up_without_a_word_says_so() {
    // Its node was lost while it started, and it is to be tried once.
    let lost = task(1, "node0", TaskState::Starting, TaskState::Shutdown);
    let services = vec![Service { restart: Restart::None, ..service(Mode::Replicated(1), &[]) }];
    let status = only(&one_node(services, vec![lost]));
    assert_eq!(status.standing, Standing::Stuck);
    let problem = status.problem.unwrap();
    assert_eq!(problem.text, "its tasks ended, and the swarm starts no others");
    assert!(problem.advice[0].starts_with("skep docker -- service update --force web"));
}
