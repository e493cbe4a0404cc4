//! `skep stack deploy`.

use std::ffi::OsString;
use std::time::Instant;

use skep_ops::DockerCommand;
use skep_store::ClusterDir;

use super::compose::Wrong;
use super::{Checked, converging_limit, judge_ending};
use crate::cli::{Converging, ResolveImage, StackDeploy, StackOptions};
use crate::context::Context;
use crate::error::CliError;
use crate::{err, errln};

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
    let docker = DockerCommand::of(&context.session, dir).await?.with(&checked.env, &checked.input);
    let arguments = checked.arguments().chain(flags(how).map(OsString::from));
    docker.deploy(&run, name, arguments).await?;
    if converging.detach {
        return Ok(());
    }
    let swarm = run.swarm(dir);
    let limit = converging_limit(context, dir, converging);
    let ending = run.watch_stack(dir, name, limit).await?;
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
