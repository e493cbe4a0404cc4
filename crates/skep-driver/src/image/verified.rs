//! Whether the files of an image still are what they were made as.
//!
//! To read all of an image takes a tenth of the time in which two nodes are made. So what was found is
//! noted with what a change of a file cannot leave as it was, and holds for a day: what the disk itself
//! has damaged is noticed then.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use skep_sys::{Checksum, checksum, read_own, write_atomic};

const NAME: &str = "verified";
/// How long after a change another one has another time for certain, in seconds.
const SETTLED: i64 = 1;
const HOLDS: Duration = Duration::from_secs(24 * 60 * 60);

/// What was found, and when.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Verified {
    at: SystemTime,
    files: Vec<Stamp>,
}

/// What no change of a file leaves as it was: every change has its time, which nobody can set.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    name: String,
    inode: u64,
    /// Of the last change, in seconds and nanoseconds.
    changed: (i64, i64),
}

impl Verified {
    /// Tells whether it still holds for files with these stamps. What was changed just before the look may
    /// have been changed once more without another time.
    fn holds(&self, files: &[Stamp], now: SystemTime) -> bool {
        let seconds = self.at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |it| it.as_secs());
        let settled = |stamp: &Stamp| stamp.changed.0 + SETTLED < seconds.cast_signed();
        self.files == files
            && files.iter().all(settled)
            && now.duration_since(self.at).is_ok_and(|age| age < HOLDS)
    }
}

/// Tells whether all files have their checksums; notes it if so.
pub(super) fn is_whole(dir: &Path, checksums: &[(String, Checksum)]) -> bool {
    // Before the files are read: a change while they are is noticed by the next look.
    let Some(files) = stamps(dir, checksums) else { return false };
    let path = dir.join(NAME);
    let known = read_own(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    if known.is_some_and(|known: Verified| known.holds(&files, SystemTime::now())) {
        return true;
    }
    let whole =
        checksums.iter().all(|(name, sum)| checksum(&dir.join(name)).is_ok_and(|it| it == *sum));
    if whole {
        let verified = Verified { at: SystemTime::now(), files };
        let text = serde_json::to_vec(&verified).expect("times and texts are JSON");
        // Who cannot note it reads the files again.
        let _ = write_atomic(&path, 0o644, &text);
    }
    whole
}

fn stamps(dir: &Path, checksums: &[(String, Checksum)]) -> Option<Vec<Stamp>> {
    let stamp = |(name, _): &(String, Checksum)| {
        let found = std::fs::symlink_metadata(dir.join(name)).ok()?;
        let changed = (found.ctime(), found.ctime_nsec());
        Some(Stamp { name: name.clone(), inode: found.ino(), changed })
    };
    checksums.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_holds_for_a_day_and_until_a_file_changes() {
        let second = Duration::from_secs;
        let stamp = |changed| vec![Stamp { name: "disk".to_owned(), inode: 1, changed }];
        let at = SystemTime::UNIX_EPOCH + second(1000);
        let known = Verified { at, files: stamp((900, 5)) };
        assert!(known.holds(&stamp((900, 5)), at + second(3600)));
        assert!(!known.holds(&stamp((900, 6)), at + second(3600)), "it was changed");
        assert!(!known.holds(&stamp((900, 5)), at + 2 * HOLDS), "that is long ago");
        assert!(!known.holds(&stamp((900, 5)), at - second(1)), "the clock was wrong");
        let fresh = Verified { at, files: stamp((999, 5)) };
        assert!(!fresh.holds(&stamp((999, 5)), at + second(1)), "too close to the change");
    }

    #[test]
    fn what_is_no_image_is_not_noted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("disk"), "good").unwrap();
        let right = [("disk".to_owned(), checksum(&dir.path().join("disk")).unwrap())];
        let wrong = [("disk".to_owned(), Checksum { bytes: 4, crc32: 1 })];
        assert!(!is_whole(dir.path(), &wrong) && !dir.path().join(NAME).exists());
        assert!(is_whole(dir.path(), &right) && dir.path().join(NAME).exists());
        std::fs::write(dir.path().join(NAME), "{").unwrap();
        assert!(is_whole(dir.path(), &right));
        std::fs::remove_file(dir.path().join("disk")).unwrap();
        assert!(!is_whole(dir.path(), &right));
    }
}
