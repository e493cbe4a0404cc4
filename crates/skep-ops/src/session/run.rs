//! One run: the choices of a command, through which it looks at clusters and changes them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use skep_core::event::Event;
use skep_core::model::{ClusterName, NodeName};
use skep_core::observed::{HostsEntry, Observed};
use skep_core::plan::{Action, Plan};
use skep_docker::engine::{EngineImage, TlsEngines};
use skep_docker::stack::Swarm;
use skep_driver::qemu::Accelerator;
use skep_driver::{AnyDriver, Driver as _};
use skep_net::network::resolvers;
use skep_store::{ClusterDir, LockedCluster, Machine, Owner};
use skep_sys::{Holder, Lock};

use super::{Error, Events, Session};
use crate::converge::{Failure, OnFailure, Settings, StepContext, execute};
use crate::observe::{Damage, Observer};

/// How long a node may take to answer a look before a plan is made.
const LOOK: Duration = Duration::from_secs(20);

/// What is chosen for a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunOptions {
    /// The accelerator of new machines; without one, skep finds out which one works.
    pub accelerator: Option<Accelerator>,
    /// How long anything that is waited for may take; none for the driver's own measure.
    pub timeout: Option<Duration>,
}

/// What a change looks at before it is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Machines, networks and engines. Damaged records are refused.
    All,
    /// All but engines, which may not be there to answer: what stops machines need not know what runs in them. Damaged
    /// records are refused.
    Machines,
    /// All but engines. Damaged records are listed, so that what is left can be removed.
    Remains,
}

/// What looks at clusters and changes them.
pub struct Run<'s> {
    session: &'s Session,
    others: Vec<ClusterDir>,
    /// Machines.
    pub driver: AnyDriver,
    engines: TlsEngines,
    settings: Settings,
    /// Whether looks tell which images engines have even if the cluster wants none.
    pub images: bool,
    events: Events,
}

impl<'s> Run<'s> {
    pub(super) fn new(session: &'s Session, options: RunOptions, events: Events) -> Self {
        let config = session.config();
        Self {
            others: session.registry().list(),
            driver: session.driver(options.accelerator),
            engines: TlsEngines::new(session.network().dialer()),
            images: false,
            settings: Settings {
                hosts_file: config.hosts_file.clone(),
                docker: config.docker.clone(),
                resolvers: resolvers(Path::new("/")),
                user: config.user.clone(),
                timeout: options.timeout,
                load_file: "/proc/loadavg".into(),
                forwarding_file: session.store.forwarding_file(),
                at_once: std::thread::available_parallelism().map_or(1, usize::from),
            },
            events,
            session,
        }
    }

