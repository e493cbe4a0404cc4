//! Writing and removing files so that a crash leaves the old or the new, never a part.

use std::fs::{Metadata, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use thiserror::Error;

use super::owned::{Distrust, Why, check};

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
        let source = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                let place = mounted_at(path);
                let text = format!("no room is left in the file system at {}", place.display());
                std::io::Error::new(source.kind(), text)
            }
            _ => source,
        };
        Self { what, path: path.to_owned(), source }
    }
}

/// Returns where the file system of a path is mounted: its highest directory that is on the same device.
fn mounted_at(path: &Path) -> &Path {
    let mut dirs = path.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty());
    let device = |dir: &Path| std::fs::metadata(dir).ok().map(|found| found.dev());
    let Some(mut place) = dirs.find(|dir| dir.is_dir()) else { return path };
    let own = device(place);
    for dir in dirs.take_while(|dir| device(dir) == own) {
        place = dir;
    }
    place
}

/// What the names of files begin with that are still being written.
pub const UNFINISHED: &str = ".skep-";

/// Writes a file whole or not at all: a temporary file in the same directory, synced and renamed. It has
/// that mode whatever the umask says.
///
/// # Errors
///
/// If the directory is missing, read-only or full. The old file is then untouched.
pub fn write_atomic(path: &Path, mode: u32, content: &[u8]) -> Result<(), FileError> {
    put(path, mode, None, content).map_err(|source| FileError::new("write", path, source))
}

/// Writes a file in the place of one that is there, with its mode and, as far as this user may, its owner.
///
/// In a container the file may be a mount of its own, which no other can take the place of: it is then
/// written in place.
///
/// # Errors
///
/// As [`write_atomic`].
pub fn replace(path: &Path, old: &Metadata, content: &[u8]) -> Result<(), FileError> {
    let written = match put(path, old.mode() & 0o7777, Some((old.uid(), old.gid())), content) {
        Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
            put_in_place(path, content)
        }
        written => written,
    };
    written.map_err(|source| FileError::new("write", path, source))
}

fn put(path: &Path, mode: u32, owner: Option<(u32, u32)>, content: &[u8]) -> std::io::Result<()> {
    let dir = parent(path);
    let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(dir)?;
    file.write_all(content)?;
    if let Some((user, group)) = owner {
        // A user namespace may not have that number.
        let _ = std::os::unix::fs::fchown(file.as_file(), Some(user), Some(group));
    }
    // After the owner, as a change of that takes bits away; and not when it is made, as the umask cuts that.
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync(dir)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes over a file. What was in it comes back if there is no room for the new content.
fn put_in_place(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let before = read(path).map_err(|error| error.source)?;
    let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
    let mut write = |content: &[u8]| {
        file.rewind()?;
        file.write_all(content)?;
        file.set_len(content.len() as u64)?;
        file.sync_all()
    };
    write(content).inspect_err(|_| {
        let _ = write(&before);
    })
}

/// Creates a file that must not be there, all of it or nothing. Not even a link to nowhere is written through.
///
/// # Errors
///
/// If it is there (`AlreadyExists`), or cannot be written.
pub fn create_new(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(path);
    }
    written
}

/// Makes a directory that only its owner can use; one that is there must not be anybody else's, nor anybody
/// else's to write to. That others may list it is common for $SKEP_HOME.
///
/// # Errors
///
/// If it cannot be made, or is not to be believed.
pub fn make_private_dir(path: &Path) -> Result<(), FileError> {
    let fail = |source| FileError::new("use", path, source);
    match std::fs::symlink_metadata(path) {
        // The root of a store may be a link; whose that is counts.
        Ok(_) => super::owned::check_root(path),
        Err(_) => {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(fail)?;
            set_mode(path, 0o700)?;
            sync_dir(parent(path))
        }
    }
}

/// Makes a directory that only its owner can use and that must not be there.
///
/// # Errors
///
/// If it is there or cannot be made.
pub fn make_new_dir(path: &Path) -> Result<(), FileError> {
    let made = std::fs::DirBuilder::new().mode(0o700).create(path);
    made.map_err(|source| FileError::new("make", path, source))?;
    set_mode(path, 0o700)?;
    sync_dir(parent(path))
}

/// Reads a file of 16 MiB at most. What is no file, such as a pipe that nobody writes to, is not waited
/// for.
///
/// # Errors
///
/// If it is missing, no plain file, too large or cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    read_with(path, OFlags::NONBLOCK, |_, _| Ok(()))
}

