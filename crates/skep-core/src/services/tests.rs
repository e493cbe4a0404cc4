//! What is judged otherwise by a small difference. What real swarms answer is judged in skep-docker.

use std::time::Duration;

use super::*;

fn node(name: &str, availability: &str, labels: &[(&str, &str)]) -> SwarmNode {
    SwarmNode {
        id: format!("id-{name}"),
        hostname: name.to_owned(),
        role: Role::Worker,
        ready: availability != "down",
        availability: if availability == "down" { "active" } else { availability }.to_owned(),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        engine_labels: BTreeMap::new(),
        os: "linux".to_owned(),
        architecture: "x86_64".to_owned(),
        resources: Resources::default(),
    }
}

fn service(mode: Mode, constraints: &[&str]) -> Service {
    Service {
        id: "web".to_owned(),
        name: "web".to_owned(),
        stack: None,
        image: "nginx".to_owned(),
        mode,
        constraints: constraints.iter().map(|it| (*it).to_owned()).collect(),
        reserved: Resources::default(),
        ports: Vec::new(),
        local_data: false,
        update: None,
    }
}

fn task(number: i64, node: &str, state: TaskState, desired: TaskState) -> Task {
    Task {
        id: format!("t{number}"),
        service: "web".to_owned(),
        slot: Some(number),
        node: (!node.is_empty()).then(|| format!("id-{node}")),
        state,
        desired,
        current: true,
        created: format!("2026-01-01T00:00:0{number}Z"),
        changed: String::new(),
        message: String::new(),
        error: String::new(),
        container: None,
        exit_code: None,
        image: "nginx".to_owned(),
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
