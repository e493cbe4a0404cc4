//! `skep node ls` and `skep node inspect`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;
use skep_core::model::{NodeFilter, NodeName};
use skep_core::observed::Observed;
use skep_core::plan::PlanError;
use skep_ops::observe::Damage;
use skep_store::ClusterDir;

use super::super::status::{node_document, node_table};
use super::select;
use crate::cli::{ClusterOption, Output};
use crate::context::Context;
use crate::error::CliError;
use crate::out;
use crate::render::write_document;

/// The number of the JSON outputs' format.
const FORMAT: u32 = 1;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// `skep node ls`.
#[derive(Debug, Args)]
pub struct NodeList {
    #[command(flatten)]
    cluster: ClusterOption,
    /// Output format.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    output: Output,
}

/// `skep node inspect`.
#[derive(Debug, Args)]
pub struct NodeInspect {
    #[command(flatten)]
    cluster: ClusterOption,
    /// The nodes.
    #[arg(required = true, value_name = "NODE")]
    names: Vec<NodeFilter>,
    /// Output format.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    output: Format,
}

/// How nodes are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// JSON.
    #[default]
    Json,
    /// YAML.
    Yaml,
}

pub(super) async fn list(context: &Context, args: &NodeList) -> Result<(), CliError> {
    let (dir, seen) = look(context, &args.cluster).await?;
    match args.output {
        Output::Table => out!("{}", node_table(&seen)),
        output => print(output, &dir, &seen, seen.nodes.keys()),
    }
    Ok(())
}

pub(super) async fn inspect(context: &Context, args: &NodeInspect) -> Result<(), CliError> {
    let (dir, seen) = look(context, &args.cluster).await?;
    let names = select(&seen, &args.names)?;
    if let Some(unknown) = names.iter().find(|name| !seen.nodes.contains_key(*name)) {
        let known: Vec<_> = seen.nodes.keys().map(NodeName::as_str).collect();
        return Err(CliError::from(PlanError::UnknownNode {
            cluster: dir.name().clone(),
            node: unknown.clone(),
            known: known.join(", "),
        }));
    }
    let output = match args.output {
        Format::Json => Output::Json,
        Format::Yaml => Output::Yaml,
    };
    print(output, &dir, &seen, names.iter());
    Ok(())
}

async fn look(
    context: &Context,
    cluster: &ClusterOption,
) -> Result<(ClusterDir, Observed), CliError> {
    let dir = context.existing(cluster.cluster.as_ref())?;
    let seen = context.run(None).observe_within(&dir, Damage::List, PATIENCE).await?;
    Ok((dir, seen))
}

fn print<'a>(
    output: Output,
    dir: &ClusterDir,
    seen: &Observed,
    names: impl Iterator<Item = &'a NodeName>,
) {
    let nodes: Vec<_> = names.map(|name| node_document(&seen.nodes[name], seen)).collect();
    write_document(output, &json!({"format": FORMAT, "cluster": dir.name(), "nodes": nodes}));
}