    /// Returns the session that it belongs to.
    #[must_use]
    pub fn session(&self) -> &'s Session {
        self.session
    }

    /// Reports an event.
    pub fn report(&self, event: Event) {
        (self.events)(event);
    }

    /// Changes a cluster: takes its lock, looks, plans, executes the plan and releases the lock. Returns what was seen.
    ///
    /// # Errors
    ///
    /// If one of these fails; `plan` may fail with an error of its own.
    pub async fn change<E: From<Error>>(
        &self,
        cluster: &ClusterName,
        look: Look,
        on_failure: OnFailure,
        plan: impl FnOnce(&Observed) -> Result<Plan, E>,
    ) -> Result<Observed, E> {
        let locked = self.session.lock(cluster, &self.events).await?;
        let done = async {
            let seen = self.look(locked.dir(), look).await?;
            self.execute(&locked, &plan(&seen)?, on_failure).await?;
            Ok(seen)
        };
        let done = done.await;
        locked.release();
        done
    }

    /// Takes a cluster's lock, as [`Session::lock`].
    ///
    /// # Errors
    ///
    /// As [`Session::lock`].
    pub async fn lock(&self, cluster: &ClusterName) -> Result<LockedCluster, Error> {
        self.session.lock(cluster, &self.events).await
    }

    /// Takes the lock of a stack, which somebody else may be deploying or removing: then it says who.
    ///
    /// # Errors
    ///
    /// If it cannot be had at all.
    pub async fn lock_stack(&self, dir: &ClusterDir, stack: &str) -> Result<Lock, Error> {
        let waiting = |holder: &Holder| {
            self.report(Event::Notice(format!(
                "waiting for {holder} to finish with stack {stack}"
            )));
        };
        let locked = dir.lock_stack(stack, waiting).await;
        locked.map_err(|source| Error::Lock { cluster: dir.name().clone(), source })
    }

    /// Executes one plan.
    ///
    /// # Errors
    ///
    /// The steps that failed.
    pub async fn execute(
        &self,
        cluster: &LockedCluster,
        plan: &Plan,
        on_failure: OnFailure,
    ) -> Result<(), Error> {
        self.try_execute(cluster, plan, on_failure, &|_| ()).await.map_err(Error::Steps)
    }

    /// As [`Self::execute`], with the failures as they are; `done` is told of each step that succeeded.
    pub(super) async fn try_execute(
        &self,
        cluster: &LockedCluster,
        plan: &Plan,
        on_failure: OnFailure,
        done: &(dyn Fn(&Action) + Send + Sync),
    ) -> Result<(), Vec<Failure>> {
        for warning in &plan.warnings {
            self.report(Event::Warning(warning.clone()));
        }
        let events = |event| {
            if let Event::StepFinished { step, .. } = &event {
                done(&plan.steps[*step].action);
            }
            self.report(event);
        };
        let result = execute(plan, &self.step_context(cluster, &events), on_failure).await;
        self.report(Event::PlanFinished);
        result
    }

    /// Looks at a cluster.
    ///
    /// # Errors
    ///
    /// If the host cannot be looked at, or a record is damaged and may not be.
    pub async fn look(&self, dir: &ClusterDir, look: Look) -> Result<Observed, Error> {
        match look {
            Look::All => self.observe(dir, Damage::Refuse).await,
            Look::Machines => self.observe_machines(dir, Damage::Refuse).await,
            Look::Remains => self.observe_machines(dir, Damage::ListAll).await,
        }
    }

    /// Looks at a cluster, its engines included.
    ///
    /// # Errors
    ///
    /// As [`Self::look`].
    pub async fn observe(&self, dir: &ClusterDir, damage: Damage) -> Result<Observed, Error> {
        self.observe_within(dir, damage, LOOK).await
    }

    /// Looks at a cluster without a word to its engines.
    ///
    /// # Errors
    ///
    /// As [`Self::look`].
    pub async fn observe_machines(
        &self,
        dir: &ClusterDir,
        damage: Damage,
    ) -> Result<Observed, Error> {
        self.observe_within(dir, damage, Duration::ZERO).await
    }

    /// Looks at a cluster, giving each node a limit.
    ///
    /// # Errors
    ///
    /// As [`Self::look`].
    pub async fn observe_within(
        &self,
        dir: &ClusterDir,
        damage: Damage,
        limit: Duration,
    ) -> Result<Observed, Error> {
        let seen = self.observer(limit).observe(dir, damage).await;
        seen.map_err(|source| {
            let (cluster, source) = (dir.name().clone(), Box::new(source));
            Error::Observe { cluster, source }
        })
    }

    fn observer(&self, limit: Duration) -> Observer<'_> {
        let config = self.session.config();
        Observer {
            store: &self.session.store,
            others: &self.others,
            driver: &self.driver,
            engines: &self.engines,
            network: self.session.network(),
            hosts_file: &config.hosts_file,
            docker_config: config.docker_config.as_deref(),
            limit,
            images: self.images,
        }
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

    /// Returns a cluster's engines; each call is bounded by the slowest node's measure.
    #[must_use]
    pub fn swarm<'a>(&'a self, dir: &'a ClusterDir) -> Swarm<'a> {
        Swarm { dir, engines: &self.engines, patience: self.session.call_limit(dir) }
    }

    /// Returns the names that a cluster has in the host's file of names.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn hosts_entries(&self, dir: &ClusterDir) -> Result<Vec<HostsEntry>, Error> {
        let entries = skep_net::hosts::read_block(&self.settings.hosts_file, &Owner::of(dir));
        entries.map_err(Error::Names)
    }

    /// Returns the log of a service in a node.
    ///
    /// # Errors
    ///
    /// If the node does not run or does not answer, or the service has none.
    pub async fn service_log(&self, machine: &Machine, service: &str) -> Result<Vec<u8>, Error> {
        use skep_core::observed::MachineState;
        let node = machine.record.name().clone();
        if self.driver.state(machine).await != MachineState::Running {
            return Err(Error::NotRunning(node));
        }
        let limit = Duration::from_secs(5) * self.driver.slowness(machine);
        let path = format!("/var/log/{service}/current");
        let shell = self.driver.shell(machine);
        let output = shell.run(&["/usr/bin/cat", &path], b"", limit).await;
        match output {
            Ok(output) if output.code == 0 => Ok(output.stdout),
            Ok(_) => Err(Error::NoLog { node, service: service.to_owned() }),
            Err(source) => Err(Error::Shell { node, source }),
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
            network: self.session.network(),
            names: &*self.session.backends.names,
            images: &self.session.cache,
            engines: &self.engines,
            settings: &self.settings,
            events,
        }
    }
}
