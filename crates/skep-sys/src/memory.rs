//! The most memory that this process had (proc(5)).

use std::path::Path;

use super::{FileError, value_of};

/// Lets [`peak_memory_kib`] count from now on.
///
/// # Errors
///
/// If the kernel does not do so.
pub fn forget_peak_memory() -> Result<(), FileError> {
    let path = Path::new("/proc/self/clear_refs");
    std::fs::write(path, "5").map_err(|source| FileError::new("write", path, source))
}

/// Returns the most memory that this process had, in KiB; none if the kernel does not tell.
#[must_use]
pub fn peak_memory_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    value_of(&status, "VmHWM")?.trim_end_matches(" kB").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_forgotten() {
        let large = vec![1_u8; 64 << 20];
        let before = peak_memory_kib().unwrap();
        assert!(before > 64 << 10, "{before}");
        drop(std::hint::black_box(large));
        forget_peak_memory().unwrap();
        assert!(peak_memory_kib().unwrap() < before);
    }
}
