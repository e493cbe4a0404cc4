//! Tests of the store.

use super::*;
use skep_core::model::{Access, ImageSpec};

fn record() -> ClusterRecord {
    ClusterRecord {
        name: "demo".parse().unwrap(),
        network: fixtures::network(),
        image: ImageSpec::default(),
        nodes: Vec::new(),
        hostnames: Vec::new(),
        images: Vec::new(),
        access: Access::default(),
        registry: None,
        trusted: None,
    }
}

fn node() -> NodeRecord {
    let mut node = fixtures::node();
    node.spec.labels = [("zone".to_owned(), "a".to_owned())].into();
    node
}

async fn locked(root: &Path) -> LockedCluster {
    let store = Store::new(root.join("home"));
    store.lock(&"demo".parse().unwrap(), |_| ()).await.unwrap()
}

#[tokio::test]
async fn what_is_written_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = locked(dir.path()).await;
    assert_eq!(cluster.dir().record().unwrap(), None);
    cluster.write_cluster(&record()).unwrap();
    cluster.write_node("skep-demo", &node()).unwrap();
    assert_eq!(cluster.dir().record().unwrap(), Some(record()));
    let nodes = cluster.dir().nodes().unwrap();
    assert_eq!(nodes.len(), 1);
    assert_eq!(nodes[0].1.as_ref().unwrap(), &node());
}

#[tokio::test]
async fn a_newer_file_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = locked(dir.path()).await;
    cluster.write_cluster(&record()).unwrap();
    let path = cluster.dir().path().join("cluster.json");
    std::fs::write(&path, r#"{"format": 2, "news": true}"#).unwrap();
    let error = cluster.dir().record().unwrap_err();
    assert!(error.to_string().ends_with("has format 2, and this skep knows formats up to 1"));
    assert!(cluster.write_cluster(&record()).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), r#"{"format": 2, "news": true}"#);
}

#[tokio::test]
async fn a_damaged_node_does_not_hide_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = locked(dir.path()).await;
    cluster.write_cluster(&record()).unwrap();
    cluster.write_node("skep-demo", &node()).unwrap();
    let broken = cluster.dir().path().join("machines/node1");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("config.json"), "{").unwrap();
    let nodes = cluster.dir().nodes().unwrap();
    assert!(nodes[0].1.is_ok());
    assert!(matches!(nodes[1].1, Err(Error::Damaged { .. })));
}

#[tokio::test]
async fn a_node_that_was_cut_off_while_it_was_written_or_removed_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = locked(dir.path()).await;
    cluster.write_cluster(&record()).unwrap();
    cluster.write_node("skep-demo", &node()).unwrap();
    let machines = cluster.dir().path().join("machines");
    std::fs::create_dir(machines.join("node1")).unwrap();
    std::fs::write(machines.join("node1/.skep-x1y2"), "{").unwrap();
    std::fs::create_dir(machines.join(".removing-node2")).unwrap();
    let names: Vec<_> = cluster.dir().nodes().unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["node0"]);
    // A record that is gone beside other files is damage, not a beginning.
    std::fs::write(machines.join("node1/disk.qcow2"), "").unwrap();
    assert_eq!(cluster.dir().nodes().unwrap().len(), 2);
    for node in ["node0", "node2"] {
        cluster.remove_node(&node.parse().unwrap()).unwrap();
    }
    assert_eq!(machines.read_dir().unwrap().count(), 1);
}

#[tokio::test]
async fn nothing_is_left_of_a_removed_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = locked(dir.path()).await;
    cluster.write_cluster(&record()).unwrap();
    cluster.write_node("skep-demo", &node()).unwrap();
    cluster.remove_cluster().unwrap();
    cluster.release();
    assert_eq!(std::fs::read_dir(dir.path().join("home/clusters")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_store_that_others_may_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::set_permissions(&home, PermissionsExt::from_mode(0o777)).unwrap();
    let error = Store::new(home).lock(&"demo".parse().unwrap(), |_| ()).await.unwrap_err();
    assert!(crate::sys::chain(&error).contains("others can write to it (mode 777)"), "{error}");
}

#[tokio::test]
async fn a_node_is_written_in_docker_machines_format() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = locked(dir.path()).await;
    cluster.write_cluster(&record()).unwrap();
    cluster.write_node("skep-demo", &node()).unwrap();
    let path = cluster.dir().machine_dir(node().name()).join("config.json");
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.replace(dir.path().to_str().unwrap(), "ROOT");
    insta::assert_snapshot!(text);
}
