//! Directories of things that are made once and never changed: images, templates.
//!
//! Each is addressed by a hash of all that goes into it, made under a lock, and appears under its
//! address only when it is whole. Whoever uses it holds the lock with others, so that nobody removes
//! it meanwhile.
//!
//! ```text
//! DIR/ID.lock          held alone while an entry is made or removed, shared while it is used
//! DIR/.building-ID/    one that is being made, or what is left of one that was cut off
//! DIR/ID/              the entry
//! DIR/ID.2/            the one that was made when the first was found damaged
//! ```
//!
//! What is damaged is not replaced: disks of nodes may stand on a part of it that is whole, and would
//! not fit another one of the same address, made at another time.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use skep_sys::{
    FileError, Holder, Lock, LockError, check_dir, check_root, remove_tree, rename, set_mode,
    sweep, sync_dir,
};

/// What the directory of an unfinished entry begins with.
const BUILDING: &str = ".building-";

/// A directory of entries, which need not exist yet.
#[derive(Debug, Clone)]
pub struct Entries {
    dir: PathBuf,
}

/// One entry, or what is left of one that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name of its directory: its address, and a number if it is not the first.
    pub id: String,
    /// What it takes on disk, in bytes; holes take nothing.
    pub bytes: u64,
    /// Its directory.
    pub dir: PathBuf,
}

/// What somebody who waits for an entry may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Somebody else makes it.
    Elsewhere(Holder),
    /// What was there is damaged, and another one is made.
    Damaged,
}

/// How entries of one kind are made and read.
pub trait Kind {
    /// An entry that is whole.
    type Entry;
    /// Why none can be made.
    type Error: From<FileError> + From<LockError>;

    /// Reads an entry; none if it is not there or not whole.
    fn open(&self, dir: &Path) -> impl Future<Output = Option<Self::Entry>> + Send;

    /// Reads an entry that was made a moment ago under a lock that is still held: that it is whole
    /// need not be found out.
    fn read(&self, dir: &Path) -> impl Future<Output = Option<Self::Entry>> + Send;

    /// Makes an entry in an empty directory.
    fn make(&self, dir: &Path) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Is told what somebody who waits may want to know.
    fn note(&self, note: Note);
}

impl Entries {
    /// Creates the directory's value; nothing is made on the disk.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Returns the directory that the first entry of that address has.
    #[must_use]
    pub fn path(&self, id: &str) -> PathBuf {
        self.dir.join(id)
    }

    /// Returns an entry, making it if it is not there or damaged, and a lock that keeps it there.
    ///
    /// # Errors
    ///
    /// If it cannot be made; nothing is then left that could be taken for it.
    pub async fn ensure<K: Kind>(&self, id: &str, kind: &K) -> Result<(K::Entry, Lock), K::Error> {
        // The directory above is the cache, and those above that are not skep's alone.
        skep_sys::make_parents(self.dir.parent().unwrap_or(&self.dir))?;
        std::fs::create_dir_all(&self.dir)
            .map_err(|source| FileError::new("make", &self.dir, source))?;
        self.check(id)?;
        loop {
            if !self.of(id).is_empty() {
                let wait = |holder: &Holder| kind.note(Note::Elsewhere(holder.clone()));
                let used = Lock::share(&self.lock_path(id), wait).await?;
                if let Some(entry) = self.find(id, kind).await {
                    return Ok((entry, used));
                }
            }
            let wait = |holder: &Holder| kind.note(Note::Elsewhere(holder.clone()));
            let alone = Lock::take(&self.lock_path(id), wait).await?;
            // Whoever held the lock may have made it.
            let entry = match self.find(id, kind).await {
                Some(entry) => entry,
                None => {
                    let dir = self.make(id, kind).await?;
                    let invalid = || std::io::ErrorKind::InvalidData.into();
                    let made = kind.read(&dir).await;
                    made.ok_or_else(|| FileError::new("read", &dir, invalid()))?
                }
            };
            if let Some(used) = alone.into_shared() {
                return Ok((entry, used));
            }
            // Somebody took the lock in between, and may have removed it.
        }
    }

    /// Refuses entries of somebody else: guests run what is in them. The cache may lie behind a link.
    fn check(&self, id: &str) -> Result<(), FileError> {
        self.dir.parent().map_or(Ok(()), check_root)?;
        check_root(&self.dir)?;
        self.of(id).iter().try_for_each(|dir| check_dir(dir))
    }

