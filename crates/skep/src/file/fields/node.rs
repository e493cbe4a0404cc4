//! The keys of nodes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::Value as Json;
use skep_core::model::{Availability, HostSpec, Role, Size};

use super::{
    Driver, Field, FilePath, Kind, Labels, Node, NodeDefaults, NodeEntry, Port, Problems, Section,
    SizeFrom, Url, User, Whole, field,
};
use crate::file::spec::{DEFAULT_CPUS, DEFAULT_DISK, DEFAULT_MEMORY, SSH};

type Cpus = Whole<1, 255>;
type Memory = SizeFrom<384>;
type Disk = SizeFrom<{ 3 << 10 }>;

impl Section for NodeDefaults {
    const FIELDS: &'static [Field<Self>] = &[
        field!("cpus": Cpus => cpus, default(DEFAULT_CPUS), "Virtual CPUs of a node."),
        field!("memory": Memory => memory, default(DEFAULT_MEMORY), "Memory of a node."),
        field!(
            "disk": Disk => disk,
            default(DEFAULT_DISK),
            "Disk of a node. It takes up space on this host only as it fills."
        ),
        field!("labels": Labels => labels, default({}), "Swarm labels of every node."),
    ];
}

#[derive(Default)]
struct NodeKeys {
    role: Option<Role>,
    cpus: Option<u32>,
    memory: Option<Size>,
    disk: Option<Size>,
    labels: BTreeMap<String, String>,
    availability: Option<Availability>,
    driver: Option<&'static str>,
    address: Option<Ipv4Addr>,
    user: Option<String>,
    port: Option<u32>,
    key: Option<String>,
    install_url: Option<String>,
}

impl Section for NodeKeys {
    const FIELDS: &'static [Field<Self>] = &[
        field!(
            "role": Role => role,
            otherwise("by the node's number; worker for any other name"),
            "Role of the node in the swarm."
        ),
        field!("cpus": Cpus => cpus, otherwise("as in `node`"), "Virtual CPUs."),
        field!("memory": Memory => memory, otherwise("as in `node`"), "Memory."),
        field!(
            "disk": Disk => disk,
            otherwise("as in `node`"),
            "Disk. It takes up space on this host only as it fills."
        ),
        field!("labels": Labels => labels, default({}), "Swarm labels, in addition to those in `node`."),
        field!(
            "driver": Driver => driver,
            otherwise("the cluster's `driver`"),
            "Kind of this node: `ssh` for an existing host."
        ),
        field!(
            "address": Ipv4Addr => address,
            otherwise("none; the node is a virtual machine"),
            "Address of an existing host, which becomes a node. The other nodes reach it at this address \
             too."
        ),
        field!(
            "user": User => user,
            default(HostSpec::DEFAULT_USER),
            "User to log in to the host as: root, or a user with sudo rights."
        ),
        field!("port": Port => port, default(HostSpec::DEFAULT_PORT), "Port of the host's SSH server."),
        field!(
            "key": FilePath => key,
            otherwise("the keys that ssh finds"),
            "Private key for the host: a file, relative to this file's directory."
        ),
        field!(
            "install_url": Url => install_url,
            otherwise("packages of the host's distribution"),
            "Script that installs Docker Engine on a host without one: https://…#sha256=DIGEST."
        ),
        field!(
            "availability": Availability => availability,
            otherwise("unchanged"),
            "Whether the node takes tasks."
        ),
    ];
}

impl Kind for NodeEntry {
    type Value = Self;

    fn schema() -> Json {
        NodeKeys::schema()
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let keys = NodeKeys::read(node, problems)?;
        let NodeKeys {
            role,
            cpus,
            memory,
            disk,
            labels,
            availability,
            driver,
            address,
            user,
            port,
            key,
            install_url,
        } = keys;
        let is_machine = driver.is_some_and(|driver| driver != SSH);
        let sized = cpus.is_some() || memory.is_some() || disk.is_some();
        let reached = user.is_some() || port.is_some() || key.is_some() || install_url.is_some();
        match address {
            None if driver == Some(SSH) => problems.report(node.at, "a host needs an `address`"),
            None if reached => {
                problems.report(
                    node.at,
                    "user, port, key and install_url are for hosts; a host needs an `address`",
                );
            }
            Some(_) if is_machine => {
                problems.report(
                    node.at,
                    "a node with an `address` is a host: omit `driver`, or use ssh",
                );
            }
            Some(_) if sized => {
                problems.report(
                    node.at,
                    "cpus, memory and disk are for virtual machines, not for hosts",
                );
            }
            _ => {}
        }
        let host = address.map(|address| HostSpec {
            address,
            user: user.unwrap_or_else(|| HostSpec::DEFAULT_USER.to_owned()),
            port: port.and_then(|port| port.try_into().ok()).unwrap_or(HostSpec::DEFAULT_PORT),
            key,
            install_url,
        });
        Some(Self { role, cpus, memory, disk, labels, host, is_machine, availability })
    }
}
