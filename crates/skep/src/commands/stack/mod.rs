//! `skep stack`: the real docker command deploys and removes; skep waits, and tells what is wrong.

mod compose;
mod deploy;
mod env_file;
mod explain;
mod interpolation;
mod list;
mod loaded;
mod logs;
mod of_file;
mod remove;
mod renamed;
mod services;
mod variables;

use std::collections::BTreeSet;
use std::time::Duration;

use skep_store::ClusterDir;

use compose::Checked;
pub(super) use explain::judge_ending;
pub use list::{StackList, StackTasks};
pub(super) use loaded::tell_of_outdated;
pub use logs::StackLogs;
pub(super) use of_file::{check_stacks, deploy_stacks, note_stacks};
pub use services::StackServices;
use skep_ops::Run;

use crate::cli::{Converging, StackCommand};
use crate::context::Context;
use crate::error::CliError;

pub(super) async fn run(context: &Context, command: StackCommand) -> Result<u8, CliError> {
    match command {
        StackCommand::Deploy(args) => deploy::run(context, args).await,
        StackCommand::Rm(args) => remove::run(context, args).await,
        StackCommand::Ls(args) => list::stacks(context, args).await,
        StackCommand::Ps(args) => list::tasks(context, args).await,
        StackCommand::Logs(args) => logs::run(context, &args).await,
        StackCommand::Services(args) => services::run(context, &args).await,
    }
}

/// Returns the names of a cluster's stacks; none if no manager says.
pub(super) async fn known_stacks(run: &Run<'_>, dir: &ClusterDir) -> BTreeSet<String> {
    list::known(run.swarm(dir)).await.unwrap_or_default()
}

/// Returns how long services may take to converge.
pub(in crate::commands) fn converging_limit(
    context: &Context,
    cluster: &ClusterDir,
    asked: &Converging,
) -> Duration {
    asked.timeout.unwrap_or_else(|| context.session.converging_limit(cluster))
}
