//! Virtual machines in a docker-machine store: look, plan, execute, as for clusters, with a store in a
//! cluster's place and no swarm. Machines of clusters are looked at, and left alone.

use std::path::Path;

use async_trait::async_trait;
use clap::ValueEnum as _;
use skep_core::event::Event;
use skep_core::model::{ClusterName, ClusterSpec, ImageSpec, NodeName, NodeSpec};
use skep_core::observed::{MachineState, Observed};
use skep_core::plan::{
    Birth, NodeAction, Plan, PlanError, StopMode, UsualAddresses, plan_machine_engine,
    plan_machine_removal, plan_machine_upgrade, plan_machines_up, plan_stop, reservation,
};
use skep_driver::Driver as _;
use skep_machine::call::variable;
use skep_machine::clusters::{self, BELONGS};
use skep_machine::driver::State;
use skep_machine::say::aside;
use skep_machine::vm::{Look, Tell, VmSpec, Vms};
use skep_machine::wanted::{node_spec, usual_addresses};
use skep_ops::Run;
use skep_ops::converge::{EngineSetup, Failure, OnFailure, Unsettled, execute, reserve, settle};
use skep_ops::observe::Damage;
use skep_store::dm::{Config, Error, MachineStore};
use skep_store::{ClusterDir, LockedCluster, Machine};
use skep_sys::{Holder, chain};

use crate::cli::{Accel, Limits};
use crate::context::Context;
use crate::error::CliError;

/// Virtual machines in docker-machine stores.
pub struct Machines {
    context: Result<Context, String>,
}

/// A store that no other process changes meanwhile.
struct Store<'a> {
    context: &'a Context,
    run: Run<'a>,
    cluster: LockedCluster,
}

impl Machines {
    /// Creates it from where things are, or why that cannot be told.
    #[must_use]
    pub fn new(context: Result<Context, CliError>) -> Self {
        Self { context: context.map_err(|error| error.message) }
    }

    fn context(&self) -> Result<&Context, String> {
        self.context.as_ref().map_err(Clone::clone)
    }

    /// Opens the store of a machine, which nobody else may change from now on. One that was removed
    /// while that was waited for is not made again.
    async fn open(&self, config: &Config) -> Result<Store<'_>, String> {
        let store = self.open_store_of(config).await?;
        if !MachineStore::new(store.dir().path()).exists(&config.name) {
            store.close();
            return Err(Error::Removed(config.name.clone()).to_string());
        }
        Ok(store)
    }

    async fn open_store_of(&self, config: &Config) -> Result<Store<'_>, String> {
        let root = config.driver.get("StorePath").and_then(|path| path.as_str());
        let root = root.ok_or("the record does not say which store it is in")?;
        if MachineStore::new(root).is_cluster() {
            return Err(BELONGS.to_owned());
        }
        self.open_root(Path::new(root)).await
    }

    async fn open_root(&self, root: &Path) -> Result<Store<'_>, String> {
        let context = self.context()?;
        let dir = ClusterDir::of_machines(root);
        let waiting = |holder: &Holder| {
            aside(&format!("waiting for the machines of this store, which {holder} changes"));
        };
        let cluster = dir.lock(waiting).await.map_err(|error| chain(&error))?;
        Ok(Store { context, run: context.run(Some(limits()?)), cluster })
    }
}

/// Returns what skep's own variables say of how machines are started.
fn limits() -> Result<Limits, String> {
    let accel = variable("SKEP_ACCEL").map(|kind| {
        Accel::from_str(&kind, true).map_err(|_| format!("SKEP_ACCEL is {kind:?}; use kvm or tcg"))
    });
    let accel = accel.transpose()?;
    Ok(Limits { timeout: None, accel })
}

fn unsettled(why: Unsettled<String>) -> String {
    match why {
        Unsettled::Unplanned(error) => error,
        Unsettled::Failed(failures) => told(&CliError::from_failures(&failures)),
        Unsettled::Restless => "the engine does not stay reachable".to_owned(),
    }
}

