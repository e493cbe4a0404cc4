//! Descriptors that skep was started with.

/// Marks every descriptor but the standard three to be closed in programs that skep starts.
///
/// Rust opens its own descriptors that way; those that a caller left open (a test runner's, a
/// shell's) would otherwise be held by QEMU for as long as the machine runs, and whoever waits for
/// end-of-file on them would wait as long. Call it before any thread is started.
///
/// # Errors
///
/// If /proc cannot be read.
#[allow(unsafe_code)]
pub fn close_inherited_on_exec() -> std::io::Result<()> {
    use rustix::io::FdFlags;
    let numbers: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in numbers {
        // SAFETY: the descriptor is only borrowed for this call, which neither closes it nor keeps
        // it. If it was closed since it was listed (the listing's own is), the call answers EBADF.
        let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        let _ = rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC);
    }
    Ok(())
}
