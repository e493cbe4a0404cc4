//! `skep config`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use skep_core::model::ClusterSpec;
use skep_print::errln;
use skep_store::ClusterDir;

use crate::cli::{ClusterArg, Output, Wanted};
use crate::context::Context;
use crate::error::{CliError, Context as _};
use crate::file::{ClusterFile, document};
use crate::render::write_document;

/// `skep config`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep config -f skep.yaml       the file as skep understands it, with all defaults
  skep config demo > demo.yaml   a file that describes the cluster demo as it is recorded")]
#[command(mut_arg("cluster", |arg| {
    arg.help("The cluster [default: the only one]; with -f, the name instead of the file's")
}))]
pub struct Config {
    #[command(flatten)]
    cluster: ClusterArg,
    /// Print this cluster file; `-` is standard input.
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// How a cluster file is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// YAML, which `skep up -f` reads.
    #[default]
    Yaml,
    /// JSON, which `skep up -f` reads too.
    Json,
}

pub(super) fn run(context: &Context, args: &Config) -> Result<(), CliError> {
    let value = match &args.file {
        Some(path) => {
            let file = ClusterFile::load(path)?.with_flags(&Wanted::default())?;
            let named = args.cluster.cluster.as_ref().or(file.name.as_ref());
            let spec = file.spec(context.name_or_default(named));
            let problems: Vec<_> = spec.problems().iter().map(ToString::to_string).collect();
            if !problems.is_empty() {
                return Err(CliError::usage(problems.join("\n")));
            }
            document(&spec, Some(&file))
        }
        None => {
            let dir = context.existing(args.cluster.cluster.as_ref())?;
            let spec = recorded(&dir)?;
            if spec.trusted.iter().flatten().any(|registry| registry.ca.is_some()) {
                errln!(
                    "note: `registries` is left out: their CA certificates are in the cluster's record, \
                     not in files; `skep up -f` keeps them as they are"
                );
            }
            document(&spec, None)
        }
    };
    let output = match args.output {
        Format::Yaml => Output::Yaml,
        Format::Json => Output::Json,
    };
    write_document(output, &value);
    Ok(())
}

/// Returns what is recorded of a cluster.
fn recorded(dir: &ClusterDir) -> Result<ClusterSpec, CliError> {
    let name = dir.name();
    let record = dir.record().context(format!("cluster {name}"))?;
    let Some(record) = record else {
        let message = format!("cluster {name} has no record: its creation was interrupted");
        return Err(CliError::failed(message).hint(format!("skep up {name}")));
    };
    let mut nodes = Vec::new();
    for (node, record) in dir.nodes().context(format!("cluster {name}"))? {
        nodes.push(record.context(format!("node {node} of cluster {name}"))?);
    }
    Ok(record.spec(nodes.iter()))
}
