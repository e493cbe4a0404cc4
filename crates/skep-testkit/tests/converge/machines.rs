//! Virtual machines of a docker-machine store: whatever fails, doing it again gets there, and `rm`
//! leaves nothing.

use std::path::{Path, PathBuf};

use skep_core::model::{ClusterSpec, NodeName, NodeSpec, Role};
use skep_core::observed::Observed;
use skep_core::plan::{
    Birth, Plan, StopMode, UsualAddresses, plan_machine_engine, plan_machine_removal,
    plan_machines_up, plan_stop, reservation,
};
use skep_ops::observe::Damage;
use skep_store::dm::{Config, MachineStore};
use tokio::sync::OnceCell;

use super::{FakeHost, OnFailure, assert_nothing, on_hosts_with_every_fault};

const BIRTH: Birth = Birth::Fork { restart_engine: false };

fn store(host: &FakeHost) -> MachineStore {
    MachineStore::new(host.machines().path())
}

fn spec(name: &str) -> ClusterSpec {
    let node = NodeSpec::machine(name.parse().unwrap(), Role::Worker);
    ClusterSpec { nodes: vec![node], ..ClusterSpec::of_machines("machine".parse().unwrap(), 0, 0) }
}

/// Looks, plans and executes once.
async fn step(
    host: &FakeHost,
    how: OnFailure,
    plan: impl Fn(&Observed) -> Plan,
) -> Result<(), String> {
    let locked = host.machines().lock(|_| ()).await.unwrap();
    let seen = host.observe_in(locked.dir(), Damage::ListAll).await;
    let plan = plan(&seen.map_err(|error| error.to_string())?);
    let done = host.execute_in(locked, &plan, how, &|_| ()).await;
    done.map_err(|failures| failures.iter().map(|it| it.title.clone()).collect::<String>())
}

fn plan_up(name: &str, seen: &Observed) -> Plan {
    plan_machines_up(&spec(name), seen, BIRTH, UsualAddresses::default()).unwrap()
}

/// As `create`, and once it was cut off `start` and `provision`, do it.
async fn create(host: &FakeHost, name: &str) -> Result<(), String> {
    if !store(host).exists(name) {
        let mut config = Config::new(store(host).root(), name, "kvm");
        config.host_options.engine_options.labels = Some(vec!["a=b".to_owned()]);
        store(host).create(&config).unwrap();
        seed(host, name).await;
    }
    step(host, OnFailure::Stop, |seen| match seen.cluster {
        None => reservation(plan_up(name, seen)),
        Some(_) => Plan::default(),
    })
    .await?;
    step(host, OnFailure::Stop, |seen| plan_up(name, seen)).await?;
    step(host, OnFailure::Stop, |_| plan_machine_engine(&name.parse().unwrap(), false)).await
}

async fn rm(host: &FakeHost, name: &str) -> Result<(), String> {
    let node: NodeName = name.parse().unwrap();
    step(host, OnFailure::GoOn, |seen| plan_machine_removal(seen, &node)).await
}

/// Keys take longer to make than all the rest of a test, so they are made once.
async fn seed(host: &FakeHost, name: &str) {
    static KEYS: OnceCell<PathBuf> = OnceCell::const_new();
    let make = async || {
        let first = FakeHost::new();
        let mut config = Config::new(store(&first).root(), "box", "kvm");
        config.host_options.engine_options.labels = None;
        store(&first).create(&config).unwrap();
        step(&first, OnFailure::Stop, |seen| plan_up("box", seen)).await.unwrap();
        let kept = tempfile::tempdir().unwrap().keep();
        copy_files(first.machines().path().join("certs").as_path(), &kept.join("certs"));
        copy_files(&store(&first).machine_dir("box"), &kept.join("box"));
        kept
    };
    let keys = KEYS.get_or_init(make).await;
    copy_files(&keys.join("certs"), &host.machines().path().join("certs"));
    copy_files(&keys.join("box"), &store(host).machine_dir(name));
}

/// Copies keys and certificates, and nothing else.
fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".pem") || name.starts_with("id_rsa") || name.starts_with("ssh_host") {
            std::fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

async fn assert_up(host: &FakeHost, name: &str, when: &str) {
    let seen = host.observe_in(&host.machines(), Damage::Refuse).await.unwrap();
    let plan = plan_up(name, &seen);
    assert!(plan.is_empty(), "{when}: there is still to do:\n{plan}");
    let config = store(host).load(name).unwrap();
    assert_eq!(config.host_options.engine_options.labels, Some(vec!["a=b".to_owned()]), "{when}");
    let told = std::fs::read_to_string(store(host).machine_dir(name).join("configured")).unwrap();
    assert!(told.contains("--label a=b"), "{when}: {told}");
}

#[tokio::test]
async fn a_machine_is_made_after_any_failure() {
    on_hosts_with_every_fault(
        async || FakeHost::new(),
        async |host| create(host, "box").await,
        async |host, when| assert_up(host, "box", when).await,
        async |host| rm(host, "box").await,
    )
    .await;
}

#[tokio::test]
async fn what_a_failure_leaves_is_removed() {
    on_hosts_with_every_fault(
        async || FakeHost::new(),
        // However far it got, it is removed without another try; what a kill left, when it comes back.
        async |host| {
            if store(host).exists("box") {
                rm(host, "box").await?;
                assert_nothing(host, "after a kill").await;
            }
            match create(host, "box").await {
                Err(error) if store(host).exists("box") => {
                    host.forgive();
                    rm(host, "box").await?;
                    assert_nothing(host, &error).await;
                    Err(error)
                }
                created => created,
            }
        },
        async |host, when| assert_up(host, "box", when).await,
        async |host| rm(host, "box").await,
    )
    .await;
}

#[tokio::test]
async fn one_of_two_is_removed_after_any_failure_and_the_other_goes_on() {
    let both = async || {
        let host = FakeHost::new();
        create(&host, "box").await.unwrap();
        create(&host, "other").await.unwrap();
        host
    };
    let remove = async |host: &FakeHost| rm(host, "box").await;
    let alone = async |host: &FakeHost, when: &str| {
        assert_eq!(store(host).names().unwrap(), ["other"], "{when}");
        assert_up(host, "other", when).await;
    };
    on_hosts_with_every_fault(both, remove, alone, async |host| rm(host, "other").await).await;
}

#[tokio::test]
async fn a_machine_comes_back_after_any_failure() {
    let stopped = async || {
        let host = FakeHost::new();
        create(&host, "box").await.unwrap();
        let node: NodeName = "box".parse().unwrap();
        let stop = |seen: &Observed| {
            plan_stop(seen, std::slice::from_ref(&node), StopMode::Graceful).unwrap()
        };
        step(&host, OnFailure::GoOn, stop).await.unwrap();
        host.lose_power();
        host
    };
    let start =
        async |host: &FakeHost| step(host, OnFailure::Stop, |seen| plan_up("box", seen)).await;
    let whole = async |host: &FakeHost, when: &str| assert_up(host, "box", when).await;
    on_hosts_with_every_fault(stopped, start, whole, async |host| rm(host, "box").await).await;
}
