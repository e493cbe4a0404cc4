//! Plans are carried out on a host in memory whose every call fails once, before or after its effect:
//! doing it again always gets there, and `down` leaves nothing.

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use skep_core::event::Event;
use skep_core::model::{
    Availability, ClusterSpec, HostnameSpec, ImageSpec, NodeName, NodeSpec, Role, Size,
};
use skep_core::observed::{MachineState, Observed};
use skep_core::plan::{
    Birth, Plan, StopMode, UpOptions, plan_down, plan_pause, plan_remove_nodes, plan_resume,
    plan_settings, plan_start, plan_stop, plan_up,
};
use skep_host::converge::OnFailure;
use skep_testkit::fakes::{FakeHost, Fault};

/// The routing mesh is verified on real machines only.
const OPTIONS: UpOptions =
    UpOptions { birth: Birth::Fork { restart_engine: true }, wait: true, verify: false };

const CLUSTER: &str = "demo";

fn spec(managers: usize, workers: usize) -> ClusterSpec {
    let node = |index: usize| NodeSpec {
        name: NodeName::numbered(index),
        role: if index < managers { Role::Manager } else { Role::Worker },
        cpus: 1,
        memory: Size::gib(1),
        disk: Size::gib(20),
        labels: [("place".to_owned(), format!("p{index}"))].into(),
        availability: None,
    };
    ClusterSpec {
        name: CLUSTER.parse().unwrap(),
        image: ImageSpec::default(),
        subnet: None,
        nodes: (0..managers + workers).map(node).collect(),
        hostnames: vec![HostnameSpec { name: "demo.example".parse().unwrap(), node: None }],
    }
}

/// Makes a host that has nothing but an ssh key for the cluster, which is made once for all tests.
async fn host() -> FakeHost {
    static KEY: OnceLock<PathBuf> = OnceLock::new();
    static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let making = MAKING.lock().await;
    if KEY.get().is_none() {
        let first = FakeHost::new();
        step(&first, |seen| plan_up(&spec(1, 0), seen, OPTIONS).unwrap()).await.unwrap();
        let kept = tempfile::tempdir().unwrap().keep();
        for name in ["id_rsa", "id_rsa.pub"] {
            let made = first.cluster(CLUSTER).path().join("certs").join(name);
            std::fs::copy(made, kept.join(name)).unwrap();
        }
        KEY.set(kept).unwrap();
    }
    drop(making);
    let host = FakeHost::new();
    host.seed_ssh_key(&host.cluster(CLUSTER), &KEY.get().unwrap().clone());
    host
}

/// Looks, plans and executes once; tells what failed.
async fn step(host: &FakeHost, plan: impl Fn(&Observed) -> Plan) -> Result<bool, String> {
    let seen = host.observe(CLUSTER).await.map_err(|error| error.to_string())?;
    let plan = plan(&seen);
    let done = host.execute(CLUSTER, &plan, OnFailure::Stop, &|_| ()).await;
    done.map_err(|failures| failures.iter().map(|it| it.title.clone()).collect::<String>())?;
    Ok(plan.look_again)
}

/// Goes on until there is nothing to look at again, as the command does.
async fn settle(host: &FakeHost, plan: impl Fn(&Observed) -> Plan) -> Result<(), String> {
    for _ in 0..4 {
        if !step(host, &plan).await? {
            return Ok(());
        }
    }
    Err("it does not settle".to_owned())
}

async fn up(host: &FakeHost, spec: &ClusterSpec) -> Result<(), String> {
    settle(host, |seen| plan_up(spec, seen, OPTIONS).unwrap()).await
}

async fn down(host: &FakeHost) -> Result<(), String> {
    settle(host, plan_down).await
}

