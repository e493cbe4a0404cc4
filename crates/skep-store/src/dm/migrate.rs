//! Formats of config.json that docker-machine had before version 3.
//!
//! ```text
//! 0 ──> 1   flat fields move into HostOptions, the engine's options begin anew
//! 1 ──> 2   PrivateKeyPath becomes CaPrivateKeyPath; AuthOptions get CertDir and StorePath
//! 2 ──> 3   the driver is told where the store is
//! ```

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::config::{AuthOptions, Config, EngineOptions, HostOptions, SwarmOptions, tidy};
use super::{CONFIG_VERSION, Error};

/// The keys of the formats before the third that are looked for.
const OLD: [&str; 15] = [
    "ConfigVersion",
    "Driver",
    "DriverName",
    "HostOptions",
    "Name",
    "StorePath",
    "CaCertPath",
    "PrivateKeyPath",
    "ServerCertPath",
    "ServerKeyPath",
    "ClientCertPath",
    "ClientKeyPath",
    "SwarmHost",
    "SwarmMaster",
    "SwarmDiscovery",
];

/// Reads a file of any known version. Returns whether it was of an old one.
pub(super) fn read(text: &[u8], name: &str, root: &Path) -> Result<(Config, bool), Error> {
    let mut value: Value = serde_json::from_slice(text).map_err(|error| damaged(&error))?;
    if !value.is_object() {
        return Err(Error::Damaged("json: cannot unmarshal into a host".to_owned()));
    }
    tidy(&mut value, &OLD);
    let version = value.get("ConfigVersion").and_then(Value::as_u64).unwrap_or(0);
    if version > CONFIG_VERSION {
        return Err(Error::Future);
    }
    let store = value.get("StorePath").and_then(Value::as_str).map(two_up);
    let old = version < CONFIG_VERSION;
    let mut config = match version {
        0 => from_flat(&value).map_err(|error| damaged(&error))?,
        _ => {
            if version == 1 {
                renamed(&mut value);
            }
            if old && let Value::Object(map) = &mut value {
                map.remove("StorePath");
            }
            Config::from_value(value).map_err(|error| damaged(&error))?
        }
    };
    if version == 1 {
        let auth = &mut config.host_options.auth_options;
        auth.store_path = text_of(store.as_deref().unwrap_or(Path::new(".")));
        auth.cert_dir = text_of(&clean_join(&auth.store_path));
    }
    if old {
        config.config_version = CONFIG_VERSION;
        let known = config.driver.remove("StorePath").filter(Value::is_string);
        let path = store.map(|path| json!(path)).or(known).unwrap_or_else(|| json!(root));
        config.driver.insert("StorePath".to_owned(), path);
        config.driver.sort_keys();
    }
    name.clone_into(&mut config.name);
    Ok((config, old))
}

fn from_flat(value: &Value) -> Result<Config, serde_json::Error> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let driver: Map<String, Value> =
        value.get("Driver").cloned().map_or_else(|| Ok(Map::new()), serde_json::from_value)?;
    // Of a host's own StorePath the first step keeps nothing, so that the second finds it empty.
    let auth_options = AuthOptions {
        cert_dir: "certs".to_owned(),
        ca_cert_path: text("CaCertPath"),
        ca_private_key_path: text("PrivateKeyPath"),
        server_cert_path: text("ServerCertPath"),
        server_key_path: text("ServerKeyPath"),
        client_key_path: text("ClientKeyPath"),
        client_cert_path: text("ClientCertPath"),
        store_path: ".".to_owned(),
        ..AuthOptions::default()
    };
    let engine_options = EngineOptions {
        tls_verify: true,
        install_url: "https://get.docker.com".to_owned(),
        ..EngineOptions::default()
    };
    let swarm_options = SwarmOptions {
        discovery: text("SwarmDiscovery"),
        master: value.get("SwarmMaster").and_then(Value::as_bool).unwrap_or(false),
        host: text("SwarmHost"),
        ..SwarmOptions::default()
    };
    let host_options =
        HostOptions { engine_options, swarm_options, auth_options, ..HostOptions::default() };
    Ok(Config {
        config_version: 0,
        driver,
        driver_name: text("DriverName"),
        host_options,
        name: String::new(),
        rest: Map::new(),
    })
}

fn renamed(value: &mut Value) {
    let auth = value.get_mut("HostOptions").and_then(|host| host.get_mut("AuthOptions"));
    if let Some(Value::Object(auth)) = auth
        && let Some(path) = auth.shift_remove("PrivateKeyPath")
    {
        auth.insert("CaPrivateKeyPath".to_owned(), path);
    }
}

/// Returns the directory two levels up, as Go's filepath.Dir has it: a dot if there is none.
fn two_up(path: &str) -> PathBuf {
    let parent = Path::new(path).ancestors().nth(2).unwrap_or(Path::new(""));
    if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() }
}

fn clean_join(store: &str) -> PathBuf {
    if store == "." { PathBuf::from("certs") } else { Path::new(store).join("certs") }
}

fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn damaged(error: &serde_json::Error) -> Error {
    match error.classify() {
        serde_json::error::Category::Eof => Error::Damaged("unexpected end of JSON input".into()),
        _ => Error::Damaged(error.to_string()),
    }
}
