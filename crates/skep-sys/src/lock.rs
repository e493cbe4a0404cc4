//! Locks between processes.
//!
//! Nobody waits in silence: a wait has a limit ([`Lock::take_within`]), or its user learns at once who holds the lock
//! ([`Lock::take`]). There is no third way to wait.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use thiserror::Error;

use super::Holder;

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
    #[error("{} is locked by {holder}", .path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who has it.
        holder: Holder,
    },
    /// Another process did not release it in time.
    #[error("timed out after {} s waiting for the lock of {}, which {holder} holds", .limit.as_secs(), .path.display())]
    TimedOut {
        /// The lock file.
        path: PathBuf,
        /// The limit of the wait.
        limit: Duration,
        /// Who has it.
        holder: Holder,
    },
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
                Err(TryLockError::WouldBlock) => {
                    let holder = Holder::of_lock(path);
                    return Err(LockError::Held { path: path.to_owned(), holder });
                }
                Err(TryLockError::Error(source)) => {
                    return Err(LockError::Io { path: path.to_owned(), source });
                }
            }
        }
    }

    /// Takes the lock, however long another process has it; `on_wait` learns at once who that is, to tell the user.
    ///
    /// # Errors
    ///
    /// If the file cannot be made or locked.
    pub async fn take(path: &Path, on_wait: impl FnOnce(&Holder)) -> Result<Self, LockError> {
        match Self::try_take(path) {
            Err(LockError::Held { holder, .. }) => on_wait(&holder),
            result => return result,
        }
        Self::wait(path, File::lock).await
    }

    /// Takes the lock with others, however long another process has it alone; as [`Lock::take`].
    ///
    /// # Errors
    ///
    /// If the file cannot be made or locked.
    pub async fn share(path: &Path, on_wait: impl FnOnce(&Holder)) -> Result<Self, LockError> {
        match Self::try_share(path) {
            Err(LockError::Held { holder, .. }) => on_wait(&holder),
            result => return result,
        }
        Self::wait(path, File::lock_shared).await
    }

    /// Takes the lock, or fails after `limit` with the name of who has it. Processes that wait get it in the order in
    /// which they came.
    ///
    /// # Errors
    ///
    /// If another process keeps it, or the file cannot be made or locked.
    pub async fn take_within(path: &Path, limit: Duration) -> Result<Self, LockError> {
        match tokio::time::timeout(limit, Self::wait(path, File::lock)).await {
            Ok(result) => result,
            Err(_) => Err(timed_out(path, limit)),
        }
    }

    /// As [`Lock::take_within`], on this thread; for locks that are held for a moment only.
    ///
    /// # Errors
    ///
    /// As [`Lock::take_within`].
    pub fn take_within_blocking(path: &Path, limit: Duration) -> Result<Self, LockError> {
        let end = Instant::now() + limit;
        loop {
            match Self::try_take(path) {
                Err(LockError::Held { .. }) if Instant::now() >= end => {
                    return Err(timed_out(path, limit));
                }
                // wait: flock(2) has no limit of its own.
                Err(LockError::Held { .. }) => std::thread::sleep(Duration::from_millis(10)),
                result => return result,
            }
        }
    }

    async fn wait(path: &Path, lock: fn(&File) -> std::io::Result<()>) -> Result<Self, LockError> {
        let owned = path.to_owned();
        let waiting = tokio::task::spawn_blocking(move || Self::block(&owned, lock));
        waiting.await.map_err(|error| LockError::Io {
            path: path.to_owned(),
            source: std::io::Error::other(error),
        })?
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

    /// Removes the file and releases the lock.
    ///
    /// Whoever waits for it finds that the file it locked is gone, and makes a new one.
    pub fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn timed_out(path: &Path, limit: Duration) -> LockError {
    LockError::TimedOut { path: path.to_owned(), limit, holder: Holder::of_lock(path) }
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
        assert!(matches!(Lock::try_take(&path), Err(LockError::Held { .. })));
        let waiting = tokio::spawn({
            let path = path.clone();
            async move { Lock::take(&path, |_| ()).await }
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
        assert!(matches!(Lock::try_take(&path), Err(LockError::Held { .. })));
        drop(shared);
        let _alone = Lock::try_take(&path).unwrap();
        assert!(matches!(Lock::try_share(&path), Err(LockError::Held { .. })));
    }

    #[tokio::test]
    async fn whoever_waited_for_a_lock_that_was_removed_holds_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::try_take(&path).unwrap();
        let waiting = tokio::spawn({
            let path = path.clone();
            async move { Lock::take(&path, |_| ()).await }
        });
        tokio::task::yield_now().await;
        first.remove();
        let second = waiting.await.unwrap().unwrap();
        assert!(matches!(Lock::try_take(&path), Err(LockError::Held { .. })));
        second.remove();
        assert!(!path.exists());
    }

    /// Has another process hold a lock until it is killed.
    fn holding(path: &Path) -> std::process::Child {
        let child =
            std::process::Command::new("flock").arg(path).args(["sleep", "600"]).spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        while Lock::try_take(path).is_ok() {
            assert!(Instant::now() < end, "flock takes no lock");
            // wait: for flock(1) to take it; only trying tells.
            std::thread::sleep(Duration::from_millis(10));
        }
        child
    }

    #[tokio::test]
    async fn a_wait_ends_and_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let mut other = holding(&path);
        let limit = Duration::from_millis(50);
        let bounded = Lock::take_within(&path, limit).await.unwrap_err();
        let blocking = Lock::take_within_blocking(&path, limit).unwrap_err();
        let tried = Lock::try_take(&path).unwrap_err();
        // flock(1) takes the lock and becomes no other process: its child holds the file as well.
        let name = format!("process {} (flock", other.id());
        for error in [bounded, blocking, tried] {
            assert!(error.to_string().contains(&name), "{error}, but not {name}");
        }
        let mut told = String::new();
        let mut on_wait = |holder: &Holder| told = holder.to_string();
        let waiting = Lock::take(&path, &mut on_wait);
        let ended = async {
            // The sleep holds the file as well; it ends with the group only if it is ended itself.
            let children = format!("/proc/{0}/task/{0}/children", other.id());
            let child: u32 = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
            crate::ProcessId::of(child).unwrap().kill();
        };
        let (taken, ()) = tokio::join!(waiting, ended);
        taken.unwrap();
        assert!(told.contains(&name), "{told}");
        other.wait().unwrap();
    }
}
