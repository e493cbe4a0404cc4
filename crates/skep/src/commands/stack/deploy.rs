//! `skep stack deploy`.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use skep_core::event::Event;
use skep_docker::stack::watch;
use skep_store::ClusterDir;

use super::compose::Wrong;
use super::{Checked, DockerCommand, converging_limit, judge_ending, patience};
use crate::cli::{Converging, ResolveImage, StackDeploy, StackOptions};
use crate::context::Context;
use crate::error::{CliError, Context as _, code};
use crate::{err, errln};

/// How long the docker command may take; it may ask a registry for each image.
const DEPLOYING: Duration = Duration::from_secs(300);

pub(super) async fn run(context: &Context, args: StackDeploy) -> Result<u8, CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let checked = match Checked::check(context, Some(&dir), &args.compose_file, &args.how).await {
        Ok(checked) => checked,
        Err(Wrong::Told(error)) => return Err(error),
        Err(Wrong::Said(said, code)) => {
            err!("{said}");
            return Ok(code);
        }
    };
    deploy(context, &dir, &args.name, &checked, &args.how, &args.converging).await?;
    Ok(0)
}

/// Deploys a stack whose files were checked, and waits until it has converged.
///
/// # Errors
///
/// If the docker command refuses, a service does not converge, or the time is over.
pub(in crate::commands) async fn deploy(
    context: &Context,
    dir: &ClusterDir,
    name: &str,
    checked: &Checked,
    how: &StackOptions,
    converging: &Converging,
) -> Result<(), CliError> {
    let began = Instant::now();
    let run = context.run(None);
    let docker = DockerCommand::of(context, dir).await?.with(&checked.env, &checked.input);
    let help = docker.call(["stack", "deploy", "--help"], Duration::from_secs(30));
    let help = help.run().await.context("cannot run docker")?;
    let mut args: Vec<OsString> = vec!["stack".into(), "deploy".into()];
    // Newer ones could wait themselves, and say at length that they do not.
    if help.text().contains("--detach") {
        args.push("--detach=true".into());
    }
    args.extend(checked.arguments());
    args.extend(flags(how).map(OsString::from));
    args.push(name.into());
    let deploying = docker.while_up(context, docker.call(args, DEPLOYING).status()).await;
    let deployed = deploying.map_err(|error| error.within(&format!("stack {name}")))?;
    let (status, output) = deployed.context(format!("stack {name}"))?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        run.report(Event::Detail(line.to_owned()));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if !status.success() {
        return Err(refused(name, &said));
    }
    for line in said.lines() {
        run.report(Event::Note(line.to_owned()));
    }
    if converging.detach {
        return Ok(());
    }
    let swarm = run.swarm(dir, patience(context, dir));
    let events = |event| run.report(event);
    let select = |view: &skep_core::services::View| view.of_stack(name);
    let limit = converging_limit(context, dir, converging);
    let ending = watch(swarm, &select, limit, &events).await;
    run.report(Event::PlanFinished);
    let ending = ending.context(format!("stack {name}"))?;
    judge_ending(swarm, &ending, &format!("stack {name}"), limit).await?;
    if !context.is_quiet() {
        let count = ending.outcome.services.len();
        let seconds = began.elapsed().as_secs_f64();
        errln!("stack {name}: {count} services have converged after {seconds:.1} s");
    }
    Ok(())
}

fn flags(how: &StackOptions) -> impl Iterator<Item = String> {
    let resolve = how.resolve_image.map(|when| match when {
        ResolveImage::Always => "always",
        ResolveImage::Changed => "changed",
        ResolveImage::Never => "never",
    });
    let resolve = resolve.map(|when| format!("--resolve-image={when}"));
    let prune = how.prune.then(|| "--prune".to_owned());
    let auth = how.with_registry_auth.then(|| "--with-registry-auth".to_owned());
    resolve.into_iter().chain(prune).chain(auth)
}

/// Tells what the docker command said, in its own words, and what may have been made before.
fn refused(name: &str, said: &str) -> CliError {
    let message = format!("stack {name}: {}", said.trim());
    let error = CliError { code: code::FAILED, message, hints: Vec::new() };
    let error = match said.contains("is already in use by service") {
        true => {
            error.hint("skep stack ls  # publish another port, or remove the stack that uses it")
        }
        false => error,
    };
    error.hint(format!("skep stack rm {name}  # removes what was created of it"))
}
