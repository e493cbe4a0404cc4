//! `--virtualbox-share-folder`: a directory of this host in a machine. Machines share no directories with the
//! host yet, so it is copied once, and that is said.

use std::path::Path;

use skep_sys::{Cmd, shell_quoted};

use super::call::Call;
use super::driver::Machine;
use super::ssh::base_args;
use super::vm::Share;

/// As much as is copied, in bytes: a home directory may hold any amount.
const MOST: u64 = 1 << 30;

/// How many files are looked at.
const MOST_FILES: u64 = 100_000;

/// Sends what is in the directory $1 to the command $2 of the machine that ssh(1) reaches with the other
/// arguments. Directories that are there keep their owners, files become the machine's user's. tar(1) and ssh(1)
/// are there wherever the rest of docker-machine's commands work, and tar keeps links and modes.
const COPY: &str = r#"
    from=$1 to=$2
    shift 2
    tar -C "$from" --owner=docker:1000 --group=staff:50 --one-file-system --exclude=./.docker/machine -cf - . |
        ssh "$@" "$to"
"#;

/// Copies the directory; whatever hinders that is said, as the machine is as useful without.
pub(super) async fn copy(call: &Call, machine: &Machine, share: &Share) {
    let name = machine.name();
    let say = |text: String| call.say.info(format!("({name}) {text}"));
    let Share { from, to } = share;
    let program = call.argv0();
    let from_here = shell_quoted(from);
    match try_copy(machine, share).await {
        Ok(()) => say(format!(
            "{from} is copied to {to}: machines share no directories with this host, so later changes on \
             either side stay there; to copy again: {program} scp -r {from_here}/. {name}:{}",
            shell_quoted(to)
        )),
        Err(reason) => say(format!(
            "--virtualbox-share-folder: {from} is not in the machine, as {reason}; to copy what is needed: \
             {program} scp -r {from_here} {name}:/home/docker/"
        )),
    }
}

async fn try_copy(machine: &Machine, share: &Share) -> Result<(), String> {
    let from = Path::new(&share.from);
    if !from.is_dir() {
        return Err("it is no directory of this host".to_owned());
    }
    // Whatever is written there would take the place of the system's own files.
    if is_systems(&share.to) {
        return Err(format!("{} belongs to the machine's system", share.to));
    }
    if !fits(from, MOST) {
        return Err("it is larger than 1 GiB or has more than 100,000 files".to_owned());
    }
    let to = shell_quoted(&share.to);
    let unpack = format!(
        "[ -d {to} ] || sudo install -d -o docker -g staff {to}; exec sudo tar -C {to} --no-overwrite-dir -xpf -"
    );
    let args = base_args(machine)?;
    let copy = Cmd::new("sh").args(["-c", COPY, "sh", &share.from, &unpack]).args(args);
    copy.run().await.map(drop).map_err(|error| skep_sys::chain(&error))
}

/// Tells whether a path of a machine is one whose contents are the system's.
fn is_systems(path: &str) -> bool {
    const SYSTEMS: [&str; 14] = [
        "bin", "boot", "dev", "etc", "lib", "lib64", "proc", "root", "run", "sbin", "sys", "tmp",
        "usr", "var",
    ];
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    match (parts.next(), parts.next()) {
        (None, _) => true,
        _ if path.split('/').any(|part| part == "..") => true,
        // A directory of a user's below them is as good as any other.
        (Some(first), second) => {
            SYSTEMS.contains(&first)
                && (second.is_none() || !matches!(first, "var" | "root" | "tmp"))
        }
    }
}

/// Tells whether a tree has no more bytes than that, and not too many files.
fn fits(dir: &Path, most: u64) -> bool {
    let (mut bytes, mut files) = (0_u64, 0_u64);
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        // What cannot be read is not copied either.
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            files += 1;
            bytes += found.len();
            if bytes > most || files > MOST_FILES {
                return false;
            }
            if found.is_dir() {
                open.push(entry.path());
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_that_is_too_large_is_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/b"), [0; 5000]).unwrap();
        // A link that leads around in a circle ends nowhere.
        std::os::unix::fs::symlink("..", dir.path().join("a/up")).unwrap();
        assert!(fits(dir.path(), 1 << 20));
        assert!(!fits(dir.path(), 4999));
    }

    #[test]
    fn no_directory_of_the_system_is_written_over() {
        for path in ["/", "/etc", "/usr/local", "/var", "/srv/../etc", "/tmp"] {
            assert!(is_systems(path), "{path}");
        }
        for path in ["/srv/me/project", "/hosthome", "/Users", "/data", "/var/www", "/tmp/project"]
        {
            assert!(!is_systems(path), "{path}");
        }
    }
}
