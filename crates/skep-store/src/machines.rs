//! Virtual machines of ours in a docker-machine store: their part of a file that docker-machine's face
//! has written, and machines of others beside them.

use std::path::Path;

use serde_json::{Value, json};
use skep_core::model::NodeRecord;
use skep_sys::read_own;

use super::dm::{self, Config, MachineStore};
use super::{Error, machine};

/// The keys that only a node of a cluster has.
const OF_CLUSTERS: [&str; 2] = ["Role", "Labels"];

/// Reads what is written down of a machine; none if it is not one of ours, or not yet.
pub(super) fn read(dir: &Path) -> Result<Option<NodeRecord>, Error> {
    let path = dir.join("config.json");
    let damaged = |source| Error::Damaged { path: path.clone(), source };
    let config: Value = serde_json::from_slice(&read_own(&path)?).map_err(damaged)?;
    // No other driver has the name of an interface there.
    match config.pointer("/Driver/Tap") {
        Some(_) => machine::read(dir).map(Some),
        None => Ok(None),
    }
}

/// Writes our part of a machine's file; what else is in it stays.
pub(super) fn write(
    dir: &Path,
    root: &Path,
    bridge: &str,
    record: &NodeRecord,
) -> Result<(), Error> {
    let store = MachineStore::new(root);
    let name = record.name().as_str();
    let mut config = match store.load(name) {
        Err(dm::Error::Open { why, .. }) if why.kind() == std::io::ErrorKind::NotFound => {
            Config::new(root, name, "qemu")
        }
        config => config?,
    };
    machine::check_formats(&dir.join("config.json"), &config.to_value())?;
    let own = json!(machine::driver(dir, root, bridge, record));
    for (key, value) in own.as_object().into_iter().flatten() {
        // What the machine's user chose of the old swarm is not ours to change.
        let is_chosen = key.starts_with("Swarm") && config.driver.contains_key(key);
        if !is_chosen && !OF_CLUSTERS.contains(&key.as_str()) {
            config.driver.insert(key.clone(), value.clone());
        }
    }
    Ok(store.save(&config)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClusterDir;
    use skep_core::fixtures;
    use skep_core::model::{ClusterRecord, ImageSpec, NetworkRecord, NodeName, Role, Size};

    fn network() -> NetworkRecord {
        NetworkRecord { bridge: "skep-machine".into(), ..fixtures::network() }
    }

    fn record(name: &str) -> NodeRecord {
        let mut record = fixtures::node();
        record.spec.name = name.parse().unwrap();
        record.spec.role = Role::Worker;
        let shape = fixtures::shape(&mut record.spec);
        (shape.cpus, shape.memory) = (2, Size::mib(2048));
        record
    }

    #[tokio::test]
    async fn machines_of_ours_are_told_from_others_and_leave_them_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = MachineStore::new(dir.path());
        for (name, driver) in [("other", "none"), ("box", "kvm"), ("begun", "kvm")] {
            let mut config = Config::new(dir.path(), name, driver);
            config.driver.insert("SwarmHost".into(), "chosen".into());
            store.create(&config).unwrap();
        }
        let machines = ClusterDir::of_machines(dir.path());
        assert!(!machines.exists() && machines.nodes().unwrap().is_empty());
        let locked = machines.lock(|_| panic!("it is free")).await.unwrap();
        let shared = ClusterRecord {
            name: machines.name().clone(),
            network: network(),
            image: ImageSpec::default(),
            nodes: Vec::new(),
            hostnames: Vec::new(),
            images: Vec::new(),
            access: skep_core::model::Access::default(),
            peers: Vec::new(),
            registry: None,
            trusted: None,
        };
        locked.write_cluster(&shared).unwrap();
        locked.write_node("skep-machine", &record("box")).unwrap();
        assert_eq!(machines.record().unwrap().unwrap(), shared);
        let config = store.load("box").unwrap();
        assert_eq!((config.driver_name.as_str(), &config.driver["CPU"]), ("kvm", &json!(2)));
        assert_eq!(config.driver["SwarmHost"], "chosen");
        // What others wrote there stays, and what a newer skep wrote into the shared record is refused.
        let mut config = config;
        config.driver.insert("Theirs".into(), json!(1));
        config.rest.insert("Top".into(), json!(2));
        store.save(&config).unwrap();
        locked.write_node("skep-machine", &record("box")).unwrap();
        let config = store.load("box").unwrap();
        assert_eq!((&config.driver["Theirs"], &config.rest["Top"]), (&json!(1), &json!(2)));
        let path = machines.path().join("skep.json");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen('{', "{\"sealed\": 1,", 1)).unwrap();
        assert!(machines.record().unwrap_err().is_newer());
        assert!(locked.write_cluster(&shared).unwrap_err().is_newer());
        std::fs::write(&path, text).unwrap();
        let found = machines.nodes().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1.as_ref().unwrap(), &record("box"));

        let name: NodeName = "box".parse().unwrap();
        locked.remove_node(&name).unwrap();
        locked.remove_cluster().unwrap();
        locked.release();
        assert_eq!(store.names().unwrap(), ["begun", "other"]);
        let mut left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["machines"]);
    }
}
