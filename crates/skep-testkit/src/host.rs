//! Whether this host can run virtual machines, asked by every test that needs them, and hosts of a test's own.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use skep_net::network::claims::STATE;
pub use test_skip::skip;

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
    skip(&format!("no machine can be run here: {missing}"));
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

/// Returns the file of a program, which may be one for administrators.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Tells whether all these programs are installed, and says so if not: the test then returns at once.
///
/// # Panics
///
/// If one is not and `SKEP_REQUIRE_VM=1` says that all must be, as `scripts/test` does.
#[must_use]
pub fn are_installed(programs: &[&str]) -> bool {
    let Some(program) = programs.iter().find(|program| find(program).is_none()) else {
        return true;
    };
    skip(&format!("{program} is not installed; scripts/test installs it"));
    false
}

/// Returns the command that a line of words is; no word has a blank.
///
/// # Panics
///
/// If the line is empty.
#[must_use]
pub fn command(line: &str) -> Command {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().expect("a line has a word"));
    command.args(words).current_dir("/");
    command
}

/// Runs such a line.
///
/// # Panics
///
/// If it fails, with what it said.
pub fn run(line: &str) {
    let output = command(line).output().unwrap_or_else(|error| panic!("{line}: {error}"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Gives this mount namespace directories of its own in the place of those that requests to the privileged helper
/// change, and sets it up for ordinary users: subnets of 10.193.0.0/16, and names.
///
/// # Panics
///
/// If that fails.
pub fn set_up_for_users() {
    run("mount -t tmpfs none /var/lib");
    run("cp -a /etc /var/lib/etc");
    run("mount --bind /var/lib/etc /etc");
    run("ip link set lo up");
    std::fs::create_dir(STATE).expect("an empty file system");
    std::fs::set_permissions(STATE, PermissionsExt::from_mode(0o700)).expect("it is there");
    let grants = r#"{"subnets": ["10.193.0.0/16"], "hosts": true}"#;
    std::fs::write(Path::new(STATE).join("grants.json"), grants).expect("it is there");
}

/// Returns the names of all interfaces, sorted.
///
/// # Panics
///
/// If ip(8) fails.
#[must_use]
pub fn links() -> Vec<String> {
    let output = command("ip -o link show").output().expect("ip is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let name = |line: &str| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned());
    let mut names: Vec<_> = text.lines().filter_map(name).collect();
    names.sort();
    names
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
