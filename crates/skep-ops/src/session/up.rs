//! Making a cluster what is wanted, and what becomes of it when that fails.

use std::sync::atomic::{AtomicBool, Ordering};

use skep_core::event::Event;
use skep_core::model::ClusterSpec;
use skep_core::observed::Observed;
use skep_core::plan::{
    Action, Aftermath, Attempt, NodeAction, Standing, UpOptions, plan_aftermath, plan_reservation,
    plan_up_without, without_images,
};
use skep_store::LockedCluster;

use super::{Error, Run};
use crate::converge::{OnFailure, Unsettled, reserve, settle};
use crate::observe::Damage;

/// What is wanted of a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Up<'a> {
    /// What it is to be.
    pub spec: &'a ClusterSpec,
    /// How new machines come to life, and what is waited for.
    pub options: UpOptions,
    /// What becomes of other steps when one fails.
    pub on_failure: OnFailure,
    /// Sources of images that are gone, from which none are loaded.
    pub gone: &'a [String],
    /// Whether what was made is kept even if it never became a cluster.
    pub keeps: bool,
}

/// An `up` that failed, and what became of the cluster.
#[derive(Debug)]
pub struct Failed {
    /// Why it failed.
    pub error: Error,
    /// What became of the cluster.
    pub fate: Fate,
}

/// What became of a cluster whose `up` failed.
#[derive(Debug)]
pub enum Fate {
    /// Nothing was touched.
    Untouched,
    /// It never became a swarm, and what was made was removed.
    Removed,
    /// It never became a swarm, and what was made could not be removed, or not all of it.
    Remains(Box<Error>),
    /// It is kept.
    Kept(Option<Standing>),
    /// It is kept, and could not be looked at.
    Unknown(Box<Error>),
}

/// Why a cluster has not become what its specification says.
struct Shortfall {
    error: Error,
    /// Whether the run formed a swarm before it failed.
    formed: bool,
}

impl Run<'_> {
    /// Makes a cluster what is wanted; `before` is what was seen of it under its lock. What never became a swarm is
    /// removed again, all else is kept.
    ///
    /// # Errors
    ///
    /// Why it failed, and what became of the cluster.
    pub async fn up(
        &self,
        cluster: &LockedCluster,
        up: Up<'_>,
        before: Observed,
    ) -> Result<(), Failed> {
        let is_new = before.cluster.is_none();
        let untouched = |error: Error| Failed { error, fate: Fate::Untouched };
        self.check_userns(up.spec, &before).map_err(|it| untouched(it.into()))?;
        let hosts = self.check_hosts(cluster, up.spec, &before).await;
        hosts.map_err(|it| untouched(it.into()))?;
        let work = async {
            let seen = match is_new {
                true => {
                    let seen = self.reserve(cluster, up.spec).await;
                    seen.map_err(|error| Shortfall { error, formed: false })?
                }
                false => before,
            };
            self.reconcile(cluster, up, seen).await
        };
        let Err(Shortfall { error, formed }) = work.await else { return Ok(()) };
        let attempt = Attempt { is_new: is_new && !up.keeps, formed };
        Err(Failed { error, fate: self.aftermath(cluster, attempt).await })
    }

    /// Removes what never became a cluster, and keeps everything else.
    async fn aftermath(&self, cluster: &LockedCluster, attempt: Attempt) -> Fate {
        let seen = match self.observe(cluster.dir(), Damage::List).await {
            Ok(seen) => seen,
            Err(error) => return Fate::Unknown(Box::new(error)),
        };
        match plan_aftermath(attempt, &seen) {
            Aftermath::Remove(plan) => {
                let text = "no swarm formed; rolling back";
                self.report(Event::Notice(text.to_owned()));
                match self.execute(cluster, &plan, OnFailure::GoOn).await {
                    Ok(()) => Fate::Removed,
                    Err(error) => Fate::Remains(Box::new(error)),
                }
            }
            Aftermath::Keep(plan) => {
                // What is left of a verification does no harm; the next one removes it.
                let _ = self.execute(cluster, &plan, OnFailure::GoOn).await;
                Fate::Kept(Standing::of(&seen))
            }
        }
    }

    /// Chooses a subnet and a bridge for a new cluster and makes the choice known. Returns what is there then.
    async fn reserve(
        &self,
        cluster: &LockedCluster,
        spec: &ClusterSpec,
    ) -> Result<Observed, Error> {
        let look = async || self.observe(cluster.dir(), Damage::Refuse).await;
        let reserved = reserve(
            |seen| plan_reservation(spec, seen).map_err(Error::Plan),
            async |plan| self.try_execute(cluster, plan, OnFailure::Stop, &|_| ()).await,
            look,
        );
        match reserved.await {
            Ok(()) => look().await,
            Err(unsettled) => Err(unsettled.into()),
        }
    }

    /// Makes a cluster that is recorded what is wanted, beginning with what was seen of it.
    ///
    /// # Errors
    ///
    /// Why it failed; everything is kept.
    pub async fn start(
        &self,
        cluster: &LockedCluster,
        up: Up<'_>,
        seen: Observed,
    ) -> Result<(), Failed> {
        let Err(Shortfall { error, .. }) = self.reconcile(cluster, up, seen).await else {
            return Ok(());
        };
        let fate = match self.observe(cluster.dir(), Damage::List).await {
            Ok(seen) => Fate::Kept(Standing::of(&seen)),
            Err(error) => Fate::Unknown(Box::new(error)),
        };
        Err(Failed { error, fate })
    }

    /// Plans and executes until nothing is left to do. Where nodes cannot be forked, they are booted.
    async fn reconcile(
        &self,
        cluster: &LockedCluster,
        up: Up<'_>,
        first: Observed,
    ) -> Result<(), Shortfall> {
        let formed = AtomicBool::new(false);
        let note = |action: &Action| {
            if matches!(action, Action::Node(_, NodeAction::InitSwarm)) {
                formed.store(true, Ordering::Relaxed);
            }
        };
        let settled = settle(
            first,
            up.options.birth,
            up.on_failure,
            |seen, birth, failed| {
                let options = UpOptions { birth, ..up.options };
                Ok(without_images(plan_up_without(up.spec, seen, options, failed)?, up.gone))
            },
            async |plan| self.try_execute(cluster, plan, up.on_failure, &note).await,
            async || self.observe(cluster.dir(), Damage::Refuse).await,
            |text| self.report(Event::Warning(text)),
        );
        let Err(unsettled) = settled.await else { return Ok(()) };
        Err(Shortfall { error: unsettled.into(), formed: formed.into_inner() })
    }
}

impl From<Unsettled<Self>> for Error {
    fn from(unsettled: Unsettled<Self>) -> Self {
        match unsettled {
            Unsettled::Unplanned(error) => error,
            Unsettled::Failed(failures) => Self::Steps(failures),
            Unsettled::Restless => Self::Restless,
        }
    }
}
