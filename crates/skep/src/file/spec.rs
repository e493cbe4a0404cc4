//! From a cluster file and flags to a specification.

use std::collections::BTreeMap;

use skep_core::model::{
    Access, ClusterName, ClusterSpec, HostSpec, HostnameSpec, ImageSet, ImageSpec, NameError,
    NodeFilter, NodeKind, NodeName, NodeSpec, RegistrySpec, Role, Shape, Size,
};

use super::{ClusterFile, NodeEntry, RegistryEntry};
use crate::cli::Wanted;
use crate::error::CliError;

/// A node that says nothing of itself.
pub const DEFAULT_CPUS: u32 = Shape::DEFAULT.cpus;
/// As docker-machine's machines.
pub const DEFAULT_MEMORY: Size = Shape::DEFAULT.memory;
/// As docker-machine's machines; what is not filled takes no room.
pub const DEFAULT_DISK: Size = Shape::DEFAULT.disk;

/// The names under which docker-machine's users know virtual machines of their own host.
pub(super) const DRIVERS: &[&str] = &["qemu", "kvm", "kvm2", "virtualbox"];

/// The driver of hosts that exist already.
pub(super) const SSH: &str = "ssh";

impl ClusterFile {
    /// Puts flags in the place of what the file says.
    ///
    /// # Errors
    ///
    /// If a flag cannot be understood; all that are wrong at once.
    pub fn with_flags(mut self, wanted: &Wanted) -> Result<Self, CliError> {
        let mut problems = Vec::new();
        if wanted.driver.as_deref() == Some(SSH) {
            problems.push(
                "-d ssh: hosts are named in a file (nodes: {box1: {address: 192.0.2.7}}), or added with \
                 skep node add --address"
                    .into(),
            );
        } else if let Some(driver) = &wanted.driver
            && !DRIVERS.contains(&driver.as_str())
        {
            let known = DRIVERS.join(", ");
            problems.push(format!("unknown driver `{driver}`; the drivers are {known}"));
        }
        if let Some(args) = &wanted.driver_args {
            problems.extend(self.driver_args(args));
        }
        self.node.cpus = wanted.cpus.or(self.node.cpus);
        self.node.memory = wanted.memory.or(self.node.memory);
        self.node.disk = wanted.disk.or(self.node.disk);
        self.managers = wanted.managers.or(self.managers);
        self.workers = wanted.workers.or(self.workers);
        if let Some(total) = wanted.num_node {
            let managers = self.managers.unwrap_or(1);
            match total.checked_sub(managers) {
                _ if total == 0 => problems.push("-n 0: a cluster needs at least one node".into()),
                Some(workers) => self.workers = Some(workers),
                None => problems.push(format!("-n {total} is less than the {managers} managers")),
            }
        }
        for (name, entry) in self.nodes.iter().filter(|_| self.driver == Some(SSH)) {
            if entry.host.is_none() && !entry.is_machine {
                problems.push(format!("{name}: a host needs an `address`"));
            }
        }
        self.subnet = wanted.subnet.or(self.subnet);
        self.image.suite = wanted.suite.clone().or(self.image.suite);
        self.image.mirror = wanted.mirror.clone().or(self.image.mirror);
        for text in &wanted.hostname {
            match parse_hostname(text) {
                Ok(hostname) => self.hostnames.push(hostname),
                Err(error) => problems.push(format!("--hostname {text}: {error}")),
            }
        }
        self.ports.extend(wanted.publish.iter().map(|port| u32::from(*port)));
        self.peers = peers(self.peers, wanted);
        if wanted.no_context {
            self.context = Some(false);
        }
        for text in &wanted.label {
            if let Err(problem) = self.label(text) {
                problems.push(problem);
            }
        }
        if problems.is_empty() { Ok(self) } else { Err(CliError::usage(problems.join("\n"))) }
    }

