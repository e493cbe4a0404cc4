//! What executes the guests' code: KVM where a guest is seen to run under it, else TCG.
//!
//! That /dev/kvm opens proves nothing: there are hosts where it does, a machine is made, and a
//! kernel hangs. So the image's own kernel is booted once under KVM up to a line that its initial
//! RAM disk prints. That it did is kept for this boot of the host, this QEMU and this image. A failure
//! may be a moment's: one that comes at once is tried again by the next skep, and a hang, which costs
//! each attempt its whole time, after an hour.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use skep_sys::{Cmd, CmdError, boot_id, read_own, tail, write_atomic};
use tokio::sync::Notify;

use super::args::confinement;
use super::{QemuVersion, program, user_of};

/// What the initial RAM disk prints when it is started with `skep.probe`.
const MARKER: &str = "SKEP-PROBE-OK";

/// How long the probe may take: a guest under KVM needs less than 2 s to get there.
const LIMIT: Duration = Duration::from_secs(12);

/// How long a guest takes to get there where nothing is in its way. One that needs a multiple of that, on nested
/// virtualization or a slow disk, will do so with everything else.
const USUAL: Duration = Duration::from_secs(2);

/// By what factor limits stretch at most under KVM.
const SLOWEST: u32 = 4;

/// How long it is believed that guests hang under KVM, in seconds.
const HANG_KEPT_S: u64 = 3600;

/// What a program is started by whose lines are to be seen as they come.
const TO_STANDARD_ERROR: &str = r#"exec "$@" >&2"#;

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
    /// When it was found, in seconds since the host booted; in the notes of older versions it is not.
    #[serde(default)]
    at_s: u64,
    /// How long the guest took that ran, in milliseconds; in the notes of older versions it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    took_ms: Option<u64>,
}

impl Verdict {
    /// Tells whether it still holds at that second since the host booted.
    fn holds(&self, now_s: u64) -> bool {
        let age = now_s.checked_sub(self.at_s);
        self.accelerator == Accelerator::Kvm || age.is_some_and(|age| age < HANG_KEPT_S)
    }
}

/// An accelerator and why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What is used.
    pub accelerator: Accelerator,
    /// Why, for the user; empty for KVM.
    pub reason: String,
    /// By what factor limits stretch on this host: how many times slower than usual the guest ran that was tried.
    pub slowness: u32,
}

impl Found {
    fn emulation(reason: String) -> Self {
        Self { accelerator: Accelerator::Tcg, reason, slowness: 1 }
    }
}

/// Returns how many times slower than usual a guest was that took so long, from 1 to [`SLOWEST`].
fn slowness(took: Duration) -> u32 {
    let times = (took.as_secs_f64() / USUAL.as_secs_f64()).ceil();
    (1..SLOWEST).find(|factor| times <= f64::from(*factor)).unwrap_or(SLOWEST)
}

/// What became of a guest that was tried under KVM.
#[derive(Debug, PartialEq, Eq)]
enum Tried {
    /// It ran, after so long.
    Runs(Duration),
    /// It did not, and said so, for this reason.
    Failed(String),
    /// It neither ran nor ended.
    Hung,
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
) -> Found {
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Found::emulation(no_device(&error));
    }
    let probe = async || {
        on_probe();
        probe(program::program(), LIMIT, version, kernel, initrd).await
    };
    let now_s = rustix::system::sysinfo().uptime.cast_unsigned();
    let subject = (boot_id().unwrap_or_default(), version.to_string(), kernel);
    look(&cache_dir.join("accelerator.json"), now_s, subject, probe).await
}

/// Returns what is noted in a file, if that still holds, or else what is found now.
async fn look(
    file: &Path,
    now_s: u64,
    (boot, qemu, kernel): (String, String, &Path),
    probe: impl AsyncFnOnce() -> Tried,
) -> Found {
    let kernel = kernel.to_string_lossy().into_owned();
    let kept = read_own(file).ok();
    let kept = kept.and_then(|text| serde_json::from_slice::<Verdict>(&text).ok());
    if let Some(kept) = kept.filter(|kept| {
        let same = kept.boot == boot && kept.qemu == qemu && kept.kernel == kernel;
        same && !boot.is_empty() && kept.holds(now_s)
    }) {
        let slowness = slowness(Duration::from_millis(kept.took_ms.unwrap_or(0)));
        return Found { accelerator: kept.accelerator, reason: kept.reason, slowness };
    }
    let (found, took, keeps) = match probe().await {
        Tried::Runs(took) => {
            let (accelerator, reason) = (Accelerator::Kvm, String::new());
            (Found { accelerator, reason, slowness: slowness(took) }, Some(took), true)
        }
        Tried::Failed(reason) => (Found::emulation(reason), None, false),
        Tried::Hung => {
            let hung = format!("a guest that was tried under KVM hung for {} s", LIMIT.as_secs());
            let again = HANG_KEPT_S / 60;
            let reason = format!("{hung}; it is tried again {again} minutes after that");
            (Found::emulation(reason), None, true)
        }
    };
    if keeps {
        let (accelerator, reason) = (found.accelerator, found.reason.clone());
        let took_ms = took.and_then(|took| u64::try_from(took.as_millis()).ok());
        let verdict = Verdict { boot, qemu, kernel, accelerator, reason, at_s: now_s, took_ms };
        let text = serde_json::to_vec(&verdict).expect("a verdict has only text keys");
        let _ = write_atomic(file, 0o600, &text);
    }
    found
}

