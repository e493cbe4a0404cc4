//! The stacks of a cluster file.

use std::collections::BTreeSet;

use skep_docker::stack::Swarm;
use skep_print::errln;
use skep_store::{ClusterDir, LockedCluster};

use super::compose::Wrong;
use super::{Checked, deploy, list};
use crate::cli::{Converging, Waiting};
use crate::context::Context;
use crate::error::{CliError, Context as _};
use crate::file::StackEntry;

/// Checks stacks, before anything is touched.
///
/// # Errors
///
/// If one is wrong, or is there twice.
pub(in crate::commands) async fn check_stacks(
    context: &Context,
    dir: &ClusterDir,
    stacks: &[StackEntry],
) -> Result<Vec<Checked>, CliError> {
    let mut checked = Vec::new();
    for (index, stack) in stacks.iter().enumerate() {
        let name = &stack.name;
        if stacks[..index].iter().any(|other| other.name == *name) {
            return Err(CliError::usage(format!("two stacks are named {name}")));
        }
        let check = Checked::check(context, Some(dir), &stack.files, &stack.how).await;
        checked.push(check.map_err(|wrong| match wrong {
            Wrong::Told(error) => {
                CliError { message: format!("stack {name}: {}", error.message), ..error }
            }
            Wrong::Said(said, _) => CliError::usage(format!("stack {name}: {}", said.trim())),
        })?);
    }
    Ok(checked)
}

/// Notes the stacks that a file has, and names those that it had before and that still run.
///
/// # Errors
///
/// If the note cannot be read or written, or no manager says what runs.
pub(in crate::commands) async fn note_stacks(
    swarm: Swarm<'_>,
    cluster: &LockedCluster,
    stacks: &[StackEntry],
) -> Result<(), CliError> {
    let name = cluster.dir().name();
    for stack in note(swarm, cluster, stacks).await? {
        errln!(
            "warning: stack {stack} is not in the file any more, and goes on running; remove it with: \
             skep stack rm {stack} --cluster {name}"
        );
    }
    Ok(())
}

/// As [`note_stacks`]; returns those that it had before.
async fn note(
    swarm: Swarm<'_>,
    cluster: &LockedCluster,
    stacks: &[StackEntry],
) -> Result<Vec<String>, CliError> {
    let dir = cluster.dir();
    let failed = || format!("cannot note the stacks of cluster {}", dir.name());
    let before = dir.stacks_of_file().context(failed())?;
    let mut noted: BTreeSet<_> = stacks.iter().map(|stack| stack.name.clone()).collect();
    let mut left: Vec<_> = before.difference(&noted).cloned().collect();
    if !left.is_empty() {
        let known = list::known(swarm).await?;
        left.retain(|name| known.contains(name));
    }
    // Those that are left are named until they are gone.
    noted.extend(left.iter().cloned());
    cluster.note_stacks(noted).context(failed())?;
    Ok(left)
}

/// Deploys stacks that were checked, one after the other; each may take as long as `up --timeout` or the file says.
///
/// # Errors
///
/// If one is refused or does not converge; those after it are not deployed.
pub(in crate::commands) async fn deploy_stacks(
    context: &Context,
    dir: &ClusterDir,
    stacks: &[StackEntry],
    checked: &[Checked],
    waiting: &Waiting,
) -> Result<(), CliError> {
    for (stack, checked) in stacks.iter().zip(checked) {
        let converging = converging(waiting, stack);
        deploy::deploy(context, dir, &stack.name, checked, &stack.how, &converging).await?;
    }
    Ok(())
}

/// Returns how `up` waits for one of its stacks.
fn converging(waiting: &Waiting, stack: &StackEntry) -> Converging {
    let timeout = waiting.limits.timeout.or(stack.timeout);
    Converging { detach: waiting.ready.no_wait, timeout }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser as _;
    use skep_core::services::View;
    use skep_testkit::fakes::FakeHost;

    use super::*;
    use crate::cli::{Cli, Command};

    #[tokio::test]
    async fn a_stack_that_was_taken_out_of_the_file_is_named_until_it_is_gone() {
        let host = FakeHost::formed(1, 0).await;
        let dir = host.cluster("demo");
        let swarm = Swarm { dir: &dir, engines: &host, patience: Duration::from_secs(1) };
        let running = crate::commands::stack::list::tests::view();
        let shop = running.services[0].stack.clone().unwrap();
        let cluster = dir.lock(|_| ()).await.unwrap();
        let entry = |name: &str| StackEntry { name: name.to_owned(), ..Default::default() };
        let none = [""; 0];
        host.set_views([running, View::default()]);
        assert_eq!(note(swarm, &cluster, &[entry(&shop), entry("gone")]).await.unwrap(), none);
        assert_eq!(note(swarm, &cluster, &[entry("new")]).await.unwrap(), [shop.as_str()]);
        // It was removed meanwhile.
        assert_eq!(note(swarm, &cluster, &[]).await.unwrap(), none);
        assert!(dir.stacks_of_file().unwrap().is_empty());
    }

    #[test]
    fn a_stack_of_a_file_may_take_as_long_as_up_or_the_file_says() {
        let stack = StackEntry { timeout: Some(Duration::from_secs(70)), ..Default::default() };
        let converging_of = |line: &str| {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            let Command::Up(up) = cli.command else { panic!("{line}") };
            converging(&up.waiting, &stack)
        };
        assert_eq!(converging_of("skep up -f shop.yml").timeout, stack.timeout);
        let asked = converging_of("skep up -f shop.yml --timeout 90s");
        assert_eq!((asked.timeout.map(|it| it.as_secs()), asked.detach), (Some(90), false));
        assert!(converging_of("skep up -f shop.yml --no-wait").detach);
    }
}
