//! `skep node`.

mod list;
mod settings;

pub use list::{NodeInspect, NodeList};

use std::path::PathBuf;

use skep_core::model::{
    Availability, HostSpec, NodeFilter, NodeKind, NodeName, NodeSpec, Role, Shape,
};
use skep_core::observed::Observed;
use skep_core::plan::{
    Parting, Plan, StopMode, UpOptions, plan_parting, plan_pause, plan_resume, plan_start,
    plan_stop, plan_up,
};
use skep_ops::converge::OnFailure;
use skep_ops::observe::Damage;
use skep_ops::{Look, Run};
use skep_print::outln;
use skep_store::ClusterDir;

use super::confirm;
use super::dry_run::Preview;
use super::up::{options, wanted};
use crate::cli::{
    Host, NodeAdd, NodeChange, NodeCommand, NodeRemove, NodeRestart, NodeStart, Nodes, WorkFormat,
};
use crate::context::Context;
use crate::error::{CliError, failed};
use crate::file::{DEFAULT_CPUS, DEFAULT_DISK, DEFAULT_MEMORY, host_node};

pub(super) async fn run(context: &Context, command: NodeCommand) -> Result<(), CliError> {
    match command {
        NodeCommand::Ls(args) => list::list(context, &args).await,
        NodeCommand::Inspect(args) => list::inspect(context, &args).await,
        NodeCommand::Add(args) => add(context, args).await,
        NodeCommand::Rm(args) => remove(context, args).await,
        NodeCommand::Start(args) => start(context, &args).await,
        NodeCommand::Stop(args) => stop(context, &args, StopMode::Graceful).await,
        NodeCommand::Kill(args) => stop(context, &args, StopMode::Kill).await,
        NodeCommand::Restart(args) if args.rolling => settings::restart(context, &args.start).await,
        NodeCommand::Restart(NodeRestart { start: args, .. }) => {
            stop(context, &args.nodes, StopMode::Graceful).await?;
            start(context, &args).await
        }
        NodeCommand::Pause(args) => pause(context, args).await,
        NodeCommand::Resume(args) => resume(context, &args).await,
        NodeCommand::Promote(args) => settings::role(context, &args, Role::Manager).await,
        NodeCommand::Demote(args) => settings::role(context, &args, Role::Worker).await,
        NodeCommand::Drain(args) => {
            settings::availability(context, &args, Availability::Drain).await
        }
        NodeCommand::Activate(args) => {
            settings::availability(context, &args, Availability::Active).await
        }
        NodeCommand::Label(args) => settings::label(context, &args).await,
    }
}

/// Returns a command's name, and whether it is to print events as JSON lines.
pub(super) fn event_source(command: &NodeCommand) -> Option<(&'static str, bool)> {
    let wants = |args: &Nodes| args.output == WorkFormat::Json;
    Some(match command {
        NodeCommand::Add(args) => ("node add", args.dry_run.wants_events()),
        NodeCommand::Rm(args) => ("node rm", args.dry_run.wants_events()),
        NodeCommand::Start(args) => ("node start", wants(&args.nodes)),
        NodeCommand::Stop(args) => ("node stop", wants(args)),
        NodeCommand::Kill(args) => ("node kill", wants(args)),
        NodeCommand::Restart(args) => ("node restart", wants(&args.start.nodes)),
        NodeCommand::Resume(args) => ("node resume", wants(&args.nodes)),
        _ => return None,
    })
}

async fn add(context: &Context, args: NodeAdd) -> Result<(), CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let run = context.run(Some(args.waiting.limits));
    let dry_run = args.dry_run.dry_run;
    // What only looks waits for nobody.
    let cluster = if dry_run { None } else { Some(run.lock(dir.name()).await?) };
    let seen = run.observe(&dir, Damage::Refuse).await?;
    let record = seen.cluster.clone().ok_or_else(|| {
        CliError::failed(format!(
            "creating cluster {} was interrupted, and its record is incomplete",
            dir.name()
        ))
        .hint(format!("skep up {}", dir.name()))
    })?;
    let mut spec = record.spec(seen.nodes.values().map(|node| &node.record));
    let names = new_names(&args, &seen)?;
    if args.host.address.is_some() && names.len() > 1 {
        return Err(CliError::usage("--address takes exactly one node name"));
    }
    for name in &names {
        spec.nodes.push(new_node(name, &args)?);
    }
    let Some(cluster) = cluster else {
        let plan = plan_up(&spec, &seen, options(args.waiting.ready, args.waiting.birth))?;
        Preview::of(dir.name(), &seen, &plan).print(context, args.dry_run);
        return Ok(());
    };
    let result = run.up(&cluster, wanted(&spec, &args.waiting, true), seen).await;
    cluster.release();
    let again = format!("skep up {}", dir.name());
    result.map_err(|error| {
        let error = failed(error, dir.name().as_str(), &again);
        let list = names.iter().map(NodeName::as_str).collect::<Vec<_>>().join(" ");
        let remove = format!("skep node rm {list} --cluster {}", dir.name());
        error.hint(format!("{remove}  # removes what was added"))
    })?;
    for name in names.iter().filter(|_| !context.prints_events) {
        outln!("{name}");
    }
    Ok(())
}

