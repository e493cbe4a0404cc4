//! Writing and removing files so that a crash leaves the old or the new, never a part.

use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use thiserror::Error;

/// The most that is read of a file: no record, key or certificate has as much.
const LIMIT: u64 = 16 << 20;

/// A file that could not be read, written or removed.
#[derive(Debug, Error)]
#[error("cannot {what} {}", .path.display())]
pub struct FileError {
    what: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

impl FileError {
    /// Creates an error about a file; `what` is the verb, such as `read`.
    #[must_use]
    pub fn new(what: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self { what, path: path.to_owned(), source }
    }
}

/// What the names of files begin with that are still being written.
pub const UNFINISHED: &str = ".skep-";

/// Writes a file whole or not at all: a temporary file in the same directory, synced and renamed.
///
/// # Errors
///
/// If the directory is missing, read-only or full. The old file is then untouched.
pub fn write_atomic(path: &Path, mode: u32, content: &[u8]) -> Result<(), FileError> {
    let fail = |source| FileError::new("write", path, source);
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .permissions(PermissionsExt::from_mode(mode))
        .tempfile_in(dir)
        .map_err(fail)?;
    file.write_all(content).and_then(|()| file.as_file().sync_all()).map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    sync_dir(dir)
}

/// Writes a file that must not exist.
///
/// # Errors
///
/// If it exists or cannot be written.
pub fn write_new(path: &Path, mode: u32, content: &[u8]) -> Result<(), FileError> {
    let mut options = std::fs::OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .map_err(|source| FileError::new("write", path, source))
}

/// Makes a directory that only its owner can use; one that is there must not be anybody else's to
/// write to.
///
/// # Errors
///
/// If it cannot be made, or others can write to it.
pub fn make_private_dir(path: &Path) -> Result<(), FileError> {
    let fail = |source| FileError::new("use", path, source);
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.is_dir() => Err(fail(std::io::ErrorKind::NotADirectory.into())),
        Ok(found) => {
            let mode = found.permissions().mode() & 0o777;
            // That others may list it is common for $SKEP_HOME; writing is what matters.
            if mode & 0o022 == 0 {
                return Ok(());
            }
            let reason = format!("others can write to it (mode {mode:03o}); chmod go-w it");
            Err(fail(std::io::Error::other(reason)))
        }
        Err(_) => std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail),
    }
}

/// Makes a directory that only its owner can use and that must not be there.
///
/// # Errors
///
/// If it is there or cannot be made.
pub fn make_new_dir(path: &Path) -> Result<(), FileError> {
    let made = std::fs::DirBuilder::new().mode(0o700).create(path);
    made.map_err(|source| FileError::new("make", path, source))
}

/// Reads a file of 16 MiB at most. What is no file, such as a pipe that nobody writes to, is not waited
/// for.
///
/// # Errors
///
/// If it is missing, no plain file, too large or cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    read_with(path, OFlags::NONBLOCK)
}

/// Reads a file of ours, as [`read`] does: a link in its place is refused, whatever it leads to.
///
/// # Errors
///
/// As [`read`], and if it is a link.
pub fn read_own(path: &Path) -> Result<Vec<u8>, FileError> {
    read_with(path, OFlags::NONBLOCK | OFlags::NOFOLLOW)
}

fn read_with(path: &Path, flags: OFlags) -> Result<Vec<u8>, FileError> {
    let fail = |source| FileError::new("read", path, source);
    let unfit = |reason: &str| fail(std::io::Error::other(reason));
    let mut options = std::fs::OpenOptions::new();
    options.read(true).custom_flags(flags.bits().cast_signed());
    let file = options.open(path).map_err(|source| {
        let is_link = Some(rustix::io::Errno::LOOP.raw_os_error()) == source.raw_os_error();
        if is_link { unfit("a link stands in its place") } else { fail(source) }
    })?;
    if !file.metadata().map_err(fail)?.is_file() {
        return Err(unfit("it is not a plain file"));
    }
    let mut content = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut content).map_err(fail)?;
    if content.len() as u64 > LIMIT {
        return Err(unfit("it is larger than 16 MiB"));
    }
    Ok(content)
}

/// Gives a file another name in the same file system, in the place of what has it.
///
/// # Errors
///
/// If one of the names is not in a directory that can be written to.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    std::fs::rename(from, to).map_err(|source| FileError::new("rename", from, source))
}

/// Sets the mode of a file or directory.
///
/// # Errors
///
/// If it is missing or belongs to somebody else.
pub fn set_mode(path: &Path, mode: u32) -> Result<(), FileError> {
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions)
        .map_err(|source| FileError::new("set the mode of", path, source))
}

