//! Where things are, and what was chosen, on this machine and in this run.

mod backends;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_core::event::Event;
use skep_core::model::{ClusterName, NodeName, NodeRecord};
use skep_core::observed::{HostsEntry, MachineState, Observed};
use skep_docker::engine::{EngineImage, TlsEngines};
use skep_docker::stack::Swarm;
use skep_driver::image::Cache;
use skep_driver::qemu::{Accelerator, Choice, Profile, Qemu};
use skep_driver::{AnyDriver, Driver as _};
use skep_net::network::{Network, resolvers};
use skep_net::privileged_helper::HelperNetwork;
use skep_net::userns::UsernsNetwork;
use skep_ops::converge::{Settings, StepContext};
use skep_ops::observe::{self, Damage, Observer};
use skep_store::{ClusterDir, Exposed, LockedCluster, Machine, Owner, Registry, Store};
use skep_sys::Holder;

use self::backends::Backends;
use crate::cli::{Accel, Detail, Waiting};
use crate::errln;
use crate::error::{CliError, Context as _};
use crate::logging;
use crate::render::progress::Progress;

/// The variable with which a test takes KVM's path while QEMU emulates; its value is the factor for KVM's time
/// limits. Only programs with debug assertions take it.
const TEST_KVM_PATH: &str = "SKEP_TEST_KVM_PATH";

/// The name of a cluster that was given none.
pub const DEFAULT_CLUSTER: &str = "skep";

/// How long a node may take to answer a look before a plan is made.
const LOOK: Duration = Duration::from_secs(20);

/// This run of skep.
pub struct Context {
    /// All clusters.
    pub store: Store,
    /// Images.
    pub cache: Cache,
    /// How much progress is printed.
    pub detail: Detail,
    /// Whether events are printed as JSON lines in its place.
    pub prints_events: bool,
    hosts_file: PathBuf,
    docker: Option<PathBuf>,
    docker_config: Option<PathBuf>,
    backends: Backends,
    test_profile: Option<Profile>,
}

impl Context {
    /// Creates the context from the environment.
    ///
    /// # Errors
    ///
    /// If no directory for state can be told.
    pub fn from_env(detail: Detail) -> Result<Self, CliError> {
        let home =
            directory("SKEP_HOME").or_else(|| Some(directory("XDG_DATA_HOME")?.join("skep")));
        let data = home.or_else(|| Some(directory("HOME")?.join(".local/share/skep")));
        let cache = directory("XDG_CACHE_HOME").or_else(|| Some(directory("HOME")?.join(".cache")));
        let (Some(data), Some(cache)) = (data, cache) else {
            return Err(CliError::host("no place for state: neither HOME nor SKEP_HOME is set"));
        };
        let hosts_file = directory("SKEP_HOSTS_FILE").unwrap_or_else(|| "/etc/hosts".into());
        let docker = own_docker();
        let docker_config =
            directory("DOCKER_CONFIG").or_else(|| Some(directory("HOME")?.join(".docker")));
        Ok(Self {
            docker_config: docker_config.filter(|_| docker.is_some()).map(|it| absolute(&it)),
            docker,
            backends: Backends::choose(&absolute(&data)),
            store: Store::new(absolute(&data)),
            cache: Cache::new(absolute(&cache).join("skep")),
            detail,
            prints_events: false,
            hosts_file,
            test_profile: test_profile()?,
        })
    }