fn told(error: &CliError) -> String {
    let hints = error.hints.iter().map(|hint| format!("\n  try: {hint}"));
    error.message.clone() + &hints.collect::<String>()
}

fn node_name(name: &str) -> Result<NodeName, String> {
    name.parse().map_err(|error: skep_core::model::NameError| error.to_string())
}

fn spec(
    name: &ClusterName,
    node: NodeSpec,
    wanted: Option<&VmSpec>,
) -> Result<ClusterSpec, String> {
    let subnet = wanted.map_or(Ok(None), skep_machine::wanted::subnet)?;
    Ok(ClusterSpec {
        subnet: subnet.map(|(subnet, _)| subnet),
        nodes: vec![node],
        ..ClusterSpec::of_machines(name.clone(), 0, 0)
    })
}

/// Plans a machine. The first one of a store decides which network all have.
fn plan(
    spec: &ClusterSpec,
    seen: &Observed,
    birth: Birth,
    usual: UsualAddresses,
) -> Result<Plan, PlanError> {
    let subnet = spec.subnet.filter(|_| seen.cluster.is_none());
    plan_machines_up(&ClusterSpec { subnet, ..spec.clone() }, seen, birth, usual)
}

impl Store<'_> {
    fn dir(&self) -> &ClusterDir {
        self.cluster.dir()
    }

    /// Looks at all, and asks the engines.
    async fn look(&self) -> Result<Observed, String> {
        // Another machine's damage is no reason to fail, and the shared record's is.
        self.dir().record().map_err(|error| chain(&error))?;
        let seen = self.run.observe(self.dir(), Damage::List).await;
        seen.map_err(|error| told(&error.into()))
    }

    async fn look_at_machines(&self) -> Result<Observed, String> {
        let seen = self.run.observe_machines(self.dir(), Damage::ListAll).await;
        seen.map_err(|error| told(&error.into()))
    }

    async fn carry_out(&self, plan: &Plan, how: OnFailure, tell: Tell<'_>) -> Result<(), String> {
        let done = self.try_out(plan, how, tell).await;
        done.map_err(|failures| told(&CliError::from_failures(&failures)))
    }

    async fn try_out(
        &self,
        plan: &Plan,
        how: OnFailure,
        tell: Tell<'_>,
    ) -> Result<(), Vec<Failure>> {
        let events = |event| narrate(&event, plan, tell);
        let steps = self.run.step_context(&self.cluster, &events);
        execute(plan, &steps, how).await
    }

    /// Chooses a subnet and a bridge, again where another skep on this host was quicker to take them.
    async fn reserve(
        &self,
        plan: &(dyn Fn(&Observed) -> Result<Plan, String> + Sync),
        tell: Tell<'_>,
    ) -> Result<(), String> {
        let carry_out = async |plan: &Plan| self.try_out(plan, OnFailure::Stop, tell).await;
        let reserved = reserve(plan, carry_out, async || self.look().await).await;
        reserved.map_err(unsettled)
    }

    /// Brings a machine up to an engine that answers. One that cannot be forked is booted.
    async fn bring_up(
        &self,
        spec: &ClusterSpec,
        usual: UsualAddresses,
        tell: Tell<'_>,
    ) -> Result<(), String> {
        let fork = Birth::Fork { restart_engine: false };
        let plan = |seen: &Observed, birth: Birth| {
            plan(spec, seen, birth, usual).map_err(|error| error.to_string())
        };
        let mut seen = self.look().await?;
        if seen.cluster.is_none() {
            if !seen.nodes.is_empty() {
                let root = self.dir().path().display();
                return Err(format!("{root} has virtual machines and no skep.json"));
            }
            let noted = self.context.session.registry().add(self.dir());
            noted.map_err(|error| chain(&error))?;
            self.reserve(&|seen: &Observed| Ok(reservation(plan(seen, fork)?)), tell).await?;
            seen = self.look().await?;
        }
        let names = spec.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ");
        let settled = settle(
            seen,
            fork,
            OnFailure::Stop,
            |seen, birth, _| plan(seen, birth),
            async |plan| self.try_out(plan, OnFailure::Stop, tell).await,
            async || self.look().await,
            |text| tell(&format!("({names}) {text}")),
        );
        settled.await.map_err(unsettled)
    }

    async fn end(&self, config: &Config, mode: StopMode) -> Result<(), String> {
        let seen = self.look_at_machines().await?;
        let plan = plan_stop(&seen, &[node_name(&config.name)?], mode);
        let plan = plan.map_err(|error| error.to_string())?;
        self.carry_out(&plan, OnFailure::GoOn, &|_| ()).await
    }

    async fn remove(&mut self, name: &NodeName) -> Result<(), String> {
        let dir = self.dir().clone();
        let plan = plan_machine_removal(&self.look_at_machines().await?, name);
        self.carry_out(&plan, OnFailure::GoOn, &|_| ()).await?;
        if !dir.exists() {
            self.context.session.registry().remove(&dir).map_err(|error| chain(&error))?;
        }
        Ok(())
    }

    fn close(self) {
        self.cluster.release();
    }
}

