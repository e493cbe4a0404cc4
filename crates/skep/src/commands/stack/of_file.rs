//! The stacks of a cluster file.

use skep_store::ClusterDir;

use super::compose::Wrong;
use super::{Checked, deploy};
use crate::cli::{Converging, StackOptions};
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
        let check = Checked::check(context, Some(dir), &stack.files, &options(stack)).await;
        checked.push(check.map_err(|wrong| match wrong {
            Wrong::Told(error) => {
                CliError { message: format!("stack {name}: {}", error.message), ..error }
            }
            Wrong::Said(said, _) => CliError::usage(format!("stack {name}: {}", said.trim())),
        })?);
    }
    Ok(checked)
}

/// Deploys stacks that were checked, one after the other.
///
/// # Errors
///
/// If one is refused or does not converge; those after it are not deployed.
pub(in crate::commands) async fn deploy_stacks(
    context: &Context,
    dir: &ClusterDir,
    stacks: &[StackEntry],
    checked: &[Checked],
    detach: bool,
) -> Result<(), CliError> {
    let converging = Converging { detach, timeout: None };
    for (stack, checked) in stacks.iter().zip(checked) {
        deploy::deploy(context, dir, &stack.name, checked, &options(stack), &converging).await?;
    }
    Ok(())
}

fn options(stack: &StackEntry) -> StackOptions {
    StackOptions { env_file: stack.env_files.clone(), ..StackOptions::default() }
}