    /// Tells whether no progress is printed.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.detail == Detail::Quiet
    }

    /// Has events printed as JSON lines in the place of progress.
    #[must_use]
    pub fn printing_events(self) -> Self {
        Self { detail: Detail::Quiet, prints_events: true, ..self }
    }

    /// Returns the same context, of which nothing is told but warnings.
    #[must_use]
    pub fn silent(&self) -> Self {
        Self {
            store: self.store.clone(),
            cache: Cache::new(self.cache.root().to_owned()),
            detail: Detail::Quiet,
            prints_events: false,
            hosts_file: self.hosts_file.clone(),
            docker: self.docker.clone(),
            docker_config: self.docker_config.clone(),
            backends: self.backends.clone(),
            test_profile: self.test_profile,
        }
    }

    /// Returns what makes networks.
    #[must_use]
    pub fn network(&self) -> &dyn Network {
        &*self.backends.network
    }

    /// Returns what acts as root for this user, if there is such and this user is not root.
    #[must_use]
    pub fn privileged_helper(&self) -> Option<&HelperNetwork> {
        self.backends.helper.as_ref()
    }

    /// Returns the networks of this user's own, if the store's clusters have theirs there.
    #[must_use]
    pub fn userns(&self) -> Option<&UsernsNetwork> {
        self.backends.userns.as_ref()
    }

    /// Returns the address by which programs of this host reach a node.
    #[must_use]
    pub fn host_address(&self, node: &NodeRecord) -> Ipv4Addr {
        if node.spec.host.is_some() {
            return node.address;
        }
        if let Some(userns) = self.userns() {
            userns.ensure_port_forwards();
        }
        self.network().host_address(node.address)
    }

    /// Returns the cluster that is meant: the one that is named, or the only one there is.
    ///
    /// # Errors
    ///
    /// If it does not exist, or none is named and there are several.
    pub fn existing(&self, name: Option<&ClusterName>) -> Result<ClusterDir, CliError> {
        let clusters = self.store.clusters().context("cannot list clusters")?;
        let known: Vec<&str> = clusters.iter().map(|cluster| cluster.name().as_str()).collect();
        match name {
            Some(name) => {
                let cluster = self.store.cluster(name);
                if cluster.exists() {
                    return self.refuse_exposed(&cluster).map(|()| cluster);
                }
                let message = match known.is_empty() {
                    true => format!("there is no cluster {name}"),
                    false => format!("there is no cluster {name}; there are {}", known.join(", ")),
                };
                Err(CliError::usage(message).hint(format!("skep up {name}")))
            }
            None => match &clusters[..] {
                [only] => self.refuse_exposed(only).map(|()| only.clone()),
                [] => Err(CliError::usage("there is no cluster").hint("skep up")),
                _ => {
                    Err(CliError::usage(format!("name one of the clusters: {}", known.join(", "))))
                }
            },
        }
    }

    /// Refuses a cluster whose keys others can read, or could if they got into its directory.
    fn refuse_exposed(&self, cluster: &ClusterDir) -> Result<(), CliError> {
        let exposed = [self.store.exposed(), cluster.exposed()].concat();
        let Some(first) = exposed.first() else { return Ok(()) };
        let (path, mode) = (first.path.display(), first.mode);
        let error =
            CliError::failed(format!("{path} is accessible to other users (mode {mode:04o})"));
        Err(exposed.iter().fold(error, |error, it| error.hint(chmod(it))))
    }

    /// Returns the host's file of names.
    #[must_use]
    pub fn hosts_file(&self) -> &Path {
        &self.hosts_file
    }

    /// Returns this host's own docker command.
    #[must_use]
    pub fn docker(&self) -> Option<&Path> {
        self.docker.as_deref()
    }

    /// Returns where docker-machine stores with machines of ours are noted.
    #[must_use]
    pub fn registry(&self) -> Registry {
        Registry::new(self.cache.root().join("stores"))
    }

    /// Returns the name of a cluster that may not exist yet.
    #[must_use]
    pub fn name_or_default(&self, name: Option<&ClusterName>) -> ClusterName {
        name.cloned().unwrap_or_else(|| DEFAULT_CLUSTER.parse().expect("the default is a name"))
    }

    /// Returns a node of a cluster.
    ///
    /// # Errors
    ///
    /// If it does not exist or its record is damaged.
    pub fn node(&self, cluster: &ClusterDir, node: &NodeName) -> Result<NodeRecord, CliError> {
        let nodes = cluster.nodes().context("cannot list nodes")?;
        let known: Vec<_> = nodes.iter().map(|(name, _)| name.as_str()).collect();
        if !known.contains(&node.as_str()) {
            let (name, known) = (cluster.name(), known.join(", "));
            return Err(CliError::usage(format!(
                "cluster {name} has no node {node}; it has {known}"
            )));
        }
        cluster.node(node).context(node)
    }

    /// Takes the cluster's lock, telling the user if another skep has it.
    ///
    /// # Errors
    ///
    /// If it cannot be had at all.
    pub async fn lock(&self, name: &ClusterName) -> Result<LockedCluster, CliError> {
        self.refuse_exposed(&self.store.cluster(name))?;
        let waiting = |holder: &Holder| {
            errln!("waiting for cluster {name}, which {holder} changes");
        };
        let cluster = self.store.lock(name, waiting).await.context(format!("cluster {name}"))?;
        // Whoever has the lock is the only one who writes it.
        logging::write_to(&self.store.log_file(name));
        Ok(cluster)
    }

    /// Returns the driver of machines, with what is to execute the guests if that was chosen.
    #[must_use]
    pub fn driver(&self, accel: Option<Accel>) -> AnyDriver {
        let choice = match (accel, self.test_profile) {
            (Some(Accel::Kvm), _) => Choice::Accelerator(Accelerator::Kvm),
            (_, Some(profile)) => Choice::Test(profile),
            (Some(Accel::Tcg), None) => Choice::Accelerator(Accelerator::Tcg),
            (None, None) => Choice::Tried,
        };
        let network = self.backends.network.clone();
        AnyDriver::new(Qemu::new(self.cache.root().to_owned(), network, choice))
    }

    /// Returns the machinery for a run of plans in which nothing is waited for.
    #[must_use]
    pub fn machinery_for(&self, accel: Option<Accel>) -> Machinery<'_> {
        Machinery { driver: self.driver(accel), ..self.machinery(None) }
    }

    /// Returns the machinery for a run of plans.
    #[must_use]
    pub fn machinery(&self, waiting: Option<&Waiting>) -> Machinery<'_> {
        Machinery {
            context: self,
            others: self.registry().list(),
            driver: self.driver(waiting.and_then(|waiting| waiting.accel)),
            engines: TlsEngines::default(),
            images: false,
            settings: Settings {
                hosts_file: self.hosts_file.clone(),
                docker: self.docker.clone(),
                resolvers: resolvers(Path::new("/")),
                user: std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned()),
                timeout: waiting.and_then(|waiting| waiting.timeout),
                load_file: "/proc/loadavg".into(),
                forwarding_file: self.store.forwarding_file(),
                at_once: std::thread::available_parallelism().map_or(1, usize::from),
            },
            progress: match self.prints_events {
                true => Progress::as_events(),
                false => Progress::new(self.detail, crate::render::redraws()),
            },
        }
    }
}

