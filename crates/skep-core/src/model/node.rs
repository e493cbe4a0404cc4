//! One node as a user wants it: a virtual machine of some shape, or a host that exists already.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{NodeName, Size, SpecError};

/// One node as its user wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct NodeSpec {
    /// The node's name, unique in its cluster.
    pub name: NodeName,
    /// The node's part in the swarm.
    pub role: Role,
    /// What it runs on.
    pub kind: NodeKind,
    /// Swarm node labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it takes tasks; none to leave that as it is found.
    pub availability: Option<Availability>,
}

/// What a node runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A virtual machine that skep makes.
    Vm(Shape),
    /// A host that exists already. CPUs, memory and disk are its own.
    Host(HostSpec),
}

/// A node as files have it, in the form of the first skep: a host has a size of zero there.
#[derive(Serialize, Deserialize)]
struct Written {
    name: NodeName,
    role: Role,
    cpus: u32,
    memory: Size,
    disk: Size,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    availability: Option<Availability>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<HostSpec>,
}

impl From<Written> for NodeSpec {
    fn from(written: Written) -> Self {
        let Written { name, role, cpus, memory, disk, labels, availability, host } = written;
        let kind = NodeKind::read(Shape { cpus, memory, disk }, host);
        Self { name, role, kind, labels, availability }
    }
}

impl From<NodeSpec> for Written {
    fn from(spec: NodeSpec) -> Self {
        let Shape { cpus, memory, disk } = spec.kind.written_shape();
        let NodeSpec { name, role, kind, labels, availability } = spec;
        let host = match kind {
            NodeKind::Vm(_) => None,
            NodeKind::Host(host) => Some(host),
        };
        Self { name, role, cpus, memory, disk, labels, availability, host }
    }
}

impl NodeKind {
    /// Returns what files say with a size and, if it is a host, how to log in there.
    #[must_use]
    pub fn read(shape: Shape, host: Option<HostSpec>) -> Self {
        host.map_or(Self::Vm(shape), Self::Host)
    }

    /// Returns the size that files have: zero of everything for a host.
    #[must_use]
    pub fn written_shape(&self) -> Shape {
        let none = Size::mib(0);
        match self {
            Self::Vm(shape) => *shape,
            Self::Host(_) => Shape { cpus: 0, memory: none, disk: none },
        }
    }
}

/// A host that exists already, and how to log in there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSpec {
    /// Its address, at which the other nodes reach it too.
    pub address: Ipv4Addr,
    /// The user, who is root or may become it with sudo(8) without a password.
    pub user: String,
    /// The port of its ssh server.
    pub port: u16,
    /// The path of the private key, or none for those that ssh(1) finds itself, an agent's among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Where its engine comes from if it has none: a script to run, with its digest, or none for the distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install_url: Option<String>,
}

impl HostSpec {
    /// The user if none is given, as docker-machine has it.
    pub const DEFAULT_USER: &str = "root";
    /// The port if none is given.
    pub const DEFAULT_PORT: u16 = 22;
}

/// Whether a node takes tasks (`docker node update --availability`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    /// It takes tasks.
    Active,
    /// It keeps those that it has, and takes no others.
    Pause,
    /// Those that it has are moved away.
    Drain,
}

impl Availability {
    /// Returns the word that Docker uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pause => "pause",
            Self::Drain => "drain",
        }
    }

    /// Returns what Docker's word stands for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Active, Self::Pause, Self::Drain].into_iter().find(|it| it.as_str() == word)
    }
}

/// What machines that are copies of one another have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shape {
    /// The number of virtual CPUs.
    pub cpus: u32,
    /// The size of the memory.
    pub memory: Size,
    /// The virtual size of the disk.
    pub disk: Size,
}

impl NodeSpec {
    /// Returns how to log in to the host that the node is; none of a virtual machine.
    #[must_use]
    pub const fn host(&self) -> Option<&HostSpec> {
        match &self.kind {
            NodeKind::Host(host) => Some(host),
            NodeKind::Vm(_) => None,
        }
    }

    /// Returns the shape of the node's virtual machine; none of a host.
    #[must_use]
    pub const fn shape(&self) -> Option<Shape> {
        match self.kind {
            NodeKind::Vm(shape) => Some(shape),
            NodeKind::Host(_) => None,
        }
    }

    /// Tells whether the node is a host that exists already.
    #[must_use]
    pub const fn is_host(&self) -> bool {
        matches!(self.kind, NodeKind::Host(_))
    }

    /// Tells whether the node is a virtual machine.
    #[must_use]
    pub const fn is_vm(&self) -> bool {
        matches!(self.kind, NodeKind::Vm(_))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpus = if self.cpus == 1 { "CPU" } else { "CPUs" };
        write!(f, "{} {cpus}, {:#}, {:#}", self.cpus, self.memory, self.disk)
    }
}

/// A node's part in the swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes part in the raft consensus, and runs tasks too.
    Manager,
    /// Runs tasks only.
    Worker,
}

impl Role {
    /// Returns the word that Docker uses for the role.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Worker => "worker",
        }
    }
}

