//! Somebody else takes the subnet that was chosen, between the choice and the bridge.

use skep_core::plan::{plan_down, plan_reservation, plan_up};
use skep_ops::converge::{Failure, OnFailure, Unsettled, reserve};
use skep_testkit::fakes::FakeHost;

use crate::{CLUSTER, OPTIONS, host, settle, spec, up};

async fn reserved(host: &FakeHost) -> Result<(), Unsettled<String>> {
    let spec = spec(1, 0);
    reserve(
        |seen| plan_reservation(&spec, seen).map_err(|error| error.to_string()),
        async |plan| host.execute(CLUSTER, plan, OnFailure::Stop, &|_| ()).await,
        async || host.observe(CLUSTER).await.map_err(|error| error.to_string()),
    )
    .await
}

#[tokio::test]
async fn a_subnet_that_another_takes_in_between_is_chosen_again() {
    let host = host().await;
    host.set_rivals(3);
    reserved(&host).await.unwrap();
    let seen = host.observe(CLUSTER).await.unwrap();
    let network = &seen.cluster.as_ref().unwrap().network;
    assert_eq!(network.subnet.to_string(), "10.193.3.0/24");
    assert!(seen.bridge);
    // And the cluster is made there.
    up(&host, &spec(1, 0)).await.unwrap();
    let seen = host.observe(CLUSTER).await.unwrap();
    assert!(plan_up(&spec(1, 0), &seen, OPTIONS).unwrap().is_empty());
    assert_eq!(seen.nodes.values().next().unwrap().record.address.to_string(), "10.193.3.2");
}

#[tokio::test]
async fn a_choice_that_is_taken_each_time_is_told_in_the_end_and_leaves_nothing() {
    let host = host().await;
    host.set_rivals(100);
    let Err(Unsettled::Failed(failures)) = reserved(&host).await else { panic!("it was done") };
    assert!(failures.iter().any(Failure::is_taken), "{failures:?}");
    let seen = host.observe(CLUSTER).await.unwrap();
    assert!(!seen.bridge, "the fifth was taken, too");
    assert_eq!(seen.cluster.unwrap().network.subnet.to_string(), "10.193.4.0/24");
    settle(&host, plan_down).await.unwrap();
    assert_eq!(host.remains(), Vec::<String>::new());
}
