//! `skep up`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use skep_core::event::Event;
use skep_core::model::{ClusterName, ClusterSpec};
use skep_core::observed::{MachineState, Observed};
use skep_core::plan::{
    Aftermath, Attempt, Birth, Change, UpOptions, Verify, plan_aftermath, plan_reservation, plan_up,
};
use skep_driver::ssh::{self, Checked};
use skep_ops::converge::{OnFailure, reserve as reserve_network};
use skep_ops::observe::Damage;
use skep_store::LockedCluster;
use skep_store::pki::rotation;
use skep_sys::shell_quoted;

use super::converge::{Shortfall, carry_out, converge, plan_error, told, try_out, with_standing};
use super::dry_run::Preview;
use super::image;
use super::registry;
use super::stack::{check_stacks, deploy_stacks, known_stacks};
use crate::cli::{Detail, Up, Verification, Waiting, Wanted};
use crate::context::{Context, Machinery};
use crate::errln;
use crate::error::{CliError, Context as _};
use crate::file::{ClusterFile, sorted};
use crate::render::progress::Progress;

/// A cluster that was brought up.
pub(super) struct Done {
    /// Its name.
    pub name: ClusterName,
    /// What was done when.
    pub progress: Progress,
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
    if let (Some(userns), Ok([])) = (context.userns(), context.store.clusters().as_deref()) {
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
    let named = args.cluster.clone().or_else(|| file.as_ref()?.name.clone());
    let name = context.name_or_default(named.as_ref());
    let dir = context.store.cluster(&name);
    let stacks = file.as_ref().map(|file| file.stacks.clone()).unwrap_or_default();
    let checked = check_stacks(context, &dir, &stacks).await?;
    let mut machinery = context.machinery(Some(&args.waiting));

    // A host without its tools cannot even be looked at.
    let recorded = dir.record().ok().flatten();
    let asked = file.clone().unwrap_or_default().with_flags(&args.wanted)?.spec(name.clone());
    refuse_peers(context.userns().is_some(), &asked)?;
    let has_machines = asked.has_machines()
        || recorded.as_ref().is_some_and(|it| it.nodes.iter().any(|node| node.host.is_none()));
    if !args.dry_run.dry_run && has_machines {
        let image = recorded.map_or(asked.image, |record| record.image);
        super::doctor::require(context, &image).await?;
    }

    let images = match (&file, dir.record().ok().flatten()) {
        (Some(file), _) => image::look_at_all(&file.images).await?,
        (None, Some(record)) => image::look_again(&record.images).await,
        (None, None) => Vec::new(),
    };
    machinery.images = !images.is_empty();
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
        let seen = machinery.observe(&dir, Damage::Refuse).await?;
        let spec = wanted_spec(file, &seen)?;
        let plan = plan_up(&spec, &seen, options(&args.waiting)).map_err(plan_error)?;
        let known = match (stacks.is_empty(), &seen.swarm) {
            (false, Some(_)) => known_stacks(context, &machinery, &dir).await,
            _ => BTreeSet::new(),
        };
        let stacks = stacks.iter().map(|it| Change::stack(&it.name, known.contains(&it.name)));
        Preview::of(&name, &seen, &plan).and(stacks).print(context, args.dry_run);
        return Ok(None);
    }

    // Whatever can be said before anything is touched is said now, the lock included.
    let seen = machinery.observe(&dir, Damage::Refuse).await?;
    let spec = wanted_spec(file.clone(), &seen)?;
    plan_up(&spec, &seen, options(&args.waiting)).map_err(plan_error)?;
    check_ports(&spec, &seen)?;
    check_userns(&machinery, &spec, &seen)?;

    let cluster = context.lock(&name).await?;
    let seen = machinery.observe(&dir, Damage::Refuse).await?;
    let spec = wanted_spec(file, &seen)?;
    let again = match args.file.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => format!("skep up -f {}", shell_quoted(&path.to_string_lossy())),
        None => format!("skep up {name}"),
    };
    let failing = Failing { no_rollback: args.no_rollback, again };
    let result = up(&machinery, &cluster, &spec, &args.waiting, failing, seen).await;
    cluster.release();
    result?;
    deploy_stacks(context, &dir, &stacks, &checked, args.waiting.no_wait).await?;
    Ok(Some(Done { name, progress: machinery.progress }))
}

/// What `up` does when it fails.
pub(super) struct Failing {
    /// Whether what was made is kept even if it never became a cluster.
    pub no_rollback: bool,
    /// The command that goes on.
    pub again: String,
}

