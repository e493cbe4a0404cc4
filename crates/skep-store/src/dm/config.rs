//! config.json, version 3: the fields in docker-machine's order.
//!
//! Reading takes any order of keys, keys whose letters differ in case, missing ones and `null`, as Go
//! does. A list that was `null` is written as `null` again.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::CONFIG_VERSION;

/// What is written down of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// The format's number.
    #[serde(default)]
    pub config_version: u64,
    /// What the driver wrote down, key for key.
    #[serde(default)]
    pub driver: Map<String, Value>,
    /// Which driver the machine has.
    #[serde(default)]
    pub driver_name: String,
    /// What the machine was made with.
    #[serde(default)]
    pub host_options: HostOptions,
    /// The machine's name.
    #[serde(default)]
    pub name: String,
    /// What is not known here.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What a machine was made with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostOptions {
    /// Always empty.
    pub driver: String,
    /// Always 0.
    pub memory: i64,
    /// Always 0.
    pub disk: i64,
    /// Of the engine.
    pub engine_options: EngineOptions,
    /// Of the swarm before there was swarm mode.
    pub swarm_options: SwarmOptions,
    /// Certificates.
    pub auth_options: AuthOptions,
    /// What is not known here.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A list that may be missing, which is something else than empty when it is written.
pub type List = Option<Vec<String>>;

/// Options of the engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EngineOptions {
    /// Any options of the engine, as `flag=value` or `flag`.
    pub arbitrary_flags: List,
    /// Always `null`.
    pub dns: List,
    /// Always empty.
    pub graph_dir: String,
    /// Variables of its environment.
    pub env: List,
    /// Always false.
    pub ipv6: bool,
    /// Registries without TLS.
    pub insecure_registry: List,
    /// Its labels.
    pub labels: List,
    /// Always empty.
    pub log_level: String,
    /// The storage driver; empty is for the provisioning to choose.
    pub storage_driver: String,
    /// Always false.
    pub selinux_enabled: bool,
    /// Always true.
    pub tls_verify: bool,
    /// Mirrors of the registry.
    pub registry_mirror: List,
    /// The script that installs the engine.
    #[serde(rename = "InstallURL")]
    pub install_url: String,
    /// What is not known here.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Options of the swarm before there was swarm mode. They are recorded, and no more.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SwarmOptions {
    /// Whether the machine is in one.
    pub is_swarm: bool,
    /// What to advertise.
    pub address: String,
    /// Where members find each other.
    pub discovery: String,
    /// Whether it runs containers.
    pub agent: bool,
    /// Whether it is the master.
    pub master: bool,
    /// What the master listens on.
    pub host: String,
    /// The image.
    pub image: String,
    /// How containers are placed.
    pub strategy: String,
    /// Always 0.
    pub heartbeat: i64,
    /// Always 0.
    pub overcommit: f64,
    /// Any options of the master.
    pub arbitrary_flags: List,
    /// Any options of joining.
    pub arbitrary_join_flags: List,
    /// Always `null`.
    pub env: List,
    /// Whether experimental features are on.
    pub is_experimental: bool,
    /// What is not known here.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Where certificates and keys are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AuthOptions {
    /// The store's directory of them.
    pub cert_dir: String,
    /// The authority's certificate.
    pub ca_cert_path: String,
    /// The authority's key.
    pub ca_private_key_path: String,
    /// Always empty.
    pub ca_cert_remote_path: String,
    /// The engine's certificate.
    pub server_cert_path: String,
    /// The engine's key.
    pub server_key_path: String,
    /// The client's key.
    pub client_key_path: String,
    /// Always empty.
    pub server_cert_remote_path: String,
    /// Always empty.
    pub server_key_remote_path: String,
    /// The client's certificate.
    pub client_cert_path: String,
    /// Names of the engine's certificate, beside its address.
    #[serde(rename = "ServerCertSANs")]
    pub server_cert_sans: List,
    /// The machine's directory.
    pub store_path: String,
    /// What is not known here.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The keys of each object, to find those that are spelled in other letters.
