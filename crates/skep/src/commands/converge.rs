//! Making a cluster what is wanted.

use skep_core::event::Event;
use skep_core::model::ClusterSpec;
use skep_core::observed::Observed;
use skep_core::plan::{Plan, PlanError, UpOptions, plan_up, without_images};
use skep_host::converge::{Failure, OnFailure, Unsettled, execute, settle};
use skep_host::observe::Damage;
use skep_host::store::LockedCluster;

use crate::context::Machinery;
use crate::error::CliError;

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
        PlanError::Registry(_) => CliError::usage(text)
            .hint("skep registry stop")
            .hint("the same with --force, which loses what was pushed to it"),
        PlanError::RegistryElsewhere { there, .. } => CliError::usage(text)
            .hint(format!("skep registry stop  # {there} keeps its images until it is removed")),
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
) -> Result<(), CliError> {
    let settled = settle(
        first,
        options.birth,
        |seen, birth| {
            let plan = plan_up(spec, seen, UpOptions { birth, ..options }).map_err(plan_error)?;
            Ok(without_images(plan, gone))
        },
        async |plan| try_out(machinery, cluster, plan, on_failure).await,
        async || machinery.observe(cluster.dir(), Damage::Refuse).await,
        |text| machinery.progress.event(Event::Warning(text)),
    );
    settled.await.map_err(|unsettled| match unsettled {
        Unsettled::Unplanned(error) => error,
        Unsettled::Failed(failures) => CliError::from_failures(&failures),
        Unsettled::Restless => {
            CliError::failed("the cluster does not settle: its engines do not stay reachable")
                .hint(format!("skep status {}", spec.name))
        }
    })
}
