//! skep called by the name under which it acts as root for ordinary users; see [`skep_net::privileged_helper`].
//!
//! ```text
//!   sudo ──▶ skep-net (waits) ──▶ skep-net --detached (a session of its own): the request, and its end
//! ```
//!
//! The first one belongs to the caller, who can suspend it, and holds nothing; the second one does not.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use skep_net::network::claims::STATE;
use skep_net::privileged_helper::{NAME, PATH, ignore_terminals, leave_caller, serve};
use skep_print::errln;
use skep_sys::run_with_our_input;

use crate::error::code;

/// The argument of the process that left its caller behind. sudo lets nobody give one.
const DETACHED: &str = "--detached";

/// Tells whether a program that is called so acts as root.
#[must_use]
pub fn is_called(argv0: &str) -> bool {
    Path::new(argv0).file_name().is_some_and(|name| name == NAME)
}

/// Does what one user asks on the standard input, if that may be.
#[must_use]
pub fn run(args: &[String]) -> ExitCode {
    match try_run(args) {
        Ok(code) => code,
        Err(reason) => {
            errln!("{NAME}: {reason}");
            ExitCode::from(code::HOST)
        }
    }
}

fn try_run(args: &[String]) -> Result<ExitCode, String> {
    let is_detached = args == [DETACHED];
    if !args.is_empty() && !is_detached {
        return Err("it takes no arguments; skep runs it".to_owned());
    }
    if !skep_sys::is_root() {
        return Err("it has to be run through sudo; try: sudo skep setup".to_owned());
    }
    let user = std::env::var("SUDO_UID").ok().and_then(|number| number.parse().ok());
    let user: u32 = user.ok_or("it has to be run through sudo, which tells for whom")?;
    // With another path than the one that sudo was told to give, programs would be a user's choice.
    if std::env::var("PATH").as_deref() != Ok(PATH) {
        return Err("sudo gives it another path; try: sudo skep setup".to_owned());
    }
    if is_detached { answer(user).map(|()| ExitCode::SUCCESS) } else { run_detached() }
}

/// Runs this program once more, as a process that the caller cannot stop, and hands on how it ends.
fn run_detached() -> Result<ExitCode, String> {
    let own = std::env::current_exe().map_err(|error| format!("/proc/self/exe: {error}"))?;
    // Who calls sudo with chrt(1) chooses how seldom it runs.
    let words = ["--other".as_ref(), "0".as_ref(), own.as_os_str(), DETACHED.as_ref()];
    let ran = run_with_our_input(Path::new("chrt"), words);
    let (status, said) = ran.map_err(|error| format!("chrt: {error}"))?;
    skep_print::err!("{}", skep_print::shown::shown_bytes(&said));
    Ok(match status.code() {
        Some(0) => ExitCode::SUCCESS,
        code => ExitCode::from(code.and_then(|it| u8::try_from(it).ok()).unwrap_or(code::HOST)),
    })
}

fn answer(user: u32) -> Result<(), String> {
    leave_caller(|| std::process::exit(code::TIMEOUT.into())).map_err(|error| error.to_string())?;
    skep_sys::close_inherited_on_exec().map_err(|error| format!("/proc: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let input = std::io::stdin();
    let version = env!("CARGO_PKG_VERSION");
    let served = runtime.block_on(async {
        ignore_terminals()?;
        serve(input.as_fd(), user, Path::new(STATE), version).await
    });
    runtime.shutdown_background();
    served.map_err(|error| format!("the request on its standard input: {error}"))
}
