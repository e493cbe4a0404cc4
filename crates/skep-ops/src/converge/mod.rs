//! Carries a plan out.
//!
//! The only module that sees plan, drivers, engines and store together. It decides nothing: each
//! step is done when those it needs are done, as many at the same time as that allows. A step that
//! fails takes with it only those that need it; whether the others go on is the caller's word.

mod checks;
mod engine_ends;
mod images;
mod machines;
mod members;
mod options;
mod patience;
mod provision;
mod ready;
mod registry;
mod reserve;
mod settle;
mod steps;
mod verify;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use skep_core::event::Event;
use skep_core::model::{ImageSpec, NetworkRecord, NodeName, NodeRecord};
use skep_core::plan::{Action, ClusterAction, NodeAction, Plan, Step};
use skep_docker::contexts;
use skep_docker::engine::{self, Engine, Engines};
use skep_driver::image::{self, Images};
use skep_driver::qemu::stop_limit;
use skep_driver::{Driver, Remark};
use skep_net::firewall;
use skep_net::hosts::{self, Names};
use skep_net::network::{self, Network};
use skep_store::pki::{self, Credentials};
use skep_store::{LockedCluster, Machine, Owner};
use skep_sys::shell;
use thiserror::Error;

use ready::Ready;

pub use options::EngineSetup;
pub use provision::{Delivery, Identity, PROGRAM, render};
pub use reserve::reserve;
pub use settle::{Unsettled, settle};

/// How long an engine may take for a call at least: it works on a join for 20 s before it answers.
const PATIENCE: Duration = Duration::from_secs(25);

/// Returns how long an engine may take for a call, by how many times slower than a processor its machine is.
pub fn call_limit(slowness: u32) -> Duration {
    (Duration::from_secs(10) * slowness).max(PATIENCE)
}

/// Everything that steps act on.
pub struct StepContext<'a> {
    /// The cluster's directory.
    pub cluster: &'a LockedCluster,
    /// Machines.
    pub driver: &'a dyn Driver,
    /// The host's network.
    pub network: &'a dyn Network,
    /// Writes names into the host's file of them.
    pub names: &'a dyn Names,
    /// Guest images.
    pub images: &'a dyn Images,
    /// Engines.
    pub engines: &'a dyn Engines,
    /// What the user chose for this machine.
    pub settings: &'a Settings,
    /// Is told what happens.
    pub events: &'a (dyn Fn(Event) + Send + Sync),
}

/// What is the same for all clusters on this host.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file of host names.
    pub hosts_file: PathBuf,
    /// The host's docker command, with which contexts are made; none if there is none.
    pub docker: Option<PathBuf>,
    /// Addresses of DNS servers for the guests.
    pub resolvers: Vec<Ipv4Addr>,
    /// The name in the certificates' subjects.
    pub user: String,
    /// How long anything that is waited for may take; none for the driver's own measure.
    pub timeout: Option<Duration>,
    /// Where the kernel tells how busy this host is, `/proc/loadavg`; a busy host stretches limits that nobody set.
    pub load_file: PathBuf,
    /// Where an earlier version of skep wrote down that it switched forwarding on.
    pub forwarding_file: PathBuf,
    /// How many nodes may be busy starting or joining at the same time.
    pub at_once: usize,
}

/// What becomes of the other steps when one fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// They are given up at once.
    Stop,
    /// Those that do not need it are done.
    GoOn,
    /// Those that do not need it are done, unless no swarm can come of the plan any more: then all are given up
    /// at once.
    GoOnForSwarm,
}

/// A step that failed.
#[derive(Debug)]
pub struct Failure {
    /// The node, if it concerns one.
    pub node: Option<NodeName>,
    /// What was to be done.
    pub title: String,
    /// Why it was not.
    pub error: Error,
    /// The last lines of the node's console, where there are any.
    pub console: String,
    /// Whether it can be had without what failed, by booting nodes in the place of forking them.
    pub forking: bool,
}

impl Failure {
    /// Tells whether somebody else was given the name or the subnet that was chosen, so that another choice may do.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        matches!(self.error, Error::Network(network::Error::Taken(_)))
    }
}

