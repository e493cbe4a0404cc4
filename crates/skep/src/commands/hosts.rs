//! `skep hosts`.

use serde_json::json;
use skep_core::model::{ClusterRecord, HostnameSpec};
use skep_core::observed::{HostsEntry, Observed};
use skep_core::plan::plan_hostnames;
use skep_host::converge::OnFailure;
use skep_host::observe::Damage;

use super::converge::{carry_out, plan_error};
use crate::cli::{ClusterOption, HostsCommand, Output};
use crate::context::Context;
use crate::error::CliError;
use crate::out;
use crate::render::table::table;
use crate::render::write_document;

pub(super) async fn run(context: &Context, command: HostsCommand) -> Result<(), CliError> {
    match command {
        HostsCommand::Add { cluster, names, node } => {
            let new: Vec<_> =
                names.into_iter().map(|name| HostnameSpec { name, node: node.clone() }).collect();
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
        HostsCommand::Ls { cluster, output } => {
            let dir = context.existing(cluster.cluster.as_ref())?;
            let machinery = context.machinery(None);
            let entries = machinery.hosts_entries(&dir)?;
            print(&entries, output);
            Ok(())
        }
    }
}

async fn change(
    context: &Context,
    cluster: ClusterOption,
    edit: impl Fn(&mut ClusterRecord, &Observed) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let dir = context.existing(cluster.cluster.as_ref())?;
    let machinery = context.machinery(None);
    let cluster = context.lock(dir.name()).await?;
    let seen = machinery.observe(&dir, Damage::Refuse).await?;
    let mut record = seen.cluster.clone().ok_or_else(|| {
        CliError::failed(format!("cluster {} was never completely recorded", dir.name()))
    })?;
    edit(&mut record, &seen)?;
    let plan = plan_hostnames(&seen, &record.hostnames).map_err(plan_error)?;
    let result = carry_out(&machinery, &cluster, &plan, OnFailure::Stop).await;
    cluster.release();
    result
}

fn print(entries: &[HostsEntry], output: Output) {
    match output {
        Output::Json | Output::Yaml => {
            write_document(output, &json!({"format": 1, "hosts": entries}));
        }
        Output::Table => {
            let rows: Vec<_> =
                entries.iter().map(|it| vec![it.name.clone(), it.address.to_string()]).collect();
            out!("{}", table(&["NAME", "ADDRESS"], &rows));
        }
    }
}
