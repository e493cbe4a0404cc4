//! A cluster as a cluster file that leaves nothing to defaults.
//!
//! Invariant: it is read back as the same specification.

use serde_json::{Map, Value as Json, json};
use skep_core::model::{
    ClusterSpec, HostSpec, HostnameSpec, ImageSpec, NodeKind, NodeName, NodeSpec, Role, Shape,
};

use super::spec::{ANY, DRIVERS, SSH};
use super::{ClusterFile, DEFAULT_CPUS, DEFAULT_DISK, DEFAULT_MEMORY, StackEntry, VERSION};
use crate::cli::{ResolveImage, StackOptions};

/// Returns the cluster file of a specification. What a specification does not hold comes from the file that
/// it was made from; a recorded cluster has none, so its file says nothing of stacks, nor of registries whose
/// CA certificates are in no file.
#[must_use]
pub fn document(spec: &ClusterSpec, file: Option<&ClusterFile>) -> Json {
    let numbered = (0..).map(NodeName::numbered);
    let numbered = numbered.map_while(|name| spec.nodes.iter().find(|node| node.name == name));
    let (managers, workers): (Vec<_>, Vec<_>) = numbered.partition(|it| it.role == Role::Manager);
    let nodes = spec.nodes.iter().map(|it| (it.name.to_string(), node(it)));
    let mut keys = Map::new();
    let mut add = |key: &str, value: Json| drop(keys.insert(key.to_owned(), value));
    add("version", json!(VERSION));
    add("name", json!(spec.name));
    add("driver", json!(if spec.has_machines() { DRIVERS[0] } else { SSH }));
    if let Some(ClusterFile { node, .. }) = file {
        add(
            "node",
            json!({
                "cpus": node.cpus.unwrap_or(DEFAULT_CPUS),
                "memory": node.memory.unwrap_or(DEFAULT_MEMORY),
                "disk": node.disk.unwrap_or(DEFAULT_DISK),
                "labels": node.labels,
            }),
        );
    }
    add("managers", json!(managers.len()));
    add("workers", json!(workers.len()));
    add("nodes", Json::Object(nodes.collect()));
    if let Some(subnet) = spec.subnet {
        add("subnet", json!(subnet));
    }
    add("hostnames", spec.hostnames.iter().map(hostname).collect());
    add("ports", json!(spec.access.ports));
    add("peers", json!(spec.peers));
    add("context", json!(!spec.access.no_context));
    add("image", image(&spec.image));
    add("images", spec.images.iter().map(|set| json!(set.source)).collect());
    if let Some(registry) = spec.registry.as_ref().filter(|registry| registry.runs) {
        let mut keys = json!({"port": registry.port});
        insert(&mut keys, "mirror", registry.mirror.as_ref());
        add("registry", keys);
    }
    if let Some(registries) = registries(spec, file) {
        add("registries", registries);
    }
    if let Some(file) = file {
        add("stacks", file.stacks.iter().map(stack).collect());
    }
    Json::Object(keys)
}

fn node(node: &NodeSpec) -> Json {
    let NodeSpec { name: _, role, kind, labels, availability } = node;
    let mut keys = match kind {
        NodeKind::Vm(Shape { cpus, memory, disk }) => {
            json!({"role": role, "cpus": cpus, "memory": memory, "disk": disk, "labels": labels})
        }
        NodeKind::Host(HostSpec { address, user, port, key, install_url }) => {
            let mut keys = json!({"role": role, "address": address, "user": user, "port": port, "labels": labels});
            insert(&mut keys, "key", key.as_ref());
            insert(&mut keys, "install_url", install_url.as_ref());
            keys
        }
    };
    insert(&mut keys, "availability", availability.map(|it| it.as_str()));
    keys
}

fn hostname(hostname: &HostnameSpec) -> Json {
    let HostnameSpec { name, node, follow } = hostname;
    match node {
        _ if *follow => json!(format!("{name}@{ANY}")),
        Some(node) => json!(format!("{name}@{node}")),
        None => json!(name),
    }
}

fn image(image: &ImageSpec) -> Json {
    let ImageSpec { suite, mirror, sources, packages } = image;
    let mut keys = json!({"suite": suite});
    insert(&mut keys, "mirror", mirror.as_ref());
    insert(&mut keys, "sources", Some(sources));
    insert(&mut keys, "packages", Some(packages));
    keys
}

fn registries(spec: &ClusterSpec, file: Option<&ClusterFile>) -> Option<Json> {
    let entry = |at: &str, ca: Option<&std::path::Path>| match ca {
        Some(ca) => json!({"at": at, "ca": ca}),
        None => json!({"at": at, "insecure": true}),
    };
    match file {
        Some(file) => {
            let entries = file.registries.as_ref()?.iter();
            Some(entries.map(|it| entry(&it.at, it.ca.as_deref())).collect())
        }
        None => {
            let trusted = spec.trusted.as_ref()?;
            let insecure = trusted.iter().all(|it| it.ca.is_none());
            insecure.then(|| trusted.iter().map(|it| entry(&it.at, None)).collect())
        }
    }
}

fn stack(stack: &StackEntry) -> Json {
    let StackEntry { name, files, how, timeout } = stack;
    let StackOptions { env_file, prune, resolve_image, with_registry_auth } = how;
    let mut keys = json!({
        "name": name,
        "file": files,
        "env_file": env_file,
        "prune": prune,
        "resolve_image": resolve_image.unwrap_or(ResolveImage::Always).as_str(),
        "with_registry_auth": with_registry_auth,
    });
    insert(&mut keys, "timeout", timeout.map(|limit| format!("{}s", limit.as_secs())));
    keys
}

fn insert(keys: &mut Json, key: &str, value: Option<impl serde::Serialize>) {
    if let Some(value) = value {
        keys[key] = json!(value);
    }
}
