//! What a host must have: a list of checks, each with the command that mends what it finds.

use std::path::Path;

use serde::Serialize;

use crate::driver::qemu::QemuVersion;
use crate::firewall;
use crate::sys::{Cmd, CmdError, free_space};

/// What nodes take on disk before anything runs in them, and the image beside them.
const ROOM_MIB: u64 = 1024;

/// One check and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// What was found.
    pub verdict: Verdict,
    /// What was found, in words.
    pub found: String,
    /// What mends it: a command to type; empty if nothing has to be mended.
    pub remedy: String,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is as it should be.
    Good,
    /// It works, and could be better.
    Poor,
    /// Nothing can be made before it is mended.
    Bad,
}

/// What is going to be done, as far as it says what is needed.
#[derive(Debug, Clone, Copy)]
pub struct Needs<'a> {
    /// Where state is kept.
    pub store: &'a Path,
    /// Where images are kept.
    pub cache: &'a Path,
    /// Whether an image has to be built.
    pub build: bool,
}

/// Checks the host.
pub async fn check(needs: Needs<'_>) -> Vec<Check> {
    let (qemu, programs, firewall) = tokio::join!(qemu(), programs(needs.build), obstacles());
    let mut checks = vec![root(), qemu];
    checks.extend(programs);
    checks.push(room("room for state", needs.store, ROOM_MIB));
    if needs.build {
        checks.push(room("room for the image", needs.cache, 3 * ROOM_MIB));
    }
    checks.push(kvm());
    checks.extend(firewall);
    checks
}

fn good(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, verdict: Verdict::Good, found: found.into(), remedy: String::new() }
}

fn bad(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check { name, verdict: Verdict::Bad, found: found.into(), remedy: remedy.into() }
}

fn root() -> Check {
    const NAME: &str = "rights";
    if rustix::process::geteuid().is_root() {
        return good(NAME, "root");
    }
    bad(NAME, "bridges and firewall rules need root", "sudo -E with the same command")
}

async fn qemu() -> Check {
    const NAME: &str = "QEMU";
    match QemuVersion::installed().await {
        Ok((version, _)) => good(NAME, format!("version {version}")),
        Err(error) => bad(NAME, crate::sys::chain(&error), install("qemu-system-x86")),
    }
}

/// The programs, what they are for, and the Debian packages that have them.
const PROGRAMS: &[(&str, &str)] = &[
    ("qemu-img", "qemu-utils"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("ssh-keygen", "openssh-client"),
];

/// The programs that only the building of an image needs.
const BUILD_PROGRAMS: &[(&str, &str)] = &[
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("xz", "xz-utils"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
];

async fn programs(build: bool) -> Vec<Check> {
    const NAME: &str = "programs";
    let wanted = PROGRAMS.iter().chain(if build { BUILD_PROGRAMS } else { &[] });
    let mut missing = Vec::new();
    let mut packages = Vec::new();
    for (program, package) in wanted {
        if let Err(CmdError::NotFound { .. }) = Cmd::new(program).arg("--version").status().await {
            missing.push(*program);
            if !packages.contains(package) {
                packages.push(*package);
            }
        }
    }
    if missing.is_empty() {
        return vec![good(NAME, "all there")];
    }
    vec![bad(NAME, format!("{} not installed", missing.join(", ")), install(&packages.join(" ")))]
}

fn install(packages: &str) -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    if release.lines().any(|line| line == "ID=debian" || line == "ID=ubuntu") {
        format!("apt-get install --no-install-recommends {packages}")
    } else {
        format!("install, by Debian's names: {packages}")
    }
}

fn room(name: &'static str, dir: &Path, needed_mib: u64) -> Check {
    // What is to be made there may not be there yet.
    let Some(present) = dir.ancestors().find(|dir| dir.exists()) else {
        return bad(name, format!("{} does not exist", dir.display()), "mkdir it");
    };
    match free_space(present).map(|bytes| bytes >> 20) {
        Ok(free) if free >= needed_mib => good(name, format!("{free} MiB free")),
        Ok(free) => {
            let found = format!("{} has {free} MiB free of {needed_mib}", present.display());
            bad(name, found, "skep cache prune, or SKEP_HOME and XDG_CACHE_HOME elsewhere")
        }
        Err(error) => bad(name, crate::sys::chain(&error), ""),
    }
}

fn kvm() -> Check {
    const NAME: &str = "KVM";
    match std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => good(NAME, "/dev/kvm opens; whether a guest runs under it is tried at `up`"),
        Err(error) => Check {
            name: NAME,
            verdict: Verdict::Poor,
            found: format!("/dev/kvm: {error}; guests run 5 to 20 times slower without it"),
            remedy: "modprobe kvm_intel or kvm_amd, or nested virtualization on in the hypervisor"
                .to_owned(),
        },
    }
}

async fn obstacles() -> Vec<Check> {
    const NAME: &str = "firewall";
    match firewall::look().await {
        Ok(rules) if rules.obstacles.is_empty() => vec![good(NAME, "forwards what skep needs")],
        Ok(rules) => {
            let chains = rules.obstacles.join(", ");
            vec![Check {
                name: NAME,
                verdict: Verdict::Poor,
                found: format!(
                    "drops what it forwards, in {chains}: nodes may reach nothing outside"
                ),
                remedy: format!("nft insert rule {} iifname \"skep-*\" accept", rules.obstacles[0]),
            }]
        }
        Err(error) => vec![bad(NAME, crate::sys::chain(&error), install("nftables"))],
    }
}
