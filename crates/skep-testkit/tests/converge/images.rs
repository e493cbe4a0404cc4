//! Container images get to engines, also after one of them failed.

use std::sync::Mutex;

use skep_core::event::Event;
use skep_core::model::{ClusterSpec, NodeName};
use skep_core::observed::{Observed, ObservedNode};
use skep_core::plan::plan_load;
use skep_docker::oci::Source;
use skep_ops::converge::OnFailure;
use skep_testkit::archive;
use skep_testkit::fakes::Upload;

use super::{CLUSTER, assert_whole, host, spec, up, with_every_fault};

/// Returns a cluster that wants the images of an archive, and the archive's directory.
async fn with_images(managers: usize, workers: usize) -> (ClusterSpec, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.tar");
    archive::write(&path, "app:1", &[b"a layer"]);
    let set = Source::parse(path.to_str().unwrap()).set().await.unwrap();
    (ClusterSpec { images: vec![set], ..spec(managers, workers) }, dir)
}

#[tokio::test]
async fn images_are_loaded_after_any_failure() {
    let (spec, _dir) = with_images(1, 1).await;
    with_every_fault(
        async |_| (),
        async |host| up(host, &spec).await,
        async |host, when| {
            assert_whole(host, &spec, when).await;
            let seen = host.observe(CLUSTER).await.unwrap();
            let has = |node: &ObservedNode| node.images.as_ref().unwrap().has_all(&spec.images[0]);
            assert!(seen.nodes.values().all(has), "{when}: {:?}", seen.nodes);
        },
    )
    .await;
}

#[tokio::test]
async fn a_node_that_takes_no_images_is_named_and_the_others_get_them() {
    let host = host().await;
    let (wanted, _dir) = with_images(1, 2).await;
    up(&host, &spec(1, 2)).await.unwrap();
    let deaf = NodeName::numbered(1);
    host.set_upload(&host.cluster(CLUSTER), &deaf, Some(Upload::Deaf));
    let plan = plan_load(&host.observe(CLUSTER).await.unwrap(), &wanted.images, &[]).unwrap();
    let events = Mutex::new(Vec::new());
    let note = |event| events.lock().unwrap().push(event);
    let failures = host.execute(CLUSTER, &plan, OnFailure::GoOn, &note).await.unwrap_err();
    assert_eq!(failures.len(), 1);
    let said = failures[0].error.to_string();
    assert!(said.starts_with("node1: ") && !said.contains("node0"), "{said}");
    let told = |event: &Event| matches!(event, Event::StepBytes { done, .. } if *done > 0);
    assert!(events.lock().unwrap().iter().any(told), "bytes are told");

    up(&host, &ClusterSpec { nodes: wanted.nodes[..1].to_vec(), ..wanted.clone() }).await.unwrap();
    let seen = host.observe(CLUSTER).await.unwrap();
    let has = |node: usize| {
        let images = seen.nodes[&NodeName::numbered(node)].images.as_ref().unwrap();
        images.has_all(&wanted.images[0])
    };
    assert_eq!((has(0), has(1), has(2)), (true, false, true));
}

#[tokio::test]
async fn a_node_that_dies_or_is_full_while_it_is_given_images_gets_them_at_the_next_run() {
    for (upload, words) in [
        (Upload::Dies, "the machine died"),
        (Upload::Full, "no space left on device"),
        (Upload::Deaf, "Docker Engine not responding"),
    ] {
        let host = host().await;
        let (wanted, _dir) = with_images(1, 2).await;
        let has = |seen: &Observed, number: usize| {
            let images = seen.nodes[&NodeName::numbered(number)].images.as_ref();
            images.is_some_and(|images| images.has_all(&wanted.images[0]))
        };
        up(&host, &spec(1, 2)).await.unwrap();
        let (cluster, lost) = (host.cluster(CLUSTER), NodeName::numbered(2));
        host.set_upload(&cluster, &lost, Some(upload));
        let plan = plan_load(&host.observe(CLUSTER).await.unwrap(), &wanted.images, &[]).unwrap();
        let failures = host.execute(CLUSTER, &plan, OnFailure::GoOn, &|_| ()).await.unwrap_err();
        let said = failures[0].error.to_string();
        assert!(said.starts_with("node2: ") && said.contains(words), "{said}");
        assert!(!said.contains("node0") && !said.contains("node1"), "{said}");

        host.set_upload(&cluster, &lost, None);
        up(&host, &wanted).await.unwrap();
        let seen = host.observe(CLUSTER).await.unwrap();
        assert_eq!([0, 1, 2].map(|number| has(&seen, number)), [true; 3], "{upload:?}");
    }
}

#[tokio::test]
async fn a_source_that_breaks_off_is_told_once_and_nobody_has_its_images() {
    let host = host().await;
    let (wanted, dir) = with_images(1, 1).await;
    up(&host, &spec(1, 1)).await.unwrap();
    let plan = plan_load(&host.observe(CLUSTER).await.unwrap(), &wanted.images, &[]).unwrap();
    std::fs::remove_file(dir.path().join("app.tar")).unwrap();
    let failures = host.execute(CLUSTER, &plan, OnFailure::GoOn, &|_| ()).await.unwrap_err();
    let said = failures[0].error.to_string();
    assert!(said.starts_with("cannot read /") && said.ends_with("app.tar"), "{said}");
}
