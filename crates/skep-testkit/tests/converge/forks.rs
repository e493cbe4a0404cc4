//! How machines come to be copies of warm ones, or not.

use std::sync::Mutex;

use skep_core::model::{ClusterSpec, Size};
use skep_core::plan::{UpOptions, plan_up};
use skep_ops::converge::settle;

use skep_testkit::fakes::Copies;

use super::{CLUSTER, FakeHost, OPTIONS, OnFailure, assert_whole, host, spec, up};

/// Brings a cluster up as the command does, and returns what the user was told.
async fn settled(host: &FakeHost, spec: &ClusterSpec) -> Vec<String> {
    let told = Mutex::new(Vec::new());
    let first = host.observe(CLUSTER).await.unwrap();
    let done = settle(
        first,
        OPTIONS.birth,
        OnFailure::Stop,
        |seen, birth, _| plan_up(spec, seen, UpOptions { birth, ..OPTIONS }),
        async |plan| host.execute(CLUSTER, plan, OnFailure::Stop, &|_| ()).await,
        async || Ok(host.observe(CLUSTER).await.unwrap()),
        |text| told.lock().unwrap().push(text),
    );
    done.await.unwrap();
    told.into_inner().unwrap()
}

#[tokio::test]
async fn where_machines_cannot_be_forked_they_are_booted_and_it_is_told_once() {
    let host = host().await;
    host.forbid_forks();
    let told = settled(&host, &spec(1, 1)).await;
    assert_eq!(told, ["booting machines, as they cannot be forked: it is forbidden"]);
    assert_whole(&host, &spec(1, 1), "booted").await;
    // Those that can be are not talked of.
    let host = super::host().await;
    assert!(settled(&host, &spec(1, 1)).await.is_empty());
}

#[tokio::test]
async fn copies_that_run_and_hang_are_booted() {
    for copies in [Copies::Hang, Copies::AreDeaf] {
        let host = host().await;
        host.let_copies(copies);
        // Several hang at the same time.
        let told = settled(&host, &spec(1, 3)).await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("booting machines, as they cannot be forked: "), "{told:?}");
        assert_whole(&host, &spec(1, 3), "booted").await;
    }
}

#[tokio::test]
async fn a_copy_that_works_is_not_booted_for_one_that_joins_later() {
    let host = host().await;
    assert!(settled(&host, &spec(1, 1)).await.is_empty());
    let before = host.bases();
    host.let_copies(Copies::Hang);
    assert_eq!(settled(&host, &spec(1, 2)).await.len(), 1);
    assert_whole(&host, &spec(1, 2), "one more").await;
    let bases = host.bases();
    assert!(before.iter().all(|(node, base)| bases.get(node) == Some(base)));
}

#[tokio::test]
async fn each_node_is_a_copy_of_the_warm_machine_of_its_own_shape() {
    let mut spec = spec(1, 3);
    skep_core::fixtures::shape(&mut spec.nodes[1]).memory = Size::gib(2);
    skep_core::fixtures::shape(&mut spec.nodes[3]).memory = Size::gib(2);
    let host = host().await;
    // Two shapes are warmed up at the same time, or none would be there in the end.
    host.expect_templates_at_once(2);
    up(&host, &spec).await.unwrap();
    assert_whole(&host, &spec, "two shapes").await;
    let bases = host.bases();
    assert_eq!(bases["node0"], bases["node2"]);
    assert_eq!(bases["node1"], bases["node3"]);
    assert_ne!(bases["node0"], bases["node1"]);
}
