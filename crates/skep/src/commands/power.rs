//! `skep start` and `skep stop`.

use skep_core::plan::{StopMode, plan_stop};
use skep_ops::converge::OnFailure;
use skep_ops::observe::Damage;
use skep_ops::{Look, Up};
use skep_print::errln;
use skep_store::ClusterDir;

use super::image;
use super::up::options;
use crate::cli::{Birth, Start, Stop};
use crate::context::Context;
use crate::error::{CliError, failed};

/// Returns the cluster; a name that is a node's is answered with the command for nodes.
fn cluster(context: &Context, args: &Stop, verb: &str) -> Result<ClusterDir, CliError> {
    let name = args.cluster.cluster.as_ref();
    context.existing(name).map_err(|error| {
        let Some(node) = name.map(|name| name.as_str()) else { return error };
        let clusters = context.session.store.clusters().unwrap_or_default();
        let has_node = |cluster: &&ClusterDir| {
            cluster.nodes().unwrap_or_default().iter().any(|(name, _)| name == node)
        };
        let Some(cluster) = clusters.iter().find(has_node).map(ClusterDir::name) else {
            return error;
        };
        CliError::usage(format!("{node} is a node of cluster {cluster}, not a cluster"))
            .hint(format!("skep node {verb} {node} --cluster {cluster}"))
    })
}

pub(super) async fn start(context: &Context, args: Start) -> Result<(), CliError> {
    let dir = cluster(context, &args.stop, "start")?;
    let run = context.run(Some(args.limits));
    let cluster = run.lock(dir.name()).await?;
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
        options: options(args.ready, Birth::default()),
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

pub(super) async fn stop(context: &Context, args: Stop) -> Result<(), CliError> {
    let dir = cluster(context, &args, "stop")?;
    let run = context.run(None);
    run.change::<CliError>(dir.name(), Look::Machines, OnFailure::GoOn, |seen| {
        Ok(plan_stop(seen, &[], StopMode::Graceful)?)
    })
    .await?;
    if !context.is_quiet() {
        errln!("cluster {} is stopped", dir.name());
    }
    Ok(())
}
