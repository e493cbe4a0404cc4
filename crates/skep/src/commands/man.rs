//! `skep man`.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use skep_print::{outln, write_exact};
use skep_sys::shell_quoted;

use crate::cli::Cli;
use crate::error::{CliError, Context as _};

/// `skep man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep man | man -l -
  skep man ~/.local/share/man/man1  then: man skep-up")]
pub struct Man {
    /// Write the pages of all commands into this existing directory [default: print the page of skep].
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &Man) -> Result<(), CliError> {
    let command = Cli::command();
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).context("cannot make the page")?;
        write_exact(&page);
        return Ok(());
    };
    let written = clap_mangen::generate_to(command, dir);
    written.context(format!("cannot write to {}", dir.display())).map_err(|error| {
        match dir.exists() {
            true => error,
            false => error.hint(format!("mkdir -p {}", shell_quoted(&dir.to_string_lossy()))),
        }
    })?;
    outln!("{}", dir.display());
    Ok(())
}
