//! New certificates, with another call that fails each time.

use skep_core::observed::Rotation;
use skep_core::plan::{plan_renew, plan_rotate};
use skep_ops::converge::OnFailure;
use skep_store::pki::{rotation, survey};
use skep_testkit::fakes::FakeHost;

use super::{CLUSTER, assert_whole, host, up, with_a_host, with_every_fault};

/// Returns what tells certificates apart.
fn fingerprints(host: &FakeHost) -> Vec<String> {
    let all = survey(host.cluster(CLUSTER).path()).unwrap();
    all.into_iter().map(|it| it.fingerprint).collect()
}

async fn change(host: &FakeHost, rotate: bool) -> Result<(), String> {
    let seen = host.observe(CLUSTER).await.map_err(|error| error.to_string())?;
    let store = host.cluster(CLUSTER);
    let stage = rotation::stage(store.path()).unwrap();
    let out_of_time = rotation::is_out_of_time(store.path()).unwrap();
    let plan = if rotate { plan_rotate(&seen, stage, out_of_time) } else { plan_renew(&seen) };
    let plan = plan.map_err(|error| error.to_string())?;
    let done = host.execute(CLUSTER, &plan, OnFailure::Stop, &|_| ()).await;
    done.map_err(|failures| failures[0].title.clone())
}

async fn changed_with_every_fault(rotate: bool) {
    let spec = with_a_host(1, 1);
    with_every_fault(
        async |host| up(host, &spec).await.unwrap(),
        async |host| change(host, rotate).await,
        async |host, when| {
            let dir = host.cluster(CLUSTER);
            assert_eq!(rotation::stage(dir.path()).unwrap(), Rotation::Settled, "{when}");
            // The host still knows whose it is, and nobody has to do anything.
            assert_whole(host, &spec, when).await;
        },
    )
    .await;
}

#[tokio::test]
async fn another_authority_comes_after_any_failure() {
    changed_with_every_fault(true).await;
}

#[tokio::test]
async fn new_certificates_come_after_any_failure() {
    changed_with_every_fault(false).await;
}

#[tokio::test]
async fn all_certificates_are_new_and_an_authority_stays_if_it_is_to() {
    let host = host().await;
    up(&host, &with_a_host(1, 1)).await.unwrap();
    let first = fingerprints(&host);
    change(&host, false).await.unwrap();
    let second = fingerprints(&host);
    assert_eq!((first.len(), &first[0]), (4, &second[0]), "one authority");
    assert!(first[1..].iter().all(|it| !second.contains(it)));
    change(&host, true).await.unwrap();
    assert!(fingerprints(&host).iter().all(|it| !second.contains(it)));
}
