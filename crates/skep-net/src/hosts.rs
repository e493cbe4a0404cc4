//! A cluster's block in the host's file of names (hosts(5)).
//!
//! ```text
//! # BEGIN skep:demo:0123456789ab
//! 10.193.0.2 my-node.example
//! # END skep:demo:0123456789ab
//! ```
//!
//! All else in the file stays as it is, byte for byte.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use skep_core::observed::HostsEntry;
use thiserror::Error;

use skep_store::Owner;
use skep_sys::{FileError, Lock, LockError, replace};

/// The host's file of names.
pub const FILE: &str = "/etc/hosts";

/// How long another process may be at the file.
const TURN: Duration = Duration::from_secs(10);

/// What is wrong with the file of names.
#[derive(Debug, Error)]
pub enum Error {
    /// It could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its lock could not be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Whoever may write it does not do that for this user.
    #[error("cannot write names")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Something else stands in its place.
    #[error("{} is not a plain file", .0.display())]
    NotAFile(PathBuf),
    /// A block begins and does not end.
    #[error("{}:{line}: the block of {mark} has no end", .path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The line on which the block begins, counted from 1.
        line: usize,
        /// Whose block it is.
        mark: String,
    },
}

/// Returns the names in a cluster's block.
///
/// # Errors
///
/// If the file cannot be read or the block is broken.
pub fn read_block(path: &Path, owner: &Owner) -> Result<Vec<HostsEntry>, Error> {
    let text = read(path)?;
    let mut entries = Vec::new();
    for mark in [owner.mark(), owner.earlier_mark()] {
        let block = find(path, &text, &mark)?.unwrap_or_default();
        entries.extend(text[block].lines().flat_map(entries_of));
    }
    Ok(entries)
}

/// Returns all names in the file that are not in a cluster's block.
///
/// # Errors
///
/// As [`read_block`].
pub fn other_names(path: &Path, owner: &Owner) -> Result<Vec<String>, Error> {
    let text = read(path)?;
    let rest = replaced_of(path, &text, owner, &[])?;
    Ok(rest.lines().flat_map(names_of).collect())
}

fn names_of(line: &str) -> Vec<String> {
    let words = line.split('#').next().unwrap_or_default().split_whitespace();
    words.skip(1).map(str::to_owned).collect()
}

/// Who writes names.
#[async_trait]
pub trait Names: Send + Sync {
    /// Puts these names into a cluster's block of a file, as [`write_block`] does.
    ///
    /// # Errors
    ///
    /// As [`write_block`], and if the rights are missing.
    async fn write(&self, path: &Path, owner: &Owner, entries: &[HostsEntry]) -> Result<(), Error>;
}

/// Writes names itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct DirectNames;

#[async_trait]
impl Names for DirectNames {
    async fn write(&self, path: &Path, owner: &Owner, entries: &[HostsEntry]) -> Result<(), Error> {
        write_block(path, owner, entries)
    }
}

fn entries_of(line: &str) -> Vec<HostsEntry> {
    let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
    let Some(address) = words.next().and_then(|word| word.parse().ok()) else { return Vec::new() };
    words.map(|name| HostsEntry { name: name.to_owned(), address }).collect()
}

/// Puts these names into a cluster's block, in the place of what is there; no names remove it.
///
/// # Errors
///
/// If the file is not a plain file, cannot be written, or the block is broken. It is then untouched.
pub fn write_block(path: &Path, owner: &Owner, entries: &[HostsEntry]) -> Result<(), Error> {
    let found = std::fs::symlink_metadata(path);
    let found = found.map_err(|source| FileError::new("read", path, source))?;
    if !found.is_file() {
        return Err(Error::NotAFile(path.to_owned()));
    }
    // Whoever has it is done in a moment: it is held for one read and one write.
    let lock = Lock::take_within_blocking(&lock_path(path), TURN)?;
    let text = read(path)?;
    let changed = replaced_of(path, &text, owner, entries)?;
    let written = match changed == text {
        true => Ok(()),
        false => replace(path, &found, changed.as_bytes()),
    };
    lock.remove();
    Ok(written?)
}

/// The lock stands beside the file, for whoever can write to the one can write to the other.
fn lock_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.skep-lock"))
}

fn read(path: &Path) -> Result<String, Error> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        bytes => bytes.map_err(|source| FileError::new("read", path, source))?,
    };
    String::from_utf8(bytes).map_err(|error| {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidData, error.utf8_error());
        FileError::new("read", path, source).into()
    })
}

/// Returns the text with these entries in an owner's block; that of an earlier version of skep goes.
fn replaced_of(
    path: &Path,
    text: &str,
    owner: &Owner,
    entries: &[HostsEntry],
) -> Result<String, Error> {
    let text = replaced(path, text, &owner.earlier_mark(), &[])?;
    replaced(path, &text, &owner.mark(), entries)
}

