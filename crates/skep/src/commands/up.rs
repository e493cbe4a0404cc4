//! `skep up`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use skep_core::model::{ClusterName, ClusterSpec};
use skep_core::observed::Observed;
use skep_core::plan::{self, Change, UpOptions, Verify, plan_up};
use skep_ops::converge::OnFailure;
use skep_ops::observe::Damage;
use skep_ops::{Up as UpWanted, refuse_peers};
use skep_print::errln;
use skep_sys::shell_quoted;

use super::dry_run::Preview;
use super::image;
use super::registry;
use super::stack::{check_stacks, deploy_stacks, known_stacks, note_stacks, tell_of_outdated};
use crate::cli::{Birth, Detail, Ready, Up, Verification, Waiting, Wanted};
use crate::context::Context;
use crate::error::{CliError, Context as _, failed};
use crate::file::{ClusterFile, peers};
use crate::render::progress::Progress;

/// A cluster that was brought up.
pub(super) struct Done {
    /// Its name.
    pub name: ClusterName,
    /// What was done when.
    pub progress: Arc<Progress>,
}

pub(super) async fn run(context: &Context, args: Up) -> Result<(), CliError> {
    let started = Instant::now();
    let Some(Done { name, progress }) = bring_up(context, args).await? else { return Ok(()) };
    if context.detail == Detail::Steps {
        let summary = progress.summary();
        if !summary.is_empty() {
            errln!("{summary}");
        }
    }
    if !context.is_quiet() {
        let took = started.elapsed().as_secs_f64();
        errln!("cluster {name} is up after {took:.1} s; see it with: skep status {name}");
        errln!("point your docker command at it with: eval $(skep env {name})");
    }
    Ok(())
}

/// Brings a cluster up, or only tells how.
pub(super) async fn bring_up(context: &Context, args: Up) -> Result<Option<Done>, CliError> {
    let Some(net) = args.net else { return bring_up_in(context, args).await };
    let context = context.with_network(net)?;
    let result = bring_up_in(&context, args).await;
    if let (Some(userns), Ok([])) =
        (context.session.userns(), context.session.store.clusters().as_deref())
    {
        // Nothing came of it, and why is told before what is wrong with the rest.
        let ended = userns.end_if_unused().await;
        return result
            .and_then(|done| ended.map(|()| done).context("the network in a user namespace"));
    }
    result
}

async fn bring_up_in(context: &Context, args: Up) -> Result<Option<Done>, CliError> {
    let file = match &args.file {
        Some(path) => Some(ClusterFile::load(path)?),
        None => None,
    };
    let named = args.cluster.cluster.clone().or_else(|| file.as_ref()?.name.clone());
    let name = context.name_or_default(named.as_ref());
    let dir = context.session.store.cluster(&name);
    let stacks = file.as_ref().map(|file| file.stacks.clone()).unwrap_or_default();
    let checked = check_stacks(context, &dir, &stacks).await?;
    let (mut run, progress) = context.timed_run(Some(args.waiting.limits));

    // A host without its tools cannot even be looked at.
    let recorded = dir.record().ok().flatten();
    let asked = file.clone().unwrap_or_default().with_flags(&args.wanted)?.spec(name.clone());
    if context.session.userns().is_some() {
        refuse_peers(&asked)?;
    }
    let has_machines = asked.has_machines()
        || recorded.as_ref().is_some_and(|it| it.nodes.iter().any(|node| node.is_vm()));
    if !args.dry_run.dry_run && has_machines {
        let image = recorded.map_or(asked.image, |record| record.image);
        super::doctor::require(context, &image).await?;
    }

    let images = match (&file, dir.record().ok().flatten()) {
        (Some(file), _) => image::look_at_all(&file.images).await?,
        (None, Some(record)) => image::look_again(&record.images).await,
        (None, None) => Vec::new(),
    };
    run.images = !images.is_empty();
    let wanted_spec = |file, seen: &Observed| -> Result<ClusterSpec, CliError> {
        let mut spec = wanted_spec(&name, file, &args.wanted, seen)?;
        // What is in them was looked at.
        spec.images.retain_mut(|set| {
            let known = images.iter().find(|known| known.source == set.source);
            known.is_some_and(|known| {
                set.clone_from(known);
                true
            })
        });
        Ok(spec)
    };

    if args.dry_run.dry_run {
        let seen = run.observe(&dir, Damage::Refuse).await?;
        let spec = wanted_spec(file, &seen)?;
        let plan = plan_up(&spec, &seen, options(args.waiting.ready, args.waiting.birth))?;
        let known = match (stacks.is_empty(), &seen.swarm) {
            (false, Some(_)) => known_stacks(&run, &dir).await,
            _ => BTreeSet::new(),
        };
        let stacks = stacks.iter().map(|it| Change::stack(&it.name, known.contains(&it.name)));
        Preview::of(&name, &seen, &plan).and(stacks).print(context, args.dry_run);
        return Ok(None);
    }

    let check = async || {
        let seen = run.observe(&dir, Damage::Refuse).await?;
        let spec = wanted_spec(file.clone(), &seen)?;
        plan_up(&spec, &seen, options(args.waiting.ready, args.waiting.birth))?;
        run.check_ports(&spec, &seen)?;
        Ok::<_, CliError>(run.check_userns(&spec, &seen)?)
    };
    // Whatever can be said before anything is touched is said now, the lock included. What another process is about to
    // change is no reason: its cluster may have a subnet that it is about to give up.
    let busy = dir.is_locked();
    let early = check().await;
    if early.is_err() && !busy && !dir.is_locked() {
        return early.map(|()| None);
    }

    let cluster = run.lock(&name).await?;
    if early.is_err()
        && let Err(error) = check().await
    {
        cluster.release();
        return Err(error);
    }
    let seen = run.observe(&dir, Damage::Refuse).await?;
    let spec = wanted_spec(file, &seen)?;
    let again = match args.file.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => format!("skep up -f {}", shell_quoted(&path.to_string_lossy())),
        None => format!("skep up {name}"),
    };
    let up = wanted(&spec, &args.waiting, args.no_rollback);
    let result = run.up(&cluster, up, seen).await;
    let noted = match &result {
        Ok(_) if args.file.is_some() => note_stacks(run.swarm(&dir), &cluster, &stacks).await,
        _ => Ok(()),
    };
    cluster.release();
    result.map_err(|error| failed(error, name.as_str(), &again))?;
    noted?;
    deploy_stacks(context, &dir, &stacks, &checked, &args.waiting).await?;
    if run.images {
        tell_of_outdated(&run, &dir).await;
    }
    Ok(Some(Done { name, progress }))
}