/// Why a step failed.
#[derive(Debug, Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] skep_store::Error),
    /// Certificates or keys.
    #[error(transparent)]
    Pki(#[from] pki::Error),
    /// The image.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// The host's network.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// The host's firewall.
    #[error(transparent)]
    Firewall(#[from] firewall::Error),
    /// The host's file of names.
    #[error(transparent)]
    Hosts(#[from] hosts::Error),
    /// The docker command's context.
    #[error(transparent)]
    Context(#[from] contexts::Error),
    /// The machine.
    #[error(transparent)]
    Driver(#[from] skep_driver::Error),
    /// A command in the node.
    #[error(transparent)]
    Shell(#[from] shell::Error),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// A file.
    #[error(transparent)]
    File(#[from] skep_sys::FileError),
    /// Something did not happen in time.
    #[error("timed out after {} s waiting {what}: {last}", .limit.as_secs())]
    Late {
        /// What did not happen.
        what: String,
        /// The limit.
        limit: Duration,
        /// What was seen last.
        last: String,
    },
    /// Certificates are refused, as the node's clock and this host's say different times.
    #[error("{reason}: the clock of {node} is {} s {} this host's", .behind_ns.unsigned_abs() / 1_000_000_000, if *.behind_ns < 0 { "ahead of" } else { "behind" })]
    Clock {
        /// The node.
        node: NodeName,
        /// By how much its clock is behind, in nanoseconds.
        behind_ns: i64,
        /// What the engine, or the connection to it, said.
        reason: String,
    },
    /// An engine ends as often as it is started.
    #[error("the engine of {node} ends whenever it is started: {said}")]
    EngineEnds {
        /// The node.
        node: NodeName,
        /// What its log says last.
        said: String,
    },
    /// What a step acts on is not written down.
    #[error("{0} has no record")]
    NoRecord(String),
    /// A file in the node does not hold what it should.
    #[error("{file} in the node is damaged")]
    Guest {
        /// The file.
        file: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Engines do not answer.
    #[error("{}", lines(.0))]
    Engines(Vec<(NodeName, String)>),
    /// Some nodes did not get images, each for its reason.
    #[error("{}", reasons(.0))]
    Images(Vec<(NodeName, Error)>),
    /// Images could not be read.
    #[error(transparent)]
    Source(#[from] skep_docker::oci::Error),
    /// No manager could be asked.
    #[error("no manager responds ({0})")]
    NoManager(String),
}

fn reasons(nodes: &[(NodeName, Error)]) -> String {
    let reason = |(node, error): &(NodeName, Error)| (node.clone(), skep_sys::chain(error));
    lines(&nodes.iter().map(reason).collect::<Vec<_>>())
}

/// Returns what is wrong with each node.
fn lines(nodes: &[(NodeName, String)]) -> String {
    let lines = nodes.iter().map(|(node, reason)| format!("{node}: {reason}"));
    lines.collect::<Vec<_>>().join("; ")
}

/// Carries a plan out.
///
/// # Errors
///
/// Returns the steps that failed, in the order in which they did.
pub async fn execute(
    plan: &Plan,
    context: &StepContext<'_>,
    on_failure: OnFailure,
) -> Result<(), Vec<Failure>> {
    (context.events)(Event::PlanStarted { steps: plan.outline() });
    let mut open: Vec<usize> = plan.steps.iter().map(|step| step.needs.len()).collect();
    let mut dropped = vec![false; plan.steps.len()];
    let mut succeeded = vec![false; plan.steps.len()];
    let vital = plan.vital_steps();
    let mut ready = Ready::new(plan, context.settings.at_once);
    let mut running = FuturesUnordered::new();
    let mut failures = Vec::new();
    let run =
        |index: usize| async move { (index, run_step(index, &plan.steps[index], context).await) };
    for (index, _) in open.iter().enumerate().filter(|(_, needs)| **needs == 0) {
        ready.add(index);
    }
    loop {
        while let Some(index) = ready.next() {
            running.push(run(index));
        }
        let Some((done, result)) = running.next().await else { break };
        ready.ended(done);
        succeeded[done] = result.is_ok();
        if let Err(mut failure) = result {
            failure.forking = is_of_forking(&plan.steps[done], plan, &failure.error);
            failures.push(failure);
            let stops = match on_failure {
                OnFailure::Stop => true,
                OnFailure::GoOn => false,
                OnFailure::GoOnForSwarm => vital[done],
            };
            if stops {
                // What runs is dropped where it is: every step can be run again.
                break;
            }
            dropped[done] = true;
        }
        for (index, step) in plan.steps.iter().enumerate().skip(done + 1) {
            if step.needs.contains(&done) {
                open[index] -= 1;
                if dropped[done] {
                    dropped[index] = true;
                }
                if open[index] == 0 && !dropped[index] {
                    ready.add(index);
                }
            }
        }
        drop_dependents(plan, &mut dropped);
    }
    drop(running);
    if failures.iter().any(|failure| failure.forking) {
        context.end_copies(plan, &succeeded).await;
    }
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

/// Marks what needs a step that was dropped; steps come after those they need.
fn drop_dependents(plan: &Plan, dropped: &mut [bool]) {
    for (index, step) in plan.steps.iter().enumerate() {
        dropped[index] |= step.needs.iter().any(|need| dropped[*need]);
    }
}

async fn run_step(index: usize, step: &Step, context: &StepContext<'_>) -> Result<(), Failure> {
    let started = Instant::now();
    let title = title(step);
    tracing::info!("begin {title}");
    (context.events)(Event::StepStarted {
        step: index,
        node: step.action.node().cloned(),
        title: step.action.to_string(),
    });
    let result = context.perform(index, step).await;
    let took = started.elapsed();
    let seconds = took.as_secs_f64();
    match result {
        Ok(()) => {
            tracing::info!("done after {seconds:.3} s: {title}");
            (context.events)(Event::StepFinished { step: index, took });
            Ok(())
        }
        Err(error) => {
            let reason = skep_sys::chain(&error);
            tracing::error!("failed after {seconds:.3} s: {title}: {reason}");
            (context.events)(Event::StepFailed { step: index, took, error: error.to_string() });
            Err(context.failure(step, error))
        }
    }
}

/// Returns a step as it is logged.
fn title(step: &Step) -> String {
    let node = step.action.node().map(|node| format!("{node}: ")).unwrap_or_default();
    format!("{node}{}", step.action)
}

/// Tells whether a step failed because machines cannot be forked here. That a state was loaded is no proof that the
/// guest goes on: a copy that does not answer, or cannot be told who it is, counts too.
fn is_of_forking(step: &Step, plan: &Plan, error: &Error) -> bool {
    let late = matches!(error, Error::Driver(skep_driver::Error::NoGuest { .. }));
    match step.action {
        Action::Node(_, NodeAction::ForkMachine) => true,
        // Where there was no time for a boot, there is none for others.
        Action::Cluster(ClusterAction::EnsureTemplate { .. }) => !late,
        Action::Node(_, NodeAction::AwaitGuest) | Action::Node(_, NodeAction::Provision) => {
            let forked = |it: &Step| {
                it.action.node() == step.action.node() && it.does(&NodeAction::ForkMachine)
            };
            let guest = matches!(error, Error::Driver(_) | Error::Shell(_));
            guest && plan.steps.iter().any(forked)
        }
        _ => false,
    }
}

impl StepContext<'_> {
    fn failure(&self, step: &Step, error: Error) -> Failure {
        let machine = step.action.node().and_then(|node| self.machine(node).ok());
        // What the driver says of a guest that did not come up has its console's words in it.
        let console = match (&error, machine) {
            (Error::Driver(_) | Error::Store(_), _) | (_, None) => String::new(),
            (_, Some(machine)) => self.driver.last_words(&machine),
        };
        Failure {
            node: step.action.node().cloned(),
            title: step.action.to_string(),
            error,
            console,
            forking: false,
        }
    }

    /// Ends the copies of a plan that were not told yet who they are. Nothing is in them, they may hang as the one that
    /// failed, and they boot like any machine.
    async fn end_copies(&self, plan: &Plan, succeeded: &[bool]) {
        let told = |node: Option<&NodeName>| {
            let mut steps = plan.steps.iter().zip(succeeded);
            steps.any(|(it, done)| {
                *done && it.action.node() == node && it.does(&NodeAction::Provision)
            })
        };
        let forked = plan.steps.iter().filter(|step| step.does(&NodeAction::ForkMachine));
        for node in
            forked.filter(|step| !told(step.action.node())).filter_map(|step| step.action.node())
        {
            if let Err(error) = self.driver.kill(&self.cluster.dir().machine_dir(node)).await {
                let reason = skep_sys::chain(&error);
                (self.events)(Event::Warning(format!("{node}: its copy does not end: {reason}")));
            }
        }
    }

    fn owner(&self) -> Owner {
        Owner::of(self.cluster.dir())
    }

    fn machine(&self, node: &NodeName) -> Result<Machine, Error> {
        let record = self.record(node)?;
        Ok(Machine { record, dir: self.cluster.dir().machine_dir(node) })
    }

    fn record(&self, node: &NodeName) -> Result<NodeRecord, Error> {
        Ok(self.cluster.dir().node(node)?)
    }

    fn network_record(&self) -> Result<NetworkRecord, Error> {
        Ok(self.cluster_record()?.network)
    }

    fn image_spec(&self) -> Result<ImageSpec, Error> {
        Ok(self.cluster_record()?.image)
    }

    fn cluster_record(&self) -> Result<skep_core::model::ClusterRecord, Error> {
        let name = self.cluster.dir().name();
        self.cluster.dir().record()?.ok_or_else(|| Error::NoRecord(format!("cluster {name}")))
    }

    fn engine(&self, node: &NodeName) -> Result<Box<dyn Engine>, Error> {
        let machine = self.machine(node)?;
        let credentials = Credentials::of_node(self.cluster.dir(), node);
        let limit = call_limit(self.driver.slowness(&machine));
        let patience = limit.mul_f64(self.slowdown().min(4.0));
        Ok(self.engines.engine(machine.record.address, &credentials, patience)?)
    }

    /// Returns how long to wait for what takes `native` at most on hardware virtualization.
    fn limit(&self, node: Option<&NodeName>, native: Duration) -> Duration {
        self.settings.timeout.unwrap_or_else(|| {
            let machine = node.and_then(|node| self.machine(node).ok());
            native * machine.map_or(1, |machine| self.driver.slowness(&machine))
        })
    }

    /// Returns [`Self::limit`], or `floor` if that is longer: for what a protocol's own timers bound, which no
    /// processor makes faster. A limit that the user set holds as it is.
    fn limit_from(&self, node: Option<&NodeName>, native: Duration, floor: Duration) -> Duration {
        match self.settings.timeout {
            Some(limit) => limit,
            None => self.limit(node, native).max(floor),
        }
    }

    /// Returns by how much this host's load stretches limits; a limit that the user set is not stretched.
    fn slowdown(&self) -> f64 {
        match self.settings.timeout {
            Some(_) => 1.0,
            None => patience::slowdown(&self.settings.load_file),
        }
    }

    /// Returns how long to wait for containers that stop, and for their machine.
    fn stop_limit(&self, node: &NodeName) -> Duration {
        self.settings.timeout.unwrap_or_else(|| {
            let machine = self.machine(node).ok();
            stop_limit(machine.map_or(1, |machine| self.driver.slowness(&machine)))
        })
    }

    /// Tells what a driver says of a node or a template.
    fn remark(&self, step: usize, of: &str, remark: Remark<'_>) {
        match remark {
            Remark::Progress(text) => self.progress(step, text),
            Remark::Warning(text) => {
                let (of, text) = (of.to_owned(), text.to_owned());
                (self.events)(Event::StepWarning { of, text });
            }
        }
    }

    fn progress(&self, step: usize, text: impl Into<String>) {
        (self.events)(Event::StepProgress { step, text: text.into() });
    }
}
