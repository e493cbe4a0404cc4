//! How packages are installed on this host's distribution, by their names there.

use skep_driver::qemu::QemuVersion;
use skep_sys::is_root;

/// A family of distributions, as os-release(5) tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Debian,
    Fedora,
    /// Red Hat Enterprise Linux, and what is made of it.
    Rhel,
    Arch,
    Suse,
}

/// What Debian calls a package, and what Fedora, RHEL, Arch and openSUSE call what has the same programs, where that differs.
const NAMES: [(&str, [&str; 4]); 8] = [
    ("qemu-system-x86", ["qemu-system-x86-core", "qemu-kvm-core", "qemu-base", "qemu-x86"]),
    ("qemu-utils", ["qemu-img", "qemu-img", "qemu-img", "qemu-img"]),
    ("iproute2", ["iproute", "iproute", "iproute2", "iproute2"]),
    ("openssh-client", ["openssh-clients", "openssh-clients", "openssh", "openssh-clients"]),
    ("xz-utils", ["xz", "xz", "xz", "xz"]),
    ("uidmap", ["shadow-utils", "shadow-utils", "shadow", "shadow"]),
    ("nftables", ["nftables", "nftables", "nftables", "nftables"]),
    ("mmdebstrap", ["mmdebstrap", "mmdebstrap", "mmdebstrap", "mmdebstrap"]),
];

/// What is said of a QEMU that no package of the release replaces.
const NEWER_RELEASES: &str = "a newer release of this distribution: Debian 12, Ubuntu 24.04, Fedora 38, RHEL 9.2 and openSUSE \
                              Leap 15.6, and what is newer, have a QEMU that does";

/// The fields of os-release(5) that count here.
struct Release {
    id: String,
    like: Vec<String>,
    version: String,
}

impl Release {
    fn parse(text: &str) -> Self {
        let field = |key: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            let value = lines.find(|(name, _)| name.trim() == key).map(|(_, value)| value);
            value.unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
        };
        let like = field("ID_LIKE").split_whitespace().map(str::to_owned).collect();
        Self { id: field("ID"), like, version: field("VERSION_ID") }
    }

    fn family(&self) -> Option<Family> {
        let own = |id: &str| match id {
            "debian" | "ubuntu" => Some(Family::Debian),
            "fedora" => Some(Family::Fedora),
            "rhel" | "centos" | "almalinux" | "rocky" => Some(Family::Rhel),
            "arch" => Some(Family::Arch),
            id if id == "suse" || id.starts_with("opensuse") || id.starts_with("sle") => {
                Some(Family::Suse)
            }
            _ => None,
        };
        // What is made of RHEL is like Fedora too, and says so later.
        own(&self.id).or_else(|| self.like.iter().find_map(|id| own(id)))
    }

    /// Tells whether the release's own QEMU is older than what is needed.
    fn has_old_qemu(&self) -> bool {
        let mut numbers = self.version.split('.').map(|it| it.parse::<u32>().unwrap_or(0));
        let Some(major) = numbers.next().filter(|it| *it > 0) else { return false };
        let version = (major, numbers.next().unwrap_or(0));
        let oldest = match (self.id.as_str(), self.family()) {
            ("ubuntu", _) => (23, 4),
            ("debian", _) => (12, 0),
            ("fedora", _) => (38, 0),
            (_, Some(Family::Rhel)) => (9, 2),
            ("opensuse-leap", _) => (15, 6),
            _ => return false,
        };
        version < oldest
    }
}

/// Returns the command that installs these packages, by Debian's names, on this host.
pub(super) fn install(packages: &str) -> String {
    command(&release(), packages, is_root())
}

/// Returns what helps where QEMU is too old: to install it again does not.
pub(super) fn newer_qemu(found: QemuVersion) -> String {
    upgrade(&release(), found, is_root())
}

fn release() -> String {
    std::fs::read_to_string("/etc/os-release").unwrap_or_default()
}

