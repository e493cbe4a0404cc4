//! skep called by the name under which it acts as root for ordinary users; see [`skep_host::broker`].

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use skep_host::broker::{NAME, PATH, serve};
use skep_host::net::claims::STATE;

use crate::error::code;

/// Tells whether a program that is called so acts as root.
#[must_use]
pub fn is_called(argv0: &str) -> bool {
    Path::new(argv0).file_name().is_some_and(|name| name == NAME)
}

/// Does what one user asks on the standard input, if that may be.
#[must_use]
pub fn run(args: &[String]) -> ExitCode {
    match try_run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{NAME}: {reason}");
            ExitCode::from(code::HOST)
        }
    }
}

fn try_run(args: &[String]) -> Result<(), String> {
    if !args.is_empty() {
        return Err("it takes no arguments; skep runs it".to_owned());
    }
    if !skep_host::firewall::is_root() {
        return Err("it has to be run through sudo; try: sudo skep setup".to_owned());
    }
    let user = std::env::var("SUDO_UID").ok().and_then(|number| number.parse().ok());
    let user: u32 = user.ok_or("it has to be run through sudo, which tells for whom")?;
    // With another path than the one that sudo was told to give, programs would be a user's choice.
    if std::env::var("PATH").as_deref() != Ok(PATH) {
        return Err("sudo gives it another path; try: sudo skep setup".to_owned());
    }
    skep_host::sys::close_inherited_on_exec().map_err(|error| format!("/proc: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let input = std::io::stdin();
    let version = env!("CARGO_PKG_VERSION");
    let served = runtime.block_on(serve(input.as_fd(), user, Path::new(STATE), version));
    runtime.shutdown_background();
    served.map_err(|error| format!("the request on its standard input: {error}"))
}
