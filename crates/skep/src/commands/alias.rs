//! `skep install-alias`: the name by which skep is docker-machine.

use std::path::PathBuf;

use clap::Args;
use skep_machine::NAME;
use skep_print::outln;
use skep_sys::ensure_link;

use crate::error::{CliError, Context as _};

/// `skep install-alias`.
#[derive(Debug, Args)]
pub struct InstallAlias {
    /// Directory of the link [default: the directory of skep].
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &InstallAlias) -> Result<(), CliError> {
    let own = std::env::current_exe().context("cannot find the path of skep")?;
    let beside = || own.parent().map(PathBuf::from).unwrap_or_default();
    let link = args.dir.clone().unwrap_or_else(beside).join(NAME);
    ensure_link(&link, &own).context("cannot create the link")?;
    outln!("{}", link.display());
    Ok(())
}
