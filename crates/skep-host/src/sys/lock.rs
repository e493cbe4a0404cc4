//! Locks between processes.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use thiserror::Error;

/// A lock on a file (flock(2)), alone or with others, held until it is dropped or the process ends.
///
/// The file stays when the lock is released, unless its holder removes it with [`Lock::remove`].
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
}

/// A lock that was not had.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} is locked by another process", .0.display())]
    Held(PathBuf),
    /// The lock file cannot be opened or locked.
    #[error("cannot lock {}", .path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Lock {
    /// Takes the lock if it is free.
    ///
    /// # Errors
    ///
    /// If another process has it, or the file cannot be made.
    pub fn try_take(path: &Path) -> Result<Self, LockError> {
        Self::attempt(path, File::try_lock)
    }

    /// Opens the file of a lock for somebody else, who takes it with [`Lock::take_opened`].
    ///
    /// # Errors
    ///
    /// If the file cannot be made.
    pub fn open(path: &Path) -> Result<File, LockError> {
        open(path)
    }

    /// Takes the lock with others, if nobody has it alone.
    ///
    /// # Errors
    ///
    /// If another process has it alone, or the file cannot be made.
    pub fn try_share(path: &Path) -> Result<Self, LockError> {
        Self::attempt(path, File::try_lock_shared)
    }

    /// Lets others have the lock too. None if somebody took it alone in between: to change a lock's
    /// kind is to release it and take it again.
    #[must_use]
    pub fn into_shared(self) -> Option<Self> {
        let shared = self.file.try_lock_shared();
        (shared.is_ok() && is_current(&self.file, &self.path)).then_some(self)
    }

    fn attempt(
        path: &Path,
        lock: impl Fn(&File) -> Result<(), TryLockError>,
    ) -> Result<Self, LockError> {
        loop {
            let file = open(path)?;
            match lock(&file) {
                Ok(()) if is_current(&file, path) => {
                    return Ok(Self { path: path.to_owned(), file });
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(LockError::Held(path.to_owned())),
                Err(TryLockError::Error(source)) => {
                    return Err(LockError::Io { path: path.to_owned(), source });
                }
            }
        }
    }

    /// Waits for the lock, however long another process has it.
    ///
    /// # Errors
    ///
    /// If the file cannot be made or locked.
    pub async fn take(path: &Path) -> Result<Self, LockError> {
        Self::wait(path, Self::take_blocking).await
    }

    /// Waits until nobody has the lock alone, and takes it with others.
    ///
    /// # Errors
    ///
    /// If the file cannot be made or locked.
    pub async fn share(path: &Path) -> Result<Self, LockError> {
        Self::wait(path, |path| Self::block(path, File::lock_shared)).await
    }

    async fn wait(
        path: &Path,
        take: fn(&Path) -> Result<Self, LockError>,
    ) -> Result<Self, LockError> {
        let owned = path.to_owned();
        let waiting = tokio::task::spawn_blocking(move || take(&owned));
        waiting.await.map_err(|error| LockError::Io {
            path: path.to_owned(),
            source: std::io::Error::other(error),
        })?
    }

    /// Waits for the lock on this thread; for locks that are held for a moment only.
    ///
    /// # Errors
    ///
    /// If the file cannot be made or locked.
    pub fn take_blocking(path: &Path) -> Result<Self, LockError> {
        Self::block(path, File::lock)
    }

    fn block(path: &Path, lock: fn(&File) -> std::io::Result<()>) -> Result<Self, LockError> {
        loop {
            let file = open(path)?;
            lock(&file).map_err(|source| LockError::Io { path: path.to_owned(), source })?;
            if is_current(&file, path) {
                return Ok(Self { path: path.to_owned(), file });
            }
        }
    }

    /// Waits for the lock of a file that somebody else has opened. None if the file is not the one of
    /// that name any more: its last holder removed it.
    ///
    /// # Errors
    ///
    /// If it cannot be locked.
    pub async fn take_opened(path: &Path, file: File) -> Result<Option<Self>, LockError> {
        let path = path.to_owned();
        let fail = |path: &Path, source| LockError::Io { path: path.to_owned(), source };
        let waiting = tokio::task::spawn_blocking({
            let path = path.clone();
            move || {
                file.lock().map_err(|source| fail(&path, source))?;
                Ok(is_current(&file, &path).then_some(Self { path, file }))
            }
        });
        waiting.await.map_err(|error| fail(&path, std::io::Error::other(error)))?
    }

    /// Removes the file and releases the lock.
    ///
    /// Whoever waits for it finds that the file it locked is gone, and makes a new one.
    pub fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Tells whether the file is still the one of that name: its last holder may have removed it.
fn is_current(file: &File, path: &Path) -> bool {
    let same =
        |a: std::fs::Metadata, b: std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().and_then(|a| Ok(same(a, std::fs::metadata(path)?))).unwrap_or(false)
}

fn open(path: &Path) -> Result<File, LockError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        // What a link leads to is not ours to make, and a pipe is no lock.
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path)
        .map_err(|source| LockError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_is_had_by_one_and_then_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::try_take(&path).unwrap();
        assert!(matches!(Lock::try_take(&path), Err(LockError::Held(_))));
        let waiting = tokio::spawn({
            let path = path.clone();
            async move { Lock::take(&path).await }
        });
        drop(first);
        let second = waiting.await.unwrap().unwrap();
        assert!(Lock::try_take(&path).is_err());
        drop(second);
        Lock::try_take(&path).unwrap();
    }

    #[test]
    fn a_lock_is_had_by_many_or_by_one_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let shared = [Lock::try_share(&path).unwrap(), Lock::try_share(&path).unwrap()];
        assert!(matches!(Lock::try_take(&path), Err(LockError::Held(_))));
        drop(shared);
        let _alone = Lock::try_take(&path).unwrap();
        assert!(matches!(Lock::try_share(&path), Err(LockError::Held(_))));
    }

    #[tokio::test]
    async fn whoever_waited_for_a_lock_that_was_removed_holds_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::try_take(&path).unwrap();
        let waiting = tokio::spawn({
            let path = path.clone();
            async move { Lock::take(&path).await }
        });
        tokio::task::yield_now().await;
        first.remove();
        let second = waiting.await.unwrap().unwrap();
        assert!(matches!(Lock::try_take(&path), Err(LockError::Held(_))));
        second.remove();
        assert!(!path.exists());
    }
}
