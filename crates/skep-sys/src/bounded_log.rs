//! A log that does not grow without end: two files, of which the older one is dropped.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::file::{FileError, make_private_dir, remove_file, rename};

/// How large one of the two files may be, in bytes.
const LIMIT: u64 = 1 << 20;

/// A log that is written to.
#[derive(Debug)]
pub struct BoundedLog {
    path: PathBuf,
    file: File,
    size: u64,
}

impl BoundedLog {
    /// Opens a log to write on at its end; it is made, with its directory, if it is not there.
    ///
    /// # Errors
    ///
    /// If it cannot be, or it is a symbolic link.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        make_private_dir(path.parent().unwrap_or(Path::new(".")))?;
        let (file, size) = open(path)?;
        Ok(Self { path: path.to_owned(), file, size })
    }

    /// Returns its file; the older one is beside it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds whole lines.
    ///
    /// # Errors
    ///
    /// If there is no room. Nobody's work is to fail for that.
    pub fn write(&mut self, lines: &[u8]) -> Result<(), FileError> {
        if self.size > 0 && self.size + lines.len() as u64 > LIMIT {
            rename(&self.path, &older(&self.path))?;
            (self.file, self.size) = open(&self.path)?;
        }
        let fail = |source| FileError::new("write", &self.path, source);
        self.file.write_all(lines).map_err(fail)?;
        self.size += lines.len() as u64;
        Ok(())
    }

    /// Returns the files of a log, the older one first; they need not be there.
    #[must_use]
    pub fn files(path: &Path) -> [PathBuf; 2] {
        [older(path), path.to_owned()]
    }

    /// Removes a log, and its directory if nothing else is in it.
    ///
    /// # Errors
    ///
    /// If a file cannot be removed.
    pub fn remove(path: &Path) -> Result<(), FileError> {
        Self::files(path).iter().try_for_each(|file| remove_file(file))?;
        // Only an empty directory can be removed so.
        let _ = path.parent().map(std::fs::remove_dir);
        Ok(())
    }
}

fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

fn open(path: &Path) -> Result<(File, u64), FileError> {
    let fail = |source| FileError::new("open", path, source);
    // No link is written through, and nothing is waited for.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(0o600).custom_flags(flags).open(path);
    let file = file.map_err(fail)?;
    let found = file.metadata().map_err(fail)?;
    if !found.is_file() {
        return Err(fail(std::io::Error::other("it is no file")));
    }
    Ok((file, found.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_its_end_in_two_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/demo.log");
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        for run in 0..5u8 {
            // Each run goes on at the end.
            let mut log = BoundedLog::open(&path).unwrap();
            for number in 0..700 {
                log.write(&line).unwrap();
                log.write(format!("{run} {number}\n").as_bytes()).unwrap();
            }
        }
        let sizes = BoundedLog::files(&path).map(|file| std::fs::metadata(file).unwrap().len());
        assert!(sizes.iter().all(|size| *size <= LIMIT) && sizes[0] > LIMIT - 2000, "{sizes:?}");
        let text = BoundedLog::files(&path).map(|file| std::fs::read_to_string(file).unwrap());
        let text = text.concat();
        assert!(text.ends_with("4 699\n") && text.contains("\n4 0\n"), "the end is there");
        let lines: Vec<_> = text.lines().filter(|it| !it.starts_with('x')).collect();
        let after = |it: &str| {
            let (run, number) = it.split_once(' ').unwrap();
            run.parse::<u32>().unwrap() * 700 + number.parse::<u32>().unwrap()
        };
        assert!(lines.windows(2).all(|it| after(it[0]) + 1 == after(it[1])), "no line is lost");
        let mode = std::fs::metadata(&path).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&mode) & 0o777, 0o600);
        BoundedLog::remove(&path).unwrap();
        assert!(!dir.path().join("logs").exists());
        BoundedLog::remove(&path).unwrap();
    }

    #[test]
    fn a_link_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("demo.log");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
        BoundedLog::open(&path).unwrap_err();
        assert!(!dir.path().join("elsewhere").exists());
    }
}
