//! `skep init`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use skep_print::{errln, write_exact};
use skep_sys::{create_new, shell_quoted};

use crate::context::Context;
use crate::error::CliError;
use crate::file::STARTER;

/// `skep init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep init && skep up -f skep.yaml
  skep init -                        print the file instead")]
pub struct Init {
    /// The file to create; `-` for standard output.
    #[arg(value_name = "FILE", default_value = "skep.yaml")]
    file: PathBuf,
}

pub(super) fn run(context: &Context, args: &Init) -> Result<(), CliError> {
    let path = &args.file;
    if path == Path::new("-") {
        write_exact(STARTER.as_bytes());
        return Ok(());
    }
    let shown = path.display();
    create_new(path, STARTER.as_bytes()).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            CliError::usage(format!("{shown} exists already, and is not overwritten"))
                .hint("skep init OTHER.yaml")
                .hint("skep init -  # prints the file instead")
        }
        _ => CliError::failed(format!("cannot create {shown}: {error}")),
    })?;
    if !context.is_quiet() {
        errln!("created {shown}; edit it, then run:");
        errln!("  skep up -f {}", shell_quoted(&path.to_string_lossy()));
    }
    Ok(())
}
