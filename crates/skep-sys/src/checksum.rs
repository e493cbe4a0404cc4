//! Checksums that tell whether a large file is still what it was; no protection against malice.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::SeekFrom;
use serde::{Deserialize, Serialize};

use super::FileError;

/// What is read at once, in bytes.
const BLOCK: usize = 1 << 20;

/// A file's length and CRC-32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// Its length in bytes.
    pub bytes: u64,
    /// The CRC-32 of its blocks that are not all zero, each with its place.
    pub crc32: u32,
}

/// Computes a file's checksum. Holes are not read, and count as the zeros that they are.
///
/// # Errors
///
/// If the file cannot be read.
pub fn checksum(path: &Path) -> Result<Checksum, FileError> {
    let fail = |source: std::io::Error| FileError::new("read", path, source);
    let file = File::open(path).map_err(fail)?;
    let bytes = file.metadata().map_err(fail)?.len();
    let mut hash = crc32fast::Hasher::new();
    let mut block = vec![0; BLOCK];
    let step = u64::try_from(BLOCK).expect("a block's size");
    let mut at = 0;
    while at < bytes {
        // The next data; without holes, and on file systems that know none, that is here.
        match rustix::fs::seek(&file, SeekFrom::Data(at)) {
            Ok(data) => at = data / step * step,
            Err(rustix::io::Errno::NXIO) => break,
            Err(_) => {}
        }
        let length = fill(&file, &mut block, at).map_err(fail)?;
        let block = &block[..length];
        if block.iter().any(|byte| *byte != 0) {
            hash.update(&at.to_le_bytes());
            hash.update(block);
        }
        at += step;
    }
    Ok(Checksum { bytes, crc32: hash.finalize() })
}

/// Reads a block, shorter only at the end of the file.
fn fill(file: &File, block: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut done = 0;
    while done < block.len() {
        let place = at + u64::try_from(done).expect("a block's size");
        match file.read_at(&mut block[done..], place)? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(length: u64, data: &[(u64, &[u8])]) -> Checksum {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(length).unwrap();
        for (at, bytes) in data {
            file.as_file().write_all_at(bytes, *at).unwrap();
        }
        checksum(file.path()).unwrap()
    }

    #[test]
    fn any_changed_byte_and_length_is_told() {
        let plain = sum(5 << 20, &[(100, b"one"), (3 << 20, b"two")]);
        assert_eq!(plain, sum(5 << 20, &[(100, b"one"), (3 << 20, b"two")]));
        assert_ne!(plain, sum(5 << 20, &[(100, b"one"), (3 << 20, b"twO")]));
        assert_ne!(plain, sum(5 << 20, &[(100, b"one"), (4 << 20, b"two")]));
        assert_ne!(plain, sum(6 << 20, &[(100, b"one"), (3 << 20, b"two")]));
    }

    #[test]
    fn a_hole_is_as_good_as_zeros() {
        let zeros = vec![0; 2 << 20];
        assert_eq!(sum(4 << 20, &[(0, &zeros), (9, b"x")]), sum(4 << 20, &[(9, b"x")]));
        assert_eq!(sum(0, &[]).bytes, 0);
    }
}
