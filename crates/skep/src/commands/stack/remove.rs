//! `skep stack rm`.

use std::time::{Duration, Instant};

use skep_core::event::Event;
use skep_core::observed::Observed;
use skep_core::plan::{Change, Plan};
use skep_docker::stack::{Swarm, await_gone};
use skep_ops::DockerCommand;
use skep_ops::Run;
use skep_print::errln;
use skep_store::ClusterDir;

use super::{converging_limit, list};
use crate::cli::StackRemove;
use crate::commands::dry_run::Preview;
use crate::context::Context;
use crate::error::{CliError, Context as _, code};

/// How long the docker command may take.
const REMOVING: Duration = Duration::from_secs(120);

/// For how long at first it is waited until tasks have let go of networks.
const AT_FIRST: Duration = Duration::from_secs(30);

pub(super) async fn run(context: &Context, args: StackRemove) -> Result<u8, CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let run = context.run(None);
    let swarm = run.swarm(&dir);
    let known = list::known(swarm).await?;
    for name in &args.names {
        let shared = async || swarm.manager().await?.shared_by(name).await.map_err(Into::into);
        let shared: Result<_, skep_docker::stack::Error> = shared().await;
        if !known.contains(name) && shared.context(format!("stack {name}"))?.is_empty() {
            let known: Vec<_> = known.iter().map(String::as_str).collect();
            let cluster = dir.name();
            return Err(CliError::usage(match known.is_empty() {
                true => format!("cluster {cluster} has no stack {name}, nor any other"),
                false => {
                    format!("cluster {cluster} has no stack {name}; it has {}", known.join(", "))
                }
            }));
        }
    }
    if args.dry_run.dry_run {
        let changes = args.names.iter().map(|name| Change::no_stack(name));
        let (plan, seen) = (Plan::default(), Observed::default());
        Preview::of(dir.name(), &seen, &plan).and(changes).print(context, args.dry_run);
        return Ok(0);
    }
    let docker = DockerCommand::of(&context.session, &dir).await?;
    let limit = converging_limit(context, &dir, &args.converging);
    for name in &args.names {
        let began = Instant::now();
        let locked = run.lock_stack(&dir, name).await?;
        call(&docker, &run, name).await?;
        drop(locked);
        if args.converging.detach {
            continue;
        }
        remove(&docker, &run, swarm, &dir, name, limit).await?;
        if !context.is_quiet() {
            let seconds = began.elapsed().as_secs_f64();
            errln!("stack {name} is removed from all nodes after {seconds:.1} s");
        }
    }
    Ok(0)
}

async fn remove(
    docker: &DockerCommand,
    run: &Run<'_>,
    swarm: Swarm<'_>,
    dir: &ClusterDir,
    name: &str,
    limit: Duration,
) -> Result<(), CliError> {
    let events = |event| run.report(event);
    let first = AT_FIRST.min(limit);
    let mut left =
        await_gone(swarm, name, first, &events).await.context(format!("stack {name}"))?;
    if !left.is_empty() && limit > first {
        // A network that a task still held when the command came is kept by the swarm. What goes by itself
        // meanwhile, the command calls an error: what counts is what is left.
        let again = call(docker, run, name).await;
        let rest = limit - first;
        left = await_gone(swarm, name, rest, &events).await.context(format!("stack {name}"))?;
        if !left.is_empty() {
            again?;
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    let message = format!(
        "stack {name}: timed out after {} s waiting for the removal of {}",
        limit.as_secs(),
        left.join(", ")
    );
    let error = CliError { code: code::TIMEOUT, message, hints: Vec::new() };
    Err(error.hint(format!("skep stack rm {name}")).hint(format!("skep status {}", dir.name())))
}

async fn call(docker: &DockerCommand, run: &Run<'_>, name: &str) -> Result<(), CliError> {
    let output = docker.call(["stack", "rm", name], REMOVING).run().await;
    let output = output.context(format!("stack {name}"))?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        run.report(Event::Detail(line.to_owned()));
    }
    Ok(())
}
