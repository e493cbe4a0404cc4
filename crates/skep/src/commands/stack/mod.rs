//! `skep stack`: the real docker command deploys and removes; skep waits, and tells what is wrong.

mod compose;
mod deploy;
mod env_file;
mod explain;
mod list;
mod of_file;
mod remove;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use skep_driver::Driver as _;
use skep_store::{ClusterDir, Machine};
use skep_sys::Cmd;

use compose::Checked;
pub(super) use explain::judge_ending;
pub(super) use of_file::{check_stacks, deploy_stacks};
pub use services::StackServices;

use super::access::{docker_environment, docker_program, running_manager};
use crate::cli::{Converging, StackCommand};
use crate::context::Context;
use crate::error::CliError;
use skep_ops::Run;

pub(super) async fn run(context: &Context, command: StackCommand) -> Result<u8, CliError> {
    match command {
        StackCommand::Deploy(args) => deploy::run(context, args).await,
        StackCommand::Rm(args) => remove::run(context, args).await,
        StackCommand::Ls(args) => list::stacks(context, args).await,
        StackCommand::Ps(args) => list::tasks(context, args).await,
        StackCommand::Services(args) => services::run(context, &args).await,
    }
}

/// Returns the names of a cluster's stacks; none if no manager says.
pub(super) async fn known_stacks(
    context: &Context,
    run: &Run<'_>,
    dir: &ClusterDir,
) -> BTreeSet<String> {
    list::known(run.swarm(dir, patience(context, dir))).await.unwrap_or_default()
}

/// How often it is seen whether a node still runs.
const ALIVE: Duration = Duration::from_millis(500);

/// The docker command, as it speaks to a cluster, or to none.
pub(super) struct DockerCommand {
    program: PathBuf,
    /// The manager that it speaks to.
    machine: Option<Machine>,
    env: Vec<(OsString, OsString)>,
    input: Vec<u8>,
}

impl DockerCommand {
    /// Finds the command, and lets it speak to the first manager that runs.
    ///
    /// # Errors
    ///
    /// If there is no such command, or no manager runs.
    pub(super) async fn of(context: &Context, cluster: &ClusterDir) -> Result<Self, CliError> {
        let node = running_manager(context, cluster).await?;
        let env = docker_environment(context, cluster, &node);
        let env = env.into_iter().map(|(key, value)| (key.into(), value)).collect();
        let program = docker_program(context, Some(cluster))?;
        let machine = Machine { dir: cluster.machine_dir(node.name()), record: node };
        Ok(Self { program, machine: Some(machine), env, input: Vec::new() })
    }

    /// Finds the command, which is to speak to nobody.
    ///
    /// # Errors
    ///
    /// If there is no such command.
    pub(super) fn alone(context: &Context, cluster: Option<&ClusterDir>) -> Result<Self, CliError> {
        let nobody = ("DOCKER_HOST".into(), "unix:///nonexistent".into());
        let program = docker_program(context, cluster)?;
        Ok(Self { program, machine: None, env: vec![nobody], input: Vec::new() })
    }

    /// Adds variables, and what it reads on its standard input.
    pub(super) fn with(mut self, env: &BTreeMap<String, String>, input: &[u8]) -> Self {
        self.env.extend(env.iter().map(|(key, value)| (key.into(), value.into())));
        self.input = input.to_vec();
        self
    }

    /// Waits for a call of it for as long as the node that it speaks to runs; the command itself would
    /// wait for minutes for an answer.
    ///
    /// # Errors
    ///
    /// If the node ends.
    pub(super) async fn while_up<T>(
        &self,
        context: &Context,
        call: impl Future<Output = T>,
    ) -> Result<T, CliError> {
        let driver = context.driver(None);
        let ended = async {
            let Some(machine) = &self.machine else { return std::future::pending().await };
            while driver.check_alive(machine).is_ok() {
                // wait: the end of a process that is no child of ours is not announced.
                tokio::time::sleep(ALIVE).await;
            }
            machine.record.name()
        };
        tokio::select! {
            done = call => Ok(done),
            node = ended => Err(CliError::failed(format!("{node} went down meanwhile"))
                .hint("skep status  # skep up starts what is down; then run the command again")),
        }
    }

    /// Returns a call of it.
    pub(super) fn call<S: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        limit: Duration,
    ) -> Cmd {
        let cmd = Cmd::new(&self.program).args(args).stdin(self.input.clone()).timeout(limit);
        self.env.iter().fold(cmd, |cmd, (key, value)| cmd.env(key, value))
    }
}

/// Returns how long one call of an engine may take: the slowest node's measure.
pub(in crate::commands) fn patience(context: &Context, cluster: &ClusterDir) -> Duration {
    Duration::from_secs(10) * slowness(context, cluster)
}

/// Returns how long services may take to converge. If nobody has said it: images come from a registry at the
/// network's speed, containers start at the slowest node's.
pub(in crate::commands) fn converging_limit(
    context: &Context,
    cluster: &ClusterDir,
    asked: &Converging,
) -> Duration {
    let usual = || Duration::from_secs(240) + Duration::from_secs(60) * slowness(context, cluster);
    asked.timeout.unwrap_or_else(usual)
}

/// Returns how many times slower than a processor of its own the slowest node may be.
fn slowness(context: &Context, cluster: &ClusterDir) -> u32 {
    let driver = context.driver(None);
    let nodes = cluster.nodes().unwrap_or_default().into_iter();
    let slowness = nodes.filter_map(|(_, record)| record.ok()).map(|record| {
        driver.slowness(&Machine { dir: cluster.machine_dir(record.name()), record })
    });
    slowness.max().unwrap_or(1)
}
