//! Whether this host can run virtual machines, asked by every test that needs them, and hosts of a test's own.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// The programs without which no machine starts.
const PROGRAMS: [&str; 3] = ["qemu-system-x86_64", "qemu-img", "ip"];

/// Tells whether machines can be run here, and says so if not: the test then returns at once.
///
/// # Panics
///
/// If they cannot and `SKEP_REQUIRE_VM=1` says that they must, as `scripts/test` does.
#[must_use]
pub fn can_run_machines() -> bool {
    let Some(missing) = missing() else { return true };
    let required = std::env::var("SKEP_REQUIRE_VM").is_ok_and(|value| value == "1");
    assert!(!required, "no machine can be run here: {missing}");
    // Not eprintln!(), whose output of a test that passes is never seen.
    let _ = writeln!(std::io::stderr(), "SKIPPED: no machine can be run here: {missing}");
    false
}

/// Tells whether this process may do everything.
#[must_use]
pub fn is_root() -> bool {
    // A process's directory belongs to its effective user (proc_pid(5)).
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Returns the command that runs a test of this program again in namespaces of its own, with a variable
/// that tells it so. Its network, mounts and processes end with it.
///
/// # Panics
///
/// If this program does not know its file.
#[must_use]
pub fn in_namespaces(test: &str, (variable, part): (&str, &str)) -> Command {
    let mut inside = Command::new("unshare");
    inside.args(["--net", "--mount", "--propagation", "private"]);
    inside.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    inside.arg(std::env::current_exe().expect("a test knows its file"));
    inside.args(["--exact", test, "--nocapture"]).env(variable, part);
    let path = std::env::var("PATH").unwrap_or_default();
    inside.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    inside
}

fn missing() -> Option<String> {
    if std::env::var_os("SKEP_NO_VM").is_some() {
        return Some("SKEP_NO_VM is set".to_owned());
    }
    if !is_root() {
        return Some("bridges and taps need root".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |program: &&str| {
        std::env::split_paths(&path)
            .chain([Path::new("/usr/sbin").into()])
            .any(|dir| dir.join(program).is_file())
    };
    let program = PROGRAMS.iter().find(|program| !is_there(program))?;
    Some(format!("{program} is not installed; run scripts/install-deps.sh"))
}
