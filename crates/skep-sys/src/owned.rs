//! Whose files are believed: root's and those of the user who runs skep, as long as nobody else can write to them.
//!
//! What a file says decides which processes are killed, which programs run and which files are removed, so
//! one that somebody else could have written is refused, as git does (`safe.directory`). A directory is looked
//! at before what is in it. Below the root of a store nothing may be a link: after that look only its owner can
//! put something else there, and that is root or the user, so the paths can be used as names. Each file's own
//! owner is looked at when it is open.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::FileError;

/// A file or directory that is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{why}")]
pub struct Distrust {
    /// Where it is.
    pub path: PathBuf,
    /// Why it is not believed.
    pub why: Why,
}

/// Why a file or directory is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Why {
    /// It is neither root's nor the user's who runs skep.
    #[error(
        "it belongs to {}, and this is {}: run skep as {}",
        titled(*owner),
        titled(*caller),
        user_name(*owner)
    )]
    Foreign {
        /// The number of the user whose it is.
        owner: u32,
        /// The number of the user who runs skep.
        caller: u32,
    },
    /// It leads elsewhere.
    #[error("it is a symbolic link")]
    Link,
    /// Somebody else may have written it.
    #[error("it is writable by other users (mode {0:03o}); chmod go-w it")]
    Writable(u32),
}

impl Distrust {
    /// Wraps it as what is wrong with a file.
    #[must_use]
    pub fn into_error(self, what: &'static str) -> FileError {
        let path = self.path.clone();
        FileError::new(what, &path, std::io::Error::other(self))
    }

    /// Returns the one that an error is about, if it is.
    #[must_use]
    pub fn of(error: &std::io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// Tells what is wrong with a file or directory that was looked at.
///
/// # Errors
///
/// If it is not to be believed.
pub(super) fn check(path: &Path, found: &Metadata) -> Result<(), Distrust> {
    let distrust = |why| Err(Distrust { path: path.to_owned(), why });
    let (owner, caller) = (found.uid(), rustix::process::geteuid().as_raw());
    if owner != 0 && owner != caller {
        return distrust(Why::Foreign { owner, caller });
    }
    match found.mode() & 0o777 {
        // The mode of a link says nothing.
        _ if found.is_symlink() => distrust(Why::Link),
        mode if mode & 0o022 != 0 => distrust(Why::Writable(mode)),
        _ => Ok(()),
    }
}

/// Refuses a directory that is not to be believed, or a link in its place; one that is not there is fine.
///
/// # Errors
///
/// If it is not to be believed, or cannot be looked at.
pub fn check_dir(path: &Path) -> Result<(), FileError> {
    checked(path, std::fs::symlink_metadata(path))
}

/// Refuses a directory at which a store begins, if it is not to be believed; it may be a link.
///
/// # Errors
///
/// As [`check_dir`].
pub fn check_root(path: &Path) -> Result<(), FileError> {
    checked(path, std::fs::metadata(path))
}

/// Refuses what belongs to somebody else, be it a file, a directory or a link; what is not there is fine.
///
/// # Errors
///
/// If it is somebody else's.
pub fn check_owner(path: &Path) -> Result<(), FileError> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    match check(path, &found) {
        Err(distrust) if matches!(distrust.why, Why::Foreign { .. }) => {
            Err(distrust.into_error("use"))
        }
        _ => Ok(()),
    }
}

fn checked(path: &Path, found: std::io::Result<Metadata>) -> Result<(), FileError> {
    match found {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(FileError::new("use", path, error)),
        Ok(found) => {
            check(path, &found).map_err(|distrust| distrust.into_error("use"))?;
            match found.is_dir() {
                true => Ok(()),
                false => Err(FileError::new("use", path, std::io::ErrorKind::NotADirectory.into())),
            }
        }
    }
}

/// Returns the name of a user of this host, or its number if it is in no list here.
#[must_use]
pub fn user_name(user: u32) -> String {
    name_in(&std::fs::read_to_string("/etc/passwd").unwrap_or_default(), user)
        .unwrap_or_else(|| format!("user {user}"))
}

fn titled(user: u32) -> String {
    match name_in(&std::fs::read_to_string("/etc/passwd").unwrap_or_default(), user) {
        Some(name) => format!("{name} (user {user})"),
        None => format!("user {user}"),
    }
}

/// Finds a user's name in a list (passwd(5)).
fn name_in(list: &str, user: u32) -> Option<String> {
    let mut lines = list.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(user)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    fn why(error: &FileError) -> &Why {
        &Distrust::of(&error.source).expect("it is not believed").why
    }

    #[test]
    fn a_user_has_a_name_where_one_is_listed() {
        let list = "root:x:0:0:root:/:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n";
        assert_eq!(name_in(list, 1000).as_deref(), Some("alice"));
        assert_eq!((name_in(list, 1001), name_in("", 0)), (None, None));
    }

    #[test]
    fn links_and_what_others_can_write_to_are_not_believed() {
        let place = tempfile::tempdir().unwrap();
        let (dir, link) = (place.path().join("dir"), place.path().join("link"));
        assert!(check_dir(&dir).is_ok() && check_root(&dir).is_ok(), "there is nothing");
        std::fs::create_dir(&dir).unwrap();
        symlink(&dir, &link).unwrap();
        assert!(check_root(&link).is_ok() && check_dir(&dir).is_ok());
        assert_eq!(why(&check_dir(&link).unwrap_err()), &Why::Link);
        for mode in [0o720, 0o702, 0o777] {
            std::fs::set_permissions(&dir, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(why(&check_dir(&dir).unwrap_err()), &Why::Writable(mode));
            assert_eq!(why(&check_root(&link).unwrap_err()), &Why::Writable(mode));
        }
        let file = place.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(check_dir(&file).unwrap_err().source.kind() == std::io::ErrorKind::NotADirectory);
    }

    #[test]
    fn what_belongs_to_somebody_else_is_not_believed() {
        if !crate::is_root() {
            // Only root can give a file away; it is the other user then.
            assert!(check_root(Path::new("/")).is_ok(), "root's is believed");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        chown(dir.path(), Some(54321), None).unwrap();
        let error = check_dir(dir.path()).unwrap_err();
        assert_eq!(why(&error), &Why::Foreign { owner: 54321, caller: 0 });
        let text = crate::chain(&error);
        let end = "it belongs to user 54321, and this is root (user 0): run skep as user 54321";
        assert!(text.ends_with(end), "{text}");
    }
}