/// Fails unless the cluster is what is wanted, once and no more.
async fn assert_whole(host: &FakeHost, spec: &ClusterSpec, when: &str) {
    let seen = host.observe(CLUSTER).await.unwrap();
    let plan = plan_up(spec, &seen, OPTIONS).unwrap();
    assert!(plan.is_empty(), "{when}: there is still to do:\n{plan}");
    let members = &seen.swarm.as_ref().expect("a swarm").members;
    assert_eq!(members.len(), spec.nodes.len(), "{when}: {members:?}");
    for node in &spec.nodes {
        let member = members.iter().find(|it| it.hostname == node.name.as_str()).expect(when);
        assert_eq!((member.role, &member.labels, member.ready), (node.role, &node.labels, true));
    }
    assert_eq!(host.swarms(), 1, "{when}: another swarm was formed");
    let addresses: std::collections::BTreeSet<_> =
        seen.nodes.values().map(|node| node.record.address).collect();
    assert_eq!(addresses.len(), spec.nodes.len(), "{when}");
}

async fn assert_nothing(host: &FakeHost, when: &str) {
    assert_eq!(host.remains(), Vec::<String>::new(), "{when}");
}

/// Does something on a fresh host again and again, with another call failing each time, until none
/// is left to fail; then does it again without a fault, and looks.
async fn with_every_fault<B, W, A>(before: B, work: W, after: A)
where
    B: AsyncFn(&FakeHost),
    W: AsyncFn(&FakeHost) -> Result<(), String>,
    A: AsyncFn(&FakeHost, &str),
{
    let mut failed = 0;
    for number in 1.. {
        for fault in [Fault::Before(number), Fault::After(number)] {
            let host = host().await;
            before(&host).await;
            host.set_fault(Some(fault));
            let result = work(&host).await;
            let calls = host.calls();
            host.set_fault(None);
            let when = format!("{fault:?}: {result:?}");
            failed += usize::from(result.is_err());
            if result.is_err() {
                work(&host).await.unwrap_or_else(|error| panic!("{when}, then again: {error}"));
            }
            after(&host, &when).await;
            down(&host).await.unwrap_or_else(|error| panic!("{when}, then down: {error}"));
            assert_nothing(&host, &when).await;
            if fault == Fault::After(number) && calls < number {
                assert!(failed > 5, "hardly a fault was noticed: {failed}");
                return;
            }
        }
    }
}

#[tokio::test]
async fn up_goes_on_after_any_failure() {
    up_with_every_fault(&spec(1, 1)).await;
}

#[tokio::test]
async fn three_managers_form_one_swarm_after_any_failure() {
    up_with_every_fault(&spec(3, 0)).await;
}

async fn up_with_every_fault(spec: &ClusterSpec) {
    with_every_fault(
        async |_| (),
        async |host| up(host, spec).await,
        async |host, when| assert_whole(host, spec, when).await,
    )
    .await;
}

#[tokio::test]
async fn down_goes_on_after_any_failure() {
    let spec = spec(1, 1);
    with_every_fault(
        async |host| up(host, &spec).await.unwrap(),
        async |host| down(host).await,
        async |host, when| assert_nothing(host, when).await,
    )
    .await;
}

#[tokio::test]
async fn a_cluster_without_power_comes_back_after_any_failure() {
    let spec = spec(1, 2);
    let begun = async |host: &FakeHost| {
        up(host, &spec).await.unwrap();
        host.lose_power();
    };
    let start =
        async |host: &FakeHost| settle(host, |seen| plan_start(seen, &[], OPTIONS).unwrap()).await;
    with_every_fault(begun, start, async |host, when| assert_whole(host, &spec, when).await).await;
}

#[tokio::test]
async fn a_node_is_removed_after_any_failure() {
    let smaller = spec(1, 1);
    let remove = async |host: &FakeHost| {
        let seen = host.observe(CLUSTER).await.map_err(|error| error.to_string())?;
        let node = NodeName::numbered(2);
        if !seen.nodes.contains_key(&node) {
            return Ok(());
        }
        // While the fault keeps the manager from answering, this is refused: try again.
        let plan = plan_remove_nodes(&seen, &[node], false).map_err(|error| error.to_string())?;
        let done = host.execute(CLUSTER, &plan, OnFailure::GoOn, &|_| ()).await;
        done.map_err(|failures| failures[0].title.clone())
    };
    with_every_fault(
        async |host| up(host, &spec(1, 2)).await.unwrap(),
        remove,
        async |host, when| assert_whole(host, &smaller, when).await,
    )
    .await;
}