/// Returns how a test wants guests to be treated, if it does.
fn test_profile() -> Result<Option<Profile>, CliError> {
    let Some(value) = std::env::var_os(TEST_KVM_PATH) else { return Ok(None) };
    let refuse = |why: &str| Err(CliError::usage(format!("{TEST_KVM_PATH}: {why}")));
    if !cfg!(debug_assertions) {
        return refuse("only a debug build of skep takes it, for its own tests")
            .map_err(|error| error.hint(format!("unset {TEST_KVM_PATH}")));
    }
    let slowness = value.to_str().and_then(|text| text.parse().ok());
    match slowness.and_then(Profile::kvm_under_emulation) {
        Some(profile) => Ok(Some(profile)),
        None => refuse("the factor for KVM's time limits is a number from 1 to 12"),
    }
}

/// What plans are carried out with.
pub struct Machinery<'a> {
    context: &'a Context,
    others: Vec<ClusterDir>,
    /// Machines.
    pub driver: AnyDriver,
    engines: TlsEngines,
    settings: Settings,
    /// Whether looks tell which images engines have even if the cluster wants none.
    pub images: bool,
    /// Where events go.
    pub progress: Progress,
}

impl Machinery<'_> {
    /// Looks at a cluster.
    ///
    /// # Errors
    ///
    /// If the host cannot be looked at, or a record is damaged and may not be.
    pub async fn observe(&self, dir: &ClusterDir, damage: Damage) -> Result<Observed, CliError> {
        self.observe_within(dir, damage, LOOK).await
    }

    /// Looks at a cluster without a word to its engines, which may not be there to answer: what ends
    /// machines need not know what runs in them.
    ///
    /// # Errors
    ///
    /// As [`Self::observe`].
    pub async fn observe_machines(
        &self,
        dir: &ClusterDir,
        damage: Damage,
    ) -> Result<Observed, CliError> {
        self.observe_within(dir, damage, Duration::ZERO).await
    }

    /// Looks at a cluster, giving each node a limit.
    ///
    /// # Errors
    ///
    /// As [`Self::observe`].
    pub async fn observe_within(
        &self,
        dir: &ClusterDir,
        damage: Damage,
        limit: Duration,
    ) -> Result<Observed, CliError> {
        let seen = self.observer(limit).observe(dir, damage).await;
        let name = dir.name();
        let hints = match &seen {
            Err(observe::Error::Store(error)) if error.is_newer() => {
                vec!["the skep that wrote it, or a newer one".to_owned()]
            }
            Err(observe::Error::Store(_) | observe::Error::NoRecord(_)) => vec![
                format!("skep support-bundle {name}  # collects what can be read of it"),
                format!("skep down {name}  # last: removes the cluster and all its data"),
            ],
            _ => vec!["skep doctor".to_owned()],
        };
        let seen = seen.context(format!("cluster {name}"));
        seen.map_err(|error| hints.into_iter().fold(error, CliError::hint))
    }

    /// Returns what looks are made through.
    #[must_use]
    pub fn observer(&self, limit: Duration) -> Observer<'_> {
        Observer {
            store: &self.context.store,
            others: &self.others,
            driver: &self.driver,
            engines: &self.engines,
            network: self.context.network(),
            hosts_file: &self.settings.hosts_file,
            docker_config: self.context.docker_config.as_deref(),
            limit,
            images: self.images,
        }
    }

    /// Returns what makes networks.
    #[must_use]
    pub fn network(&self) -> &dyn Network {
        self.context.network()
    }

    /// Returns the networks of this user's own, as [`Context::enclosed`].
    #[must_use]
    pub fn userns(&self) -> Option<&UsernsNetwork> {
        self.context.userns()
    }

    /// Tells whether names are written to the file that this host's programs read.
    #[must_use]
    pub fn writes_own_names(&self) -> bool {
        self.settings.hosts_file == Path::new(skep_net::hosts::FILE)
    }

    /// Asks the engines of all nodes that run for their images; returns what each says, or why it says
    /// nothing.
    pub async fn images_by_node(
        &self,
        dir: &ClusterDir,
        seen: &Observed,
    ) -> BTreeMap<NodeName, Result<Vec<EngineImage>, String>> {
        self.observer(LOOK).images_by_node(dir, seen).await
    }

    /// Returns a cluster's engines; `patience` bounds each call.
    #[must_use]
    pub fn swarm<'a>(&'a self, dir: &'a ClusterDir, patience: Duration) -> Swarm<'a> {
        Swarm { dir, engines: &self.engines, patience }
    }

    /// Returns the names that a cluster has in the host's file of names.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn hosts_entries(&self, dir: &ClusterDir) -> Result<Vec<HostsEntry>, CliError> {
        skep_net::hosts::read_block(&self.settings.hosts_file, &Owner::of(dir))
            .context("cannot read names")
    }

    /// Returns the log of a service in a node.
    ///
    /// # Errors
    ///
    /// If the node does not run or does not answer.
    pub async fn service_log(&self, machine: &Machine, service: &str) -> Result<Vec<u8>, CliError> {
        let node = machine.record.name();
        if self.driver.state(machine).await != MachineState::Running {
            return Err(CliError::failed(format!("{node} does not run")));
        }
        let limit = Duration::from_secs(5) * self.driver.slowness(machine);
        let path = format!("/var/log/{service}/current");
        let shell = self.driver.shell(machine);
        let output = shell.run(&["/usr/bin/cat", &path], b"", limit).await.context(node)?;
        match output.code {
            0 => Ok(output.stdout),
            _ => Err(CliError::failed(format!("{node} has no log of {service}"))),
        }
    }

    /// Returns what steps act on; what happens is told to `events`.
    #[must_use]
    pub fn step_context<'c>(
        &'c self,
        cluster: &'c LockedCluster,
        events: &'c (dyn Fn(Event) + Send + Sync),
    ) -> StepContext<'c> {
        StepContext {
            cluster,
            driver: &self.driver,
            network: self.context.network(),
            names: &*self.context.backends.names,
            images: &self.context.cache,
            engines: &self.engines,
            settings: &self.settings,
            events,
        }
    }
}

/// Returns the command that closes a file or directory to others.
#[must_use]
pub fn chmod(it: &Exposed) -> String {
    let path = skep_sys::shell_quoted(&it.path.to_string_lossy());
    format!("chmod {:o} {path}", it.wanted)
}

/// Returns the docker command that is found on the path.
fn own_docker() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("docker")).find(|program| is_program(program))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

/// Returns a directory from the environment; an empty variable is none.
fn directory(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// QEMU runs in a directory of its own, so nothing may depend on where skep was started.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
