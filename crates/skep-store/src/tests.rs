//! Tests of the store.

use skep_core::fixtures;
use skep_core::model::{Access, ImageSpec};

use super::*;

fn record() -> ClusterRecord {
    ClusterRecord {
        name: "demo".parse().unwrap(),
        network: fixtures::network(),
        image: ImageSpec::default(),
        nodes: Vec::new(),
        hostnames: Vec::new(),
        images: Vec::new(),
        access: Access::default(),
        peers: Vec::new(),
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
async fn a_stack_is_for_one_at_a_time_whatever_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = locked(dir.path()).await;
    assert!(cluster.dir().lock_stack("shop", |_| ()).await.is_err(), "there is no cluster");
    cluster.write_cluster(&record()).unwrap();
    for name in ["shop".to_owned(), "../../shop".to_owned(), "x".repeat(5000)] {
        let held = cluster.dir().lock_stack(&name, |_| panic!("nobody has it")).await.unwrap();
        let others = cluster.dir().lock_stack("other", |_| panic!("nobody has it")).await;
        drop(others.unwrap());
        let holder = std::sync::OnceLock::new();
        let second = cluster.dir().lock_stack(&name, |it| drop(holder.set(it.to_string())));
        tokio::select! {
            _ = second => panic!("two have it"),
            // The wait is told at once.
            () = async { while holder.get().is_none() { tokio::task::yield_now().await } } => {}
        }
        drop(held);
    }
    cluster.remove_cluster().unwrap();
    assert!(!cluster.dir().exists(), "locks go with the cluster");
}

#[tokio::test]
async fn the_stacks_of_a_file_are_known_until_their_cluster_goes() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = locked(dir.path()).await;
    cluster.write_cluster(&record()).unwrap();
    assert!(cluster.dir().stacks_of_file().unwrap().is_empty());
    let stacks = std::collections::BTreeSet::from(["shop".to_owned()]);
    cluster.note_stacks(stacks.clone()).unwrap();
    assert_eq!(cluster.dir().stacks_of_file().unwrap(), stacks);
    std::fs::write(cluster.dir().path().join("stacks.json"), "{").unwrap();
    let error = cluster.dir().stacks_of_file().unwrap_err().to_string();
    assert!(error.contains("stacks.json"), "{error}");
    cluster.remove_cluster().unwrap();
    assert!(cluster.dir().stacks_of_file().unwrap().is_empty());
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
    std::fs::write(&path, r#"{"format": 4, "news": true}"#).unwrap();
    let error = cluster.dir().record().unwrap_err();
    assert!(error.to_string().ends_with("has format 4; this skep reads formats up to 3"));
    assert!(cluster.write_cluster(&record()).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), r#"{"format": 4, "news": true}"#);
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
    assert!(
        skep_sys::chain(&error).contains("it is writable by other users (mode 777)"),
        "{error}"
    );
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

/// As the first skep wrote them, before there were images, registries, hosts and availabilities.
const FIRST_CLUSTER: &str = r#"{
  "format": 1, "name": "demo",
  "network": {"subnet": "10.193.0.0/24", "bridge": "skep-demo"},
  "image": {"suite": "trixie"},
  "nodes": [{"name": "node0", "role": "manager", "cpus": 1, "memory": "1GiB", "disk": "20GiB",
             "labels": {"zone": "a"}}],
  "hostnames": [{"name": "a.example"}]
}"#;
const FIRST_NODE: &str = r#"{
  "ConfigVersion": 3,
  "Driver": {"IPAddress": "10.193.0.2", "MachineName": "node0", "SSHUser": "docker", "SSHPort": 22,
    "SSHKeyPath": "/k", "StorePath": "/s", "SwarmMaster": false, "SwarmHost": "", "SwarmDiscovery": "",
    "CPU": 1, "Memory": 1024, "DiskSize": 20480, "Network": "skep-demo", "Index": 0,
    "MACAddress": "52:53:0a:c1:00:02", "Tap": "skt0ac10002", "Role": "manager", "Labels": {"zone": "a"}},
  "DriverName": "qemu", "HostOptions": {}, "Name": "node0"
}"#;

