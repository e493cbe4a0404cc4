//! Tests of the docker-machine store.

use super::*;
use serde_json::{Value, json};

fn store() -> (tempfile::TempDir, MachineStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = MachineStore::new(dir.path().join("store"));
    (dir, store)
}

fn put(store: &MachineStore, name: &str, text: &str) {
    std::fs::create_dir_all(store.machine_dir(name)).unwrap();
    std::fs::write(store.machine_dir(name).join("config.json"), text).unwrap();
}

fn text(store: &MachineStore, name: &str) -> String {
    std::fs::read_to_string(store.machine_dir(name).join("config.json")).unwrap()
}

#[test]
fn what_is_written_reads_back_and_what_is_not_known_stays() {
    let (_dir, store) = store();
    let mut config = Config::new(store.root(), "box", "none");
    config.driver.insert("URL".into(), json!("tcp://a<b"));
    config.rest.insert("Skep".into(), json!({"x": 1}));
    config.host_options.engine_options.rest.insert("New".into(), Value::Null);
    store.create(&config).unwrap();
    let before = text(&store, "box");
    assert!(before.contains("tcp://a\\u003cb"), "{before}");
    let read = store.load("box").unwrap();
    assert_eq!(read, config);
    store.save(&read).unwrap();
    assert_eq!(text(&store, "box"), before);
}

#[test]
fn keys_in_other_letters_and_missing_ones_are_read() {
    let (_dir, store) = store();
    let text = r#"{"configversion": 3, "drivername": "none", "Name": "other",
        "hostoptions": {"engineoptions": {"labels": ["a=b"], "DNS": null, "installurl": null}}}"#;
    put(&store, "box", text);
    let config = store.load("box").unwrap();
    assert_eq!(config.name, "box");
    assert_eq!(config.driver_name, "none");
    assert_eq!(config.host_options.engine_options.labels, Some(vec!["a=b".to_owned()]));
    assert_eq!(config.host_options.engine_options.install_url, "");
    assert_eq!(config.to_value()["HostOptions"]["EngineOptions"]["Dns"], Value::Null);
}

#[test]
fn flat_files_are_brought_up_to_date_and_kept_aside() {
    let (_dir, store) = store();
    let old = r#"{"DriverName":"none","Driver":{"URL":"tcp://h:1","Big":12345678901234567890},
        "StorePath":"/s/machines/box","CaCertPath":"/c/ca.pem","PrivateKeyPath":"/c/k.pem",
        "SwarmHost":"tcp://h:2","SwarmMaster":true}"#;
    put(&store, "box", old);
    let config = store.load("box").unwrap();
    let value = config.to_value();
    assert_eq!(value["ConfigVersion"], 3);
    assert_eq!(value["Driver"]["StorePath"], "/s");
    assert_eq!(value["Driver"]["Big"], 12_345_678_901_234_567_890_u64);
    let auth = &value["HostOptions"]["AuthOptions"];
    assert_eq!((&auth["CaPrivateKeyPath"], &auth["StorePath"]), (&json!("/c/k.pem"), &json!(".")));
    assert_eq!(value["HostOptions"]["SwarmOptions"]["Master"], true);
    let backup = store.machine_dir("box").join("config.json.bak");
    assert_eq!(std::fs::read_to_string(&backup).unwrap(), old);
    assert_eq!(store.load("box").unwrap(), config);
}

#[test]
fn the_first_and_the_second_version_are_brought_up_to_date() {
    let (_dir, store) = store();
    let auth = r#"{"PrivateKeyPath":"/c/k.pem","StorePath":""}"#;
    let first = format!(
        r#"{{"ConfigVersion":1,"DriverName":"none","Driver":{{}},"StorePath":"/s/machines/one",
            "HostOptions":{{"AuthOptions":{auth}}}}}"#
    );
    put(&store, "one", &first);
    let value = store.load("one").unwrap().to_value();
    let auth = &value["HostOptions"]["AuthOptions"];
    assert_eq!((&auth["StorePath"], &auth["CertDir"]), (&json!("/s"), &json!("/s/certs")));
    assert_eq!(auth["CaPrivateKeyPath"], "/c/k.pem");
    assert!(auth.get("PrivateKeyPath").is_none() && value.get("StorePath").is_none());
    put(&store, "two", r#"{"ConfigVersion":2,"DriverName":"none","Driver":{"A":1}}"#);
    let value = store.load("two").unwrap().to_value();
    assert_eq!(value["Driver"]["StorePath"], json!(store.root()));
}

