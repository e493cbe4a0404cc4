//! What becomes of a cluster when one node of many does not join.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use skep_core::event::Event;
use skep_core::model::{ClusterSpec, NodeName};
use skep_core::plan::{
    Aftermath, Attempt, Standing, UpOptions, plan_aftermath, plan_up, plan_up_without,
};
use skep_ops::converge::{Failure, Unsettled, settle};
use skep_testkit::fakes::Join;

use super::{
    CLUSTER, FakeHost, OPTIONS, OnFailure, assert_nothing, assert_whole, down, host, spec, up,
};

async fn bring_up(host: &FakeHost) -> Result<Vec<String>, Vec<Failure>> {
    let seen = host.observe(CLUSTER).await.unwrap();
    let plan = plan_up(&spec(1, 3), &seen, OPTIONS).unwrap();
    let told = Mutex::new(Vec::new());
    let note = |event| {
        if let Event::StepProgress { text, .. } = event {
            told.lock().unwrap().push(text);
        }
    };
    host.execute(CLUSTER, &plan, OnFailure::GoOnForSwarm, &note).await?;
    Ok(told.into_inner().unwrap())
}

#[tokio::test]
async fn a_join_that_fails_is_tried_again() {
    for joins in
        [&[Join::Refused, Join::Refused][..], &[Join::GivenUp], &[Join::GivenUp, Join::Refused]]
    {
        for (managers, node) in [(1, 2), (3, 2)] {
            let host = host().await;
            let spec = spec(managers, 3 - managers + 1);
            host.set_limit(Duration::from_secs(20));
            host.set_joins(&host.cluster(CLUSTER), &NodeName::numbered(node), joins);
            up(&host, &spec).await.unwrap_or_else(|error| panic!("{joins:?}: {error}"));
            // With no entry of the member that it did not become.
            assert_whole(&host, &spec, &format!("{joins:?}")).await;
        }
    }
}

#[tokio::test]
async fn one_node_that_does_not_join_leaves_the_others_and_up_goes_on() {
    let host = host().await;
    let node1 = NodeName::numbered(1);
    host.set_joins(&host.cluster(CLUSTER), &node1, &[Join::Forbidden]);
    let failures = bring_up(&host).await.unwrap_err();
    let failed: Vec<_> = failures.iter().map(|it| (it.node.clone(), it.title.clone())).collect();
    assert_eq!(failed, [(Some(node1), "join swarm as worker".to_owned())]);

    let seen = host.observe(CLUSTER).await.unwrap();
    let standing = Standing::of(&seen).unwrap().to_string();
    assert_eq!(
        standing,
        "cluster demo is kept: 3 of 4 nodes are Ready\n  node1: it has not joined the swarm"
    );
    let attempt = Attempt { is_new: true, formed: true };
    assert!(matches!(plan_aftermath(attempt, &seen), Aftermath::Keep(plan) if plan.is_empty()));
    up(&host, &spec(1, 3)).await.unwrap();
    assert_whole(&host, &spec(1, 3), "again").await;
}

/// Brings a cluster up as `up` does; returns the nodes that failed, and how often each did.
async fn settled(host: &FakeHost, spec: &ClusterSpec) -> BTreeMap<String, usize> {
    let goes_on = OnFailure::GoOnForSwarm;
    let done = settle(
        host.observe(CLUSTER).await.unwrap(),
        OPTIONS.birth,
        goes_on,
        |seen, birth, failed| plan_up_without(spec, seen, UpOptions { birth, ..OPTIONS }, failed),
        async |plan| host.execute(CLUSTER, plan, goes_on, &|_| ()).await,
        async || Ok(host.observe(CLUSTER).await.unwrap()),
        |_| (),
    );
    match done.await {
        Ok(()) => BTreeMap::new(),
        Err(Unsettled::Failed(failures)) => {
            let mut counts = BTreeMap::new();
            for failure in failures {
                let node = failure.node.expect("only nodes fail here").to_string();
                *counts.entry(node).or_default() += 1;
            }
            counts
        }
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_old_node_that_fails_does_not_keep_the_others_from_what_is_wanted() {
    let host = host().await;
    up(&host, &spec(1, 2)).await.unwrap();
    host.lose_power();
    host.forbid_set_up(&host.cluster(CLUSTER), &NodeName::numbered(2));
    // Two are started and form no second swarm, a new one joins, and the one that fails is waited for once.
    let more = spec(1, 3);
    assert_eq!(settled(&host, &more).await, [("node2".to_owned(), 1)].into());
    let seen = host.observe(CLUSTER).await.unwrap();
    assert_eq!(host.swarms(), 1);
    let members = &seen.swarm.as_ref().unwrap().members;
    let labelled = members.iter().find(|it| it.hostname == "node3").expect("it has joined");
    assert_eq!(labelled.labels.get("place").map(String::as_str), Some("p3"));
    // Its entry is not taken for one of an engine that is gone.
    assert!(members.iter().any(|it| it.hostname == "node2"), "{members:?}");
    host.permit_set_up();
    assert_eq!(settled(&host, &more).await, BTreeMap::new());
    assert_whole(&host, &more, "again").await;
}

#[tokio::test]
async fn a_swarm_whose_manager_fails_is_not_formed_a_second_time() {
    let host = host().await;
    up(&host, &spec(1, 2)).await.unwrap();
    host.lose_power();
    host.forbid_set_up(&host.cluster(CLUSTER), &NodeName::numbered(0));
    assert_eq!(settled(&host, &spec(1, 2)).await, [("node0".to_owned(), 1)].into());
    assert_eq!(host.swarms(), 1);
    host.permit_set_up();
    assert_eq!(settled(&host, &spec(1, 2)).await, BTreeMap::new());
    assert_whole(&host, &spec(1, 2), "again").await;
}

#[tokio::test]
async fn a_cluster_without_a_swarm_is_given_up_at_once_and_leaves_nothing() {
    let host = host().await;
    host.forbid_set_up(&host.cluster(CLUSTER), &NodeName::numbered(0));
    let failures = bring_up(&host).await.unwrap_err();
    assert_eq!(failures.len(), 1, "{failures:?}");
    let seen = host.observe(CLUSTER).await.unwrap();
    let attempt = Attempt { is_new: true, formed: false };
    let Aftermath::Remove(plan) = plan_aftermath(attempt, &seen) else { panic!("it is kept") };
    host.execute(CLUSTER, &plan, OnFailure::GoOn, &|_| ()).await.unwrap();
    assert_nothing(&host, "never a swarm").await;
    down(&host).await.unwrap();
}
