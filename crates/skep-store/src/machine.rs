//! machines/NODE/config.json: what is written down of a node, in the format of docker-machine 0.16
//! (ConfigVersion 3), so that tools which read its store find address, user, key and certificates.
//!
//! The `Driver` object is the driver's own part of that format; ours has what [`NodeRecord`] has.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use skep_core::model::{
    Availability, HostSpec, Mac, NodeKind, NodeName, NodeRecord, NodeSpec, Role, Shape, Size,
};
use skep_sys::{read_own, write_atomic};

use super::cluster::{check_format, check_link_name, check_sound};
use super::{Error, unknown};

/// docker-machine's number of its format.
const CONFIG_VERSION: u64 = 3;

/// The number of our own part's format; raised whenever a key is added. A file without it is of the first.
const FORMAT: u64 = 2;

/// A node and where its files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// What is written down of the node.
    pub record: NodeRecord,
    /// Its directory.
    pub dir: PathBuf,
}

/// Our part of the file. The names of the first keys are docker-machine's.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Driver {
    #[serde(rename = "IPAddress")]
    ip_address: Ipv4Addr,
    machine_name: NodeName,
    #[serde(rename = "SSHUser")]
    ssh_user: String,
    #[serde(rename = "SSHPort")]
    ssh_port: u16,
    #[serde(rename = "SSHKeyPath")]
    ssh_key_path: PathBuf,
    store_path: PathBuf,
    #[serde(default)]
    swarm_master: bool,
    #[serde(default)]
    swarm_host: String,
    #[serde(default)]
    swarm_discovery: String,
    #[serde(default = "first_format")]
    skep_format: u64,
    #[serde(rename = "CPU")]
    cpu: u32,
    /// In MiB.
    memory: u64,
    /// In MiB.
    disk_size: u64,
    network: String,
    index: u32,
    #[serde(rename = "MACAddress")]
    mac_address: Mac,
    tap: String,
    #[serde(default = "worker")]
    role: Role,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// How to log in to a host that exists already, in our own form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<HostSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    availability: Option<Availability>,
}

fn first_format() -> u64 {
    1
}

/// A machine that is in no cluster has no part to play there.
fn worker() -> Role {
    Role::Worker
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    driver: Driver,
}

pub(super) fn read(dir: &Path) -> Result<NodeRecord, Error> {
    let path = dir.join("config.json");
    let text = read_own(&path)?;
    let damaged = |source| Error::Damaged { path: path.clone(), source };
    let value: Value = serde_json::from_slice(&text).map_err(damaged)?;
    check_formats(&path, &value)?;
    let File { driver } = serde_json::from_value(value).map_err(damaged)?;
    check_link_name(&driver.tap).map_err(damaged)?;
    // Two records of one name would be one machine to whoever stops or removes it.
    if dir.file_name().is_some_and(|name| name != driver.machine_name.as_str()) {
        let told = format!("it is the record of {}", driver.machine_name);
        return Err(damaged(serde::de::Error::custom(told)));
    }
    let shape = Shape {
        cpus: driver.cpu,
        memory: Size::mib(driver.memory),
        disk: Size::mib(driver.disk_size),
    };
    let record = NodeRecord {
        spec: NodeSpec {
            name: driver.machine_name,
            role: driver.role,
            kind: NodeKind::read(shape, driver.host),
            labels: driver.labels,
            availability: driver.availability,
        },
        index: driver.index,
        address: driver.ip_address,
        mac: driver.mac_address,
        tap: driver.tap,
    };
    check_sound(record.problems()).map_err(damaged)?;
    Ok(record)
}