/// Reads a file of ours, as [`read`] does: a link in its place is refused, whatever it leads to, and so is
/// what somebody else may have written.
///
/// # Errors
///
/// As [`read`], and if it is a link or not to be believed.
pub fn read_own(path: &Path) -> Result<Vec<u8>, FileError> {
    read_with(path, OFlags::NONBLOCK | OFlags::NOFOLLOW, check)
}

fn read_with(
    path: &Path,
    flags: OFlags,
    check: impl FnOnce(&Path, &Metadata) -> Result<(), Distrust>,
) -> Result<Vec<u8>, FileError> {
    let fail = |source| FileError::new("read", path, source);
    let unfit = |reason: &str| fail(std::io::Error::other(reason));
    let mut options = std::fs::OpenOptions::new();
    options.read(true).custom_flags(flags.bits().cast_signed());
    let file = options.open(path).map_err(|source| {
        let is_link = Some(rustix::io::Errno::LOOP.raw_os_error()) == source.raw_os_error();
        let link = || Distrust { path: path.to_owned(), why: Why::Link };
        if is_link { link().into_error("read") } else { fail(source) }
    })?;
    let found = file.metadata().map_err(fail)?;
    if !found.is_file() {
        return Err(unfit("it is not a plain file"));
    }
    check(path, &found).map_err(|distrust| distrust.into_error("read"))?;
    let mut content = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut content).map_err(fail)?;
    if content.len() as u64 > LIMIT {
        return Err(unfit("it is larger than 16 MiB"));
    }
    Ok(content)
}

/// Gives a file or directory another name in the same file system, in the place of what has it.
///
/// # Errors
///
/// If one of the names is not in a directory that can be written to.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    std::fs::rename(from, to).map_err(|source| FileError::new("rename", from, source))
}

/// Gives a file that another program has written its name, when all of it is on the disk: after a crash
/// there is the whole file under that name, or none.
///
/// # Errors
///
/// If it cannot be synced or renamed.
pub fn publish(from: &Path, to: &Path) -> Result<(), FileError> {
    let synced = std::fs::File::open(from).and_then(|file| file.sync_all());
    synced.map_err(|source| FileError::new("sync", from, source))?;
    rename(from, to)?;
    sync_dir(parent(to))
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

/// Makes a symbolic link with the directories that lead to it, if it is not there; what else has its name is left alone.
///
/// # Errors
///
/// If a directory cannot be made or written to, or something else has the name.
pub fn ensure_link(link: &Path, target: &Path) -> Result<(), FileError> {
    if std::fs::read_link(link).is_ok_and(|found| found == target) {
        return Ok(());
    }
    if let Some(dir) = link.parent() {
        std::fs::create_dir_all(dir).map_err(|source| FileError::new("make", dir, source))?;
    }
    std::os::unix::fs::symlink(target, link).map_err(|source| FileError::new("make", link, source))
}

/// Tests whether this process may write in a directory, as it is and on the file system that it is on (access(2)).
///
/// # Errors
///
/// Why not, such as a file system that is read-only.
pub fn can_write(dir: &Path) -> Result<(), FileError> {
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK)
        .map_err(|error| FileError::new("write in", dir, error.into()))
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

/// Returns what there is of a path: itself, or the nearest directory above it.
#[must_use]
pub fn present(path: &Path) -> Option<&Path> {
    path.ancestors().find(|it| it.exists())
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
    sync(dir).map_err(|source| FileError::new("sync", dir, source))
}

fn sync(dir: &Path) -> std::io::Result<()> {
    std::fs::File::open(dir)?.sync_all()
}

/// What the names of directories begin with that are being removed.
const REMOVED: &str = ".removed-";

/// The same of a node's directory, which is not a node's any more from the moment that it is called so.
pub const REMOVING: &str = ".removing-";

/// Removes a directory with all that is in it; one that is not there is fine.
///
/// It is renamed first, so that what is left after a crash is no longer taken for the whole.
///
/// # Errors
///
/// If it cannot be renamed or removed.
pub fn remove_tree(dir: &Path) -> Result<(), FileError> {
    let parent = parent(dir);
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    sweep(parent, &name);
    let doomed = parent.join(format!("{REMOVED}{name}-{}", std::process::id()));
    match std::fs::rename(dir, &doomed) {
        Ok(()) => erase(&doomed),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(FileError::new("remove", dir, error)),
    }
}

/// Removes what is left in a directory of the removal of the directory `name`, where that was cut off.
/// Whoever calls this holds the lock under which such are removed.
///
/// What cannot be removed is left for the next time.
pub fn sweep(parent: &Path, name: &str) {
    let prefix = format!("{REMOVED}{name}-");
    sweep_where(parent, |left| {
        let number = left.strip_prefix(&prefix);
        number.is_some_and(|it| it.bytes().all(|byte| byte.is_ascii_digit()))
    });
}

/// Removes from a directory whose lock the caller holds all that was left by a skep that was cut off: what it
/// was removing, and files that it had not finished. These have to be old: there are files that need no lock.
pub fn sweep_all(parent: &Path) {
    sweep_where(parent, |left| {
        let unfinished = left.starts_with(UNFINISHED) && is_old(&parent.join(left));
        left.starts_with(REMOVED) || left.starts_with(REMOVING) || unfinished
    });
}

fn is_old(path: &Path) -> bool {
    let changed = std::fs::symlink_metadata(path).and_then(|found| found.modified());
    changed.is_ok_and(|it| it.elapsed().is_ok_and(|age| age > Duration::from_secs(3600)))
}

fn sweep_where(parent: &Path, is_left: impl Fn(&str) -> bool) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(&is_left)
            && let Err(error) = erase(&entry.path())
        {
            tracing::debug!(%error, "not swept");
        }
    }
}