impl NodeSpec {
    /// Returns everything that is wrong with the node itself.
    #[must_use]
    pub fn problems(&self) -> Vec<SpecError> {
        let mut problems = Vec::new();
        let mut report = |what: String| {
            problems.push(SpecError::Node { node: self.name.clone(), what });
        };
        match &self.kind {
            NodeKind::Host(host) => host.problems().into_iter().for_each(&mut report),
            NodeKind::Vm(shape) => shape.problems().into_iter().for_each(&mut report),
        }
        self.label_problems().into_iter().for_each(report);
        problems
    }

    fn label_problems(&self) -> Vec<String> {
        let unfit = |key: &&String| {
            key.is_empty()
                || key.contains(|c: char| c.is_whitespace() || c == '=' || c.is_control())
        };
        let keys = self.labels.keys().filter(unfit);
        keys.map(|key| format!("the label key `{key}` is empty or contains a space or `=`"))
            .collect()
    }
}

impl Shape {
    fn problems(&self) -> Vec<String> {
        let Self { cpus, memory, disk } = self;
        let cpus = (!(1..=255).contains(cpus)).then(|| format!("cpus is {cpus}; use 1 to 255"));
        // Below this the kernel, containerd and dockerd leave no room for a single container.
        let memory = (*memory < Size::mib(384))
            .then(|| format!("memory is {memory}; an engine needs at least 384MiB"));
        let disk = (*disk < Size::gib(3))
            .then(|| format!("disk is {disk}; the system and its engine need at least 3GiB"));
        [cpus, memory, disk].into_iter().flatten().collect()
    }
}

impl HostSpec {
    /// Returns why root there should not run what `install_url` leads to, if it should not: over http anybody on the
    /// way can change it, and without a digest whoever has the server can, at any time.
    #[must_use]
    pub fn install_problem(&self) -> Option<String> {
        let url = self.install_url.as_deref()?;
        let (place, digest) = url.split_once("#sha256=").unwrap_or((url, ""));
        let is_digest =
            digest.len() == 64 && digest.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
        if !place.starts_with("https://") {
            return Some(format!(
                "install_url {url}: use https, because anyone on the network path could change it"
            ));
        }
        (!is_digest).then(|| {
            format!(
                "install_url {url}: add #sha256=DIGEST of the script that you have read: \
                 curl -fsSL {place} | sha256sum"
            )
        })
    }

    /// Returns everything that is wrong with it. A word that begins with `-` would be an option to ssh(1).
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let unfit = |c: char| c.is_whitespace() || c.is_control() || c == '@';
        if self.user.is_empty() || self.user.starts_with('-') || self.user.contains(unfit) {
            problems.push(format!("`{}` is not the name of a user", self.user));
        }
        if self.port == 0 {
            problems.push("port is 0; use 1 to 65535".to_owned());
        }
        let texts = [("key", &self.key), ("install_url", &self.install_url)];
        for (what, text) in
            texts.into_iter().filter_map(|(what, text)| Some((what, text.as_ref()?)))
        {
            if text.is_empty() || text.starts_with('-') || text.contains(char::is_control) {
                problems.push(format!("{what} `{text}` is not valid"));
            }
        }
        let address = self.address;
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            problems.push(format!("other nodes cannot reach the address {address}"));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_first_skep_are_read_and_written() {
        let vm = r#"{"name":"node1","role":"worker","cpus":2,"memory":"2GiB","disk":"20GiB","labels":{"a":"b"}}"#;
        let host = r#"{"name":"box","role":"manager","cpus":0,"memory":"0MiB","disk":"0MiB","labels":{},"availability":"drain","host":{"address":"192.0.2.7","user":"root","port":22}}"#;
        let read = |text: &str| serde_json::from_str::<NodeSpec>(text).unwrap();
        let shape = Shape { cpus: 2, memory: Size::gib(2), disk: Size::gib(20) };
        assert_eq!(read(vm).kind, NodeKind::Vm(shape));
        assert_eq!(read(host).host().unwrap().address, Ipv4Addr::new(192, 0, 2, 7));
        for text in [vm, host] {
            assert_eq!(serde_json::to_string(&read(text)).unwrap(), text);
        }
    }

    #[test]
    fn root_runs_no_script_that_is_not_pinned() {
        let problem = |url: &str| {
            let host = HostSpec {
                address: Ipv4Addr::new(192, 0, 2, 7),
                user: "root".into(),
                port: 22,
                key: None,
                install_url: Some(url.to_owned()),
            };
            host.install_problem()
        };
        let digest = "0123456789abcdef".repeat(4);
        assert_eq!(problem(&format!("https://get.example/#sha256={digest}")), None);
        let plain = problem(&format!("http://get.example/#sha256={digest}")).unwrap();
        assert!(plain.contains("use https"), "{plain}");
        for unpinned in ["", "#sha256=", "#sha256=0123", "#md5=0123"] {
            let text = problem(&format!("https://get.example/{unpinned}")).unwrap();
            assert!(text.contains("| sha256sum"), "{text}");
        }
        let upper = digest.to_uppercase();
        assert!(problem(&format!("https://get.example/#sha256={upper}")).is_some());
    }
}
