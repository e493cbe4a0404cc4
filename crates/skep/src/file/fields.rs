//! The keys of a cluster file.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::{Value as Json, json};
use skep_core::model::{
    AptSource, Availability, ClusterName, HostSpec, Hostname, HostnameSpec, NodeName, Role, Size,
};

use super::kind::{
    AptLine, Driver, FilePath, Flag, ImageName, Kind, LabelKey, LabelValue, ListOf, MapOf,
    OneOrMore, RegistryName, SizeFrom, Url, User, Whole, Word, text,
};
use super::problem::Problems;
use super::section::{Field, Section, field};
use super::spec::{SSH, parse_hostname};
use super::tree::{Node, Value};
use super::{
    ClusterFile, ImageEntry, NodeDefaults, NodeEntry, RegistryEntry, StackEntry, TrustedEntry,
};

type Cpus = Whole<1, 255>;
type Memory = SizeFrom<384>;
type Disk = SizeFrom<{ 3 << 10 }>;
type Labels = MapOf<LabelKey, LabelValue>;
// Far more than a host can run, and few enough to be counted out.
type Managers = Whole<0, 99>;
type Workers = Whole<0, 999>;
type Port = Whole<1, 65535>;
type RegistryPort = Whole<1024, 65534>;

impl Section for ClusterFile {
    const FIELDS: &'static [Field<Self>] = &[
        field!(
            "name",
            ClusterName,
            name,
            "The cluster's name; that on the command line goes before."
        ),
        field!(
            "driver",
            Driver,
            driver,
            "The kind of machines: ssh for hosts that exist already, which `nodes` names; all other \
             names mean QEMU on this host."
        ),
        field!("node", NodeDefaults, node, "What every node is like that says nothing else."),
        field!(
            "managers",
            Managers,
            managers,
            "The number of managers; 1 if not given. Use an odd number."
        ),
        field!("workers", Workers, workers, "The number of workers; 1 if not given."),
        field!(
            "nodes",
            MapOf<NodeName, NodeEntry>,
            nodes,
            "What differs, by node: node0, node1 and so on, managers first. \
             Another name is one more node."
        ),
        field!("subnet", Ipv4Net, subnet, "The subnet of the nodes; a free one if not given."),
        field!(
            "hostnames",
            ListOf<HostnameSpec>,
            hostnames,
            "Names for this host's /etc/hosts, pointing at the first manager, \
             at the node that is named, or with NAME@* at any node that is up."
        ),
        field!(
            "ports",
            ListOf<Port>,
            ports,
            "TCP ports of this host's loopback, each of which leads to the same port of a node \
             that is up."
        ),
        field!(
            "context",
            Flag,
            context,
            "Whether the docker command of this host gets a context for the cluster, skep-NAME; \
             true if not given."
        ),
        field!("image", ImageEntry, image, "What the nodes' image is made from."),
        field!(
            "images",
            ListOf<ImageName>,
            images,
            "Container images that every node has: references in this host's docker or podman store, \
             or archives and OCI layouts, relative to this file's folder."
        ),
        field!(
            "registry",
            RegistryEntry,
            registry,
            "A registry that the first manager serves and all nodes trust; `registry: {}` is enough. Without this \
             key it stays as `skep registry` has left it."
        ),
        field!(
            "registries",
            ListOf<TrustedEntry>,
            registries,
            "Registries that are there already, which all nodes trust. Without this key they stay as \
             `skep registry` has left them."
        ),
        field!(
            "stacks",
            ListOf<StackEntry>,
            stacks,
            "Stacks that `skep up -f` deploys in this order once the swarm is ready, \
             waiting for each to converge."
        ),
    ];
}

impl Section for NodeDefaults {
    const FIELDS: &'static [Field<Self>] = &[
        field!("cpus", Cpus, cpus, "The number of virtual CPUs of a node; 1 if not given."),
        field!("memory", Memory, memory, "The memory of a node; 1GiB if not given."),
        field!(
            "disk",
            Disk,
            disk,
            "The disk of a node; 20GiB if not given. It takes room as it fills."
        ),
        field!("labels", Labels, labels, "Swarm labels of every node."),
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
            "role",
            Role,
            role,
            "The node's part in the swarm. A numbered node has that of its number, \
             another is a worker if not given."
        ),
        field!("cpus", Cpus, cpus, "The number of virtual CPUs; that of `node` if not given."),
        field!("memory", Memory, memory, "The memory; that of `node` if not given."),
        field!(
            "disk",
            Disk,
            disk,
            "The disk; that of `node` if not given. It takes room as it fills."
        ),
        field!("labels", Labels, labels, "Swarm labels, beside those of every node."),
        field!(
            "driver",
            Driver,
            driver,
            "The kind of machine, if it is another than the cluster's: ssh for a host that exists already."
        ),
        field!(
            "address",
            Ipv4Addr,
            address,
            "The address of a host that exists already; it makes the node one. The other nodes reach it \
             there too."
        ),
        field!(
            "user",
            User,
            user,
            "The user to log in to the host as, who is root or may become it with sudo; root if not given."
        ),
        field!("port", Port, port, "The port of the host's ssh server; 22 if not given."),
        field!(
            "key",
            FilePath,
            key,
            "The private key for the host: a file, relative to this one's folder. An agent's keys and \
             the user's own if not given."
        ),
        field!(
            "install_url",
            Url,
            install_url,
            "A script that installs the host's engine if it has none; the distribution's if not given."
        ),
        field!(
            "availability",
            Availability,
            availability,
            "Whether the node takes tasks; as it is found if not given."
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
            None if driver == Some(SSH) => problems.report(node.at, "a host needs its `address`"),
            None if reached => {
                problems.report(
                    node.at,
                    "user, port, key and install_url are a host's, which needs its `address`",
                );
            }
            Some(_) if is_machine => {
                problems.report(
                    node.at,
                    "an `address` makes the node a host: leave out `driver`, or use ssh",
                );
            }
            Some(_) if sized => {
                problems.report(
                    node.at,
                    "cpus, memory and disk are a virtual machine's; a host has its own",
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

impl Section for ImageEntry {
    const FIELDS: &'static [Field<Self>] = &[
        field!("suite", Word, suite, "The Debian suite; trixie if not given."),
        field!("mirror", Url, mirror, "The Debian mirror."),
        field!("sources", ListOf<AptSource>, sources, "Further apt sources, such as Docker's own."),
        field!("packages", ListOf<Word>, packages, "Further packages."),
    ];
}

#[derive(Default)]
struct SourceEntry {
    line: Option<String>,
    key: Option<String>,
}

impl Section for SourceEntry {
    const FIELDS: &'static [Field<Self>] = &[
        field!("line", AptLine, line, "The source as a line of sources.list(5)."),
        field!(
            "key",
            FilePath,
            key,
            "The OpenPGP key that signs the source: a file, relative to this one's folder. \
             Debian's keys if not given."
        ),
    ];
    const REQUIRED: &'static [&'static str] = &["line"];
}

