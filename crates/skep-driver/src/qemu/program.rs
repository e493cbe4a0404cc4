//! The QEMU that is installed: its file, its version, and what it can do.
//!
//! Most distributions call it `qemu-system-x86_64`. Red Hat Enterprise Linux and what is made of it have `/usr/libexec/qemu-kvm`,
//! a build with fewer devices and without software emulation.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skep_sys::{Cmd, CmdError, find_program, search_path};

use super::Accelerator;
use crate::Error;

/// The oldest QEMU that is supported: Debian 12's.
pub const OLDEST: QemuVersion = QemuVersion::new(7, 2);

/// Where it is looked for, first to last.
const NAMES: [&str; 3] = ["qemu-system-x86_64", "/usr/libexec/qemu-kvm", "qemu-kvm"];

/// The devices that machines have (`args`), by the names that QEMU lists.
const DEVICES: [&str; 6] = [
    "virtio-blk-pci",
    "virtio-net-pci",
    "virtio-rng-pci",
    "virtio-serial-pci",
    "virtserialport",
    "vmgenid",
];

/// Returns the program: the first that is there, else the usual name, which is then called missing.
#[must_use]
pub fn program() -> PathBuf {
    let path = search_path();
    let found = NAMES.iter().find(|name| find_program(name, &path).is_some());
    PathBuf::from(found.unwrap_or(&NAMES[0]))
}

/// Returns where a command line names it.
pub(super) fn position(command: &str) -> Option<usize> {
    NAMES.iter().find_map(|name| command.find(name))
}

/// A version of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QemuVersion {
    major: u32,
    minor: u32,
}

impl QemuVersion {
    /// Creates a version.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Asks the installed QEMU for its version; also returns the line in which it says which build
    /// it is.
    ///
    /// # Errors
    ///
    /// If it is not installed, or older than what is supported.
    pub async fn installed() -> Result<(Self, String), Error> {
        let program = program();
        let text = Cmd::new(&program).arg("--version").run().await?.text();
        let said = Self::parse(&text);
        let version = said.ok_or_else(|| {
            Error::Unfit(format!("{} does not tell its version: {text}", program.display()))
        })?;
        if version < OLDEST {
            return Err(Error::OldQemu { found: version, oldest: OLDEST });
        }
        Ok((version, text.lines().next().unwrap_or_default().to_owned()))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_once("version ")?.1.split(|c: char| !c.is_ascii_digit());
        Some(Self::new(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Tells whether the installed QEMU has an accelerator.
///
/// # Errors
///
/// If it cannot be asked.
pub async fn has(accelerator: Accelerator) -> Result<bool, CmdError> {
    let said = Cmd::new(program()).args(["-accel", "help"]).run().await?.text();
    Ok(said.lines().any(|line| line.trim() == accelerator.as_str()))
}

/// Returns the devices of machines that the installed QEMU lacks.
///
/// # Errors
///
/// If it cannot be asked.
pub async fn missing_devices() -> Result<Vec<&'static str>, CmdError> {
    let said = Cmd::new(program()).args(["-device", "help"]).run().await?.text();
    Ok(missing_among(&said))
}

/// Returns which devices are not in a list as QEMU prints it: `name "DEVICE", bus BUS, …`.
fn missing_among(list: &str) -> Vec<&'static str> {
    let listed = |device: &str| {
        let start = format!("name \"{device}\"");
        list.lines().any(|line| line.trim_start().starts_with(&start))
    };
    DEVICES.into_iter().filter(|device| !listed(device)).collect()
}

/// Returns why no guest can be executed where KVM cannot be used and this QEMU has nothing else.
pub(super) fn only_kvm(reason: &str, program: &Path) -> Error {
    let program = program.display();
    Error::Unfit(format!("{program} has no software emulation, so it takes KVM, and {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        let cases = [
            ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright (c) …", (10, 0)),
            ("QEMU emulator version 7.2.19", (7, 2)),
            ("QEMU emulator version 8.2.0 (qemu-kvm-8.2.0-11.el9)\nCopyright", (8, 2)),
            ("QEMU emulator version 9.2.4 (qemu-9.2.4-1.fc42)", (9, 2)),
            ("QEMU emulator version 9.1.3 (openSUSE Leap 15.6)", (9, 1)),
            ("QEMU emulator version 6.2.0 (Debian 1:6.2+dfsg-2ubuntu6.26)", (6, 2)),
        ];
        for (text, (major, minor)) in cases {
            assert_eq!(QemuVersion::parse(text), Some(QemuVersion::new(major, minor)), "{text}");
        }
        assert_eq!(QemuVersion::parse("something else"), None);
        assert!(QemuVersion::new(10, 0) > QemuVersion::new(7, 2));
    }

    #[test]
    fn a_device_that_is_not_listed_is_missing() {
        let list = "Controller/Bridge/Hub devices:\nname \"pci-bridge\", bus PCI\n\nStorage devices:\n\
                    name \"virtio-blk-pci\", bus PCI, alias \"virtio-blk\"\n\
                    name \"virtio-blk-pci-non-transitional\", bus PCI\n\
                    name \"virtio-net-pci\", bus PCI, alias \"virtio-net\"\n\
                    name \"virtio-rng-pci-transitional\", bus PCI\nname \"virtio-serial-pci\", bus PCI\n\
                    name \"virtserialport\", bus virtio-serial-bus\n";
        assert_eq!(missing_among(list), ["virtio-rng-pci", "vmgenid"]);
        assert_eq!(missing_among(""), DEVICES);
    }

    #[test]
    fn a_command_line_is_found_by_each_name() {
        assert_eq!(position("setsid sh -c x sh /usr/libexec/qemu-kvm -name a"), Some(18));
        assert_eq!(position("setsid qemu-system-x86_64 -name a"), Some(7));
        assert_eq!(position("ip link"), None);
        let error = only_kvm("/dev/kvm: No such file", Path::new("/usr/libexec/qemu-kvm"));
        assert!(error.to_string().contains("it takes KVM, and /dev/kvm: No such file"), "{error}");
    }
}