/// Returns what is wanted: file and flags, or, without either, what the cluster is already.
fn wanted_spec(
    name: &ClusterName,
    file: Option<ClusterFile>,
    wanted: &Wanted,
    seen: &Observed,
) -> Result<ClusterSpec, CliError> {
    if let (None, true, Some(cluster)) = (&file, is_empty_but_peers(wanted), &seen.cluster) {
        let mut spec = cluster.spec(seen.nodes.values().map(|node| &node.record));
        spec.peers = peers(spec.peers, wanted);
        return without_problems(spec);
    }
    let file = file.unwrap_or_default().with_flags(wanted)?;
    let mut spec = file.spec(name.clone());
    registry::take_from_file(&mut spec, &file, seen.cluster.as_ref())?;
    if let Some(cluster) = &seen.cluster {
        spec.subnet = spec.subnet.or(Some(cluster.network.subnet));
        // A node that was drained by a command stays so until one says otherwise.
        for node in &mut spec.nodes {
            let recorded = cluster.nodes.iter().find(|it| it.name == node.name);
            node.availability = node.availability.or(recorded.and_then(|it| it.availability));
        }
    }
    without_problems(spec)
}

fn without_problems(spec: ClusterSpec) -> Result<ClusterSpec, CliError> {
    let problems = spec.problems();
    if problems.is_empty() {
        return Ok(spec);
    }
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    Err(CliError::usage(lines.join("\n")))
}

/// Tells whether nothing is wanted of a cluster but other peers.
fn is_empty_but_peers(wanted: &Wanted) -> bool {
    let Wanted {
        driver,
        num_node,
        managers,
        workers,
        cpus,
        memory,
        disk,
        label,
        subnet,
        hostname,
        publish,
        peer: _,
        no_peers: _,
        no_context,
        suite,
        mirror,
        driver_args,
    } = wanted;
    let numbers = [num_node, managers, workers, cpus].iter().all(|it| it.is_none());
    let texts = [driver, suite, mirror, driver_args].iter().all(|it| it.is_none());
    numbers
        && texts
        && memory.is_none()
        && disk.is_none()
        && subnet.is_none()
        && label.is_empty()
        && hostname.is_empty()
        && publish.is_empty()
        && !no_context
}

/// Returns what `up` is to do. One node of many that fails does not keep the others from joining.
pub(super) fn wanted<'a>(spec: &'a ClusterSpec, waiting: &Waiting, keeps: bool) -> UpWanted<'a> {
    let on_failure = OnFailure::GoOnForSwarm;
    UpWanted { spec, options: options(waiting.ready, waiting.birth), on_failure, gone: &[], keeps }
}

/// Returns how new machines come to life, and what is waited for.
pub(super) fn options(ready: Ready, birth: Birth) -> UpOptions {
    let Birth { cold, unique_engine_ids: restart_engine } = birth;
    let birth = match cold {
        true => plan::Birth::Boot,
        false => plan::Birth::Fork { restart_engine },
    };
    let Ready { no_wait, verify, no_verify } = ready;
    let verify = match verify {
        _ if no_wait || no_verify => Verify::Nothing,
        Verification::Auto => Verify::Fitting,
        Verification::Mesh => Verify::Mesh,
        Verification::All => Verify::All,
        Verification::None => Verify::Nothing,
    };
    UpOptions { birth, wait: !no_wait, verify }
}