/// Puts records as they were into a cluster's directory, and returns their paths.
fn put_first(cluster: &LockedCluster) -> [PathBuf; 2] {
    cluster.write_cluster(&record()).unwrap();
    cluster.write_node("skep-demo", &node()).unwrap();
    let paths =
        ["cluster.json", "machines/node0/config.json"].map(|it| cluster.dir().path().join(it));
    std::fs::write(&paths[0], FIRST_CLUSTER).unwrap();
    std::fs::write(&paths[1], FIRST_NODE).unwrap();
    paths
}

#[tokio::test]
async fn older_records_are_read_and_written_in_todays_format() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = locked(dir.path()).await;
    let [path, config] = put_first(&cluster);
    let read = cluster.dir().record().unwrap().unwrap();
    let spec = node().spec;
    assert_eq!((&read.nodes, read.hostnames.len()), (&vec![spec], 1));
    assert_eq!(cluster.dir().node(node().name()).unwrap(), node());
    cluster.write_cluster(&read).unwrap();
    cluster.write_node("skep-demo", &node()).unwrap();
    let format = |path: &Path, at: &str| {
        let text = std::fs::read(path).unwrap();
        serde_json::from_slice::<serde_json::Value>(&text).unwrap().pointer(at).cloned().unwrap()
    };
    assert_eq!(format(&path, "/format"), 3);
    assert_eq!(format(&config, "/Driver/SkepFormat"), 2);
    assert_eq!(cluster.dir().record().unwrap().unwrap(), read);
}

#[tokio::test]
async fn keys_that_are_not_known_are_never_lost() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = locked(dir.path()).await;
    let [path, config] = put_first(&cluster);
    // Of skep's own format: refused, wherever they are, and left as they are.
    for (from, to, key) in [
        (r#""name": "demo","#, r#""name": "demo", "sealed": true,"#, "sealed"),
        (r#""role": "manager","#, r#""role": "manager", "gpu": {"a": 1},"#, "nodes.0.gpu"),
        (r#""suite": "trixie""#, r#""suite": "trixie", "kernel": "x""#, "image.kernel"),
    ] {
        let text = FIRST_CLUSTER.replacen(from, to, 1);
        std::fs::write(&path, &text).unwrap();
        let told = format!("has the key `{key}`, which this version of skep does not know");
        let error = cluster.dir().record().unwrap_err();
        assert!(error.to_string().ends_with(&told) && error.is_newer(), "{error}");
        assert!(cluster.write_cluster(&record()).unwrap_err().to_string().ends_with(&told));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
    // Of docker-machine's: kept, but for those of ours that were given up.
    let text = FIRST_NODE
        .replacen(r#""CPU": 1,"#, r#""CPU": 1, "Theirs": [1], "Availability": "drain","#, 1)
        .replacen(
            r#""HostOptions": {}"#,
            r#""HostOptions": {"AuthOptions": {"Own": 2}}, "Top": 3"#,
            1,
        );
    std::fs::write(&config, text).unwrap();
    cluster.write_node("skep-demo", &node()).unwrap();
    let read: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    assert_eq!(read.pointer("/Driver/Theirs"), Some(&serde_json::json!([1])));
    assert_eq!(read.pointer("/HostOptions/AuthOptions/Own"), Some(&serde_json::json!(2)));
    assert_eq!(read.pointer("/Top"), Some(&serde_json::json!(3)));
    assert_eq!(read.pointer("/Driver/Availability"), None);
    assert_eq!(cluster.dir().node(node().name()).unwrap(), node());
    // A newer format of our part of it is refused, and left as it is.
    let newer = FIRST_NODE.replacen(r#""CPU": 1,"#, r#""CPU": 1, "SkepFormat": 3,"#, 1);
    std::fs::write(&config, &newer).unwrap();
    assert!(cluster.dir().node(node().name()).unwrap_err().is_newer());
    assert!(cluster.write_node("skep-demo", &node()).unwrap_err().is_newer());
    assert_eq!(std::fs::read_to_string(&config).unwrap(), newer);
}
