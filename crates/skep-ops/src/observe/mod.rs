//! Builds [`Observed`]: looks, and changes nothing.
//!
//! Every node is asked at the same time and within its own limit, so one that hangs costs the limit
//! once and no more. A machine that does not run is not asked at all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use skep_core::model::{ClusterRecord, NodeName, NodeRecord};
use skep_core::observed::{
    ContextState, EngineState, HostFacts, Leftover, MachineState, Observed, ObservedNode,
    ObservedSwarm,
};
use thiserror::Error;
use tokio::time::timeout;

use skep_docker::contexts;
use skep_docker::engine::{EngineImage, Engines, REGISTRY_STATE, names_by_id};
use skep_driver::Driver;
use skep_net::hosts;
use skep_net::network::{self, HostNetwork, Network};
use skep_store::pki::Credentials;
use skep_store::{ClusterDir, Machine, Owner, Store};

/// Why nothing can be said.
#[derive(Debug, Error)]
pub enum Error {
    /// The store cannot be read, or what is in it cannot be understood.
    #[error(transparent)]
    Store(#[from] skep_store::Error),
    /// Nodes are written down, and the cluster that they belong to is not.
    #[error("{} has nodes but no cluster.json, which records their network", .0.display())]
    NoRecord(PathBuf),
    /// The host's network cannot be looked at.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// The host's file of names cannot be read.
    #[error(transparent)]
    Hosts(#[from] hosts::Error),
}

/// What looks are made through.
pub struct Observer<'a> {
    /// All clusters.
    pub store: &'a Store,
    /// Docker-machine stores with machines of ours.
    pub others: &'a [ClusterDir],
    /// Machines.
    pub driver: &'a dyn Driver,
    /// Engines.
    pub engines: &'a dyn Engines,
    /// The host's network.
    pub network: &'a dyn Network,
    /// The file of host names.
    pub hosts_file: &'a Path,
    /// The docker command's directory, in which contexts are made; none without a docker command.
    pub docker_config: Option<&'a Path>,
    /// How long one node may take; with none, engines are not asked.
    pub limit: Duration,
    /// Whether engines are asked which images they have even if the cluster wants none.
    pub images: bool,
}

/// What is tolerated in the cluster's own files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Nothing: a record that cannot be read is an error.
    Refuse,
    /// What is damaged: it is listed among the leftovers. What a newer skep wrote is an error.
    List,
    /// Everything, whoever wrote it: what cannot be read is listed among the leftovers, to be removed.
    ListAll,
}

impl Damage {
    /// Tells whether a look goes on after this. What is somebody else's is nobody's to list or remove here.
    fn tolerates(self, error: &skep_store::Error) -> bool {
        match self {
            Self::Refuse => false,
            Self::List => !error.is_foreign() && !error.is_newer(),
            Self::ListAll => !error.is_foreign(),
        }
    }
}

