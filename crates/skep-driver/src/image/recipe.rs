//! What goes into an image, and its address.

use std::path::Path;

use sha2::{Digest, Sha256};
use skep_core::model::ImageSpec;
use skep_sys::FileError;

use super::Error;

/// Raised when the build itself changes in a way that the files below do not show.
const BUILDER: &str = "1";

/// The packages of every guest.
pub(super) const PACKAGES: &[&str] = &[
    "apt",
    "bash",
    "busybox-static",
    "ca-certificates",
    "containerd",
    // docker-machine's scripts use them in machines, as boot2docker has them.
    "curl",
    "docker-cli",
    "docker-registry",
    "docker.io",
    "e2fsprogs",
    "git",
    "iproute2",
    "iptables",
    "kmod",
    "linux-image-cloud-amd64",
    "netbase",
    "openssh-server",
    "openssl",
    "qemu-guest-agent",
    "rsync",
    "runit",
    "stunnel4",
    "sudo",
    // In the place of initramfs-tools, whose RAM disk takes 20 s to build and is not used.
    "tiny-initramfs",
    // Stacks mount /etc/localtime.
    "tzdata",
];

/// What of the packages is left out: nobody reads manuals in a node.
pub(super) const EXCLUDED: &[&str] =
    &["/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*"];

macro_rules! guest_files {
    ($($name:literal),* $(,)?) => {
        /// The files that make a Debian tree a node, by their names in the source.
        pub(super) const GUEST_FILES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("guest/", $name)))),*];
    };
}

guest_files!(
    "containerd.toml",
    "daemon.json",
    "finish.sh",
    "init.d-docker.sh",
    "initrd-init.sh",
    "inittab",
    "power.sh",
    "profile",
    "run-agent.sh",
    "run-clock.sh",
    "run-containerd.sh",
    "run-docker.sh",
    "run-log.sh",
    "run-sshd.sh",
    "run-tls.sh",
    "setup.sh",
    "shutdown.sh",
    "sshd_config",
    "stunnel.conf",
);

/// Returns a file of the guest, by its name in the source.
#[cfg(test)]
pub(crate) fn guest_file(name: &str) -> Option<&'static str> {
    GUEST_FILES.iter().find(|(file, _)| *file == name).map(|(_, content)| *content)
}

/// Returns the address of the image that is made from a specification: 16 hexadecimal digits.
///
/// # Errors
///
/// If the key of an apt source cannot be read.
pub fn image_id(spec: &ImageSpec) -> Result<String, Error> {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        // Each part with its length, so that no two lists of parts run together.
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(part);
    };
    add(BUILDER.as_bytes());
    add(&serde_json::to_vec(spec).expect("a specification has only text keys"));
    for source in &spec.sources {
        if let Some(key) = &source.key {
            let path = Path::new(key);
            add(&std::fs::read(path).map_err(|source| FileError::new("read", path, source))?);
        }
    }
    for word in PACKAGES.iter().chain(EXCLUDED) {
        add(word.as_bytes());
    }
    for source in skep_guest::SOURCES {
        add(source.as_bytes());
    }
    for (name, content) in GUEST_FILES {
        add(name.as_bytes());
        add(content.as_bytes());
    }
    Ok(skep_sys::hex(&hash.finalize()[..8]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_core::model::AptSource;

    #[test]
    fn every_input_changes_the_address() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key.asc");
        std::fs::write(&key, "one").unwrap();
        let plain = ImageSpec::default();
        let source = AptSource {
            line: "deb https://apt.example trixie main".into(),
            key: Some(key.to_str().unwrap().into()),
        };
        let with_key = ImageSpec { sources: vec![source], ..plain.clone() };
        let before = image_id(&with_key).unwrap();
        std::fs::write(&key, "two").unwrap();
        let ids = [
            image_id(&plain).unwrap(),
            before,
            image_id(&with_key).unwrap(),
            image_id(&ImageSpec { suite: "sid".into(), ..plain.clone() }).unwrap(),
            image_id(&ImageSpec { mirror: Some("https://m.example".into()), ..plain.clone() })
                .unwrap(),
            image_id(&ImageSpec { packages: vec!["strace".into()], ..plain.clone() }).unwrap(),
        ];
        for (index, id) in ids.iter().enumerate() {
            assert_eq!(id.len(), 16);
            assert!(!ids[..index].contains(id), "{index}");
        }
        assert_eq!(image_id(&plain).unwrap(), ids[0]);
    }

    #[test]
    fn a_key_that_is_missing_is_named() {
        let source = AptSource { line: "deb x y z".into(), key: Some("/nowhere/key".into()) };
        let spec = ImageSpec { sources: vec![source], ..ImageSpec::default() };
        assert_eq!(image_id(&spec).unwrap_err().to_string(), "cannot read /nowhere/key");
    }

    #[test]
    fn the_guests_scripts_are_sound_shell() {
        for (name, content) in GUEST_FILES.iter().filter(|(name, _)| name.ends_with(".sh")) {
            let mut shell = std::process::Command::new("sh")
                .arg("-n")
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            std::io::Write::write_all(&mut shell.stdin.take().unwrap(), content.as_bytes())
                .unwrap();
            assert!(shell.wait().unwrap().success(), "{name}");
        }
    }
}