fn erase(doomed: &Path) -> Result<(), FileError> {
    let is_dir = std::fs::symlink_metadata(doomed).is_ok_and(|found| found.is_dir());
    let erase = if is_dir { std::fs::remove_dir_all } else { std::fs::remove_file };
    let erased = match erase(doomed) {
        // What was made in a namespace of users belongs to users that are known only there.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            super::cmd::remove_mapped(doomed)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        erased => erased,
    };
    erased.map_err(|source| FileError::new("remove", doomed, source))
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
    fn a_full_file_system_is_named_by_its_place() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = FileError::new("write", Path::new("/proc/sys/kernel/none/file"), full());
        assert_eq!(error.source.kind(), std::io::ErrorKind::StorageFull);
        let text = super::super::chain(&error);
        assert!(text.ends_with("no room is left in the file system at /proc"), "{text}");
    }

    #[test]
    fn modes_are_as_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mode_of = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        for mode in [0o600, 0o644, 0o755, 0o440] {
            write_atomic(&path, mode, b"text").unwrap();
            assert_eq!(mode_of(&path), mode);
            replace(&path, &std::fs::metadata(&path).unwrap(), b"other").unwrap();
            assert_eq!(mode_of(&path), mode, "it is kept");
        }
        let (private, new) = (dir.path().join("a/private"), dir.path().join("new"));
        make_private_dir(&private).unwrap();
        make_new_dir(&new).unwrap();
        assert_eq!((mode_of(&private), mode_of(&new)), (0o700, 0o700));
    }

    #[test]
    fn modes_are_as_wanted_under_every_umask() {
        crate::umasks::run("file::tests::modes_are_as_wanted");
    }

    #[test]
    fn what_takes_no_other_in_its_place_is_written_over_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "a long text").unwrap();
        put_in_place(&path, b"short").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
    }

    #[test]
    fn what_a_skep_that_was_cut_off_left_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let left = [".removed-tree-17", ".removed-tree-x", ".removed-other-17", ".removing-node0"];
        for name in left {
            std::fs::create_dir_all(dir.path().join(name).join("inner")).unwrap();
        }
        remove_tree(&dir.path().join("tree")).unwrap();
        assert!(!dir.path().join(left[0]).exists() && dir.path().join(left[1]).exists());
        for (name, age) in [("new", 0), ("old", 7200)] {
            let file =
                std::fs::File::create(dir.path().join(format!("{UNFINISHED}{name}"))).unwrap();
            file.set_modified(std::time::SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        sweep_all(dir.path());
        let names: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(names, [".skep-new"]);
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
        assert_eq!(why(&link), "it is a symbolic link");
        assert_eq!(why(dir.path()), "it is not a plain file");
        assert_eq!(why(Path::new("/dev/zero")), "it is not a plain file");
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert_eq!(why(&pipe), "it is not a plain file");
        set_mode(&file, 0o620).unwrap();
        assert_eq!(why(&file), "it is writable by other users (mode 620); chmod go-w it");
        set_mode(&file, 0o644).unwrap();
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