/// Writes config.json into the node's directory; `store` is the docker-machine store, that is the
/// cluster's directory.
pub(super) fn write(
    dir: &Path,
    store: &Path,
    bridge: &str,
    record: &NodeRecord,
) -> Result<(), Error> {
    let path = dir.join("config.json");
    let present = read_own(&path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    present.as_ref().map_or(Ok(()), |present| check_formats(&path, present))?;
    let mut config = json!({
        "ConfigVersion": CONFIG_VERSION,
        "Driver": driver(dir, store, bridge, record),
        "DriverName": if record.spec.is_host() { "generic" } else { "qemu" },
        "HostOptions": host_options(dir, store),
        "Name": record.name(),
    });
    if let (Some(present), Some(config)) = (&present, config.as_object_mut()) {
        let known = present.get("Driver").and_then(|it| serde_json::from_value(it.clone()).ok());
        let known = known.map_or(Value::Null, |it: Driver| json!(it));
        unknown::keep(present, &json!({"Driver": known}), config);
    }
    let text = indented(&config);
    Ok(write_atomic(&path, 0o600, &text)?)
}

/// Refuses a file of a newer docker-machine or skep.
pub(super) fn check_formats(path: &Path, value: &Value) -> Result<(), Error> {
    check_format(path, value, "ConfigVersion", CONFIG_VERSION)?;
    check_format(path, value.get("Driver").unwrap_or(&Value::Null), "SkepFormat", FORMAT)
}

/// Returns the driver's part of a node's file.
pub(super) fn driver(dir: &Path, store: &Path, bridge: &str, record: &NodeRecord) -> Driver {
    let host = record.spec.host();
    let shape = record.spec.kind.written_shape();
    let own_key = dir.join("id_rsa");
    Driver {
        ip_address: record.address,
        machine_name: record.name().clone(),
        ssh_user: host.map_or_else(|| "docker".to_owned(), |host| host.user.clone()),
        ssh_port: host.map_or(22, |host| host.port),
        ssh_key_path: host.map_or(own_key, |host| host.key.clone().unwrap_or_default().into()),
        store_path: store.to_owned(),
        swarm_master: false,
        swarm_host: "tcp://0.0.0.0:3376".to_owned(),
        swarm_discovery: String::new(),
        skep_format: FORMAT,
        cpu: shape.cpus,
        memory: shape.memory.as_mib(),
        disk_size: shape.disk.as_mib(),
        network: bridge.to_owned(),
        index: record.index,
        mac_address: record.mac,
        tap: record.tap.clone(),
        role: record.spec.role,
        labels: record.spec.labels.clone(),
        host: host.cloned(),
        availability: record.spec.availability,
    }
}

fn host_options(dir: &Path, store: &Path) -> Value {
    let certs = store.join("certs");
    json!({
        "Driver": "",
        "Memory": 0,
        "Disk": 0,
        "EngineOptions": {
            "ArbitraryFlags": [], "Dns": null, "GraphDir": "", "Env": [], "Ipv6": false,
            "InsecureRegistry": [], "Labels": [], "LogLevel": "", "StorageDriver": "",
            "SelinuxEnabled": false, "TlsVerify": true, "RegistryMirror": [],
            "InstallURL": "https://get.docker.com",
        },
        "SwarmOptions": {
            "IsSwarm": false, "Address": "", "Discovery": "", "Agent": false, "Master": false,
            "Host": "tcp://0.0.0.0:3376", "Image": "swarm:latest", "Strategy": "spread",
            "Heartbeat": 0, "Overcommit": 0, "ArbitraryFlags": [], "ArbitraryJoinFlags": [],
            "Env": null, "IsExperimental": false,
        },
        "AuthOptions": {
            "CertDir": certs,
            "CaCertPath": certs.join("ca.pem"),
            "CaPrivateKeyPath": certs.join("ca-key.pem"),
            "CaCertRemotePath": "",
            "ServerCertPath": dir.join("server.pem"),
            "ServerKeyPath": dir.join("server-key.pem"),
            "ClientKeyPath": certs.join("key.pem"),
            "ServerCertRemotePath": "",
            "ServerKeyRemotePath": "",
            "ClientCertPath": certs.join("cert.pem"),
            "ServerCertSANs": [],
            "StorePath": dir,
        },
    })
}

/// Writes JSON as docker-machine does: four blanks of indent, no newline at the end.
fn indented(value: &Value) -> Vec<u8> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    value.serialize(&mut serializer).expect("a value has only text keys");
    text
}
