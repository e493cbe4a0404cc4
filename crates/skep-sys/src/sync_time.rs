//! How long a small write takes until it is on the disk.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::FileError;

/// How often it is tried; the middle one counts, as one may wait for another program's writes.
const TIMES: usize = 5;

/// Returns how long a write of 4 KiB takes until it is on the disk (fdatasync(2)) below a directory, in a file that is
/// removed again.
///
/// # Errors
///
/// If nothing can be written there.
pub fn sync_time(dir: &Path) -> Result<Duration, FileError> {
    let fail = |source| FileError::new("write to", dir, source);
    let mut file = tempfile::tempfile_in(dir).map_err(fail)?;
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let began = Instant::now();
        file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).map_err(fail)?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times[TIMES / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_measured_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(sync_time(dir.path()).unwrap() > Duration::ZERO);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(sync_time(&dir.path().join("nowhere")).is_err());
    }
}
