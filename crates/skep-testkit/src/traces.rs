//! What is on this host that a cluster could have left: compared before and after a test.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Everything on the host that skep may change, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces(BTreeMap<&'static str, String>);

impl Traces {
    /// Looks at the host.
    #[must_use]
    pub fn look() -> Self {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self(BTreeMap::from([
            ("processes of machines", machines()),
            ("interfaces", interfaces()),
            ("processes of skep", left_processes()),
            ("routes", output("ip", &["route"])),
            ("routing rules", output("ip", &["rule"])),
            ("nftables", output("nft", &["list", "ruleset"])),
            ("iptables", without_counters(&output("iptables-save", &[]))),
            ("/etc/hosts", file("/etc/hosts")),
            ("forwarding", switches()),
            ("mounts", file("/proc/mounts")),
        ]))
    }

    /// Fails with what differs if the host is not as it was at `self`.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub fn assert_unchanged(&self) {
        let now = Self::look();
        let mut text = String::new();
        for (what, before) in &self.0 {
            let after = &now.0[what];
            if before != after {
                let _ = writeln!(text, "{what} before:\n{before}\n{what} after:\n{after}");
            }
        }
        assert!(text.is_empty(), "the host is not as it was\n{text}");
    }
}

/// Returns the command lines of all emulators, whatever their distribution calls them, also of a guest that is only tried
/// under KVM.
fn machines() -> String {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        if is_machine(&words) {
            lines.push(words.join(" "));
        }
    }
    lines.sort();
    lines.join("\n")
}

/// Tells whether this is an emulator's command line. A program that is run as another one's argument counts by the words
/// for the guest's kernel.
fn is_machine(words: &[Cow<'_, str>]) -> bool {
    let program = Path::new(words[0].as_ref()).file_name().unwrap_or_default().to_string_lossy();
    let is_tried = || words.iter().any(|it| it.split(' ').any(|word| word == "skep.probe"));
    program.starts_with("qemu-system") || program.starts_with("qemu-kvm") || is_tried()
}

/// Returns the command lines of what skep started and nobody ended: its own processes in the background, and any
/// process that is stopped, as one is between its start and being taken over.
fn left_processes() -> String {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        let program = Path::new(words[0].as_ref()).file_name().unwrap_or_default();
        let in_background =
            program == "skep" && words.get(1).is_some_and(|it| it.starts_with("--"));
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let is_stopped = status.lines().any(|it| it.starts_with("State:") && it.contains("stop"));
        if in_background || is_stopped {
            lines.push(words.join(" "));
        }
    }
    lines.sort();
    lines.join("\n")
}

/// Returns the switches for forwarding, and for the loopback's addresses, of all interfaces.
fn switches() -> String {
    let mut lines = vec![];
    for entry in std::fs::read_dir("/proc/sys/net/ipv4/conf").into_iter().flatten().flatten() {
        for name in ["forwarding", "route_localnet"] {
            let value = std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            lines.push(format!("{}.{name} {}", entry.file_name().display(), value.trim()));
        }
    }
    lines.sort();
    lines.join("\n")
}

fn interfaces() -> String {
    let names = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut names: Vec<_> =
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.join("\n")
}

/// Returns what a program prints; nothing if it is not there.
fn output(program: &str, args: &[&str]) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command.args(args).env("PATH", format!("{path}:/usr/sbin:/sbin"));
    let Ok(output) = command.output() else { return String::new() };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {said}", args.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Takes the comments, with their times, and the numbers of packets out.
fn without_counters(rules: &str) -> String {
    let lines = rules.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(" [").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulator_is_found_by_its_name_or_by_its_guest() {
        let is_machine = |line: &str| {
            let words: Vec<_> = line.split('|').map(Cow::from).collect();
            super::is_machine(&words)
        };
        assert!(is_machine("/usr/bin/qemu-system-x86_64|-nodefaults"));
        assert!(is_machine("/usr/libexec/qemu-kvm|-nodefaults"));
        assert!(is_machine("/bin/sh|/tmp/qemu|-append|console=ttyS0 quiet skep.probe|-kernel|/k"));
        assert!(!is_machine("qemu-img|create"));
        assert!(!is_machine("vi|skep.probe.txt"));
        assert!(!is_machine(""));
    }
}
