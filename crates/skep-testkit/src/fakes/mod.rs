//! A host in memory: network, machines, images and engines that remember what was done to them, and
//! fail when they are told to.
//!
//! What would be on a disk is in files of the machine's directory, so that it goes with them; what
//! would be in a kernel or a process is in [`State`].

mod engines;
mod formed;
mod images;
mod machines;
mod network;
mod streams;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt as _;
use skep_core::event::Event;
use skep_core::fixtures::Swarm;
use skep_core::model::{ClusterName, NetworkRecord, NodeName};
use skep_core::observed::Observed;
use skep_core::plan::Plan;
use skep_core::services::View;
use skep_net::firewall::Table;
use skep_net::hosts::DirectNames;
use skep_net::network::claims::Claims;
use skep_ops::converge::{Failure, OnFailure, Settings, StepContext, execute};
use skep_ops::observe::{self, Damage, Observer};
use skep_store::dm::MachineStore;
use skep_store::{ClusterDir, LockedCluster, Owner, Store};
use tempfile::TempDir;
use tokio::sync::Barrier;

/// Which call fails, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call of that number does nothing and fails.
    Before(usize),
    /// The call of that number does what it should and fails all the same.
    After(usize),
    /// Whoever makes the call of that number is killed when it has done what it should.
    Killed(usize),
}

/// What becomes of an engine that is given images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upload {
    /// It takes nothing, and says nothing.
    Deaf,
    /// It has no room for what it is given.
    Full,
    /// Its machine ends when it has taken a part, and the connection says nothing of it.
    Dies,
}

/// How long anything that is waited for may take: most of it comes never.
const LIMIT: Duration = Duration::from_millis(400);

/// What becomes of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// The managers are busy, and refuse.
    Refused,
    /// It goes on after the engine's answer, fails then, and leaves an entry of a member that never was.
    GivenUp,
    /// It can never succeed.
    Forbidden,
}

/// What becomes of a machine that was started as a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Copies {
    /// It runs.
    #[default]
    Run,
    /// Its state is loaded, and its guest never answers.
    Hang,
    /// Its guest answers, and cannot be told who it is.
    AreDeaf,
}

/// What a process that was killed ends with: see [`killable`].
struct Killed;

/// Carries work out to its end, or to where a fault kills it: then nothing of it goes on, not even what
/// would have tidied up.
///
/// # Errors
///
/// What the work says, or that it was killed.
pub async fn killable(work: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result,
        Err(reason) if reason.is::<Killed>() => Err("killed".to_owned()),
        Err(reason) => resume_unwind(reason),
    }
}

/// A host in memory, with its files in a directory of its own.
pub struct FakeHost {
    dir: TempDir,
    pub(crate) state: Arc<Mutex<State>>,
}

/// What is not on a disk.
#[derive(Default)]
pub(crate) struct State {
    pub bridges: BTreeMap<String, (NetworkRecord, Owner)>,
    pub tables: BTreeMap<String, Table>,
    /// Whose the networks are.
    pub claims: Claims,
    /// How many more bridges somebody else makes a moment before, with the same subnet.
    pub rivals: usize,
    /// Where ports of the loopback lead, by table.
    pub published: BTreeMap<String, String>,
    pub forwarding: bool,
    /// Directories of machines that run.
    pub running: BTreeSet<PathBuf>,
    /// What becomes of the engines of machines with these directories when they are given images.
    pub uploads: BTreeMap<PathBuf, Upload>,
    /// How long anything that is waited for may take, if not [`LIMIT`].
    pub limit: Option<Duration>,
    /// What becomes of joins of the machines with these directories, one after the other; then they succeed.
    pub joins: BTreeMap<PathBuf, VecDeque<Join>>,
    /// Machines whose engines have given a join up, and take no other before they have left.
    pub given_up: BTreeSet<PathBuf>,
    /// Directories of machines that cannot be set up.
    pub unfit: BTreeSet<PathBuf>,
    /// Hosts that were set up, each for an owner.
    pub adopted: BTreeMap<Ipv4Addr, String>,
    /// Whom hosts let in.
    pub open: BTreeMap<Ipv4Addr, Vec<Ipv4Addr>>,
    /// Directories of machines that are paused.
    pub paused: BTreeSet<PathBuf>,
    /// Swarms by their IDs.
    pub swarms: BTreeMap<String, Swarm>,
    /// What managers tell of services, look after look; the last is told again and again.
    pub views: VecDeque<View>,
    pub said: streams::Said,
    pub calls: usize,
    pub fault: Option<Fault>,
    pub made: usize,
    pub forks_fail: bool,
    /// What becomes of machines that are copies.
    pub copies: Copies,
    /// Directories of machines that run as copies.
    pub forked: BTreeSet<PathBuf>,
    pub templates_at_once: Option<Arc<Barrier>>,
}

