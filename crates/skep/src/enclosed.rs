//! skep as the processes that a network of a user's own needs; see [`skep_host::enclosure`].

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use skep_host::enclosure::{ENCLOSED, FORWARD, forward, serve_enclosed};

use crate::error::code;

/// Plays the part that the command line names, if it names one.
#[must_use]
pub fn run(line: &[String]) -> Option<ExitCode> {
    let words: Vec<&str> = line.iter().skip(1).map(String::as_str).collect();
    let (word, dir) = match words[..] {
        [ENCLOSED] => (ENCLOSED, None),
        [FORWARD, dir] => (FORWARD, Some(dir)),
        _ => return None,
    };
    skep_host::sys::search_in(std::env::var_os("PATH").unwrap_or_default());
    let played = skep_host::sys::close_inherited_on_exec().and_then(|()| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match dir {
            Some(dir) => runtime.block_on(forward(Path::new(dir), |text| eprintln!("{text}"))),
            None => runtime.block_on(serve_enclosed(std::io::stdin().as_fd())),
        }
    });
    Some(match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("skep {word}: {error}");
            ExitCode::from(code::HOST)
        }
    })
}
