//! `skep init`.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use skep_host::sys::shell_quoted;

use crate::context::Context;
use crate::errln;
use crate::error::CliError;
use crate::file::STARTER;
use crate::render::write_exact;

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
    create(path).map_err(|error| match error.kind() {
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

/// Creates the file, all of it or nothing. Not even a link to nowhere is written through.
fn create(path: &Path) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let written = file.write_all(STARTER.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}