fn new_names(args: &NodeAdd, seen: &Observed) -> Result<Vec<NodeName>, CliError> {
    if let Some(name) = args.names.iter().find(|name| seen.nodes.contains_key(name)) {
        return Err(CliError::usage(format!("node {name} exists already")));
    }
    if !args.names.is_empty() {
        return Ok(args.names.clone());
    }
    let count = args.num_node.unwrap_or(1) as usize;
    if count == 0 {
        return Err(CliError::usage("-n 0: the number of nodes to add is at least 1"));
    }
    let free = (0..).map(NodeName::numbered).filter(|name| !seen.nodes.contains_key(name));
    Ok(free.take(count).collect())
}

fn new_node(name: &NodeName, args: &NodeAdd) -> Result<NodeSpec, CliError> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(CliError::usage(format!("--label {text}: write KEY=VALUE"))),
    };
    let role = if args.manager { Role::Manager } else { Role::Worker };
    let labels = args.label.iter().map(pair).collect::<Result<_, _>>()?;
    if let Some(host) = host(&args.host)? {
        return Ok(host_node(name.clone(), role, labels, host));
    }
    Ok(NodeSpec {
        name: name.clone(),
        role,
        kind: NodeKind::Vm(Shape {
            cpus: args.cpus.unwrap_or(DEFAULT_CPUS),
            memory: args.memory.unwrap_or(DEFAULT_MEMORY),
            disk: args.disk.unwrap_or(DEFAULT_DISK),
        }),
        labels,
        availability: None,
    })
}

/// Returns the host that is to be a node, if one is.
fn host(args: &Host) -> Result<Option<HostSpec>, CliError> {
    let Some(address) = args.address else { return Ok(None) };
    let absolute = |path: &PathBuf| match path.is_file() {
        true => Ok(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
        false => Err(CliError::usage(format!("--key {}: no such file", path.display()))),
    };
    let key = args.key.as_ref().map(absolute).transpose()?;
    Ok(Some(HostSpec {
        address,
        user: args.user.clone(),
        port: args.ssh_port,
        key: key.map(|key| key.display().to_string()),
        install_url: args.install_url.clone(),
    }))
}

async fn remove(context: &Context, args: NodeRemove) -> Result<(), CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let run = context.run(None);
    let seen = run.observe(&dir, Damage::Refuse).await?;
    let names = select(&seen, &args.names)?;
    let parting = Parting { forget: args.force, keep_engine: args.keep_engine };
    let plan = plan_parting(&seen, &names, args.force, parting)?;
    if args.dry_run.dry_run {
        Preview::of(dir.name(), &seen, &plan).print(context, args.dry_run);
        return Ok(());
    }
    let list: Vec<_> = names.iter().map(NodeName::as_str).collect();
    let question =
        format!("Remove {} of cluster {} and all their data?", list.join(", "), dir.name());
    if !confirm(&question, args.yes)? {
        return Ok(());
    }
    change(&run, &dir, Look::All, |seen| Ok(plan_parting(seen, &names, args.force, parting)?)).await
}

async fn start(context: &Context, args: &NodeStart) -> Result<(), CliError> {
    let dir = context.existing(args.nodes.cluster.cluster.as_ref())?;
    let run = context.run(Some(args.limits));
    change(&run, &dir, Look::All, |seen| {
        Ok(plan_start(seen, &select(seen, &args.nodes.names)?, UpOptions::default())?)
    })
    .await
}

async fn stop(context: &Context, args: &Nodes, mode: StopMode) -> Result<(), CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let run = context.run(None);
    change(&run, &dir, Look::Machines, |seen| {
        Ok(plan_stop(seen, &select(seen, &args.names)?, mode)?)
    })
    .await
}

async fn pause(context: &Context, args: NodeChange) -> Result<(), CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let run = context.run(None);
    change(&run, &dir, Look::Machines, |seen| Ok(plan_pause(seen, &select(seen, &args.names)?)?))
        .await
}

async fn resume(context: &Context, args: &NodeStart) -> Result<(), CliError> {
    let dir = context.existing(args.nodes.cluster.cluster.as_ref())?;
    let run = context.run(Some(args.limits));
    change(&run, &dir, Look::All, |seen| {
        Ok(plan_resume(seen, &select(seen, &args.nodes.names)?, UpOptions::default())?)
    })
    .await
}

/// Changes a cluster; one node that fails does not keep the others from theirs.
async fn change(
    run: &Run<'_>,
    dir: &ClusterDir,
    look: Look,
    plan: impl FnOnce(&Observed) -> Result<Plan, CliError>,
) -> Result<(), CliError> {
    run.change(dir.name(), look, OnFailure::GoOn, plan).await.map(|_| ())
}

/// Returns the nodes that are meant, each once.
fn select(seen: &Observed, filters: &[NodeFilter]) -> Result<Vec<NodeName>, CliError> {
    let mut records: Vec<_> = seen.nodes.values().map(|node| &node.record).collect();
    records.sort_by_key(|record| record.index);
    let nodes: Vec<_> =
        records.iter().map(|record| (record.name().clone(), record.spec.role)).collect();
    let mut names = Vec::new();
    for filter in filters {
        let chosen = match filter {
            // The plan knows better words for a name that is not there.
            NodeFilter::Named(name) => vec![name.clone()],
            filter => filter.select(&nodes).map_err(|error| CliError::usage(error.to_string()))?,
        };
        names.extend(chosen.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>());
    }
    Ok(names)
}
