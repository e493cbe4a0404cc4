//! `skep hosts`.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use skep_core::model::{ClusterRecord, Hostname, HostnameSpec, NodeName};
use skep_core::observed::{HostsEntry, Observed};
use skep_core::plan::{Plan, plan_follow, plan_hostnames};
use skep_ops::Look;
use skep_ops::converge::OnFailure;
use skep_ops::observe::Damage;
use skep_print::errln;

use crate::cli::{ClusterOption, ClusterWord};
use crate::context::Context;
use crate::error::CliError;
use crate::listing::{Column, Listing, Row};

/// `skep hosts`.
#[expect(missing_docs, reason = "what is flattened is documented where it is defined")]
#[derive(Debug, Subcommand)]
pub enum HostsCommand {
    /// Add names.
    Add {
        #[command(flatten)]
        cluster: ClusterOption,
        /// The names.
        #[arg(required = true)]
        names: Vec<Hostname>,
        /// The node that the names point at [default: the first manager].
        #[arg(long)]
        node: Option<NodeName>,
        /// Point the names at another node while that node is down; updated when skep starts or
        /// stops a node, and by `skep hosts follow`.
        #[arg(long)]
        follow: bool,
    },
    /// Watch the nodes until interrupted, and keep names added with --follow and published ports
    /// pointing at a running one.
    Follow {
        #[command(flatten)]
        cluster: ClusterWord,
    },
    /// Remove names.
    #[command(aliases = ["delete", "remove"])]
    Rm {
        #[command(flatten)]
        cluster: ClusterOption,
        /// The names.
        #[arg(required = true)]
        names: Vec<Hostname>,
    },
    /// List names.
    #[command(alias = "list")]
    Ls(HostsList),
}

/// `skep hosts ls`.
#[derive(Debug, Args)]
pub struct HostsList {
    #[command(flatten)]
    cluster: ClusterWord,
    #[command(flatten)]
    listing: Listing<HostsEntry>,
}

impl Row for HostsEntry {
    const NAME: &'static str = "Name";
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("NAME", "Name", |it| it.name.clone()),
        Column::new("ADDRESS", "Address", |it| it.address.to_string()),
    ];
}

pub(super) async fn run(context: &Context, command: HostsCommand) -> Result<(), CliError> {
    match command {
        HostsCommand::Follow { cluster } => follow(context, cluster).await,
        HostsCommand::Add { cluster, names, node, follow } => {
            let names = names.into_iter();
            let spec = |name| HostnameSpec { name, node: node.clone(), follow };
            let new: Vec<_> = names.map(spec).collect();
            change(context, cluster, |record, _| {
                record.hostnames.retain(|old| !new.iter().any(|it| it.name == old.name));
                record.hostnames.extend(new.iter().cloned());
                Ok(())
            })
            .await
        }
        HostsCommand::Rm { cluster, names } => {
            change(context, cluster, |record, _| {
                for name in &names {
                    if !record.hostnames.iter().any(|it| it.name == *name) {
                        let cluster = &record.name;
                        let message = format!("cluster {cluster} has no name {name}");
                        return Err(CliError::usage(message).hint("skep hosts ls"));
                    }
                }
                record.hostnames.retain(|old| !names.contains(&old.name));
                Ok(())
            })
            .await
        }
        HostsCommand::Ls(HostsList { cluster, listing }) => {
            let printer = listing.printer()?;
            let dir = context.existing(cluster.cluster.as_ref())?;
            let entries = context.run(None).hosts_entries(&dir)?;
            printer.print(&entries, || json!({"format": 1, "hosts": entries}))
        }
    }
}

async fn change(
    context: &Context,
    cluster: ClusterOption,
    edit: impl Fn(&mut ClusterRecord, &Observed) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let dir = context.existing(cluster.cluster.as_ref())?;
    let plan = |seen: &Observed| {
        let mut record = seen.cluster.clone().ok_or_else(|| {
            CliError::failed(format!(
                "creating cluster {} was interrupted, and its record is incomplete",
                dir.name()
            ))
        })?;
        edit(&mut record, seen)?;
        Ok(plan_hostnames(seen, &record.hostnames)?)
    };
    let run = context.run(None);
    run.change(dir.name(), Look::All, OnFailure::Stop, plan).await.map(|_: Observed| ())
}

/// How often nodes are looked at, and how long one may take to answer: three looks in a row that a node does
/// not answer in time are too long for who waits for a page, one may be a hiccup of a busy node.
const EVERY: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(5);

/// Lets names and ports lead to a node that is up, until it is interrupted.
async fn follow(context: &Context, cluster: ClusterWord) -> Result<(), CliError> {
    let dir = context.existing(cluster.cluster.as_ref())?;
    let run = context.run(None);
    if !context.is_quiet() {
        errln!("following the running nodes of cluster {}; press Ctrl-C to stop", dir.name());
    }
    let mut pending = Plan::default();
    while dir.exists() {
        let seen = run.observe_within(&dir, Damage::Refuse, PATIENCE).await?;
        let plan = plan_follow(&seen);
        // Only what two looks agree on, and what is still so while nobody else changes the cluster.
        if !plan.is_empty() && plan == pending {
            let cluster = run.lock(dir.name()).await?;
            let seen = run.observe_within(&dir, Damage::Refuse, PATIENCE).await?;
            let result = run.execute(&cluster, &plan_follow(&seen), OnFailure::GoOn).await;
            cluster.release();
            result?;
        }
        pending = plan;
        // wait: a node that goes down does not announce it.
        tokio::time::sleep(EVERY).await;
    }
    Ok(())
}