/// Lets two files or directories change their names, at once.
///
/// # Errors
///
/// If one is missing, or the file system cannot do it (rename(2), `RENAME_EXCHANGE`).
pub fn exchange(one: &Path, other: &Path) -> Result<(), FileError> {
    let (flags, here) = (rustix::fs::RenameFlags::EXCHANGE, rustix::fs::CWD);
    rustix::fs::renameat_with(here, one, here, other, flags)
        .map_err(|source| FileError::new("exchange", one, source.into()))
}

/// Removes a file; one that is gone is fine.
///
/// # Errors
///
/// If it cannot be removed.
pub fn remove_file(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FileError::new("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Makes a symbolic link, if it is not there; what else has its name is left alone.
///
/// # Errors
///
/// If the directory is missing or read-only, or something else has the name.
pub fn ensure_link(link: &Path, target: &Path) -> Result<(), FileError> {
    if std::fs::read_link(link).is_ok_and(|found| found == target) {
        return Ok(());
    }
    std::os::unix::fs::symlink(target, link).map_err(|source| FileError::new("make", link, source))
}

/// Returns how many bytes the file system of a directory has free.
///
/// # Errors
///
/// If the directory is missing.
pub fn free_space(dir: &Path) -> Result<u64, FileError> {
    let fail = |source: rustix::io::Errno| FileError::new("look at", dir, source.into());
    let found = rustix::fs::statvfs(dir).map_err(fail)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Returns the number of the file system that a directory is on (linux/magic.h).
///
/// # Errors
///
/// If the directory is missing.
pub fn file_system(dir: &Path) -> Result<u64, FileError> {
    let fail = |source: rustix::io::Errno| FileError::new("look at", dir, source.into());
    Ok(rustix::fs::statfs(dir).map_err(fail)?.f_type.cast_unsigned())
}

/// Makes the names in a directory durable.
///
/// # Errors
///
/// If the directory cannot be opened or synced.
pub fn sync_dir(dir: &Path) -> Result<(), FileError> {
    std::fs::File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|source| FileError::new("sync", dir, source))
}

/// Removes a directory with all that is in it; one that is not there is fine.
///
/// It is renamed first, so that what is left after a crash is no longer taken for the whole.
///
/// # Errors
///
/// If it cannot be renamed or removed.
pub fn remove_tree(dir: &Path) -> Result<(), FileError> {
    let fail = |source| FileError::new("remove", dir, source);
    let parent = dir.parent().unwrap_or(Path::new("."));
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let doomed = parent.join(format!(".removed-{name}-{}", std::process::id()));
    match std::fs::rename(dir, &doomed) {
        Ok(()) => match std::fs::remove_dir_all(&doomed) {
            // What was made in a namespace of users belongs to users that are known only there.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                super::cmd::remove_mapped(&doomed).map_err(fail)
            }
            removed => removed.map_err(fail),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(fail(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_atomic(&path, 0o600, b"old").unwrap();
        write_atomic(&path, 0o600, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_existing_file_is_not_written_over_as_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write_new(&path, 0o600, b"first").unwrap();
        assert!(write_new(&path, 0o600, b"second").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
    }

    #[test]
    fn what_is_no_file_of_ours_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::fs::write(&file, "text").unwrap();
        ensure_link(&link, &file).unwrap();
        assert_eq!(read(&link).unwrap(), b"text");
        assert_eq!(read_own(&file).unwrap(), b"text");
        let why = |path: &Path| read_own(path).unwrap_err().source.to_string();
        assert_eq!(why(&link), "a link stands in its place");
        assert_eq!(why(dir.path()), "it is not a plain file");
        assert_eq!(why(Path::new("/dev/zero")), "it is not a plain file");
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert_eq!(why(&pipe), "it is not a plain file");
        let large = std::fs::File::create(&file).unwrap();
        large.set_len(LIMIT + 1).unwrap();
        assert_eq!(why(&file), "it is larger than 16 MiB");
    }

    #[test]
    fn a_link_is_made_once_and_in_nobodys_place() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        ensure_link(&link, Path::new("/a")).unwrap();
        ensure_link(&link, Path::new("/a")).unwrap();
        assert!(ensure_link(&link, Path::new("/b")).is_err());
        assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("/a"));
    }

    #[test]
    fn removing_what_is_not_there_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        remove_tree(&tree).unwrap();
        remove_tree(&tree).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
