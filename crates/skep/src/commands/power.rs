//! `skep start` and `skep stop`.

use skep_core::plan::{StopMode, plan_stop};
use skep_ops::converge::OnFailure;
use skep_ops::observe::Damage;
use skep_ops::{Look, Up};

use super::image;
use super::up::options;
use crate::cli::Power;
use crate::context::Context;
use crate::errln;
use crate::error::{CliError, failed};

pub(super) async fn start(context: &Context, args: Power) -> Result<(), CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let run = context.run(Some(&args.waiting));
    let cluster = context.lock(dir.name()).await?;
    let seen = run.observe(&dir, Damage::Refuse).await?;
    let record = seen.cluster.clone().ok_or_else(|| {
        CliError::failed(format!(
            "creating cluster {} was interrupted, and its record is incomplete",
            dir.name()
        ))
        .hint(format!("skep up {}", dir.name()))
    })?;
    let spec = record.spec(seen.nodes.values().map(|node| &node.record));
    let gone = image::gone(&spec.images).await;
    let up = Up {
        spec: &spec,
        options: options(&args.waiting),
        // One node that does not come up is no reason to leave the others down.
        on_failure: OnFailure::GoOn,
        gone: &gone,
        keeps: true,
    };
    let result = run.start(&cluster, up, seen).await;
    cluster.release();
    let name = dir.name().as_str();
    result.map_err(|error| failed(error, name, &format!("skep start {name}")))?;
    if !context.is_quiet() {
        errln!("cluster {} is up", dir.name());
    }
    Ok(())
}

pub(super) async fn stop(context: &Context, args: Power) -> Result<(), CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let run = context.run(Some(&args.waiting));
    run.change::<CliError>(dir.name(), Look::Machines, OnFailure::GoOn, |seen| {
        Ok(plan_stop(seen, &[], StopMode::Graceful)?)
    })
    .await?;
    if !context.is_quiet() {
        errln!("cluster {} is stopped", dir.name());
    }
    Ok(())
}
