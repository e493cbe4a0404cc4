//! Look, plan, execute, until nothing is left to do.

use skep_core::event::Event;
use skep_core::model::ClusterSpec;
use skep_core::observed::Observed;
use skep_core::plan::{Birth, Plan, PlanError, UpOptions, plan_up};
use skep_host::converge::{Failure, OnFailure, execute};
use skep_host::observe::Damage;
use skep_host::store::LockedCluster;

use crate::context::Machinery;
use crate::error::CliError;

/// How often a plan may ask for another look: one to start what sleeps, one for the swarm, one where
/// nodes cannot be forked, and one to spare.
const ROUNDS: usize = 5;

/// Turns a plan that cannot be made into what the user is told.
pub(super) fn plan_error(error: PlanError) -> CliError {
    let text = error.to_string();
    match error {
        PlanError::SubnetTaken { .. } | PlanError::NoFreeSubnet { .. } => {
            CliError::usage(text).hint("--subnet with another one, such as --subnet 172.30.5.0/24")
        }
        PlanError::SubnetFixed { cluster, .. } => {
            CliError::usage(text).hint(format!("skep down {cluster}  # then up again"))
        }
        PlanError::NoMember { .. } => CliError::failed(text).hint("skep up  # mends what it can"),
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
    let done = try_out(machinery, cluster, plan, on_failure).await;
    done.map_err(|failures| CliError::from_failures(&failures))
}

async fn try_out(
    machinery: &Machinery<'_>,
    cluster: &LockedCluster,
    plan: &Plan,
    on_failure: OnFailure,
) -> Result<(), Vec<Failure>> {
    for warning in &plan.warnings {
        machinery.progress.event(Event::Warning(warning.clone()));
    }
    let events = |event| machinery.progress.event(event);
    let world = machinery.world(cluster, &events);
    let result = execute(plan, &world, on_failure).await;
    machinery.progress.clear();
    result
}

/// Makes a cluster what its specification says. Where nodes cannot be forked, they are booted.
pub(super) async fn converge(
    machinery: &Machinery<'_>,
    cluster: &LockedCluster,
    spec: &ClusterSpec,
    mut options: UpOptions,
    on_failure: OnFailure,
    first: Observed,
) -> Result<(), CliError> {
    let mut seen = first;
    for _ in 0..ROUNDS {
        let plan = plan_up(spec, &seen, options).map_err(plan_error)?;
        match try_out(machinery, cluster, &plan, on_failure).await {
            Ok(()) if !plan.look_again => return Ok(()),
            Ok(()) => {}
            Err(failures) => match failures.iter().find(|failure| failure.forking) {
                Some(failure) if options.birth != Birth::Boot => {
                    let reason = skep_host::sys::chain(&failure.error);
                    let reason = reason.lines().next().unwrap_or_default().to_owned();
                    let text = format!("nodes are booted, as they cannot be forked: {reason}");
                    machinery.progress.event(Event::Warning(text));
                    options.birth = Birth::Boot;
                }
                _ => return Err(CliError::from_failures(&failures)),
            },
        }
        seen = machinery.observe(cluster.dir(), Damage::Refuse).await?;
    }
    Err(CliError::failed("the cluster does not settle: its engines do not stay reachable")
        .hint(format!("skep status {}", spec.name)))
}