    /// Takes options of a docker-machine driver, sizes in MiB; returns what is wrong with them.
    fn driver_args(&mut self, args: &str) -> Vec<String> {
        let mut problems = Vec::new();
        let mut words = args.split_whitespace();
        while let Some(word) = words.next() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, words.next()),
            };
            let option = DRIVERS.iter().find_map(|driver| {
                name.strip_prefix("--")?.strip_prefix(driver)?.strip_prefix('-')
            });
            let number = value.and_then(|value| value.parse::<u32>().ok());
            match (option, number) {
                (Some("memory"), Some(mib)) => self.node.memory = Some(Size::mib(mib.into())),
                (Some("disk-size"), Some(mib)) => self.node.disk = Some(Size::mib(mib.into())),
                (Some("cpu-count" | "cpus"), Some(count)) => self.node.cpus = Some(count),
                (Some("memory" | "disk-size" | "cpu-count" | "cpus"), None) => {
                    problems.push(format!("{name} needs a whole number"));
                }
                _ => problems.push(format!(
                    "{name} is not understood; --kvm-memory, --kvm-cpu-count and --kvm-disk-size are, \
                     and the same of qemu and virtualbox"
                )),
            }
        }
        problems
    }

    /// Takes a label `KEY=VALUE@NODES`, or `KEY=VALUE` for all nodes.
    fn label(&mut self, text: &str) -> Result<(), String> {
        let (pair, nodes) = text.rsplit_once('@').unwrap_or((text, "all"));
        let (key, value) =
            pair.split_once('=').ok_or_else(|| format!("--label {text}: write KEY=VALUE@NODES"))?;
        let names = self.numbered();
        for filter in nodes.split(',') {
            let chosen = filter.parse().and_then(|filter: NodeFilter| filter.select(&names));
            for name in chosen.map_err(|error| format!("--label {text}: {error}"))? {
                let entry = self.nodes.entry(name).or_default();
                entry.labels.insert(key.to_owned(), value.to_owned());
            }
        }
        Ok(())
    }

    /// Returns all nodes with their roles: the numbered ones, managers first, then those that only
    /// the file names.
    fn numbered(&self) -> Vec<(NodeName, Role)> {
        // Hosts are named one by one.
        let usual = u32::from(self.driver != Some(SSH));
        let managers = self.managers.unwrap_or(usual) as usize;
        let workers = self.workers.unwrap_or(usual) as usize;
        let numbered = (0..managers + workers).map(NodeName::numbered);
        let mut nodes: Vec<(NodeName, Role)> = numbered
            .enumerate()
            .map(|(index, name)| {
                (name, if index < managers { Role::Manager } else { Role::Worker })
            })
            .collect();
        for (name, entry) in &self.nodes {
            match nodes.iter_mut().find(|(known, _)| known == name) {
                Some((_, role)) => *role = entry.role.unwrap_or(*role),
                None => nodes.push((name.clone(), entry.role.unwrap_or(Role::Worker))),
            }
        }
        nodes
    }

    /// Returns the specification of a cluster of this name.
    #[must_use]
    pub fn spec(&self, name: ClusterName) -> ClusterSpec {
        let nothing = NodeEntry::default();
        let nodes: Vec<NodeSpec> = self
            .numbered()
            .into_iter()
            .map(|(node, role)| {
                let own = self.nodes.get(&node).unwrap_or(&nothing);
                let common = &self.node;
                let labels: BTreeMap<_, _> = common
                    .labels
                    .iter()
                    .chain(&own.labels)
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect();
                if let Some(host) = &own.host {
                    return host_node(node, role, labels, host.clone());
                }
                NodeSpec {
                    name: node,
                    role,
                    kind: NodeKind::Vm(Shape {
                        cpus: own.cpus.or(common.cpus).unwrap_or(DEFAULT_CPUS),
                        memory: own.memory.or(common.memory).unwrap_or(DEFAULT_MEMORY),
                        disk: own.disk.or(common.disk).unwrap_or(DEFAULT_DISK),
                    }),
                    labels,
                    availability: own.availability,
                }
            })
            .collect();
        let default = ImageSpec::default();
        ClusterSpec {
            name,
            registry: self.registry.as_ref().and_then(|entry| served(entry, &nodes)),
            nodes,
            subnet: self.subnet,
            hostnames: self.hostnames.clone(),
            images: self.images.iter().map(|source| unseen(source)).collect(),
            access: self.access(),
            peers: self.peers.clone(),
            trusted: None,
            image: ImageSpec {
                suite: self.image.suite.clone().unwrap_or(default.suite),
                mirror: self.image.mirror.clone(),
                sources: self.image.sources.clone(),
                packages: self.image.packages.clone(),
            },
        }
    }
}

impl ClusterFile {
    fn access(&self) -> Access {
        let ports = self.ports.iter().filter_map(|port| u16::try_from(*port).ok());
        let ports = sorted(ports.collect());
        Access { ports, no_context: self.context == Some(false), docker_config: None }
    }
}

/// Returns the peers of a cluster that had these before.
#[must_use]
pub fn peers(before: Vec<ClusterName>, wanted: &Wanted) -> Vec<ClusterName> {
    let before = before.into_iter().filter(|_| !wanted.no_peers);
    sorted(before.chain(wanted.peer.iter().cloned()).collect())
}

/// Returns values in order, each once.
fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort_unstable();
    values.dedup();
    values
}

/// Returns the registry, on the first manager that can serve it, or another node.
fn served(entry: &RegistryEntry, nodes: &[NodeSpec]) -> Option<RegistrySpec> {
    Some(RegistrySpec {
        node: RegistrySpec::place(nodes)?.clone(),
        port: entry
            .port
            .and_then(|port| port.try_into().ok())
            .unwrap_or(RegistrySpec::DEFAULT_PORT),
        mirror: entry.mirror.clone(),
        runs: true,
    })
}