impl Kind for AptSource {
    type Value = Self;

    fn schema() -> Json {
        SourceEntry::schema()
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let SourceEntry { line, key } = SourceEntry::read(node, problems)?;
        Some(Self { line: line?, key })
    }
}

impl Section for RegistryEntry {
    const FIELDS: &'static [Field<Self>] = &[
        field!("port", RegistryPort, port, "Its port; 5000 if not given."),
        field!(
            "mirror",
            Url,
            mirror,
            "Another registry: what nodes pull without naming one comes from there, and is kept; at the next port."
        ),
    ];
}

#[derive(Default)]
struct TrustedFields {
    at: Option<String>,
    ca: Option<String>,
    insecure: Option<bool>,
}

impl Section for TrustedFields {
    const FIELDS: &'static [Field<Self>] = &[
        field!(
            "at",
            RegistryName,
            at,
            "Its name in references of images, such as hub.example:5000."
        ),
        field!(
            "ca",
            FilePath,
            ca,
            "The certificates of the authority that it is trusted by, in PEM: a file, relative to this one's folder."
        ),
        field!(
            "insecure",
            Flag,
            insecure,
            "In the place of `ca`: whether whoever answers there is believed, with TLS or without."
        ),
    ];
    const REQUIRED: &'static [&'static str] = &["at"];
}

impl Kind for TrustedEntry {
    type Value = Self;

    fn schema() -> Json {
        TrustedFields::schema()
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let TrustedFields { at, ca, insecure } = TrustedFields::read(node, problems)?;
        if ca.is_some() == (insecure == Some(true)) {
            problems.report(node.at, "a registry has either the key `ca`, or `insecure: true`");
        }
        Some(Self { at: at?, ca: ca.map(Into::into) })
    }
}

#[derive(Default)]
struct StackFields {
    name: Option<String>,
    file: Vec<String>,
    files: Vec<String>,
    env_file: Vec<String>,
}

impl Section for StackFields {
    const FIELDS: &'static [Field<Self>] = &[
        field!("name", Word, name, "The stack's name."),
        field!(
            "file",
            OneOrMore<FilePath>,
            file,
            "Its compose file, or several to be merged, relative to this one's folder."
        ),
        field!("files", ListOf<FilePath>, files, "The same as `file`."),
        field!(
            "env_file",
            OneOrMore<FilePath>,
            env_file,
            "A file of variables for the compose files, KEY=VALUE lines, or several. \
             Those of the environment go before."
        ),
    ];
    const REQUIRED: &'static [&'static str] = &["name"];
}

impl Kind for StackEntry {
    type Value = Self;

    fn schema() -> Json {
        StackFields::schema()
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let StackFields { name, file, files, env_file } = StackFields::read(node, problems)?;
        let paths = |texts: Vec<String>| texts.into_iter().map(Into::into).collect();
        let files = [file, files].concat();
        if files.is_empty() {
            problems.report(node.at, "the key `file` is missing");
        }
        Some(Self { name: name?, files: paths(files), env_files: paths(env_file) })
    }
}

#[derive(Default)]
struct HostnameEntry {
    name: Option<Hostname>,
    node: Option<NodeName>,
}

impl Section for HostnameEntry {
    const FIELDS: &'static [Field<Self>] = &[
        field!("name", Hostname, name, "The name."),
        field!(
            "node",
            NodeName,
            node,
            "The node that it points at; the first manager if not given."
        ),
    ];
    const REQUIRED: &'static [&'static str] = &["name"];
}

impl Kind for HostnameSpec {
    type Value = Self;

    fn schema() -> Json {
        let text = json!({"type": "string", "description": "NAME, NAME@NODE or NAME@*"});
        json!({"anyOf": [text, HostnameEntry::schema()]})
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        if let Value::Map(_) = node.value {
            let HostnameEntry { name, node } = HostnameEntry::read(node, problems)?;
            return Some(Self { name: name?, node, follow: false });
        }
        let text = text(node, "NAME, NAME@NODE or a map with name and node", problems)?;
        parse_hostname(text).map_err(|error| problems.report(node.at, error)).ok()
    }
}
