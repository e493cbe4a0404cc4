//! `skep node ls` and `skep node inspect`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use skep_core::model::{ClusterName, NodeFilter, NodeName};
use skep_core::observed::Observed;
use skep_core::plan::PlanError;
use skep_ops::observe::Damage;
use skep_store::ClusterDir;

use super::super::status::{NodeRow, node_document, node_rows};
use super::select;
use crate::cli::{ClusterOption, ClusterWord, Output};
use crate::context::Context;
use crate::error::CliError;
use crate::listing::Listing;
use crate::render::write_document;

/// The number of the JSON outputs' format.
const FORMAT: u32 = 1;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// `skep node ls`.
#[derive(Debug, Args)]
pub struct NodeList {
    #[command(flatten)]
    cluster: ClusterWord,
    #[command(flatten)]
    listing: Listing<NodeRow>,
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
    let printer = args.listing.printer()?;
    let (dir, seen) = look(context, args.cluster.cluster.as_ref()).await?;
    printer.print(&node_rows(&seen), || document(&dir, &seen, seen.nodes.keys()))
}

pub(super) async fn inspect(context: &Context, args: &NodeInspect) -> Result<(), CliError> {
    let (dir, seen) = look(context, args.cluster.cluster.as_ref()).await?;
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
    write_document(output, &document(&dir, &seen, names.iter()));
    Ok(())
}

async fn look(
    context: &Context,
    cluster: Option<&ClusterName>,
) -> Result<(ClusterDir, Observed), CliError> {
    let dir = context.existing(cluster)?;
    let seen = context.run(None).observe_within(&dir, Damage::List, PATIENCE).await?;
    Ok((dir, seen))
}

fn document<'a>(
    dir: &ClusterDir,
    seen: &Observed,
    names: impl Iterator<Item = &'a NodeName>,
) -> Value {
    let nodes: Vec<_> = names.map(|name| node_document(&seen.nodes[name], seen)).collect();
    json!({"format": FORMAT, "cluster": dir.name(), "nodes": nodes})
}
