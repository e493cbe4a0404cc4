//! Making a cluster what is wanted.

use std::sync::atomic::{AtomicBool, Ordering};

use skep_core::event::Event;
use skep_core::model::ClusterSpec;
use skep_core::observed::Observed;
use skep_core::plan::{
    Action, Plan, PlanError, Standing, UpOptions, plan_up_without, without_images,
};
use skep_ops::converge::{Failure, OnFailure, Unsettled, execute, settle};
use skep_ops::observe::Damage;
use skep_store::LockedCluster;

use crate::context::Machinery;
use crate::error::CliError;

/// Turns a plan that cannot be made into what the user is told.
pub(super) fn plan_error(error: PlanError) -> CliError {
    let text = error.to_string();
    match error {
        PlanError::SubnetTaken { .. } | PlanError::NoFreeSubnet { .. } => CliError::usage(text)
            .hint("run the same command with a free subnet, such as --subnet 172.30.5.0/24"),
        PlanError::SubnetFixed { cluster, recorded, .. } => CliError::usage(text)
            .hint(format!("run the same command with its current subnet, {recorded}"))
            .hint(format!("skep down {cluster}  # deletes all its data; then create it again")),
        PlanError::Registry(_) => CliError::usage(text)
            .hint("skep registry stop")
            .hint("run the same command with --force  # deletes the images that were pushed to it"),
        PlanError::RegistryElsewhere { there, .. } => CliError::usage(text)
            .hint(format!("skep registry stop  # {there} keeps its images until it is removed")),
        PlanError::NoMember { .. } => CliError::failed(text).hint("skep up  # repairs what it can"),
        PlanError::Quorum(_) => CliError::failed(text),
        _ => CliError::usage(text),
    }
}

/// Carries one plan out.
pub(super) async fn carry_out(
    machinery: &Machinery<'_>,
    cluster: &LockedCluster,
    plan: &Plan,
    on_failure: OnFailure,
) -> Result<(), CliError> {
    let done = try_out(machinery, cluster, plan, on_failure, &|_| ()).await;
    done.map_err(|failures| CliError::from_failures(&failures))
}

/// As [`carry_out`], with the failures as they are.
pub(super) async fn try_out(
    machinery: &Machinery<'_>,
    cluster: &LockedCluster,
    plan: &Plan,
    on_failure: OnFailure,
    done: &(dyn Fn(&Action) + Send + Sync),
) -> Result<(), Vec<Failure>> {
    for warning in &plan.warnings {
        machinery.progress.event(Event::Warning(warning.clone()));
    }
    let events = |event| {
        if let Event::StepFinished { step, .. } = &event {
            done(&plan.steps[*step].action);
        }
        machinery.progress.event(event);
    };
    let steps = machinery.step_context(cluster, &events);
    let result = execute(plan, &steps, on_failure).await;
    machinery.progress.clear();
    result
}

/// Why a cluster has not become what its specification says.
pub(super) struct Shortfall {
    /// What the user is told.
    pub error: CliError,
    /// Whether the run formed a swarm before it failed.
    pub formed: bool,
}

/// Makes a cluster what its specification says. Where nodes cannot be forked, they are booted; no images
/// are loaded from sources that are `gone`.
pub(super) async fn converge(
    machinery: &Machinery<'_>,
    cluster: &LockedCluster,
    spec: &ClusterSpec,
    options: UpOptions,
    on_failure: OnFailure,
    gone: &[String],
    first: Observed,
) -> Result<(), Shortfall> {
    let formed = AtomicBool::new(false);
    let note = |action: &Action| {
        if matches!(action, Action::InitSwarm) {
            formed.store(true, Ordering::Relaxed);
        }
    };
    let settled = settle(
        first,
        options.birth,
        on_failure,
        |seen, birth, failed| {
            let options = UpOptions { birth, ..options };
            let plan = plan_up_without(spec, seen, options, failed).map_err(plan_error)?;
            Ok(without_images(plan, gone))
        },
        async |plan| try_out(machinery, cluster, plan, on_failure, &note).await,
        async || machinery.observe(cluster.dir(), Damage::Refuse).await,
        |text| machinery.progress.event(Event::Warning(text)),
    );
    let Err(unsettled) = settled.await else { return Ok(()) };
    Err(Shortfall { error: told(unsettled), formed: formed.into_inner() })
}

/// Returns what the user is told of what did not settle.
pub(super) fn told(unsettled: Unsettled<CliError>) -> CliError {
    match unsettled {
        Unsettled::Unplanned(error) => error,
        Unsettled::Failed(failures) => CliError::from_failures(&failures),
        Unsettled::Restless => {
            CliError::failed("the cluster does not converge: its engines do not stay reachable")
        }
    }
}

/// Adds to an error which nodes work and what is wrong with the others, and how to go on.
pub(super) fn with_standing(mut error: CliError, seen: &Observed, again: &str) -> CliError {
    let Some(standing) = Standing::of(seen) else { return error.hint(again) };
    error.message = format!("{}\n{standing}", error.message);
    let status = format!("skep status {}", standing.cluster);
    error.hint(format!("{again}  # continues from there")).hint(match standing.is_whole() {
        true => format!("{status} --verify"),
        false => status,
    })
}
