//! Starts a program beside which a sealed copy of another one is in memory; runs in an emulated guest, before containerd.
//!
//! runc copies itself into memory whenever it makes a container, so that none can overwrite it (CVE-2019-5736), unless it was
//! started from such a copy: one of which the kernel bars every change (F_GET_SEALS of fcntl(2)). Ten megabytes are
//! copied each time; and an emulator translates them again each time, as they are in another place.
//!
//! ```text
//! sealed FILE LINK PROGRAM ARGUMENT...
//! ```
//!
//! PROGRAM holds the copy of FILE open, and LINK leads to it for as long as PROGRAM runs.

mod kernel;

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, id};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let (Some(file), Some(link), Some(program)) = (words.next(), words.next(), words.next()) else {
        println!("usage: sealed FILE LINK PROGRAM ARGUMENT...");
        return ExitCode::FAILURE;
    };
    // Without a copy, the program is found where it always was.
    if let Err(error) = lead(Path::new(&file), Path::new(&link)) {
        println!("sealed: {}: {error}", file.display());
    }
    let error = Command::new(&program).args(words).exec();
    println!("sealed: {}: {error}", program.display());
    ExitCode::FAILURE
}

/// Makes the copy and the link to it.
fn lead(file: &Path, link: &Path) -> io::Result<()> {
    let copy = kernel::sealed_copy(&fs::read(file)?)?;
    let new = link.with_extension("new");
    let _ = fs::remove_file(&new);
    symlink(format!("/proc/{}/fd/{}", id(), copy.as_raw_fd()), &new)?;
    fs::rename(new, link)?;
    // It is left open for the program, which takes this process over.
    let _ = copy.into_raw_fd();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_runs_and_cannot_be_changed() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("true");
        for _ in 0..2 {
            lead(Path::new("/bin/true"), &link).unwrap();
            assert!(Command::new(&link).status().unwrap().success());
        }
        let mut copy = fs::OpenOptions::new().write(true).open(&link).unwrap();
        let error = io::Write::write(&mut copy, b"#!/bin/false").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        drop(copy);
        assert!(Command::new(&link).status().unwrap().success());
    }
}