#[test]
fn damage_is_told_in_docker_machines_words() {
    let (_dir, store) = store();
    put(&store, "cut", "{");
    put(&store, "later", r#"{"ConfigVersion": 4}"#);
    put(&store, "list", "[]");
    std::fs::create_dir(store.machine_dir("bare")).unwrap();
    std::fs::create_dir_all(store.machine_dir("dir").join("config.json")).unwrap();
    let say = |name: &str| store.load(name).unwrap_err().to_string();
    assert_eq!(say("cut"), "Error getting migrated host: unexpected end of JSON input");
    assert!(say("later").contains("config version is from the future"));
    assert!(say("list").starts_with("Error getting migrated host: json: "));
    assert!(say("bare").ends_with("bare/config.json: no such file or directory"));
    assert!(say("dir").ends_with("dir/config.json: it is not a plain file"));
    assert!(say("nobody").starts_with("Docker machine \"nobody\" does not exist. Use "));
    assert_eq!(store.names().unwrap(), ["bare", "cut", "dir", "later", "list"]);
}

#[test]
fn a_store_of_somebody_else_and_links_in_one_are_refused() {
    let (_dir, store) = store();
    store.create(&Config::new(store.root(), "box", "none")).unwrap();
    let machine = store.machine_dir("box");
    let elsewhere = store.root().join("elsewhere");
    std::fs::rename(&machine, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &machine).unwrap();
    let why = skep_sys::chain(&store.load("box").unwrap_err());
    assert!(why.ends_with("machines/box: it is a symbolic link"), "{why}");
    std::fs::remove_file(&machine).unwrap();
    std::fs::rename(&elsewhere, &machine).unwrap();
    if !skep_sys::is_root() {
        return test_skip::skip("only root can give files to somebody else");
    }
    for part in [store.root().to_owned(), machine.clone(), machine.join("config.json")] {
        std::os::unix::fs::chown(&part, Some(54321), None).unwrap();
        let why = skep_sys::chain(&store.load("box").unwrap_err());
        assert!(why.contains("belongs to user 54321"), "{why}");
        std::os::unix::fs::chown(&part, Some(0), None).unwrap();
    }
    store.load("box").unwrap();
}

#[test]
fn a_path_is_no_name() {
    let (_dir, store) = store();
    store.create(&Config::new(store.root(), "box", "none")).unwrap();
    for name in ["..", ".", "", "../machines", "box/", "/"] {
        assert!(!store.exists(name), "{name}");
        assert!(store.remove(name).is_err(), "{name}");
    }
    store.remove("box").unwrap();
    assert!(store.names().unwrap().is_empty());
}

#[test]
fn what_was_removed_is_not_written_again_and_a_name_is_given_once() {
    let (_dir, store) = store();
    let config = Config::new(store.root(), "box", "none");
    assert!(matches!(store.save(&config), Err(Error::Removed(name)) if name == "box"));
    store.create(&config).unwrap();
    assert!(matches!(store.create(&config), Err(Error::Exists(name)) if name == "box"));
    store.save(&config).unwrap();
    store.remove("box").unwrap();
    assert!(matches!(store.save(&config), Err(Error::Removed(_))));
    assert!(store.names().unwrap().is_empty());
    store.create(&config).unwrap();
}

#[test]
fn a_clusters_machines_are_only_read() {
    let (_dir, store) = store();
    let config = Config::new(store.root(), "node0", "qemu");
    store.create(&config).unwrap();
    std::fs::write(store.root().join("cluster.json"), "{}").unwrap();
    assert_eq!(store.load("node0").unwrap(), config);
    assert!(matches!(store.save(&config), Err(Error::Cluster(_))));
    assert!(matches!(store.remove("node0"), Err(Error::Cluster(_))));
}
