//! Plans are carried out on a host in memory whose every call fails once, before or after its effect:
//! doing it again always gets there, and `down` leaves nothing.

mod certs;
mod forks;
mod images;
mod joins;
mod machines;
mod reserve;

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use skep_core::event::Event;
use skep_core::model::{
    Access, Availability, ClusterSpec, HostSpec, HostnameSpec, NodeKind, NodeName, NodeSpec,
    RegistrySpec, Role, TrustedRegistry,
};
use skep_core::observed::{MachineState, Member, Observed};
use skep_core::plan::{
    Birth, Plan, StopMode, UpOptions, Verify, plan_down, plan_pause, plan_remove_nodes,
    plan_resume, plan_settings, plan_start, plan_stop, plan_up,
};
use skep_ops::converge::OnFailure;
use skep_testkit::fakes::{FakeHost, Fault, killable};

/// The routing mesh is verified on real machines only.
const OPTIONS: UpOptions =
    UpOptions { birth: Birth::Fork { restart_engine: true }, wait: true, verify: Verify::Nothing };

const CLUSTER: &str = "demo";

fn spec(managers: usize, workers: usize) -> ClusterSpec {
    let mut spec = ClusterSpec::of_machines(CLUSTER.parse().unwrap(), managers, workers);
    for (index, node) in spec.nodes.iter_mut().enumerate() {
        node.labels = [("place".to_owned(), format!("p{index}"))].into();
    }
    let demo = HostnameSpec { name: "demo.example".parse().unwrap(), node: None, follow: true };
    ClusterSpec {
        access: Access { ports: vec![8080], ..Access::default() },
        peers: vec!["other".parse().unwrap()],
        hostnames: vec![demo],
        ..spec
    }
}

/// Returns a cluster whose last worker is a host that exists already.
fn with_a_host(managers: usize, workers: usize) -> ClusterSpec {
    let mut spec = spec(managers, workers);
    let node = spec.nodes.last_mut().expect("it has nodes");
    node.kind = NodeKind::Host(HostSpec {
        address: Ipv4Addr::new(192, 0, 2, 7),
        user: "admin".into(),
        port: 22,
        key: None,
        install_url: None,
    });
    spec
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
    done.map_err(|failures| {
        let told =
            failures.iter().map(|it| format!("{}: {}", it.title, skep_sys::chain(&it.error)));
        told.collect::<Vec<_>>().join("; ")
    })?;
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
        let mut labels = node.labels.clone();
        if node.is_host() {
            labels.insert(Member::NODE_LABEL.to_owned(), node.name.to_string());
        }
        assert_eq!((member.role, &member.labels, member.ready), (node.role, &labels, true));
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
    let fresh = async || {
        let host = host().await;
        before(&host).await;
        host
    };
    on_hosts_with_every_fault(fresh, work, after, down).await;
}

/// As [`with_every_fault`], on any hosts, and whatever takes away what was made.
async fn on_hosts_with_every_fault<B, W, A, D>(fresh: B, work: W, after: A, down: D)
where
    B: AsyncFn() -> FakeHost,
    W: AsyncFn(&FakeHost) -> Result<(), String>,
    A: AsyncFn(&FakeHost, &str),
    D: AsyncFn(&FakeHost) -> Result<(), String>,
{
    let (mut failed, mut tally) = (0, Tally::default());
    for number in 1.. {
        for fault in [Fault::Killed(number), Fault::Before(number), Fault::After(number)] {
            let host = fresh().await;
            host.set_fault(Some(fault));
            let result = killable(work(&host)).await;
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
            if calls < number {
                if matches!(fault, Fault::After(_)) {
                    assert!(failed > 3, "hardly a fault was noticed: {failed}");
                    return tally.write();
                }
                continue;
            }
            tally.count(fault);
        }
    }
}

/// How many faults a story has survived.
#[derive(Default)]
struct Tally {
    kills: usize,
    failures: usize,
}

impl Tally {
    fn count(&mut self, fault: Fault) {
        match fault {
            Fault::Killed(_) => self.kills += 1,
            Fault::Before(_) | Fault::After(_) => self.failures += 1,
        }
    }

    /// Tells it, in the file where `benches/faults` reads it if that runs this.
    fn write(&self) {
        let Some(dir) = std::env::var_os("SKEP_FAULTS") else { return };
        let thread = std::thread::current();
        let story = thread.name().unwrap_or_default().rsplit("::").next().unwrap_or_default();
        let line = format!("{story} {} {}\n", self.kills, self.failures);
        let path = PathBuf::from(dir).join("converge");
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        file.unwrap().write_all(line.as_bytes()).unwrap();
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
async fn a_host_becomes_a_node_after_any_failure() {
    up_with_every_fault(&with_a_host(1, 1)).await;
    let mut alone = with_a_host(1, 0);
    alone.nodes[0].role = Role::Manager;
    up_with_every_fault(&alone).await;
}

#[tokio::test]
async fn down_goes_on_after_any_failure() {
    let spec = with_a_host(1, 2);
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
        async |host| up(host, &with_a_host(1, 2)).await.unwrap(),
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

#[tokio::test]
async fn all_nodes_know_the_registry_after_any_failure() {
    let registry =
        RegistrySpec { node: NodeName::numbered(0), port: 5000, mirror: None, runs: true };
    let before = with_a_host(1, 1);
    let hub = TrustedRegistry { at: "hub.example:5000".into(), ca: Some("a certificate".into()) };
    let existing = format!("trust {hub}");
    let spec = ClusterSpec { registry: Some(registry), trusted: Some(vec![hub]), ..before.clone() };
    with_every_fault(
        async |host| up(host, &before).await.unwrap(),
        async |host| up(host, &spec).await,
        async |host, when| {
            assert_whole(host, &spec, when).await;
            let seen = host.observe(CLUSTER).await.unwrap();
            let address = seen.nodes[&NodeName::numbered(0)].record.address;
            for (name, node) in &seen.nodes {
                let part = if name.as_str() == "node0" { "serve" } else { "trust" };
                let wanted = format!("{part} {address}:5000, {existing}");
                assert_eq!(node.registry, Some(wanted), "{when}");
            }
        },
    )
    .await;
}