/// Brings the cluster up. What never became a cluster is removed again.
pub(super) async fn up(
    machinery: &Machinery<'_>,
    cluster: &LockedCluster,
    spec: &ClusterSpec,
    waiting: &Waiting,
    failing: Failing,
    before: Observed,
) -> Result<(), CliError> {
    let is_new = before.cluster.is_none();
    check_userns(machinery, spec, &before)?;
    check_hosts(machinery, cluster, spec, &before).await?;
    let work = async {
        let seen = match is_new {
            true => reserve(machinery, cluster, spec)
                .await
                .map_err(|error| Shortfall { error, formed: false })?,
            false => before,
        };
        // One node of many that fails does not keep the others from joining.
        let on_failure = OnFailure::GoOnForSwarm;
        converge(machinery, cluster, spec, options(waiting), on_failure, &[], seen).await
    };
    let Err(Shortfall { error, formed }) = work.await else { return Ok(()) };
    let attempt = Attempt { is_new: is_new && !failing.no_rollback, formed };
    Err(after_failure(machinery, cluster, attempt, &failing.again, error).await)
}

/// Removes what never became a cluster, keeps everything else, and adds to the error which of it was done.
async fn after_failure(
    machinery: &Machinery<'_>,
    cluster: &LockedCluster,
    attempt: Attempt,
    again: &str,
    error: CliError,
) -> CliError {
    let name = cluster.dir().name();
    let seen = match machinery.observe(cluster.dir(), Damage::List).await {
        Ok(seen) => seen,
        Err(second) => {
            errln!("{second}");
            return error.hint(again).hint(format!("skep status {name}"));
        }
    };
    match plan_aftermath(attempt, &seen) {
        Aftermath::Remove(plan) => {
            errln!("no swarm was formed: rolling back");
            match carry_out(machinery, cluster, &plan, OnFailure::GoOn).await {
                Ok(()) => {
                    error.hint("run the same command with --no-rollback to inspect what failed")
                }
                Err(second) => {
                    errln!("{second}");
                    error.hint(again).hint(format!("skep down {name}  # removes what is left"))
                }
            }
        }
        Aftermath::Keep(plan) => {
            // What is left of a verification does no harm; the next one removes it.
            let _ = carry_out(machinery, cluster, &plan, OnFailure::GoOn).await;
            with_standing(error, &seen, again)
        }
    }
}

/// Tells whether a port of the loopback is the cluster's already.
fn publishes(seen: &Observed, port: u16) -> bool {
    seen.cluster.as_ref().is_some_and(|cluster| cluster.access.ports.contains(&port))
}

/// Refuses ports of the loopback on which nothing of this user's can listen.
fn check_ports(spec: &ClusterSpec, seen: &Observed) -> Result<(), CliError> {
    let mut new = spec.access.ports.iter().filter(|port| !publishes(seen, **port));
    if let Some(port) = new.clone().find(|port| skep_net::network::listens(**port)) {
        return Err(CliError::usage(format!("port {port} is already in use on this host"))
            .hint(format!("ss -ltnp 'sport = :{port}'  # shows it")));
    }
    let lowest = skep_net::network::lowest_port();
    match new.find(|port| **port < lowest && !skep_sys::is_root()) {
        Some(port) => Err(CliError::usage(format!("port {port} of 127.0.0.1 is privileged"))
            .hint(format!("use a port of {lowest} or higher"))
            .hint(format!("sudo sysctl -w net.ipv4.ip_unprivileged_port_start={port}"))),
        None => Ok(()),
    }
}

/// Refuses what a network of the user's own cannot give.
fn check_userns(
    machinery: &Machinery<'_>,
    spec: &ClusterSpec,
    seen: &Observed,
) -> Result<(), CliError> {
    if machinery.userns().is_none() {
        return Ok(());
    }
    let cut_off = seen.nodes.values().filter(|node| {
        node.machine == MachineState::Running && !seen.host.links.contains(&node.record.tap)
    });
    let cut_off: Vec<_> = cut_off.map(|node| node.record.name().as_str()).collect();
    if !cut_off.is_empty() {
        let names = cut_off.join(", ");
        let message = format!("{names}: no network, as the process that provides it has ended");
        return Err(
            CliError::failed(message).hint(format!("skep stop {0} && skep up {0}", spec.name))
        );
    }
    let hosts = spec.nodes.iter().any(|node| node.host.is_some());
    if hosts && spec.has_machines() {
        let message = "hosts cannot be nodes together with virtual machines under --net user";
        return Err(CliError::usage(message)
            .hint("sudo skep setup  # then run the same command without --net user"));
    }
    refuse_peers(true, spec)?;
    if !spec.hostnames.is_empty() && machinery.writes_own_names() {
        let message = "--hostname does not work with --net user: nodes are reached through loopback addresses";
        return Err(CliError::usage(message)
            .hint("run the same command with --publish PORT  # then open http://localhost:PORT"));
    }
    Ok(())
}