/// Returns the place of the lines between the marks.
fn find(path: &Path, text: &str, mark: &str) -> Result<Option<std::ops::Range<usize>>, Error> {
    let (begin, end) = (format!("# BEGIN {mark}"), format!("# END {mark}"));
    let mut inner = None;
    let mut at = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        match line.trim_end() {
            word if word == begin => inner = Some((at + line.len(), index + 1)),
            word if word == end => {
                if let Some((start, _)) = inner {
                    return Ok(Some(start..at));
                }
            }
            _ => {}
        }
        at += line.len();
    }
    match inner {
        Some((_, line)) => {
            Err(Error::Broken { path: path.to_owned(), line, mark: mark.to_owned() })
        }
        None => Ok(None),
    }
}

fn replaced(path: &Path, text: &str, mark: &str, entries: &[HostsEntry]) -> Result<String, Error> {
    let (begin, end) = (format!("# BEGIN {mark}\n"), format!("# END {mark}\n"));
    let (before, after) = match find(path, text, mark)? {
        Some(inner) => {
            let after = text[inner.end..].split_once('\n').map_or("", |(_, after)| after);
            (&text[..inner.start - begin.len()], after)
        }
        None => (text, ""),
    };
    if entries.is_empty() {
        return Ok(format!("{before}{after}"));
    }
    // The line before the block may lack its end; it is given one, which then stays.
    let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    let lines: String =
        entries.iter().map(|entry| format!("{} {}\n", entry.address, entry.name)).collect();
    Ok(format!("{before}{gap}{begin}{lines}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owner() -> Owner {
        Owner { cluster: "demo".parse().unwrap(), store: "/store".into(), user: 0 }
    }

    fn entries(names: &[&str]) -> Vec<HostsEntry> {
        let address = "10.193.0.2".parse().unwrap();
        names.iter().map(|name| HostsEntry { name: (*name).to_owned(), address }).collect()
    }

    fn hosts(content: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        std::fs::write(&path, content).unwrap();
        (dir, path)
    }

    #[test]
    fn a_block_is_written_replaced_and_removed() {
        let before = "127.0.0.1 localhost\n# mine\n";
        let (dir, path) = hosts(before);
        write_block(&path, &owner(), &entries(&["a.example", "b.example"])).unwrap();
        write_block(&path, &owner(), &entries(&["c.example"])).unwrap();
        assert_eq!(read_block(&path, &owner()).unwrap(), entries(&["c.example"]));
        assert_eq!(other_names(&path, &owner()).unwrap(), ["localhost"]);
        let other = Owner { store: "/elsewhere".into(), ..owner() };
        write_block(&path, &other, &entries(&["d.example"])).unwrap();
        write_block(&path, &owner(), &[]).unwrap();
        assert_eq!(read_block(&path, &owner()).unwrap(), []);
        assert_eq!(read_block(&path, &other).unwrap(), entries(&["d.example"]));
        write_block(&path, &other, &[]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_block_without_end_is_refused_and_nothing_touched() {
        let broken = format!("127.0.0.1 localhost\n# BEGIN {}\n10.193.0.2 a\n", owner().mark());
        let (_dir, path) = hosts(&broken);
        let error = write_block(&path, &owner(), &[]).unwrap_err();
        assert!(matches!(error, Error::Broken { line: 2, .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), broken);
    }

    #[test]
    fn a_link_in_the_files_place_is_refused() {
        let (dir, path) = hosts("127.0.0.1 localhost\n");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(write_block(&link, &owner(), &[]), Err(Error::NotAFile(_))));
    }

    #[test]
    fn the_files_mode_and_owner_are_kept() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let (_dir, path) = hosts("127.0.0.1 localhost\n");
        if skep_sys::is_root() {
            std::os::unix::fs::chown(&path, Some(54321), Some(54322)).unwrap();
        }
        let of = |found: std::fs::Metadata| (found.mode() & 0o7777, found.uid(), found.gid());
        for mode in [0o644, 0o640, 0o600] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let before = of(std::fs::metadata(&path).unwrap());
            for names in [&["a"][..], &[]] {
                write_block(&path, &owner(), &entries(names)).unwrap();
                assert_eq!(of(std::fs::metadata(&path).unwrap()), before);
            }
        }
    }

    #[test]
    fn the_files_mode_is_kept_under_every_umask() {
        skep_sys::umasks::run("hosts::tests::the_files_mode_and_owner_are_kept");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_goes_again(
            before in "([a-z0-9.# \t]{0,20}\n){0,5}",
            names in proptest::collection::vec("[a-z]{1,8}", 1..4),
        ) {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let wanted = entries(&names);
            let mark = owner().mark();
            let path = Path::new("hosts");
            let with = replaced(path, &before, &mark, &wanted).unwrap();
            let again = replaced(path, &with, &mark, &wanted).unwrap();
            prop_assert_eq!(&with, &again);
            prop_assert_eq!(replaced(path, &with, &mark, &[]).unwrap(), before);
        }
    }
}
