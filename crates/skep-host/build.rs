//! Builds the program that runs in guests, which `image::recipe` puts into every image.
//!
//! It is linked statically, as the guest's C library is not the host's, and by the compiler alone:
//! a crate of its own would have to be built with other options than the rest of the workspace.

use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "guest/identity.rs";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    let variable = |name| std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let program = PathBuf::from(variable("OUT_DIR")).join("identity");
    let status = Command::new(variable("RUSTC"))
        .args(["--edition=2024", "--crate-type=bin", "--crate-name=identity"])
        .args(["-Copt-level=s", "-Cpanic=abort", "-Cstrip=symbols", "-Cdebuginfo=0"])
        .arg("-Ctarget-feature=+crt-static")
        .arg(format!("--target={}", variable("TARGET")))
        .arg("-o")
        .arg(&program)
        .arg(SOURCE)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("rustc {SOURCE}: {status}; is libc.a there (Fedora: glibc-static)?"),
        Err(error) => panic!("rustc cannot be run: {error}"),
    }
}