impl State {
    fn next_view(&mut self) -> View {
        match self.views.len() {
            0 => View::default(),
            1 => self.views[0].clone(),
            _ => self.views.pop_front().expect("there are several"),
        }
    }
}

impl FakeHost {
    /// Makes a host that has nothing.
    ///
    /// # Panics
    ///
    /// If there is no room for its directory.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("hosts"), "127.0.0.1 localhost\n").expect("a file");
        Self { dir, state: Arc::default() }
    }

    /// Puts the ssh key of a cluster there: to make one takes longer than all the rest of a test.
    ///
    /// # Panics
    ///
    /// If it cannot be copied.
    pub fn seed_ssh_key(&self, cluster: &ClusterDir, key: &Path) {
        let certs = cluster.path().join("certs");
        std::fs::create_dir_all(&certs).expect("a directory");
        for name in ["id_rsa", "id_rsa.pub"] {
            std::fs::copy(key.join(name), certs.join(name)).expect("a key");
        }
    }

    /// Returns a cluster's place in the store.
    ///
    /// # Panics
    ///
    /// If the name is none.
    #[must_use]
    pub fn cluster(&self, name: &str) -> ClusterDir {
        self.store().cluster(&name.parse::<ClusterName>().expect("a name"))
    }

    fn store(&self) -> Store {
        Store::new(self.dir.path().join("store"))
    }

    /// Lets a later call fail; none lets all succeed. Counting begins anew.
    pub fn set_fault(&self, fault: Option<Fault>) {
        let mut state = self.state();
        state.calls = 0;
        state.fault = fault;
    }

    /// Lets all later calls succeed; counting goes on.
    pub fn forgive(&self) {
        self.state().fault = None;
    }

    /// Sets what managers tell of services, look after look; the last is told again and again.
    pub fn set_views(&self, views: impl IntoIterator<Item = View>) {
        self.state().views = views.into_iter().collect();
    }

    /// Returns how many calls there were since the fault was set.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.state().calls
    }

    /// Sets what becomes of a node's engine when it is given images; none if it takes them.
    pub fn set_upload(&self, cluster: &ClusterDir, node: &NodeName, upload: Option<Upload>) {
        let dir = cluster.machine_dir(node);
        let uploads = &mut self.state().uploads;
        match upload {
            Some(upload) => drop(uploads.insert(dir, upload)),
            None => drop(uploads.remove(&dir)),
        }
    }

    /// Lets somebody else be quicker to take the next subnets that are chosen.
    pub fn set_rivals(&self, rivals: usize) {
        self.state().rivals = rivals;
    }

    /// Sets how long anything that is waited for may take: longer than usual where it succeeds in the end.
    pub fn set_limit(&self, limit: Duration) {
        self.state().limit = Some(limit);
    }

    /// Sets what becomes of a node's next joins; later ones succeed.
    pub fn set_joins(&self, cluster: &ClusterDir, node: &NodeName, joins: &[Join]) {
        let joins = joins.iter().copied().collect();
        self.state().joins.insert(cluster.machine_dir(node), joins);
    }

    /// Ends a node's machine, or lets it run again.
    pub fn set_running(&self, cluster: &ClusterDir, node: &NodeName, runs: bool) {
        let dir = cluster.machine_dir(node);
        let running = &mut self.state().running;
        if runs {
            running.insert(dir)
        } else {
            running.remove(&dir)
        };
    }

    /// Lets a node's machine never be set up, so that its engine never answers.
    pub fn forbid_set_up(&self, cluster: &ClusterDir, node: &NodeName) {
        self.state().unfit.insert(cluster.machine_dir(node));
    }

    /// Lets every machine be set up from now on.
    pub fn permit_set_up(&self) {
        self.state().unfit.clear();
    }

    /// Ends all machines at once, as a host that loses its power does; its network goes too.
    pub fn lose_power(&self) {
        let mut state = self.state();
        state.running.clear();
        state.paused.clear();
        state.bridges.clear();
        state.tables.clear();
        state.published.clear();
    }

    /// Returns what is there of clusters, a line each; nothing on a host that has none.
    #[must_use]
    pub fn remains(&self) -> Vec<String> {
        let state = self.state();
        let bridges = state.bridges.keys().map(|name| format!("bridge {name}"));
        let tables = state.tables.keys().map(|name| format!("table {name}"));
        let running = state.running.iter().map(|dir| format!("machine {}", dir.display()));
        let adopted = state.adopted.keys().chain(state.open.keys());
        let adopted = adopted.map(|address| format!("host {address}"));
        let clusters = self.store().clusters().unwrap_or_default();
        let clusters = clusters.iter().map(|it| format!("cluster {}", it.name()));
        let mut all: Vec<_> =
            bridges.chain(tables).chain(running).chain(adopted).chain(clusters).collect();
        if std::fs::read_to_string(self.hosts_file()).is_ok_and(|text| text.lines().count() != 1) {
            all.push("names".to_owned());
        }
        if state.forwarding {
            all.push("forwarding".to_owned());
        }
        let machines = self.dir.path().join("machines");
        let named = MachineStore::new(&machines).names().unwrap_or_default();
        all.extend(named.iter().map(|name| format!("machine {name}")));
        all.extend(machines.join("skep.json").exists().then(|| "machines' network".to_owned()));
        all
    }

    /// Returns a docker-machine store on the host; it has nothing yet.
    ///
    /// # Panics
    ///
    /// If its directory cannot be made.
    #[must_use]
    pub fn machines(&self) -> ClusterDir {
        let root = self.dir.path().join("machines");
        std::fs::create_dir_all(&root).expect("a directory");
        ClusterDir::of_machines(&root)
    }

    /// Lets no machine be copied from now on.
    pub fn forbid_forks(&self) {
        self.state().forks_fail = true;
    }

    /// Says what becomes of machines that are copies from now on.
    pub fn let_copies(&self, copies: Copies) {
        self.state().copies = copies;
    }

    /// Lets the making of a template end only when so many are being made at the same time.
    pub fn expect_templates_at_once(&self, count: usize) {
        self.state().templates_at_once = Some(Arc::new(Barrier::new(count)));
    }

    /// Returns on what the disk of each machine that runs stands, by the names of their directories.
    ///
    /// # Panics
    ///
    /// If a disk is gone.
    #[must_use]
    pub fn bases(&self) -> BTreeMap<String, PathBuf> {
        let base = |dir: &PathBuf| {
            let name = dir.file_name().expect("it has one").to_string_lossy().into_owned();
            (name, machines::base(dir).expect("a disk"))
        };
        self.state().running.iter().map(base).collect()
    }

    /// Returns how many swarms were ever formed.
    #[must_use]
    pub fn swarms(&self) -> usize {
        self.state().swarms.len()
    }

    /// Looks at a cluster.
    ///
    /// # Errors
    ///
    /// As the real observer, and if a fault says so.
    pub async fn observe(&self, cluster: &str) -> Result<Observed, observe::Error> {
        self.observe_in(&self.cluster(cluster), Damage::Refuse).await
    }

    /// Looks at a cluster, or at the machines of a docker-machine store.
    ///
    /// # Errors
    ///
    /// As [`FakeHost::observe`].
    pub async fn observe_in(
        &self,
        dir: &ClusterDir,
        damage: Damage,
    ) -> Result<Observed, observe::Error> {
        let store = self.store();
        let observer = Observer {
            store: &store,
            others: &[],
            driver: self,
            engines: self,
            network: self,
            hosts_file: &self.hosts_file(),
            docker_config: None,
            limit: Duration::from_secs(1),
            images: false,
        };
        observer.observe(dir, damage).await
    }

    /// Carries a plan out.
    ///
    /// # Errors
    ///
    /// The steps that failed.
    ///
    /// # Panics
    ///
    /// If the cluster's lock cannot be had.
    pub async fn execute(
        &self,
        cluster: &str,
        plan: &Plan,
        on_failure: OnFailure,
        events: &(dyn Fn(Event) + Send + Sync),
    ) -> Result<(), Vec<Failure>> {
        let name = self.cluster(cluster).name().clone();
        let cluster = self.store().lock(&name, |_| ()).await.expect("the lock");
        self.execute_in(cluster, plan, on_failure, events).await
    }

    /// Carries a plan out on what is locked, and lets go of it.
    ///
    /// # Errors
    ///
    /// The steps that failed.
    pub async fn execute_in(
        &self,
        cluster: LockedCluster,
        plan: &Plan,
        on_failure: OnFailure,
        events: &(dyn Fn(Event) + Send + Sync),
    ) -> Result<(), Vec<Failure>> {
        let settings = Settings {
            hosts_file: self.hosts_file(),
            docker: None,
            resolvers: Vec::new(),
            user: "tester".to_owned(),
            timeout: Some(self.state().limit.unwrap_or(LIMIT)),
            load_file: PathBuf::new(),
            forwarding_file: self.store().forwarding_file(),
            at_once: 2,
        };
        let context = StepContext {
            cluster: &cluster,
            driver: self,
            network: self,
            names: &DirectNames,
            images: self,
            engines: self,
            settings: &settings,
            events,
        };
        let result = execute(plan, &context, on_failure).await;
        cluster.release();
        result
    }

    fn hosts_file(&self) -> PathBuf {
        self.dir.path().join("hosts")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds this")
    }

    /// Counts a call, does it, and fails if it is that one's turn.
    pub(crate) fn act<T, E>(
        &self,
        error: impl Fn() -> E,
        effect: impl FnOnce(&mut State) -> Result<T, E>,
    ) -> Result<T, E> {
        act(&self.state, error, effect)
    }
}

impl Default for FakeHost {
    fn default() -> Self {
        Self::new()
    }
}

/// As [`FakeHost::act`], for what outlives a borrow of the host.
pub(crate) fn act<T, E>(
    state: &Mutex<State>,
    error: impl Fn() -> E,
    effect: impl FnOnce(&mut State) -> Result<T, E>,
) -> Result<T, E> {
    let mut locked = state.lock().expect("no test panics while it holds this");
    locked.calls += 1;
    let number = locked.calls;
    let fault = locked.fault;
    if fault == Some(Fault::Before(number)) {
        return Err(error());
    }
    let result = effect(&mut locked)?;
    if fault == Some(Fault::Killed(number)) {
        drop(locked);
        resume_unwind(Box::new(Killed));
    }
    if fault == Some(Fault::After(number)) { Err(error()) } else { Ok(result) }
}

/// Returns an error of the kind that a full disk or a missing right gives.
pub(crate) fn file_error() -> skep_sys::FileError {
    skep_sys::FileError::new("write", Path::new("/fake"), std::io::Error::other("injected"))
}