/// Says why /dev/kvm does not open, and what helps.
fn no_device(error: &io::Error) -> String {
    let helps = match error.kind() {
        io::ErrorKind::NotFound => {
            "; is virtualization on in the firmware, and the module loaded (modprobe kvm_intel or kvm_amd)?"
        }
        io::ErrorKind::PermissionDenied => {
            "; members of the group kvm may open it (sudo skep setup)"
        }
        _ => "",
    };
    format!("/dev/kvm: {error}{helps}")
}

/// Says why QEMU ended, by its own last words, and what helps.
fn explained(tail: &str) -> String {
    // It stands within a line; QEMU may say more than one.
    let said: Vec<_> = tail.lines().map(str::trim).collect();
    let said = match said.is_empty() {
        true => "a guest that was tried under KVM ended without a word".to_owned(),
        false => format!("a guest that was tried under KVM failed: {}", said.join("; ")),
    };
    let helps = match tail.to_lowercase() {
        it if it.contains("resource busy") => {
            "; another hypervisor, such as VirtualBox, holds the processor's virtualization while its machines run"
        }
        it if it.contains("permission denied") => {
            "; members of the group kvm may use it (sudo skep setup)"
        }
        it if it.contains("operation not permitted") => {
            "; `skep doctor` tells whether AppArmor takes rights away"
        }
        _ => "",
    };
    said + helps
}

