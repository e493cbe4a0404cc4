//! The docker command of this host, where there is one that is of use.

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use skep_sys::find_programs;

/// What a program called `docker` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The docker command.
    Docker,
    /// Podman under docker's name (the package podman-docker). It has no swarm, and its images are podman's. So is nerdctl,
    /// whose images are containerd's.
    Podman,
    /// The docker command in a snap. It is confined, and reads neither files below a hidden directory of a home nor any in
    /// /tmp, where keys and archives are.
    Snap,
}

/// Returns the first program called `docker` on a search path that is of one of these kinds.
#[must_use]
pub fn find(search_path: &OsStr, kinds: &[Kind]) -> Option<PathBuf> {
    find_programs("docker", search_path).find(|program| kinds.contains(&kind_of(program)))
}

/// Returns a snap's docker command on a search path, if it is the only docker command there.
#[must_use]
pub fn only_snap(search_path: &OsStr) -> Option<PathBuf> {
    let snap = find(search_path, &[Kind::Snap])?;
    find(search_path, &[Kind::Docker]).is_none().then_some(snap)
}

/// Says what a snap's docker command cannot do.
#[must_use]
pub fn about_snap(snap: &Path) -> String {
    let snap = snap.display();
    format!("{snap} is a snap, whose confinement keeps it from reading the keys for nodes")
}

/// Tells what a program is from its file, as to start each one would take longer than most commands.
fn kind_of(program: &Path) -> Kind {
    // Of what a snap brings, the real file is the program `snap`.
    let real = std::fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
    match real.file_name().and_then(OsStr::to_str) {
        Some("podman" | "podman-remote" | "nerdctl") => return Kind::Podman,
        Some("snap") => return Kind::Snap,
        _ if real.starts_with("/snap") => return Kind::Snap,
        _ => {}
    }
    let mut head = Vec::new();
    let read = std::fs::File::open(&real).and_then(|file| file.take(4096).read_to_end(&mut head));
    let is_script = read.is_ok() && head.starts_with(b"#!");
    let text = String::from_utf8_lossy(&head);
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut words =
        lines.flat_map(str::split_whitespace).map(|word| word.trim_matches(['"', '\'']));
    let runs_other =
        words.any(|word| matches!(word.rsplit('/').next(), Some("podman" | "nerdctl")));
    match is_script && runs_other {
        true => Kind::Podman,
        false => Kind::Docker,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

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
        program(&dir("nerdctl"), "docker", "#!/bin/sh\nexec 'nerdctl' \"$@\"\n");
        program(&dir("text"), "docker", "#!/bin/sh\n# not podman\nexec /opt/docker \"$@\"\n");
        std::fs::create_dir_all(dir("folder/docker")).unwrap();
        let search = |names: &[&str], kinds: &[Kind]| {
            let path = std::env::join_paths(names.iter().map(|name| dir(name))).unwrap();
            find(&path, kinds)
        };
        let all = ["nowhere", "folder", "podman-docker", "link", "nerdctl", "snap", "text"];
        assert_eq!(search(&all, &[Kind::Docker]), Some(dir("text/docker")));
        assert_eq!(search(&all, &[Kind::Docker, Kind::Snap]), Some(dir("snap/docker")));
        assert_eq!(search(&all[..6], &[Kind::Docker]), None);
        let only_snap = |names: &[&str]| {
            let path = std::env::join_paths(names.iter().map(|name| dir(name))).unwrap();
            only_snap(&path)
        };
        assert_eq!(only_snap(&all[..6]), Some(dir("snap/docker")));
        assert_eq!((only_snap(&all), only_snap(&all[..5])), (None, None));
        assert_eq!(search(&["link"], &[Kind::Podman]), Some(dir("link/docker")));
    }
}
