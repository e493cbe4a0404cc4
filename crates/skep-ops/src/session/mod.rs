//! A session: which clusters there are, and through what they are looked at and changed.

mod backends;
mod docker;
mod error;
mod refuse;
mod run;
mod up;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep_core::event::Event;
use skep_core::model::{ClusterName, NodeRecord};
use skep_driver::AnyDriver;
use skep_driver::image::Cache;
use skep_driver::qemu::{Accelerator, Choice, Profile, Qemu};
use skep_net::network::Network;
use skep_net::privileged_helper::HelperNetwork;
use skep_net::userns::UsernsNetwork;
use skep_store::{ClusterDir, LockedCluster, Registry, Store};
use skep_sys::Holder;

use backends::Backends;
pub use backends::NetworkMode;
pub use docker::DockerCommand;
pub use error::Error;
pub use refuse::{NotReady, Refusal, refuse_peers};
pub use run::{Look, Run, RunOptions};
pub use up::{Failed, Fate, Up};

/// Is told what happens.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;

/// Where things are on this host, and whose they are. Nothing of it is read from the environment.
#[derive(Debug, Clone)]
pub struct Config {
    /// The directory of all clusters, an absolute path.
    pub store: PathBuf,
    /// The directory of images and templates, an absolute path.
    pub cache: PathBuf,
    /// The file of host names.
    pub hosts_file: PathBuf,
    /// The docker command; none if there is none.
    pub docker: Option<PathBuf>,
    /// The docker command's directory, in which contexts are made; none for no contexts.
    pub docker_config: Option<PathBuf>,
    /// The skep program, which forwards published ports and acts in user namespaces.
    pub program: PathBuf,
    /// The user's name, for the subjects of certificates.
    pub user: String,
    /// The hosts that are reached without a proxy, as in the variable `NO_PROXY`; none if no proxy is used.
    pub no_proxy: Option<String>,
    /// How a test wants guests to be treated.
    pub test_profile: Option<Profile>,
    /// Is given the log file of a cluster whose lock was taken: the one that has the lock is the only one that writes it.
    pub log_to: fn(&Path),
}

/// All clusters of one store, and what acts for them.
#[derive(Clone)]
pub struct Session {
    /// All clusters.
    pub store: Store,
    /// Images and templates.
    pub cache: Cache,
    config: Config,
    backends: Backends,
}

impl Session {
    /// Opens a store; nothing is made or looked at.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            store: Store::new(config.store.clone()),
            cache: Cache::new(config.cache.clone()),
            backends: Backends::choose(&config.store, &config.program),
            config,
        }
    }

    /// Returns the same session, whose clusters have their networks in a user namespace, or do not.
    ///
    /// # Errors
    ///
    /// If it has clusters of the other kind, or this user is root.
    pub fn with_network(&self, mode: NetworkMode) -> Result<Self, Error> {
        let backends = self.backends.switch(mode, self)?;
        Ok(Self { backends, ..self.clone() })
    }

    /// Returns where things are.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns what makes networks.
    #[must_use]
    pub fn network(&self) -> &dyn Network {
        &*self.backends.network
    }

    /// Returns what acts as root for this user, if it is set up and this user is not root.
    #[must_use]
    pub fn privileged_helper(&self) -> Option<&HelperNetwork> {
        self.backends.helper.as_ref()
    }

    /// Returns the networks in the user's namespace, if the store's clusters have theirs there.
    #[must_use]
    pub fn userns(&self) -> Option<&UsernsNetwork> {
        self.backends.userns.as_ref()
    }

    /// Returns the address by which programs of this host reach a node.
    #[must_use]
    pub fn host_address(&self, node: &NodeRecord) -> Ipv4Addr {
        if node.spec.is_host() {
            return node.address;
        }
        if let Some(userns) = self.userns() {
            userns.ensure_port_forwards();
        }
        self.network().host_address(node.address)
    }

    /// Tells whether names are written to the file that this host's programs read.
    #[must_use]
    pub fn writes_system_names(&self) -> bool {
        self.config.hosts_file == Path::new(skep_net::hosts::FILE)
    }

    /// Returns where docker-machine stores with virtual machines of skep are noted.
    #[must_use]
    pub fn registry(&self) -> Registry {
        Registry::new(self.cache.root().join("stores"))
    }

    /// Refuses a cluster whose keys others can read, or could if they got into its directory.
    ///
    /// # Errors
    ///
    /// Which files and directories those are.
    pub fn refuse_exposed(&self, cluster: &ClusterDir) -> Result<(), Error> {
        let exposed = [self.store.exposed(), cluster.exposed()].concat();
        if exposed.is_empty() { Ok(()) } else { Err(Error::Exposed(exposed)) }
    }

    /// Takes a cluster's lock. While another process has it, `events` is told which.
    ///
    /// # Errors
    ///
    /// If it cannot be had at all, or others can read the cluster's keys.
    pub async fn lock(&self, name: &ClusterName, events: &Events) -> Result<LockedCluster, Error> {
        self.refuse_exposed(&self.store.cluster(name))?;
        let waiting = |holder: &Holder| {
            events(Event::Notice(format!("waiting for {holder} to finish with cluster {name}")));
        };
        let locked = self.store.lock(name, waiting).await;
        let locked = locked.map_err(|source| Error::Lock { cluster: name.clone(), source })?;
        (self.config.log_to)(&self.store.log_file(name));
        Ok(locked)
    }

    /// Returns the driver of machines; without an accelerator, it finds out which one works.
    #[must_use]
    pub fn driver(&self, accelerator: Option<Accelerator>) -> AnyDriver {
        let choice = match (accelerator, self.config.test_profile) {
            (Some(Accelerator::Kvm), _) => Choice::Accelerator(Accelerator::Kvm),
            (_, Some(profile)) => Choice::Test(profile),
            (Some(accelerator), None) => Choice::Accelerator(accelerator),
            (None, None) => Choice::Tried,
        };
        let network = self.backends.network.clone();
        AnyDriver::new(Qemu::new(self.cache.root().to_owned(), network, choice))
    }

    /// Begins a run, through which clusters are looked at and changed.
    #[must_use]
    pub fn run(&self, options: RunOptions, events: Events) -> Run<'_> {
        Run::new(self, options, events)
    }
}