/// Refuses peers where networks are in a user's namespace: there are no claims there, by which two clusters are opened.
fn refuse_peers(userns: bool, spec: &ClusterSpec) -> Result<(), CliError> {
    if !userns || spec.peers.is_empty() {
        return Ok(());
    }
    let message = "clusters with --net user cannot be peers: their networks are in a namespace of the user's own";
    Err(CliError::usage(message)
        .hint("sudo skep setup  # then run the same command without --net user")
        .hint("run the same command with --publish PORT  # then open http://localhost:PORT"))
}

/// Looks whether hosts that are to become nodes can, before anything is touched.
async fn check_hosts(
    machinery: &Machinery<'_>,
    cluster: &LockedCluster,
    spec: &ClusterSpec,
    before: &Observed,
) -> Result<(), CliError> {
    let origin = rotation::origin(cluster.dir().path());
    let owner = ssh::owner(spec.name.as_str(), &origin).unwrap_or_default();
    let new = spec.nodes.iter().filter(|node| !before.nodes.contains_key(&node.name));
    let hosts: Vec<_> = new.filter_map(|node| Some((&node.name, node.host.as_ref()?))).collect();
    let (mut problems, mut hints) = (Vec::new(), Vec::new());
    for Checked { node, host, forbidden, warnings } in
        machinery.driver.hosts.check(&hosts, &owner).await
    {
        let at = format!("{node} ({})", host.address);
        problems.extend(forbidden.iter().map(|problem| format!("{at}: {problem}")));
        for warning in warnings {
            machinery.progress.event(Event::Warning(format!("{at}: {warning}")));
        }
        if !forbidden.is_empty() {
            let key = host.key.as_ref().map_or(String::new(), |key| format!(" -i {key}"));
            let (port, user, address) = (host.port, &host.user, host.address);
            hints.push(format!("ssh -p {port}{key} {user}@{address} sudo -n true"));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let all = problems.join("\n");
    let error = CliError::host(format!("hosts are not ready; nothing was changed\n{all}"));
    Err(hints.into_iter().fold(error, CliError::hint))
}

/// Chooses a subnet and a bridge for a new cluster and makes the choice known. Where another skep on this host was
/// quicker to take the same, it chooses again.
async fn reserve(
    machinery: &Machinery<'_>,
    cluster: &LockedCluster,
    spec: &ClusterSpec,
) -> Result<Observed, CliError> {
    let look = async || machinery.observe(cluster.dir(), Damage::Refuse).await;
    let reserved = reserve_network(
        |seen| plan_reservation(spec, seen).map_err(plan_error),
        async |plan| try_out(machinery, cluster, plan, OnFailure::Stop, &|_| ()).await,
        look,
    );
    match reserved.await {
        Ok(()) => look().await,
        Err(unsettled) => Err(told(unsettled)),
    }
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
        if wanted.no_peers || !wanted.peer.is_empty() {
            spec.peers = sorted(wanted.peer.clone());
        }
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

/// Returns how new machines come to life, and what is waited for.
pub(super) fn options(waiting: &Waiting) -> UpOptions {
    let birth = match waiting.cold {
        true => Birth::Boot,
        false => Birth::Fork { restart_engine: waiting.unique_engine_ids },
    };
    let verify = match waiting.verify {
        _ if waiting.no_wait || waiting.no_verify => Verify::Nothing,
        Verification::Auto => Verify::Fitting,
        Verification::Mesh => Verify::Mesh,
        Verification::All => Verify::All,
        Verification::None => Verify::Nothing,
    };
    UpOptions { birth, wait: !waiting.no_wait, verify }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_refused_with_networks_of_a_users_own() {
        let wanted = Wanted { peer: vec!["b".parse().unwrap()], ..Wanted::default() };
        let file = ClusterFile::default().with_flags(&wanted).unwrap();
        let spec = file.spec("a".parse().unwrap());
        assert!(refuse_peers(false, &spec).is_ok());
        let error = refuse_peers(true, &spec).unwrap_err();
        assert!(error.message.contains("--net user cannot be peers"), "{}", error.message);
        assert!(refuse_peers(true, &ClusterSpec { peers: Vec::new(), ..spec }).is_ok());
    }
}