    /// Returns the newest entry of that address that is whole.
    async fn find<K: Kind>(&self, id: &str, kind: &K) -> Option<K::Entry> {
        for dir in self.of(id).into_iter().rev() {
            if let Some(entry) = kind.open(&dir).await {
                return Some(entry);
            }
        }
        None
    }

    /// Returns the directories of an address's entries, the oldest first.
    #[must_use]
    pub fn of(&self, id: &str) -> Vec<PathBuf> {
        let mut numbers: Vec<u32> = std::fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| number(entry.file_name().to_str()?, id))
            .collect();
        numbers.sort_unstable();
        numbers.into_iter().map(|number| self.numbered(id, number)).collect()
    }

    fn numbered(&self, id: &str, number: u32) -> PathBuf {
        match number {
            1 => self.path(id),
            _ => self.dir.join(format!("{id}.{number}")),
        }
    }

    async fn make<K: Kind>(&self, id: &str, kind: &K) -> Result<PathBuf, K::Error> {
        let there = self.of(id);
        let last = there.last().and_then(|dir| number(dir.file_name()?.to_str()?, id));
        if last.is_some() {
            kind.note(Note::Damaged);
        }
        let dir = self.numbered(id, last.map_or(1, |last| last + 1));
        let building = self.dir.join(format!("{BUILDING}{id}"));
        sweep(&self.dir, id);
        remove_tree(&building)?;
        std::fs::create_dir(&building)
            .map_err(|source| FileError::new("make", &building, source))?;
        // Whatever the umask: a template's process, which is no longer root, opens a file here.
        set_mode(&building, 0o755)?;
        if let Err(error) = kind.make(&building).await {
            let _ = remove_tree(&building);
            return Err(error);
        }
        rename(&building, &dir)?;
        sync_dir(&self.dir)?;
        Ok(dir)
    }

    /// Lists what is there, parts of interrupted makings included.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Entry>, FileError> {
        let entries = match std::fs::read_dir(&self.dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| FileError::new("list", &self.dir, source))?,
        };
        let mut found: Vec<Entry> = entries
            .filter_map(|entry| entry.ok())
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| {
                let id = entry.file_name().to_string_lossy().into_owned();
                let dir = entry.path();
                Entry { id, bytes: disk_use(&dir), dir }
            })
            .collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// Removes all entries but those in `keep` and those that are in use or being made; returns what
    /// was removed.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read or an entry cannot be removed.
    pub fn prune<E: From<FileError> + From<LockError>>(
        &self,
        keep: &[String],
    ) -> Result<Vec<Entry>, E> {
        let mut removed = Vec::new();
        for entry in self.list()? {
            if keep.contains(&entry.id) {
                continue;
            }
            let id = entry.id.strip_prefix(BUILDING).unwrap_or(&entry.id);
            let id = id.split_once('.').map_or(id, |(id, _)| id);
            match Lock::try_take(&self.lock_path(id)) {
                Ok(lock) => {
                    remove_tree(&entry.dir)?;
                    lock.remove();
                    removed.push(entry);
                }
                Err(LockError::Held { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(removed)
    }

    fn lock_path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.lock"))
    }
}

/// Returns which of an address's entries has that name.
fn number(name: &str, id: &str) -> Option<u32> {
    match name.strip_prefix(id)? {
        "" => Some(1),
        rest => rest.strip_prefix('.')?.parse().ok().filter(|number| *number > 1),
    }
}

/// Returns what a directory's files take on disk; holes take nothing.
fn disk_use(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .filter_map(|entry| entry.ok())
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, found)| if found.is_dir() { disk_use(&path) } else { found.blocks() * 512 })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use thiserror::Error;

    #[derive(Debug, Error)]
    enum Error {
        #[error(transparent)]
        File(#[from] FileError),
        #[error(transparent)]
        Lock(#[from] LockError),
        #[error("refused")]
        Refused,
    }

    #[derive(Default)]
    struct Words {
        refuse: bool,
        notes: Mutex<Vec<Note>>,
        opened: Mutex<usize>,
    }

    impl Kind for Words {
        type Entry = String;
        type Error = Error;

        async fn read(&self, dir: &Path) -> Option<String> {
            self.open(dir).await
        }

        async fn open(&self, dir: &Path) -> Option<String> {
            *self.opened.lock().unwrap() += 1;
            let text = std::fs::read_to_string(dir.join("word")).ok()?;
            (text == "whole").then_some(text)
        }

        async fn make(&self, dir: &Path) -> Result<(), Error> {
            if self.refuse {
                return Err(Error::Refused);
            }
            let path = dir.join("word");
            Ok(skep_sys::write_atomic(&path, 0o600, b"whole")?)
        }

        fn note(&self, note: Note) {
            self.notes.lock().unwrap().push(note);
        }
    }

    fn entries() -> (tempfile::TempDir, Entries) {
        let dir = tempfile::tempdir().unwrap();
        let entries = Entries::new(dir.path().join("entries"));
        (dir, entries)
    }

    #[tokio::test]
    async fn what_is_damaged_is_said_to_be_and_another_one_is_made() {
        let (_dir, entries) = entries();
        let kind = Words::default();
        drop(entries.ensure("a", &kind).await.unwrap());
        drop(entries.ensure("a", &kind).await.unwrap());
        assert!(kind.notes.lock().unwrap().is_empty());
        std::fs::write(entries.path("a").join("word"), "half").unwrap();
        assert_eq!(entries.ensure("a", &kind).await.unwrap().0, "whole");
        assert_eq!(*kind.notes.lock().unwrap(), [Note::Damaged]);
        // What may stand on the first finds it as it was.
        assert_eq!(entries.of("a"), [entries.path("a"), entries.path("a.2")]);
        assert_eq!(std::fs::read_to_string(entries.path("a").join("word")).unwrap(), "half");
        drop(entries.ensure("a", &kind).await.unwrap());
        assert_eq!(entries.of("a").len(), 2);
    }

    #[tokio::test]
    async fn what_was_just_made_is_not_looked_through_again() {
        let (_dir, entries) = entries();
        let kind = Words::default();
        let (_, used) = entries.ensure("a", &kind).await.unwrap();
        assert_eq!(*kind.opened.lock().unwrap(), 1, "it was read, and that is all");
        assert!(Lock::try_share(&entries.lock_path("a")).is_ok());
        assert!(matches!(Lock::try_take(&entries.lock_path("a")), Err(LockError::Held { .. })));
        drop(used);
        drop(entries.ensure("a", &kind).await.unwrap());
        assert_eq!(*kind.opened.lock().unwrap(), 2, "what was there before is");
    }

    #[tokio::test]
    async fn entries_of_somebody_else_are_refused() {
        if !skep_sys::is_root() {
            return test_skip::skip("only root can give files to somebody else");
        }
        let (dir, entries) = entries();
        drop(entries.ensure("a", &Words::default()).await.unwrap());
        for part in [dir.path().to_owned(), dir.path().join("entries"), entries.path("a")] {
            std::os::unix::fs::chown(&part, Some(54321), None).unwrap();
            let error = entries.ensure("a", &Words::default()).await.unwrap_err();
            let text = skep_sys::chain(&error);
            assert!(text.contains("belongs to user 54321"), "{text}");
            std::os::unix::fs::chown(&part, Some(0), None).unwrap();
        }
        drop(entries.ensure("a", &Words::default()).await.unwrap());
    }

    #[tokio::test]
    async fn a_making_that_fails_leaves_nothing() {
        let (_dir, entries) = entries();
        let kind = Words { refuse: true, ..Words::default() };
        assert!(entries.ensure("a", &kind).await.is_err());
        assert_eq!(entries.list().unwrap(), []);
    }

    #[tokio::test]
    async fn what_is_used_or_being_made_is_not_pruned() {
        let (_dir, entries) = entries();
        let kind = Words::default();
        let (_, used) = entries.ensure("used", &kind).await.unwrap();
        drop(entries.ensure("kept", &kind).await.unwrap());
        drop(entries.ensure("spare", &kind).await.unwrap());
        for part in ["making", "cut-off"] {
            std::fs::create_dir(entries.path(&format!("{BUILDING}{part}"))).unwrap();
        }
        let making = Lock::try_take(&entries.lock_path("making")).unwrap();
        let removed = entries.prune::<Error>(&["kept".to_owned()]).unwrap();
        let removed: Vec<_> = removed.into_iter().map(|entry| entry.id).collect();
        assert_eq!(removed, [".building-cut-off", "spare"]);
        drop((used, making));
        assert_eq!(entries.prune::<Error>(&[]).unwrap().len(), 3);
        assert_eq!(entries.list().unwrap(), []);
    }
}
