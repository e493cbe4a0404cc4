//! A cluster for a test or another program, which is removed when its guard is dropped.
//!
//! The functions here do what the commands of skep do, on the same store, so `skep status` and `skep logs` show what a
//! test has created.

use std::path::Path;
use std::time::Duration;

use skep_core::model::{ClusterName, ClusterSpec, NodeName};
use skep_core::observed::Observed;
use skep_core::plan::{
    Parting, StopMode, UpOptions, plan_down_parting, plan_start, plan_stop, plan_up,
};
use skep_core::services::Standing;
use skep_store::ClusterDir;

use crate::converge::OnFailure;
use crate::observe::Damage;
use crate::{DockerCommand, Error, Events, Failed, Fate, Look, Run, RunOptions, Session, Up};

/// A cluster that is removed, with all its data, when this is dropped.
///
/// Dropping blocks until the cluster is gone; [`Cluster::remove`] does the same and returns why it failed.
/// [`Cluster::keep`] leaves the cluster, to look at what a test did to it.
pub struct Cluster {
    session: Session,
    events: Events,
    name: ClusterName,
    options: UpOptions,
    is_kept: bool,
}

impl Cluster {
    /// Creates a cluster and waits until its nodes are Ready. What never became a swarm is removed again.
    ///
    /// # Errors
    ///
    /// Why it failed, and what became of the cluster. A cluster of that name must not be there ([`Error::Exists`]).
    pub async fn create(
        session: &Session,
        spec: &ClusterSpec,
        options: UpOptions,
        events: Events,
    ) -> Result<Self, Failed> {
        let untouched = |error: Error| Failed { error, fate: Fate::Untouched };
        let run = session.run(RunOptions::default(), events.clone());
        let locked = run.lock(&spec.name).await.map_err(untouched)?;
        let created = async {
            let seen = run.look(locked.dir(), Look::All).await.map_err(untouched)?;
            if seen.cluster.is_some() || !seen.nodes.is_empty() {
                return Err(untouched(Error::Exists(spec.name.clone())));
            }
            plan_up(spec, &seen, options).map_err(|error| untouched(error.into()))?;
            run.check_ports(spec, &seen).map_err(|error| untouched(error.into()))?;
            let on_failure = OnFailure::GoOnForSwarm;
            run.up(&locked, Up { spec, options, on_failure, gone: &[], keeps: false }, seen).await
        };
        let created = created.await;
        locked.release();
        created?;
        let (session, name) = (session.clone(), spec.name.clone());
        Ok(Self { session, events, name, options, is_kept: false })
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &ClusterName {
        &self.name
    }

    /// Looks at it: what is recorded, which machines run, what the swarm says of each node.
    ///
    /// # Errors
    ///
    /// If the host cannot be looked at.
    pub async fn observe(&self) -> Result<Observed, Error> {
        self.run().observe(&self.dir(), Damage::Refuse).await
    }

    /// Deploys a stack from a compose file and waits until its services have converged.
    ///
    /// # Errors
    ///
    /// If the docker command refuses it, or a service does not converge within `limit`.
    pub async fn deploy_stack(
        &self,
        name: &str,
        compose_file: &Path,
        limit: Duration,
    ) -> Result<(), Error> {
        let (run, dir) = (self.run(), self.dir());
        let docker = DockerCommand::of(&self.session, &dir).await?;
        let locked = run.lock_stack(&dir, name).await?;
        docker.deploy(&run, name, ["-c".into(), compose_file.as_os_str().to_owned()]).await?;
        drop(locked);
        let ending = run.watch_stack(&dir, name, limit).await?;
        let wrong = ending.outcome.services.iter().filter(|it| it.standing != Standing::Converged);
        let problems: Vec<_> = wrong.map(|it| format!("{}: {it}", it.name)).collect();
        match problems.is_empty() && !ending.late {
            true => Ok(()),
            false => {
                let problems = problems.join("; ");
                Err(Error::NotConverged { stack: name.to_owned(), problems })
            }
        }
    }

    /// Runs the docker command against the first manager that runs; returns what it printed.
    ///
    /// # Errors
    ///
    /// If it fails, with its last words.
    pub async fn docker(&self, args: &[&str], limit: Duration) -> Result<String, Error> {
        let docker = DockerCommand::of(&self.session, &self.dir()).await?;
        let output = docker.call(args, limit).run().await;
        let what = || format!("docker {}", args.join(" "));
        output.map(|output| output.text()).map_err(|source| Error::Docker { what: what(), source })
    }

    /// Stops a node's machine as its power button does.
    ///
    /// # Errors
    ///
    /// If there is no such node, or it cannot be stopped.
    pub async fn stop_node(&self, node: &NodeName) -> Result<(), Error> {
        self.end_node(node, StopMode::Graceful).await
    }

    /// Ends a node's machine as a power cut does.
    ///
    /// # Errors
    ///
    /// If there is no such node, or it cannot be killed.
    pub async fn kill_node(&self, node: &NodeName) -> Result<(), Error> {
        self.end_node(node, StopMode::Kill).await
    }

    async fn end_node(&self, node: &NodeName, mode: StopMode) -> Result<(), Error> {
        let plan =
            |seen: &Observed| Ok::<_, Error>(plan_stop(seen, std::slice::from_ref(node), mode)?);
        self.run().change(&self.name, Look::Machines, OnFailure::Stop, plan).await.map(|_| ())
    }

    /// Starts a node and waits until it is Ready.
    ///
    /// # Errors
    ///
    /// If there is no such node, or it does not come up.
    pub async fn start_node(&self, node: &NodeName) -> Result<(), Error> {
        let plan = |seen: &Observed| {
            Ok::<_, Error>(plan_start(seen, std::slice::from_ref(node), self.options)?)
        };
        self.run().change(&self.name, Look::All, OnFailure::Stop, plan).await.map(|_| ())
    }

    /// Removes it with all its data.
    ///
    /// # Errors
    ///
    /// If something of it could not be removed; `skep down` goes on from there.
    pub async fn remove(mut self) -> Result<(), Error> {
        self.is_kept = true;
        down(&self.session, &self.name, &self.events).await
    }

    /// Leaves it; returns its name, by which `skep down` removes it.
    #[must_use]
    pub fn keep(mut self) -> ClusterName {
        self.is_kept = true;
        self.name.clone()
    }

    fn run(&self) -> Run<'_> {
        self.session.run(RunOptions::default(), self.events.clone())
    }

    fn dir(&self) -> ClusterDir {
        self.session.store.cluster(&self.name)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let (session, name, events) =
            (self.session.clone(), self.name.clone(), self.events.clone());
        // A runtime cannot wait for another on its own thread, and a panic may be under way.
        let removing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            let removed = runtime.block_on(down(&session, &name, &events));
            removed.map_err(|error| skep_sys::chain(&error))
        });
        let failed = match removing.join() {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => "it panicked".to_owned(),
        };
        let text = format!("cluster {} was not removed: {failed}", self.name);
        (self.events)(skep_core::event::Event::Warning(text));
    }
}

async fn down(session: &Session, name: &ClusterName, events: &Events) -> Result<(), Error> {
    let run = session.run(RunOptions::default(), events.clone());
    let plan = |seen: &Observed| Ok::<_, Error>(plan_down_parting(seen, Parting::default()));
    run.change(name, Look::Remains, OnFailure::GoOn, plan).await.map(|_| ())
}