/// Returns a set of images of which is not yet known what is in it.
fn unseen(source: &str) -> ImageSet {
    ImageSet { source: source.to_owned(), images: Vec::new() }
}

/// Returns a node that is a host: its size is its own.
#[must_use]
pub fn host_node(
    name: NodeName,
    role: Role,
    labels: BTreeMap<String, String>,
    host: HostSpec,
) -> NodeSpec {
    NodeSpec { name, role, kind: NodeKind::Host(host), labels, availability: None }
}

/// What stands for a node in `NAME@*`: any that is up.
pub(super) const ANY: &str = "*";

/// Reads `NAME`, `NAME@NODE`, or `NAME@*`.
pub(super) fn parse_hostname(text: &str) -> Result<HostnameSpec, NameError> {
    let (name, node) = match text.split_once('@') {
        Some((name, node)) => (name, Some(node)),
        None => (text, None),
    };
    let follow = node == Some(ANY);
    let node = node.filter(|_| !follow).map(str::parse).transpose()?;
    Ok(HostnameSpec { name: name.parse()?, node, follow })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(wanted: &Wanted) -> Result<ClusterSpec, String> {
        let file = ClusterFile::default().with_flags(wanted).map_err(|error| error.message)?;
        Ok(file.spec("demo".parse().unwrap()))
    }

    fn roles(spec: &ClusterSpec) -> String {
        let letter = |node: &NodeSpec| if node.role == Role::Manager { 'm' } else { 'w' };
        spec.nodes.iter().map(letter).collect()
    }

    #[test]
    fn numbers_of_nodes_are_combined() {
        let counts = |num_node, managers, workers| {
            let wanted = Wanted { num_node, managers, workers, ..Wanted::default() };
            spec(&wanted).map(|spec| roles(&spec))
        };
        assert_eq!(counts(None, None, None).unwrap(), "mw");
        assert_eq!(counts(Some(1), None, None).unwrap(), "m");
        assert_eq!(counts(Some(5), Some(3), None).unwrap(), "mmmww");
        assert_eq!(counts(None, Some(3), Some(0)).unwrap(), "mmm");
        assert_eq!(
            counts(Some(0), None, None).unwrap_err(),
            "-n 0: a cluster needs at least one node"
        );
        assert!(counts(Some(2), Some(3), None).is_err());
    }

    #[test]
    fn the_options_of_esgfs_script_are_understood() {
        let wanted = Wanted {
            driver: Some("kvm".into()),
            driver_args: Some("--kvm-memory 2048 --kvm-cpu-count=2".into()),
            ..Wanted::default()
        };
        let node = &spec(&wanted).unwrap().nodes[1];
        let shape = Shape { cpus: 2, memory: Size::gib(2), ..Shape::DEFAULT };
        assert_eq!(node.shape(), Some(shape));
        let wanted = Wanted { driver_args: Some("--kvm-network x".into()), ..Wanted::default() };
        assert!(spec(&wanted).unwrap_err().starts_with("--kvm-network is not understood"));
    }

    #[test]
    fn labels_go_to_the_nodes_that_are_meant() {
        let wanted = Wanted {
            num_node: Some(3),
            label: vec!["zone=a@node0,node2".into(), "tier=back@worker:*".into(), "all=yes".into()],
            ..Wanted::default()
        };
        let spec = spec(&wanted).unwrap();
        let labels: Vec<Vec<_>> =
            spec.nodes.iter().map(|node| node.labels.keys().cloned().collect()).collect();
        assert_eq!(labels, [vec!["all", "zone"], vec!["all", "tier"], vec!["all", "tier", "zone"]]);
    }

    #[test]
    fn peers_of_file_and_flags_are_put_together_or_left_out() {
        let peers = |file: &str, wanted: Wanted| {
            let peers = file.split_whitespace().map(|name| name.parse().unwrap()).collect();
            let file = ClusterFile { peers, ..ClusterFile::default() };
            let spec = file.with_flags(&wanted).unwrap().spec("demo".parse().unwrap());
            spec.peers.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let flags = || Wanted { peer: vec!["b".parse().unwrap()], ..Wanted::default() };
        assert_eq!(peers("c b a", flags()), ["a", "b", "c"]);
        assert_eq!(peers("", flags()), ["b"]);
        let none = || Wanted { no_peers: true, ..Wanted::default() };
        assert!(peers("c", none()).is_empty());
        assert_eq!(peers("c", Wanted { no_peers: true, ..flags() }), ["b"]);
    }

    #[test]
    fn all_wrong_flags_are_told_at_once() {
        let wanted = Wanted {
            driver: Some("xhyve".into()),
            label: vec!["novalue".into(), "a=b@node9".into()],
            hostname: vec!["bad_name".into()],
            ..Wanted::default()
        };
        assert_eq!(spec(&wanted).unwrap_err().lines().count(), 4);
    }
}