impl Observer<'_> {
    /// Looks at a cluster and its host.
    ///
    /// # Errors
    ///
    /// If the host's network or the store cannot be read, or, with [`Damage::Refuse`], if a record
    /// is damaged or from a newer skep.
    pub async fn observe(&self, dir: &ClusterDir, damage: Damage) -> Result<Observed, Error> {
        let host = self.network.look().await?;
        let mut leftovers = Vec::new();
        let cluster = match (dir.record(), damage) {
            (Ok(record), _) => record,
            (Err(error), damage) if !damage.tolerates(&error) => return Err(error.into()),
            (Err(_), _) => None,
        };
        if cluster.is_none() && dir.exists() && damage != Damage::Refuse {
            leftovers.push(Leftover::Directory);
        }
        let mut records = Vec::new();
        for (name, record) in dir.nodes()? {
            match (record, damage) {
                (Ok(record), _) => records.push(record),
                (Err(error), damage) if !damage.tolerates(&error) => return Err(error.into()),
                (Err(_), _) => leftovers.push(Leftover::Node(name)),
            }
        }
        if cluster.is_none() && !records.is_empty() && damage == Damage::Refuse {
            return Err(Error::NoRecord(dir.path().to_owned()));
        }
        let owner = Owner::of(dir);
        leftovers.extend(host.leftovers(&owner, cluster.as_ref().map(|record| &record.network)));
        let network = cluster.as_ref().map(|record| &record.network);
        let images = self.images || cluster.as_ref().is_some_and(|it| !it.images.is_empty());
        let (docker_config, context) = self.context(dir, cluster.as_ref(), &owner);
        let registry =
            cluster.as_ref().is_some_and(|it| it.registry.is_some() || it.trusted.is_some());
        let nodes = self.nodes(dir, records, images, registry).await;
        let swarm = self.swarm(dir, &nodes).await;
        Ok(Observed {
            host: self.host_facts(&host, dir, cluster.as_ref())?,
            certificates: has_credentials(dir),
            bridge: network.is_some_and(|network| host.has_bridge(network)),
            firewall: network.is_some_and(|network| host.has_firewall(network)),
            admitted: network.map(|network| host.admitted(network)).unwrap_or_default(),
            hosts_entries: hosts::read_block(self.hosts_file, &owner)?,
            published: match network {
                Some(network) => self.network.published(network, &owner).await,
                None => None,
            },
            docker_config,
            context,
            cluster,
            nodes,
            swarm,
            leftovers,
            baked: self.driver.forks().map(|forks| forks.baked()).unwrap_or_default(),
        })
    }

    /// Looks for the docker command's context: where one was made, else where it would be.
    fn context(
        &self,
        dir: &ClusterDir,
        cluster: Option<&ClusterRecord>,
        owner: &Owner,
    ) -> (Option<String>, ContextState) {
        if dir.is_of_machines() {
            return (None, ContextState::Missing);
        }
        let recorded = cluster.and_then(|cluster| cluster.access.docker_config.clone());
        let here = || self.docker_config.map(|config| config.display().to_string());
        let config = recorded.or_else(here);
        let credentials = Credentials::of_store(dir.path());
        let look = |config: &String| contexts::look(Path::new(config), owner, &credentials);
        let mut state = config.as_ref().map(look).unwrap_or_default();
        if let ContextState::Ours { address: Some(at), .. } = &mut state {
            let nodes = dir.nodes().into_iter().flatten().filter_map(|(_, node)| node.ok());
            let mut addresses = nodes.map(|node| node.address);
            let node = addresses.find(|node| self.network.host_address(*node) == *at);
            *at = node.unwrap_or(*at);
        }
        (config, state)
    }

    /// Returns what is in use on the host, but for what the cluster itself uses.
    fn host_facts(
        &self,
        host: &HostNetwork,
        dir: &ClusterDir,
        cluster: Option<&ClusterRecord>,
    ) -> Result<HostFacts, Error> {
        let mut facts = host.facts(cluster.map(|record| record.network.bridge.as_str()));
        let mut clusters = Vec::new();
        for other in self.store.clusters()?.iter().chain(self.others) {
            if other.path() == dir.path() {
                continue;
            }
            // A cluster that is stopped has no bridge after a reboot, and keeps its subnet.
            if let Ok(Some(record)) = other.record() {
                let ports = record.access.ports.iter();
                facts.ports.extend(ports.map(|port| (*port, title(other))));
                clusters.push((record.network.subnet, title(other)));
                facts.links.insert(record.network.bridge);
                if other.store() == dir.store() && !other.is_of_machines() {
                    facts.clusters.insert(record.name, record.peers);
                }
            }
        }
        // First, as a cluster's name says more than that of its bridge.
        facts.subnets.splice(..0, clusters);
        Ok(facts)
    }

    async fn nodes(
        &self,
        dir: &ClusterDir,
        records: Vec<NodeRecord>,
        images: bool,
        registry: bool,
    ) -> BTreeMap<NodeName, ObservedNode> {
        let looks = records.into_iter().map(async |record| {
            let name = record.name().clone();
            let mut node = self.node(dir, record).await;
            if images && node.engine.version().is_some() {
                node.images = self.images_of(dir, &node.record).await.ok().map(names_by_id);
            }
            if registry && node.engine.version().is_some() {
                node.registry = self.registry_of(dir, &node.record).await;
            }
            (name, node)
        });
        join_all(looks).await.into_iter().collect()
    }

    /// Looks at one node.
    pub async fn node(&self, dir: &ClusterDir, record: NodeRecord) -> ObservedNode {
        let machine = Machine { dir: dir.machine_dir(record.name()), record };
        let state = self.driver.state(&machine).await;
        let engine = match state {
            MachineState::Running => self.engine(dir, &machine).await,
            MachineState::Paused => EngineState::Unreachable("the machine is paused".to_owned()),
            MachineState::Crashed => EngineState::Unreachable("the machine has crashed".to_owned()),
            MachineState::Stopped => EngineState::Off,
        };
        let disk = self.driver.has_disk(&machine);
        ObservedNode {
            disk,
            machine: state,
            engine,
            record: machine.record,
            images: None,
            registry: None,
        }
    }

    /// Asks a node what it has of a registry.
    async fn registry_of(&self, dir: &ClusterDir, record: &NodeRecord) -> Option<String> {
        let machine = Machine { dir: dir.machine_dir(record.name()), record: record.clone() };
        let shell = self.driver.shell(&machine);
        let said = shell.run(&["/bin/cat", REGISTRY_STATE], b"", self.limit).await.ok()?;
        match said.code {
            0 => Some(String::from_utf8_lossy(&said.stdout).into_owned()),
            // A node that was never told of one has no such file.
            _ => Some(String::new()),
        }
    }

    async fn images_of(
        &self,
        dir: &ClusterDir,
        record: &NodeRecord,
    ) -> Result<Vec<EngineImage>, String> {
        let credentials = Credentials::of_node(dir, record.name());
        let ask =
            async { self.engines.engine(record.address, &credentials, self.limit)?.images().await };
        match timeout(self.limit, ask).await {
            Ok(images) => images.map_err(|error| skep_sys::chain(&error)),
            Err(_) => Err(format!("no answer within {:.1?}", self.limit)),
        }
    }

    /// Asks the engines of all machines that were seen to run for their images; returns what each
    /// says, or why it says nothing.
    pub async fn images_by_node(
        &self,
        dir: &ClusterDir,
        seen: &Observed,
    ) -> BTreeMap<NodeName, Result<Vec<EngineImage>, String>> {
        let asks = seen.nodes.iter().map(async |(name, node)| {
            let images = match node.machine {
                MachineState::Running => self.images_of(dir, &node.record).await,
                MachineState::Paused => Err("the machine is paused".to_owned()),
                MachineState::Crashed => Err("the machine has crashed".to_owned()),
                MachineState::Stopped => Err("the machine is not running".to_owned()),
            };
            (name.clone(), images)
        });
        join_all(asks).await.into_iter().collect()
    }

    async fn engine(&self, dir: &ClusterDir, machine: &Machine) -> EngineState {
        if self.limit.is_zero() {
            return EngineState::Unreachable("it was not asked".to_owned());
        }
        let credentials = Credentials::of_node(dir, machine.record.name());
        let address = machine.record.address;
        let ask = async {
            let engine = self.engines.engine(address, &credentials, self.limit)?;
            engine.state().await
        };
        match timeout(self.limit, ask).await {
            Ok(Ok(state)) => state,
            Ok(Err(error)) => EngineState::Unreachable(skep_sys::chain(&error)),
            Err(_) => EngineState::Unreachable(format!("no answer within {:.1?}", self.limit)),
        }
    }

    /// Asks the managers for the swarm, all at the same time, and takes the first answer.
    async fn swarm(
        &self,
        dir: &ClusterDir,
        nodes: &BTreeMap<NodeName, ObservedNode>,
    ) -> Option<ObservedSwarm> {
        let credentials = Credentials::of_store(dir.path());
        let managers = nodes
            .values()
            .filter(|node| matches!(node.engine, EngineState::Member { control: true, .. }));
        let asks = managers.map(|node| {
            let credentials = &credentials;
            Box::pin(async move {
                let address = node.record.address;
                let engine =
                    self.engines.engine(address, credentials, self.limit).map_err(|_| ())?;
                timeout(self.limit, engine.swarm()).await.map_err(|_| ())?.map_err(|_| ())
            })
        });
        let asks: Vec<_> = asks.collect();
        if asks.is_empty() {
            return None;
        }
        futures_util::future::select_ok(asks).await.ok().map(|(swarm, _)| swarm)
    }
}

/// Returns what a user knows a cluster by.
fn title(dir: &ClusterDir) -> String {
    match dir.is_of_machines() {
        true => format!("the store {}", dir.path().display()),
        false => format!("cluster {}", dir.name()),
    }
}

/// Tells whether what a cluster's nodes share of certificates and keys is there; machines of a store
/// share none.
fn has_credentials(dir: &ClusterDir) -> bool {
    if dir.is_of_machines() {
        return true;
    }
    let credentials = Credentials::of_store(dir.path());
    [&credentials.ca, &credentials.cert, &credentials.key].into_iter().all(|path| path.exists())
        && dir.path().join("certs/id_rsa").exists()
}
