//! The stacks of a cluster file.

use skep_store::ClusterDir;

use super::compose::Wrong;
use super::{Checked, deploy};
use crate::cli::{Converging, Waiting};
use crate::context::Context;
use crate::error::CliError;
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

    use super::*;
    use crate::cli::{Cli, Command};

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
