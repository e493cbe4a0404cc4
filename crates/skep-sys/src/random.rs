//! Randomness.

use std::path::Path;

use super::FileError;

/// Fills a buffer with random bytes that nobody can foretell.
///
/// # Errors
///
/// If the kernel has none to give.
pub fn fill_random(buffer: &mut [u8]) -> Result<(), FileError> {
    let device = Path::new("/dev/urandom");
    std::fs::File::open(device)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, buffer))
        .map_err(|source| FileError::new("read", device, source))
}
