//! What executes the guests' code: KVM where a guest is seen to run under it, else TCG.
//!
//! That /dev/kvm opens proves nothing: there are hosts where it does, a machine is made, and a
//! kernel hangs. So the image's own kernel is booted once under KVM up to a line that its initial
//! RAM disk prints, and the answer is kept for this boot of the host, this QEMU and this image.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::args::confinement;
use super::{QEMU, QemuVersion, user_of};
use crate::sys::{Cmd, boot_id, read_own, write_atomic};

/// What the initial RAM disk prints when it is started with `skep.probe`.
const MARKER: &[u8] = b"SKEP-PROBE-OK";

/// How long the probe may take: a guest under KVM needs less than 2 s to get there.
const LIMIT: Duration = Duration::from_secs(12);

/// What executes a guest's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor itself, through the kernel's KVM.
    Kvm,
    /// QEMU's software emulation.
    Tcg,
}

impl Accelerator {
    /// Returns the word that QEMU uses for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// The kept answer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Verdict {
    boot: String,
    qemu: String,
    kernel: String,
    accelerator: Accelerator,
    reason: String,
}

/// An accelerator and why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What is used.
    pub accelerator: Accelerator,
    /// Why, for the user; empty for KVM.
    pub reason: String,
}

/// Chooses the accelerator, by booting the image's kernel if that was not done before.
///
/// The answer is kept in `cache_dir`. Trouble with keeping it is no trouble for the user.
pub async fn choose(
    cache_dir: &Path,
    version: QemuVersion,
    kernel: &Path,
    initrd: &Path,
    on_probe: impl FnOnce(),
) -> Choice {
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Choice { accelerator: Accelerator::Tcg, reason: format!("/dev/kvm: {error}") };
    }
    let file = cache_dir.join("accelerator.json");
    let boot = boot_id().unwrap_or_default();
    let (qemu, kernel_name) = (version.to_string(), kernel.to_string_lossy().into_owned());
    let kept = read_own(&file).ok();
    let kept = kept.and_then(|text| serde_json::from_slice::<Verdict>(&text).ok());
    if let Some(kept) = kept.filter(|kept| {
        kept.boot == boot && kept.qemu == qemu && kept.kernel == kernel_name && !boot.is_empty()
    }) {
        return Choice { accelerator: kept.accelerator, reason: kept.reason };
    }
    on_probe();
    let choice = probe(version, kernel, initrd).await;
    let verdict = Verdict {
        boot,
        qemu,
        kernel: kernel_name,
        accelerator: choice.accelerator,
        reason: choice.reason.clone(),
    };
    let text = serde_json::to_vec(&verdict).expect("a verdict has only text keys");
    let _ = write_atomic(&file, 0o600, &text);
    choice
}

/// Returns what guests under KVM see of the host's processor: its model and features (proc(5)).
pub fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = |key| crate::sys::value_of(&text, key).unwrap_or_default();
    let features = line("flags");
    let digest = crate::sys::hex(&<sha2::Sha256 as sha2::Digest>::digest(features)[..8]);
    format!("{}, features {digest}", line("model name"))
}

/// Tells whether the host's kernel trusts the processor's cycle counter: it no longer offers it as a clock
/// once it was found to be unsteady (`kernel/time/clocksource.c`).
pub fn steady_counter() -> bool {
    let offered = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
    let offered = std::fs::read_to_string(offered).unwrap_or_default();
    offered.split_whitespace().any(|clock| clock == "tsc")
}

async fn probe(version: QemuVersion, kernel: &Path, initrd: &Path) -> Choice {
    let booted = Cmd::new(QEMU)
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256M"])
        .args(["-serial", "stdio", "-append", "console=ttyS0 quiet panic=-1 skep.probe"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .args(confinement(user_of([192, 0, 2, 1].into()), version))
        .timeout(LIMIT)
        .run()
        .await;
    let seen = booted
        .as_ref()
        .is_ok_and(|output| output.stdout.windows(MARKER.len()).any(|window| window == MARKER));
    if seen {
        return Choice { accelerator: Accelerator::Kvm, reason: String::new() };
    }
    let reason = match booted {
        Ok(_) => "a guest that was tried under KVM ended without a word".to_owned(),
        Err(crate::sys::CmdError::Timeout { .. }) => {
            format!("a guest that was tried under KVM hung for {} s", LIMIT.as_secs())
        }
        Err(crate::sys::CmdError::Failed { tail, .. }) => {
            // It stands within a line; QEMU may say more than one.
            let said: Vec<_> = tail.lines().map(str::trim).collect();
            format!("a guest that was tried under KVM failed: {}", said.join("; "))
        }
        Err(error) => error.to_string(),
    };
    Choice { accelerator: Accelerator::Tcg, reason }
}