fn command(release: &str, packages: &str, root: bool) -> String {
    let family = Release::parse(release).family();
    let names: Vec<&str> = packages.split_whitespace().map(|name| named(family, name)).collect();
    let (sudo, names) = (if root { "" } else { "sudo " }, names.join(" "));
    match family {
        Some(Family::Debian) => format!("{sudo}apt-get install --no-install-recommends {names}"),
        Some(Family::Fedora | Family::Rhel) => format!("{sudo}dnf install {names}"),
        Some(Family::Arch) => format!("{sudo}pacman -S --needed {names}"),
        Some(Family::Suse) => format!("{sudo}zypper install {names}"),
        None => format!("install (Debian's package names): {packages}"),
    }
}

fn named(family: Option<Family>, package: &str) -> &str {
    let column = match family {
        Some(Family::Fedora) => 0,
        Some(Family::Rhel) => 1,
        Some(Family::Arch) => 2,
        Some(Family::Suse) => 3,
        Some(Family::Debian) | None => return package,
    };
    let row = NAMES.iter().find(|(debian, _)| *debian == package);
    row.map_or(package, |(_, names)| names[column])
}

fn upgrade(text: &str, found: QemuVersion, root: bool) -> String {
    let release = Release::parse(text);
    if release.has_old_qemu() {
        return NEWER_RELEASES.to_owned();
    }
    format!(
        "{}  # the packages of this release are newer than {found}",
        command(text, "qemu-system-x86 qemu-utils", root)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALMA: &str = "NAME=\"AlmaLinux\"\nVERSION_ID=\"9.4\"\nID=\"almalinux\"\nID_LIKE=\"rhel centos fedora\"\n";

    #[test]
    fn each_distribution_is_told_its_own_names() {
        let packages = "qemu-system-x86 iproute2 openssh-client e2fsprogs";
        let told = |release: &str| command(release, packages, false);
        let cases = [
            (
                "ID=debian\nVERSION_ID=\"12\"\n",
                "sudo apt-get install --no-install-recommends qemu-system-x86 iproute2 openssh-client e2fsprogs",
            ),
            (
                "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n",
                "sudo apt-get install --no-install-recommends qemu-system-x86 iproute2 openssh-client e2fsprogs",
            ),
            (
                "ID=fedora\nVERSION_ID=42\n",
                "sudo dnf install qemu-system-x86-core iproute openssh-clients e2fsprogs",
            ),
            (ALMA, "sudo dnf install qemu-kvm-core iproute openssh-clients e2fsprogs"),
            (
                "ID=\"rocky\"\nVERSION_ID=\"10.0\"\nID_LIKE=\"rhel centos fedora\"\n",
                "sudo dnf install qemu-kvm-core iproute openssh-clients e2fsprogs",
            ),
            (
                "ID=manjaro\nID_LIKE=arch\n",
                "sudo pacman -S --needed qemu-base iproute2 openssh e2fsprogs",
            ),
            (
                "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\nVERSION_ID=\"15.6\"\n",
                "sudo zypper install qemu-x86 iproute2 openssh-clients e2fsprogs",
            ),
            (
                "ID=void\n",
                "install (Debian's package names): qemu-system-x86 iproute2 openssh-client e2fsprogs",
            ),
        ];
        for (release, wanted) in cases {
            assert_eq!(told(release), wanted, "{release}");
        }
        assert!(command(ALMA, "qemu-utils", true).starts_with("dnf install qemu-img"));
    }

    #[test]
    fn an_old_qemu_is_not_installed_again() {
        let told = |release: &str| upgrade(release, QemuVersion::new(6, 2), true);
        for old in [
            "ID=ubuntu\nVERSION_ID=\"22.04\"\nID_LIKE=debian\n",
            "ID=debian\nVERSION_ID=\"11\"\n",
            "ID=\"rocky\"\nVERSION_ID=\"8.10\"\nID_LIKE=\"rhel centos fedora\"\n",
        ] {
            let told = told(old);
            assert!(!told.contains("install") && told.contains("Ubuntu 24.04"), "{old}: {told}");
        }
        // One that was built by hand, or is held back.
        assert!(told("ID=ubuntu\nVERSION_ID=\"24.04\"\n").starts_with("apt-get install"));
        assert!(told(ALMA).starts_with("dnf install qemu-kvm-core qemu-img"));
        assert!(told("ID=debian\nPRETTY_NAME=sid\n").starts_with("apt-get install"));
    }
}
