//! What guests' saved states depend on of this host.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use skep_sys::{hex, value_of};

/// Parameters of the module `kvm` that change what a guest sees of its processor. Of the processor's own modules
/// all count: they say which of its abilities KVM uses.
const PARAMETERS: [&str; 4] = ["enable_pmu", "enable_vmware_backdoor", "ignore_msrs", "tdp_mmu"];

/// Returns what guests under KVM see of the host's processor: its model and features (proc(5)).
pub fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = |key| value_of(&text, key).unwrap_or_default();
    format!("{}, features {}", line("model name"), short_digest(line("flags")))
}

/// Returns what else a state that was saved under KVM depends on: which registers and features KVM offers follows
/// from the kernel, the parameters of its KVM, and the processor's microcode. QEMU ends when it cannot set a
/// register that a state has.
pub fn kvm() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    kvm_of(
        &release,
        value_of(&text, "microcode").unwrap_or("unknown"),
        &parameters(Path::new("/sys/module")),
    )
}

fn kvm_of(release: &str, microcode: &str, parameters: &BTreeMap<String, String>) -> String {
    let lines: String =
        parameters.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    format!("Linux {release}, microcode {microcode}, KVM {}", short_digest(&lines))
}

/// Returns the parameters of KVM's modules that matter, by their names. One that cannot be read counts as empty.
fn parameters(modules: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for module in ["kvm", "kvm_intel", "kvm_amd"] {
        let files = std::fs::read_dir(modules.join(module).join("parameters"));
        for file in files.into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if module != "kvm" || PARAMETERS.contains(&name.as_str()) {
                let value = std::fs::read_to_string(file.path()).unwrap_or_default();
                found.insert(format!("{module}.{name}"), value.trim().to_owned());
            }
        }
    }
    found
}

/// Tells whether the host's kernel trusts the processor's cycle counter: it no longer offers it as a clock
/// once it was found to be unsteady (`kernel/time/clocksource.c`).
pub fn steady_counter() -> bool {
    let offered = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
    let offered = std::fs::read_to_string(offered).unwrap_or_default();
    offered.split_whitespace().any(|clock| clock == "tsc")
}

fn short_digest(text: &str) -> String {
    hex(&Sha256::digest(text)[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_microcode_and_parameters_each_make_another_host() {
        let modules = tempfile::tempdir().unwrap();
        let set = |name: &str, value: &str| {
            let (module, parameter) = name.split_once('.').unwrap();
            let dir = modules.path().join(module).join("parameters");
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join(parameter), format!("{value}\n")).unwrap();
        };
        let host = |release, microcode| kvm_of(release, microcode, &parameters(modules.path()));
        set("kvm.ignore_msrs", "N");
        set("kvm.halt_poll_ns", "200000");
        set("kvm_intel.nested", "Y");
        let before = host("6.12.1", "0x2b");
        assert_eq!(host("6.12.1", "0x2b"), before);
        assert_ne!(host("6.12.2", "0x2b"), before);
        assert_ne!(host("6.12.1", "0x2c"), before);
        // How long KVM polls is nothing that a guest sees.
        set("kvm.halt_poll_ns", "0");
        assert_eq!(host("6.12.1", "0x2b"), before);
        for name in ["kvm.ignore_msrs", "kvm_intel.nested", "kvm_amd.nested"] {
            set(name, "1");
            let changed = host("6.12.1", "0x2b");
            assert_ne!(changed, before, "{name}");
            let module = modules.path().join(name.split('.').next().unwrap());
            std::fs::remove_dir_all(module).unwrap();
            set("kvm.ignore_msrs", "N");
            set("kvm_intel.nested", "Y");
        }
        assert_eq!(host("6.12.1", "0x2b"), before);
    }
}
