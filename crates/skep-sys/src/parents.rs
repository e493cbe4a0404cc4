//! Directories above those of skep that root makes in somebody else's home, as with `sudo -E`.
//!
//! `~/.local` and `~/.cache` are for all programs of a user. If root made them for itself, the user's other programs could
//! not write there any more. So they go to whom the directory belongs in which they are made.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Dir, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::FileError;

/// Makes the directories above a path that are missing. Only their owner can use them, and that is the owner of the
/// directory in which they are made.
///
/// # Errors
///
/// If one cannot be made.
pub fn make_parents(path: &Path) -> Result<(), FileError> {
    let is_missing = |dir: &&Path| {
        !dir.as_os_str().is_empty()
            && std::fs::symlink_metadata(dir)
                .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    let missing: Vec<_> = path.ancestors().skip(1).take_while(is_missing).collect();
    let Some(present) = missing.last().and_then(|top| top.parent()) else { return Ok(()) };
    let present = if present.as_os_str().is_empty() { Path::new(".") } else { present };
    let dir = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fail = |dir: &Path, error: Errno| FileError::new("make", dir, error.into());
    let mut above = rustix::fs::openat(CWD, present, dir, Mode::empty())
        .map_err(|error| FileError::new("look at", present, error.into()))?;
    for made in missing.iter().rev() {
        let name = made.file_name().unwrap_or_default();
        match rustix::fs::mkdirat(&above, name, Mode::RWXU) {
            // Somebody made it meanwhile, and has it.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(fail(made, error)),
        }
        let below = rustix::fs::openat(&above, name, dir | OFlags::NOFOLLOW, Mode::empty());
        let below = below.map_err(|error| fail(made, error))?;
        give_away(&above, &below).map_err(|error| fail(made, error))?;
        above = below;
    }
    Ok(())
}

/// Gives a directory that root has just made to the owner of its parent. That owner could have put another directory in its
/// place, so only an empty one is given away.
fn give_away(above: &OwnedFd, below: &OwnedFd) -> rustix::io::Result<()> {
    let (owner, made) = (rustix::fs::fstat(above)?, rustix::fs::fstat(below)?);
    if !crate::is_root() || owner.st_uid == 0 || made.st_uid != 0 || !is_empty(below)? {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(owner.st_uid), Gid::from_raw(owner.st_gid));
    rustix::fs::fchown(below, Some(user), Some(group))
}

fn is_empty(dir: &OwnedFd) -> rustix::io::Result<bool> {
    for entry in Dir::read_from(dir)? {
        if ![c".", c".."].contains(&entry?.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, chown, symlink};

    use super::*;

    #[test]
    fn what_is_above_roots_directory_belongs_to_whose_home_it_is() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        if crate::is_root() {
            chown(home.path(), Some(54321), Some(54322)).unwrap();
        }
        let owner = std::fs::metadata(home.path()).unwrap();
        let make = |path: &Path| {
            make_parents(path).unwrap();
            crate::make_private_dir(path).unwrap();
        };
        make(&path(".local/share/skep"));
        for parent in [".local", ".local/share"] {
            let found = std::fs::metadata(path(parent)).unwrap();
            assert_eq!((found.uid(), found.gid()), (owner.uid(), owner.gid()), "{parent}");
            assert_eq!(found.mode() & 0o7777, 0o700, "{parent}");
        }
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(std::fs::metadata(path(".local/share/skep")).unwrap().uid(), own);
        // What was there is not given away, nor is anything behind a link.
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::create_dir(path("roots")).unwrap();
        symlink(elsewhere.path(), path("link")).unwrap();
        make(&path("roots/a/b"));
        make(&path("link/a/b"));
        for kept in [path("roots"), path("roots/a"), path("link/a"), elsewhere.path().to_owned()] {
            assert_eq!(std::fs::metadata(&kept).unwrap().uid(), own, "{}", kept.display());
        }
    }

    #[test]
    fn only_what_was_just_made_is_given_away() {
        let home = tempfile::tempdir().unwrap();
        if crate::is_root() {
            chown(home.path(), Some(54321), None).unwrap();
        }
        let open = |path: &Path| -> OwnedFd { std::fs::File::open(path).unwrap().into() };
        let own = rustix::process::geteuid().as_raw();
        // As if the owner had moved a directory of root's into the place of the one that was made.
        let full = home.path().join("full");
        std::fs::create_dir_all(full.join("keys")).unwrap();
        give_away(&open(home.path()), &open(&full)).unwrap();
        assert_eq!(std::fs::metadata(&full).unwrap().uid(), own);
    }
}