/// Tells of a step what docker-machine's drivers tell.
fn narrate(event: &Event, plan: &Plan, tell: Tell<'_>) {
    let node = plan.steps.iter().find_map(|step| step.action.node());
    match event {
        Event::StepStarted { step, node: Some(node), .. } => match plan.steps[*step]
            .action
            .on_node()
        {
            Some(NodeAction::EnsureMachineKeys) => tell(&format!("({node}) Creating SSH key...")),
            Some(NodeAction::ForkMachine | NodeAction::StartMachine) => {
                tell(&format!("({node}) Starting the VM..."));
            }
            _ => {}
        },
        Event::StepProgress { text, .. } | Event::StepWarning { text, .. } => {
            tell(&node.map_or_else(|| text.clone(), |node| format!("({node}) {text}")));
        }
        Event::Warning(text) => tell(text),
        _ => {}
    }
}

#[async_trait(?Send)]
impl Vms for Machines {
    async fn check(&self, root: &Path, wanted: &VmSpec) -> Result<Vec<String>, String> {
        let node = node_spec(wanted)?;
        if let Some(problem) = node.problems().first() {
            return Err(problem.to_string());
        }
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        skep_machine::wanted::check_memory(wanted, &meminfo)?;
        let subnet = skep_machine::wanted::subnet(wanted)?;
        let limits = limits()?;
        let context = self.context()?;
        let ready = crate::commands::require(context, &ImageSpec::default()).await;
        ready.map_err(|error| told(&error))?;
        // Nobody else is kept from the store meanwhile: what changes until then is told then.
        let dir = ClusterDir::of_machines(root);
        let run = context.run(Some(limits));
        let seen = run.observe_machines(&dir, Damage::ListAll).await;
        let seen = seen.map_err(|error| told(&error.into()))?;
        let mut notes = Vec::new();
        if wanted.engine.install_url != skep_machine::wanted::USUAL_INSTALL_URL
            && !wanted.engine.install_url.is_empty()
        {
            notes.push("The image has an engine; --engine-install-url is not used".to_owned());
        }
        if let Some((subnet, note)) = subnet {
            let recorded = seen.cluster.as_ref().map(|record| record.network.subnet);
            match recorded.filter(|recorded| *recorded != subnet) {
                Some(recorded) => notes.push(format!(
                    "--virtualbox-hostonly-cidr: not used; the machines of this store have the network {recorded}"
                )),
                None => notes.extend(note),
            }
        }
        let spec = spec(dir.name(), node, Some(wanted))?;
        let usual = usual_addresses(&wanted.driver);
        match plan(&spec, &seen, Birth::Fork { restart_engine: false }, usual) {
            Ok(_) => Ok(notes),
            Err(error) => Err(skep_machine::wanted::unplaced(&error, wanted)),
        }
    }

