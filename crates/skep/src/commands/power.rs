//! `skep start` and `skep stop`.

use skep_core::plan::{StopMode, plan_stop};
use skep_ops::converge::OnFailure;
use skep_ops::observe::Damage;

use super::converge::{Shortfall, carry_out, converge, plan_error, with_standing};
use super::image;
use super::up::options;
use crate::cli::Power;
use crate::context::Context;
use crate::errln;
use crate::error::CliError;

pub(super) async fn start(context: &Context, args: Power) -> Result<(), CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let machinery = context.machinery(Some(&args.waiting));
    let cluster = context.lock(dir.name()).await?;
    let seen = machinery.observe(&dir, Damage::Refuse).await?;
    let record = seen.cluster.clone().ok_or_else(|| {
        CliError::failed(format!(
            "creating cluster {} was interrupted, and its record is incomplete",
            dir.name()
        ))
        .hint(format!("skep up {}", dir.name()))
    })?;
    let spec = record.spec(seen.nodes.values().map(|node| &node.record));
    // One node that does not come up is no reason to leave the others down.
    let goes_on = OnFailure::GoOn;
    let gone = image::gone(&spec.images).await;
    let options = options(&args.waiting);
    let result = converge(&machinery, &cluster, &spec, options, goes_on, &gone, seen).await;
    let result = match result {
        Ok(()) => Ok(()),
        Err(Shortfall { error, .. }) => {
            let again = format!("skep start {}", dir.name());
            Err(match machinery.observe(&dir, Damage::List).await {
                Ok(seen) => with_standing(error, &seen, &again),
                Err(_) => error.hint(again),
            })
        }
    };
    cluster.release();
    result?;
    if !context.is_quiet() {
        errln!("cluster {} is up", dir.name());
    }
    Ok(())
}

pub(super) async fn stop(context: &Context, args: Power) -> Result<(), CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let machinery = context.machinery(Some(&args.waiting));
    let cluster = context.lock(dir.name()).await?;
    let seen = machinery.observe_machines(&dir, Damage::Refuse).await?;
    let plan = plan_stop(&seen, &[], StopMode::Graceful).map_err(plan_error)?;
    let result = carry_out(&machinery, &cluster, &plan, OnFailure::GoOn).await;
    cluster.release();
    result?;
    if !context.is_quiet() {
        errln!("cluster {} is stopped", dir.name());
    }
    Ok(())
}
