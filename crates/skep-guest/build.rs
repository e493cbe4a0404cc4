//! Builds the programs that run in guests, which skep-driver puts into every image, and the one of the probe
//! service on hosts.
//!
//! They are linked statically, as the guest's C library is not the host's, and by the compiler alone:
//! a crate of their own would have to be built with other options than the rest of the workspace.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=guest");
    for program in ["identity", "clock", "ask", "sealed", "runtime", "probe"] {
        build(program);
    }
}

fn build(program: &str) {
    let variable = |name| std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let source = format!("guest/{program}.rs");
    let status = Command::new(variable("RUSTC"))
        .args(["--edition=2024", "--crate-type=bin"])
        .arg(format!("--crate-name={program}"))
        .args(["-Copt-level=s", "-Cpanic=abort", "-Cstrip=symbols", "-Cdebuginfo=0"])
        .arg("-Ctarget-feature=+crt-static")
        .arg(format!("--target={}", variable("TARGET")))
        .arg("-o")
        .arg(PathBuf::from(variable("OUT_DIR")).join(program))
        .arg(&source)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("rustc {source}: {status}; is libc.a there (Fedora: glibc-static)?"),
        Err(error) => panic!("rustc cannot be run: {error}"),
    }
}