#[tokio::test]
async fn what_a_node_is_to_be_is_so_after_any_failure() {
    let mut wanted = spec(1, 1);
    let change = |node: &mut NodeSpec| {
        node.availability = Some(Availability::Drain);
        node.labels = [("place".to_owned(), "elsewhere".to_owned())].into();
        node.role = Role::Manager;
    };
    change(&mut wanted.nodes[1]);
    let settings = async |host: &FakeHost| {
        let seen = host.observe(CLUSTER).await.map_err(|error| error.to_string())?;
        // While the fault keeps the manager from answering, this is refused: try again.
        let plan = plan_settings(&seen, &[NodeName::numbered(1)], change);
        let plan = plan.map_err(|error| error.to_string())?;
        let done = host.execute(CLUSTER, &plan, OnFailure::Stop, &|_| ()).await;
        done.map_err(|failures| failures[0].title.clone())
    };
    with_every_fault(
        async |host| up(host, &spec(1, 1)).await.unwrap(),
        settings,
        async |host, when| {
            assert_whole(host, &wanted, when).await;
            let members = host.observe(CLUSTER).await.unwrap().swarm.expect("a swarm").members;
            let node1 = members.iter().find(|member| member.hostname == "node1").unwrap();
            assert_eq!(node1.availability, "drain", "{when}");
        },
    )
    .await;
}

#[tokio::test]
async fn a_machine_that_was_paused_goes_on() {
    let host = host().await;
    up(&host, &spec(1, 1)).await.unwrap();
    let node1 = [NodeName::numbered(1)];
    step(&host, |seen| plan_pause(seen, &node1).unwrap()).await.unwrap();
    let seen = host.observe(CLUSTER).await.unwrap();
    assert_eq!(seen.nodes[&node1[0]].machine, MachineState::Paused);
    step(&host, |seen| plan_resume(seen, &node1, OPTIONS).unwrap()).await.unwrap();
    assert_whole(&host, &spec(1, 1), "resumed").await;
}

#[tokio::test]
async fn stop_reaches_all_that_can_be_reached() {
    let host = host().await;
    up(&host, &spec(1, 2)).await.unwrap();
    let seen = host.observe(CLUSTER).await.unwrap();
    let plan = plan_stop(&seen, &[], StopMode::Kill).unwrap();
    host.set_fault(Some(Fault::Before(2)));
    let failures = host.execute(CLUSTER, &plan, OnFailure::GoOn, &|_| ()).await.unwrap_err();
    host.set_fault(None);
    assert_eq!(failures.len(), 1);
    let seen = host.observe(CLUSTER).await.unwrap();
    let running: Vec<_> =
        seen.nodes.values().filter(|node| node.machine == MachineState::Running).collect();
    assert_eq!(running.len(), 1, "the others were stopped all the same");
    assert_eq!(Some(running[0].record.name()), failures[0].node.as_ref());
}

#[tokio::test]
async fn a_failure_tells_what_where_and_the_consoles_last_words() {
    let host = host().await;
    up(&host, &spec(1, 0)).await.unwrap();
    host.lose_power();
    let seen = host.observe(CLUSTER).await.unwrap();
    let plan = plan_start(&seen, &[], OPTIONS).unwrap();
    let provision = plan.steps.iter().position(|it| it.to_string() == "node0: provision").unwrap();
    let events = Mutex::new(Vec::new());
    for number in 1.. {
        host.set_fault(Some(Fault::Before(number)));
        let note = |event| events.lock().unwrap().push(event);
        let failures = host.execute(CLUSTER, &plan, OnFailure::Stop, &note).await.unwrap_err();
        if failures[0].title == "provision" {
            assert_eq!(failures[0].node.as_ref().unwrap().as_str(), "node0");
            assert_eq!(failures[0].console, "the console's last words");
            assert!(failures[0].error.to_string().contains("injected"));
            break;
        }
    }
    let events = events.lock().unwrap();
    let told =
        |event: &Event| matches!(event, Event::StepFailed { step, .. } if *step == provision);
    assert!(events.iter().any(told), "{events:?}");
}
