//! What nodes are in the swarm: `skep node promote`, `demote`, `drain`, `activate`, `label`, and
//! `restart --rolling`.

use std::collections::BTreeMap;
use std::time::Duration;

use skep_core::model::{Availability, NodeFilter, NodeName, NodeSpec, Role};
use skep_core::observed::Observed;
use skep_core::plan::{UpOptions, plan_idle_stop, plan_settings, plan_start};
use skep_core::services::Standing;
use skep_docker::stack::glance;
use skep_ops::Look;
use skep_ops::converge::OnFailure;
use skep_ops::observe::Damage;
use skep_print::errln;
use skep_store::ClusterDir;

use super::select;
use crate::cli::{NodeChange, NodeLabel, NodeStart};
use crate::context::Context;
use crate::error::CliError;

/// How long services may take to find another node before it is told which do not.
const SETTLING: Duration = Duration::from_secs(15);

pub(super) async fn role(context: &Context, args: &NodeChange, role: Role) -> Result<(), CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let choose = |seen: &Observed| select(seen, &args.names);
    change(context, &dir, choose, |node| node.role = role).await
}

pub(super) async fn availability(
    context: &Context,
    args: &NodeChange,
    availability: Availability,
) -> Result<(), CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let choose = |seen: &Observed| select(seen, &args.names);
    change(context, &dir, choose, |node| node.availability = Some(availability)).await?;
    if availability == Availability::Drain {
        warn_about_services(context, &dir).await;
    }
    Ok(())
}

/// Tells of services that have nowhere to go.
async fn warn_about_services(context: &Context, dir: &ClusterDir) {
    let run = context.run(None);
    let swarm = run.swarm(dir);
    let Ok(services) = glance(swarm, SETTLING).await else { return };
    for status in services.into_iter().filter(|it| it.standing != Standing::Converged) {
        if status.problem.is_some() {
            errln!("warning: {} is pending: {status}", status.name);
        }
    }
}

/// The labels that a node is to get, and the keys of those that it is to lose.
#[derive(Default)]
struct Labels {
    set: BTreeMap<String, String>,
    unset: Vec<String>,
}

pub(super) async fn label(context: &Context, args: &NodeLabel) -> Result<(), CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let seen = context.run(None).observe_machines(&dir, Damage::Refuse).await?;
    let wanted = wanted_labels(&seen, args)?;
    let names: Vec<NodeName> = wanted.keys().cloned().collect();
    change(
        context,
        &dir,
        |_| Ok(names.clone()),
        |node| {
            let labels = &wanted[&node.name];
            node.labels.retain(|key, _| !labels.unset.contains(key));
            node.labels.extend(labels.set.clone());
        },
    )
    .await
}

fn wanted_labels(
    seen: &Observed,
    args: &NodeLabel,
) -> Result<BTreeMap<NodeName, Labels>, CliError> {
    let mut wanted: BTreeMap<NodeName, Labels> = BTreeMap::new();
    for text in &args.labels {
        let (pair, names) = split(seen, text)?;
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| CliError::usage(format!("{text}: write KEY=VALUE@NODES")))?;
        for name in names {
            let labels = wanted.entry(name).or_default();
            labels.set.insert(key.to_owned(), value.to_owned());
        }
    }
    for text in &args.remove {
        let (key, names) = split(seen, text)?;
        for name in names {
            wanted.entry(name).or_default().unset.push(key.to_owned());
        }
    }
    Ok(wanted)
}

/// Takes `WHAT@NODES` apart.
fn split<'a>(seen: &Observed, text: &'a str) -> Result<(&'a str, Vec<NodeName>), CliError> {
    let (what, nodes) = text
        .rsplit_once('@')
        .ok_or_else(|| CliError::usage(format!("{text}: add the nodes, for example {text}@all")))?;
    let filters: Result<Vec<NodeFilter>, _> = nodes.split(',').map(str::parse).collect();
    let filters = filters.map_err(|error| CliError::usage(format!("{text}: {error}")))?;
    Ok((what, select(seen, &filters)?))
}

/// Writes a wish down and carries it out.
async fn change(
    context: &Context,
    dir: &ClusterDir,
    choose: impl Fn(&Observed) -> Result<Vec<NodeName>, CliError>,
    edit: impl Fn(&mut NodeSpec),
) -> Result<(), CliError> {
    let plan = |seen: &Observed| Ok(plan_settings(seen, &choose(seen)?, edit)?);
    let run = context.run(None);
    run.change(dir.name(), Look::All, OnFailure::Stop, plan).await.map(|_: Observed| ())
}

/// Restarts nodes one after the other: each is emptied first, and Ready before the next one's turn.
pub(super) async fn restart(context: &Context, args: &NodeStart) -> Result<(), CliError> {
    let dir = context.existing(args.nodes.cluster.cluster.as_ref())?;
    let run = context.run(Some(args.limits));
    let cluster = run.lock(dir.name()).await?;
    let seen = run.observe(&dir, Damage::Refuse).await?;
    for name in select(&seen, &args.nodes.names)? {
        let one = std::slice::from_ref(&name);
        let look = async || run.observe(&dir, Damage::Refuse).await;
        let plan = plan_idle_stop(&look().await?, &name)?;
        run.execute(&cluster, &plan, OnFailure::Stop).await?;
        let plan = plan_start(&look().await?, one, UpOptions::default())?;
        run.execute(&cluster, &plan, OnFailure::Stop).await?;
        let plan = plan_settings(&look().await?, one, |_| ())?;
        run.execute(&cluster, &plan, OnFailure::Stop).await?;
        if !context.is_quiet() {
            errln!("{name} is Ready again");
        }
    }
    cluster.release();
    Ok(())
}
