//! The docker command of this host, where there is one that is of use.

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What a program called `docker` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The docker command.
    Docker,
    /// Podman under docker's name (the package podman-docker). It has no swarm, and its images are podman's.
    Podman,
    /// The docker command in a snap. It is confined, and reads neither files below a hidden directory of a home nor any in
    /// /tmp, where keys and archives are.
    Snap,
}

/// Returns the first program called `docker` on a search path that is of one of these kinds.
#[must_use]
pub fn find(search_path: &OsStr, kinds: &[Kind]) -> Option<PathBuf> {
    let programs = std::env::split_paths(search_path).map(|dir| dir.join("docker"));
    programs.filter(|program| is_program(program)).find(|program| kinds.contains(&kind_of(program)))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

/// Tells what a program is from its file, as to start each one would take longer than most commands.
fn kind_of(program: &Path) -> Kind {
    // Of what a snap brings, the real file is the program `snap`.
    let real = std::fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
    match real.file_name().and_then(OsStr::to_str) {
        Some("podman" | "podman-remote") => return Kind::Podman,
        Some("snap") => return Kind::Snap,
        _ if real.starts_with("/snap") => return Kind::Snap,
        _ => {}
    }
    let mut head = Vec::new();
    let read = std::fs::File::open(&real).and_then(|file| file.take(4096).read_to_end(&mut head));
    let is_script = read.is_ok() && head.starts_with(b"#!");
    match is_script && head.windows(b"podman".len()).any(|word| word == b"podman") {
        true => Kind::Podman,
        false => Kind::Docker,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn program(dir: &Path, name: &str, text: &str) -> PathBuf {
        std::fs::create_dir_all(dir).unwrap();
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn the_real_docker_is_found_behind_others() {
        let root = tempfile::tempdir().unwrap();
        let dir = |name: &str| root.path().join(name);
        program(&dir("podman-docker"), "docker", "#!/bin/sh\nexec /usr/bin/podman \"$@\"\n");
        let podman = program(&dir("bin"), "podman", "\x7fELF");
        std::fs::create_dir_all(dir("link")).unwrap();
        symlink(podman, dir("link/docker")).unwrap();
        let snap = program(&dir("usr"), "snap", "\x7fELF");
        std::fs::create_dir_all(dir("snap")).unwrap();
        symlink(snap, dir("snap/docker")).unwrap();
        program(&dir("text"), "docker", "#!/bin/sh\nexec /opt/docker \"$@\"\n");
        std::fs::create_dir_all(dir("folder/docker")).unwrap();
        let search = |names: &[&str], kinds: &[Kind]| {
            let path = std::env::join_paths(names.iter().map(|name| dir(name))).unwrap();
            find(&path, kinds)
        };
        let all = ["nowhere", "folder", "podman-docker", "link", "snap", "text"];
        assert_eq!(search(&all, &[Kind::Docker]), Some(dir("text/docker")));
        assert_eq!(search(&all, &[Kind::Docker, Kind::Snap]), Some(dir("snap/docker")));
        assert_eq!(search(&all[..5], &[Kind::Docker]), None);
        assert_eq!(search(&["link"], &[Kind::Podman]), Some(dir("link/docker")));
    }
}
