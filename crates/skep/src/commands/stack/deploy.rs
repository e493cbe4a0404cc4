//! `skep stack deploy`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use skep_core::event::Event;
use skep_core::services::{Service, View, given_up};
use skep_docker::stack::Swarm;
use skep_ops::{DockerCommand, Run};
use skep_print::{err, errln};
use skep_store::ClusterDir;

use super::compose::Wrong;
use super::loaded::Loaded;
use super::renamed::Renamed;
use super::{Checked, converging_limit, judge_ending};
use crate::cli::{Converging, ResolveImage, StackDeploy, StackOptions};
use crate::context::Context;
use crate::error::{CliError, Context as _};

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

/// How long it may take to start one service again.
const STARTING: Duration = Duration::from_secs(60);

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
    let swarm = run.swarm(dir);
    // Two deployments of one stack would each undo parts of the other, or be refused halfway.
    let locked = run.lock_stack(dir, name).await?;
    let before = look(swarm, name).await;
    let was_there = has_anything(swarm, before.as_ref(), name).await;
    let loaded = Loaded::look(&run, dir).await;
    let resolve = match how.resolve_image {
        None if loaded.are_all(&checked.images) => Some(ResolveImage::Never),
        asked => asked,
    };
    let mut renamed = Renamed::new(name, &checked.objects, &checked.version, dir.path());
    let services = loop {
        let file = renamed.file().context(format!("stack {name}"))?.map(Path::as_os_str);
        let more = file.into_iter().flat_map(|file| ["-c".into(), file.to_owned()]);
        let arguments =
            checked.arguments().chain(more).chain(flags(how, resolve).map(OsString::from));
        let error = match docker.deploy(&run, name, arguments).await {
            Ok(services) => break services,
            Err(error) => error,
        };
        if let skep_ops::Error::StackRefused { said, .. } = &error
            && let Some(told) = renamed.give(said)
        {
            run.report(Event::Note(told));
            continue;
        }
        let error = CliError::from(error);
        // Only what this call made may be advised to be removed.
        let after = look(swarm, name).await;
        let has = has_anything(swarm, after.as_ref(), name).await;
        let made = was_there == Some(false) && has == Some(true);
        return Err(match made {
            true => error.hint(format!("skep stack rm {name}  # removes what was created of it")),
            false => error,
        });
    };
    let after = look(swarm, name).await.unwrap_or_default();
    if !how.prune {
        for left in left_over(&after, &services) {
            errln!(
                "warning: {left} is not in the file of stack {name} any more, and goes on running; \
                 remove it with: skep docker -- service rm {left}"
            );
        }
    }
    start_again(&docker, &before.unwrap_or_default(), &after, &services).await?;
    let deployed = View { services: of_file(&after, &services), ..after };
    start_what_was_loaded(&run, &docker, &loaded, dir, &deployed, &checked.images).await?;
    drop(locked);
    if converging.detach {
        return Ok(());
    }
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

/// Returns the services and tasks of a stack; nothing if no manager says.
async fn look(swarm: Swarm<'_>, stack: &str) -> Option<View> {
    Some(swarm.manager().await.ok()?.view().await.ok()?.of_stack(stack))
}

/// Tells whether the swarm has anything of a stack, of which the services were seen; nothing if no manager says.
async fn has_anything(swarm: Swarm<'_>, seen: Option<&View>, stack: &str) -> Option<bool> {
    if !seen?.services.is_empty() {
        return Some(true);
    }
    Some(!swarm.manager().await.ok()?.shared_by(stack).await.ok()?.is_empty())
}

/// Returns the services that the swarm has given up, by name, with the IDs of their tasks.
fn given_up_tasks(view: &View) -> BTreeMap<String, BTreeSet<String>> {
    let tasks = |service: &Service| view.tasks_of(service).map(|task| task.id.clone()).collect();
    given_up(view).into_iter().map(|service| (service.name.clone(), tasks(service))).collect()
}

/// Starts services of the file again that were given up before, and that deploying left as they were: the docker
/// command changes nothing where the file has not changed.
async fn start_again(
    docker: &DockerCommand,
    before: &View,
    after: &View,
    services: &[String],
) -> Result<(), CliError> {
    let (ended, mut still) = (given_up_tasks(before), given_up_tasks(after));
    still.retain(|name, _| services.contains(name));
    for (name, _) in still.iter().filter(|(name, tasks)| ended.get(*name) == Some(*tasks)) {
        force(docker, name).await?;
    }
    Ok(())
}

/// Starts services of the file with the image that was loaded since they were started: its name is the same, so docker and
/// the swarm see no change. Says where a registry's image runs though one of that name was loaded.
async fn start_what_was_loaded(
    run: &Run<'_>,
    docker: &DockerCommand,
    loaded: &Loaded,
    dir: &ClusterDir,
    view: &View,
    images: &BTreeSet<String>,
) -> Result<(), CliError> {
    for service in loaded.overruled(view, images) {
        let (name, image) = (&service.name, &service.image);
        errln!(
            "warning: {name}: the registry's {image} runs, not the one that was loaded; with resolve_image: never \
             (--resolve-image never) it is that"
        );
    }
    for service in loaded.outdated(run.swarm(dir), view).await {
        let (name, image) = (&service.name, &service.image);
        run.report(Event::Note(format!("{name}: starting it with {image} as it was loaded last")));
        force(docker, name).await?;
    }
    Ok(())
}

/// Has the swarm replace a service's tasks.
async fn force(docker: &DockerCommand, service: &str) -> Result<(), CliError> {
    let call = ["service", "update", "--force", "--detach", "--quiet", service];
    let said = docker.call(call, STARTING).run().await;
    said.context(format!("cannot start service {service} again"))?;
    Ok(())
}

/// Returns the services of a stack that are in its file.
fn of_file(view: &View, services: &[String]) -> Vec<Service> {
    view.services.iter().filter(|service| services.contains(&service.name)).cloned().collect()
}

/// Returns the services of a stack that are not in its file; none if docker did not say what is.
fn left_over<'a>(view: &'a View, services: &[String]) -> Vec<&'a str> {
    let names = view.services.iter().map(|service| service.name.as_str());
    let left = names.filter(|name| !services.iter().any(|it| it == name));
    if services.is_empty() { Vec::new() } else { left.collect() }
}

fn flags(how: &StackOptions, resolve: Option<ResolveImage>) -> impl Iterator<Item = String> {
    let resolve = resolve.map(|when| format!("--resolve-image={}", when.as_str()));
    let prune = how.prune.then(|| "--prune".to_owned());
    let auth = how.with_registry_auth.then(|| "--with-registry-auth".to_owned());
    resolve.into_iter().chain(prune).chain(auth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::stack::list::tests::view;

    #[test]
    fn services_that_were_taken_out_of_the_file_are_named() {
        let view = view();
        let name = view.services[0].name.clone();
        assert_eq!(left_over(&view, &["shop_new".to_owned()]), [name.as_str()]);
        assert!(left_over(&view, &[name]).is_empty());
        assert!(left_over(&view, &[]).is_empty());
    }
}