/// Boots the kernel under KVM until its initial RAM disk says so. The guest is ended then: whether it could power itself
/// off is not the question.
async fn probe(
    program: impl AsRef<OsStr>,
    limit: Duration,
    version: QemuVersion,
    kernel: &Path,
    initrd: &Path,
) -> Tried {
    let command = Cmd::new("sh")
        .args(["-c", TO_STANDARD_ERROR, "sh"])
        .arg(program)
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256M"])
        .args(["-serial", "stdio", "-append", "console=ttyS0 quiet panic=-1 skep.probe"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .args(confinement(user_of([192, 0, 2, 1].into()), version))
        // A skep that is killed takes the guest along: no record would lead the next one to it.
        .contained()
        .timeout(limit);
    let began = Instant::now();
    let (seen, marked) = (AtomicBool::new(false), Notify::new());
    let mut on_line = |line: &str| {
        if line.contains(MARKER) {
            seen.store(true, Ordering::Relaxed);
            marked.notify_one();
        }
    };
    let ended = tokio::select! {
        ended = command.run_lines(&mut on_line) => ended,
        () = marked.notified() => return Tried::Runs(began.elapsed()),
    };
    match ended {
        _ if seen.load(Ordering::Relaxed) => Tried::Runs(began.elapsed()),
        Ok(output) => Tried::Failed(explained(&tail(&output.stderr))),
        Err(CmdError::Failed { tail, .. }) => Tried::Failed(explained(&tail)),
        Err(CmdError::Timeout { .. }) => Tried::Hung,
        Err(error) => Tried::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    /// Makes a QEMU that is this script.
    fn fake_qemu(dir: &Path, script: &str) -> PathBuf {
        let program = dir.join("qemu");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    /// Tells whether a process is alive whose command line names this program.
    fn runs(program: &Path) -> bool {
        let name = program.as_os_str().as_encoded_bytes();
        let names_it = |line: Vec<u8>| line.split(|byte| *byte == 0).any(|word| word == name);
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let mut lines = processes.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
        lines.any(names_it)
    }

    /// Waits until a process runs, or does not.
    async fn wait_until_runs(program: &Path, wanted: bool) {
        for _ in 0..1000 {
            if runs(program) == wanted {
                return;
            }
            // wait: the start and the end of a process that is not our child can only be looked up
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{} {}", program.display(), if wanted { "never ran" } else { "still runs" });
    }

    /// Tries a guest in a QEMU that is this script.
    async fn try_under(script: &str) -> (Tried, Duration) {
        let dir = tempfile::tempdir().unwrap();
        let program = fake_qemu(dir.path(), script);
        let (file, began) = (Path::new("/none"), Instant::now());
        let limit = Duration::from_secs(5);
        let tried = probe(&program, limit, QemuVersion::new(10, 0), file, file).await;
        let took = began.elapsed();
        wait_until_runs(&program, false).await;
        (tried, took)
    }

    /// Is set in a process that tries a guest under KVM, to the QEMU that it uses.
    const PROBING: &str = "SKEP_TEST_PROBING";

    #[tokio::test]
    async fn the_probe_ends_with_a_skep_that_is_killed() {
        if let Some(program) = std::env::var_os(PROBING) {
            let (file, limit) = (Path::new("/none"), Duration::from_secs(600));
            probe(program, limit, QemuVersion::new(10, 0), file, file).await;
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let started = dir.path().join("started");
        let script = format!("touch {}; sleep 600", started.display());
        let program = fake_qemu(dir.path(), &script);
        let name = "qemu::accel::tests::the_probe_ends_with_a_skep_that_is_killed";
        let mut skep = std::process::Command::new(std::env::current_exe().unwrap());
        let mut skep = skep.args(["--exact", name]).env(PROBING, &program).spawn().unwrap();
        wait_until_runs(&program, true).await;
        while !started.exists() {
            // wait: for QEMU itself, as what starts it ends with skep in any case
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        skep.kill().unwrap();
        skep.wait().unwrap();
        wait_until_runs(&program, false).await;
    }

    #[tokio::test]
    async fn the_marker_counts_though_the_guest_hangs_after_it() {
        let (tried, took) = try_under(r"printf 'SeaBIOS\r\nSKEP-PROBE-OK\r\n'; sleep 60").await;
        assert!(matches!(tried, Tried::Runs(_)), "{tried:?}");
        assert!(took < Duration::from_secs(4), "{took:?}");
        // It also counts if QEMU ends with an error after it.
        for script in ["echo SKEP-PROBE-OK; exit 1", "echo SKEP-PROBE-OK"] {
            assert!(matches!(try_under(script).await.0, Tried::Runs(_)), "{script}");
        }
    }

    #[tokio::test]
    async fn a_guest_that_hangs_is_told_from_one_that_ends() {
        assert_eq!(try_under("echo SeaBIOS; sleep 60").await.0, Tried::Hung);
        let busy =
            "echo 'qemu: ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy' >&2; exit 1";
        let Tried::Failed(reason) = try_under(busy).await.0 else { panic!("it failed") };
        assert!(reason.contains("KVM_CREATE_VM") && reason.contains("VirtualBox"), "{reason}");
        let refused = "echo 'qemu: setgid: Operation not permitted' >&2; exit 1";
        let Tried::Failed(reason) = try_under(refused).await.0 else { panic!("it failed") };
        assert!(reason.contains("setgid") && reason.contains("skep doctor"), "{reason}");
        let Tried::Failed(reason) = try_under("exit 0").await.0 else { panic!("it failed") };
        assert_eq!(reason, "a guest that was tried under KVM ended without a word");
    }

    #[test]
    fn a_device_that_does_not_open_is_told_with_what_helps() {
        let said = |kind: io::ErrorKind| no_device(&kind.into());
        assert!(said(io::ErrorKind::PermissionDenied).contains("group kvm"));
        assert!(said(io::ErrorKind::NotFound).contains("firmware"));
    }

    #[tokio::test]
    async fn success_is_kept_for_the_boot_and_a_failure_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("accelerator.json");
        let asked = std::cell::Cell::new(0);
        let ask = async |boot: &str, now_s, tried: fn() -> Tried| {
            let subject = (boot.to_owned(), "10.0".to_owned(), Path::new("/kernel"));
            let count = asked.get();
            let found = look(&file, now_s, subject, async || {
                asked.set(count + 1);
                tried()
            });
            (found.await, asked.get() > count)
        };
        let busy: fn() -> Tried = || Tried::Failed("busy".to_owned());
        let (found, _) = ask("a", 100, busy).await;
        assert_eq!((found.accelerator, &*found.reason), (Accelerator::Tcg, "busy"));
        // A moment later it is not busy any more. That a guest ran holds until the host boots.
        for (boot, now_s, probes) in [("a", 101, true), ("a", 1_000_000, false), ("b", 5, true)] {
            let (found, probed) =
                ask(boot, now_s, || Tried::Runs(Duration::from_millis(5900))).await;
            assert_eq!((found.accelerator, probed), (Accelerator::Kvm, probes), "{boot} {now_s}");
            assert_eq!(found.slowness, 3, "{boot} {now_s}: the time of the probe is kept with it");
        }
        // A hang is kept for an hour.
        for (now_s, probes) in [(5, true), (3604, false), (3605, true)] {
            let (found, probed) = ask("c", now_s, || Tried::Hung).await;
            assert_eq!((found.accelerator, probed), (Accelerator::Tcg, probes), "{now_s}");
            assert!(found.reason.contains("hung for 12 s"), "{}", found.reason);
        }
    }

    #[test]
    fn a_slow_probe_stretches_limits_up_to_four_times() {
        for (ms, factor) in [(0, 1), (2000, 1), (2001, 2), (6000, 3), (8001, 4), (11_900, 4)] {
            assert_eq!(slowness(Duration::from_millis(ms)), factor, "{ms} ms");
        }
    }

    #[test]
    fn an_older_versions_failure_is_not_believed() {
        let old = r#"{"boot":"a","qemu":"10.0","kernel":"/k","accelerator":"tcg","reason":"busy"}"#;
        let old: Verdict = serde_json::from_str(old).unwrap();
        assert!(!old.holds(3601));
    }
}
