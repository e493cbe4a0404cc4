//! skep as a process of its own, which forwards to nodes or acts in a namespace; see [`skep_net::forwarder`] and
//! [`skep_net::userns`].

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use skep_net::forwarder::{FORWARD_PORTS, forward};
use skep_net::userns::{FORWARD, SERVE_USERNS, UsernsNetwork, serve_userns};
use skep_print::errln;
use skep_sys::{Dialer, HostDialer};

use crate::error::code;

/// Plays the part that the command line names, if it names one.
#[must_use]
pub fn run(line: &[String]) -> Option<ExitCode> {
    let words: Vec<&str> = line.iter().skip(1).map(String::as_str).collect();
    let (word, forwards) = match words[..] {
        [SERVE_USERNS] => (SERVE_USERNS, None),
        [FORWARD, dir] => {
            let program = std::env::current_exe().unwrap_or_else(|_| "skep".into());
            let dialer: Dialer = Arc::new(UsernsNetwork::of_dir(Path::new(dir), program));
            (FORWARD, Some((dir, dialer)))
        }
        [FORWARD_PORTS, dir] => (FORWARD_PORTS, Some((dir, Arc::new(HostDialer) as Dialer))),
        _ => return None,
    };
    skep_sys::search_in(std::env::var_os("PATH").unwrap_or_default());
    let played = skep_sys::close_inherited_on_exec().and_then(|()| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match forwards {
            Some((dir, dialer)) => {
                runtime.block_on(forward(Path::new(dir), dialer, |text| errln!("{text}")))
            }
            None => runtime.block_on(serve_userns(std::io::stdin().as_fd())),
        }
    });
    Some(match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errln!("skep {word}: {error}");
            ExitCode::from(code::HOST)
        }
    })
}
