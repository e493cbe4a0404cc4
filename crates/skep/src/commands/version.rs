//! `skep version`.

use clap::{Args, ValueEnum};
use serde_json::json;
use skep_print::outln;

use crate::cli::Output;
use crate::file::VERSION;
use crate::render::write_document;

/// The number of the JSON output's format.
const FORMAT: u32 = 1;

/// `skep version`.
#[derive(Debug, Args)]
pub struct Version {
    /// Output format.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    output: Format,
}

/// How the version is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line for people.
    #[default]
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

pub(super) fn run(args: &Version) {
    let version = env!("CARGO_PKG_VERSION");
    let output = match args.output {
        Format::Text => return outln!("skep {version}"),
        Format::Json => Output::Json,
        Format::Yaml => Output::Yaml,
    };
    let platform = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
    let document = json!({
        "format": FORMAT,
        "version": version,
        "platform": platform,
        "formats": {"cluster_file": VERSION},
    });
    write_document(output, &document);
}