    async fn create(
        &self,
        wanted: &VmSpec,
        config: &mut Config,
        tell: Tell<'_>,
    ) -> Result<(), String> {
        let store = self.open(config).await?;
        let spec = spec(store.dir().name(), node_spec(wanted)?, Some(wanted))?;
        let done = store.bring_up(&spec, usual_addresses(&wanted.driver), tell).await;
        // What was written down meanwhile must not be lost with what is in memory.
        if let Ok(found) = MachineStore::new(store.dir().path()).load(&config.name) {
            config.driver = found.driver;
        }
        store.close();
        done
    }

    fn state<'a>(&'a self, config: &'a Config) -> Look<'a> {
        Box::pin(async {
            let Some(machine) = machine(config) else { return Ok(State::Stopped) };
            Ok(match self.context()?.driver(None).state(&machine).await {
                MachineState::Running => State::Running,
                MachineState::Paused => State::Paused,
                MachineState::Crashed => State::Error,
                MachineState::Stopped => State::Stopped,
            })
        })
    }

    async fn start(&self, config: &Config) -> Result<(), String> {
        let store = self.open(config).await?;
        let name = node_name(&config.name)?;
        let node = store.dir().node(&name).map_err(|error| {
            format!("it was never completely made ({}); remove it", chain(&error))
        })?;
        let spec = spec(store.dir().name(), node.spec, None)?;
        let done = store.bring_up(&spec, usual_addresses(&config.driver_name), &|_| ()).await;
        store.close();
        done
    }

    async fn stop(&self, config: &Config) -> Result<(), String> {
        let store = self.open(config).await?;
        let done = store.end(config, StopMode::Graceful).await;
        store.close();
        done
    }

    async fn kill(&self, config: &Config) -> Result<(), String> {
        let store = self.open(config).await?;
        let done = store.end(config, StopMode::Kill).await;
        store.close();
        done
    }

    async fn provision(&self, config: &Config, new: bool, tell: Tell<'_>) -> Result<(), String> {
        let store = self.open(config).await?;
        if new {
            tell("Provisioning with skep...");
        }
        tell("Copying certs to the local machine directory...");
        tell("Copying certs to the remote machine...");
        tell("Setting Docker configuration on the remote daemon...");
        // A new machine's engine is as the image has it.
        let done = match new && EngineSetup::of(config).is_empty() {
            true => Ok(()),
            false => {
                let plan = plan_machine_engine(&node_name(&config.name)?, !new);
                store.carry_out(&plan, OnFailure::Stop, tell).await
            }
        };
        store.close();
        done
    }

    async fn upgrade(&self, config: &Config, tell: Tell<'_>) -> Result<(), String> {
        let store = self.open(config).await?;
        tell("Upgrading docker...");
        let plan = plan_machine_upgrade(&node_name(&config.name)?);
        let done = store.carry_out(&plan, OnFailure::Stop, tell).await;
        store.close();
        done
    }

    async fn remove(&self, config: &Config) -> Result<(), String> {
        let mut store = self.open_store_of(config).await?;
        let done = store.remove(&node_name(&config.name)?).await;
        store.close();
        done
    }

    async fn forget(&self, root: &Path, name: &str) -> Result<(), String> {
        let Ok(name) = node_name(name) else { return Ok(()) };
        if !ClusterDir::of_machines(root).exists() {
            return Ok(());
        }
        let mut store = self.open_root(root).await?;
        let done = store.remove(&name).await;
        store.close();
        done
    }
}

/// Returns the machine that a record is of, if it has got so far.
fn machine(config: &Config) -> Option<Machine> {
    clusters::machine(config).or_else(|| {
        let store = config.driver.get("StorePath")?.as_str()?;
        let dir = ClusterDir::of_machines(Path::new(store));
        let name = config.name.parse().ok()?;
        config.driver.get("Tap")?;
        Some(Machine { record: dir.node(&name).ok()?, dir: dir.machine_dir(&name) })
    })
}