const TOP: [&str; 5] = ["ConfigVersion", "Driver", "DriverName", "HostOptions", "Name"];
const HOST: [&str; 6] =
    ["Driver", "Memory", "Disk", "EngineOptions", "SwarmOptions", "AuthOptions"];
const ENGINE: [&str; 13] = [
    "ArbitraryFlags",
    "Dns",
    "GraphDir",
    "Env",
    "Ipv6",
    "InsecureRegistry",
    "Labels",
    "LogLevel",
    "StorageDriver",
    "SelinuxEnabled",
    "TlsVerify",
    "RegistryMirror",
    "InstallURL",
];
const SWARM: [&str; 14] = [
    "IsSwarm",
    "Address",
    "Discovery",
    "Agent",
    "Master",
    "Host",
    "Image",
    "Strategy",
    "Heartbeat",
    "Overcommit",
    "ArbitraryFlags",
    "ArbitraryJoinFlags",
    "Env",
    "IsExperimental",
];
const AUTH: [&str; 12] = [
    "CertDir",
    "CaCertPath",
    "CaPrivateKeyPath",
    "CaCertRemotePath",
    "ServerCertPath",
    "ServerKeyPath",
    "ClientKeyPath",
    "ServerCertRemotePath",
    "ServerKeyRemotePath",
    "ClientCertPath",
    "ServerCertSANs",
    "StorePath",
];

impl Config {
    /// Creates what is written down of a new machine in a store.
    #[must_use]
    pub fn new(root: &Path, name: &str, driver_name: &str) -> Self {
        let (certs, dir) = (root.join("certs"), root.join("machines").join(name));
        let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
        let auth_options = AuthOptions {
            cert_dir: text(certs.clone()),
            ca_cert_path: text(certs.join("ca.pem")),
            ca_private_key_path: text(certs.join("ca-key.pem")),
            server_cert_path: text(dir.join("server.pem")),
            server_key_path: text(dir.join("server-key.pem")),
            client_key_path: text(certs.join("key.pem")),
            client_cert_path: text(certs.join("cert.pem")),
            server_cert_sans: Some(Vec::new()),
            store_path: text(dir),
            ..AuthOptions::default()
        };
        Self {
            config_version: CONFIG_VERSION,
            driver: Map::new(),
            driver_name: driver_name.to_owned(),
            host_options: HostOptions { auth_options, ..HostOptions::default() },
            name: name.to_owned(),
            rest: Map::new(),
        }
    }

    /// Reads a document of version 3.
    ///
    /// # Errors
    ///
    /// If a value is of another type than it should be.
    pub(super) fn from_value(mut value: Value) -> Result<Self, serde_json::Error> {
        tidy(&mut value, &TOP);
        if let Some(host) = value.get_mut("HostOptions") {
            tidy(host, &HOST);
            let parts =
                [("EngineOptions", &ENGINE[..]), ("SwarmOptions", &SWARM), ("AuthOptions", &AUTH)];
            for (key, keys) in parts {
                if let Some(part) = host.get_mut(key) {
                    tidy(part, keys);
                }
            }
        }
        serde_json::from_value(value)
    }

    /// Returns the document.
    #[must_use]
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("a record has only text keys")
    }
}

/// Gives the known keys of an object their own spelling, and drops those that are `null`.
pub(super) fn tidy(value: &mut Value, keys: &[&str]) {
    let Value::Object(map) = value else { return };
    let old = std::mem::take(map);
    for (key, value) in old {
        let known = keys.iter().find(|known| known.eq_ignore_ascii_case(&key));
        match known {
            Some(_) if value.is_null() => {}
            // The exact spelling wins over another.
            Some(known) if **known != key && map.contains_key(*known) => {}
            Some(known) => {
                map.insert((*known).to_owned(), value);
            }
            None => {
                map.insert(key, value);
            }
        }
    }
}
