//! The filter of system calls of a process that is stopped (seccomp(2)).

use std::io;

use nix::libc;
use skep_sys::value_of;

use super::{doing, unfit};

/// PTRACE_SECCOMP_GET_FILTER (ptrace(2)).
const GET_FILTER: u32 = 0x420c;

/// Reads the filter of system calls: of one thread, as all have the same one.
#[allow(unsafe_code)]
pub(super) fn filter(pid: i32) -> io::Result<Vec<u64>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name| value_of(&status, name);
    match (field("Seccomp"), field("Seccomp_filters")) {
        (Some("0"), _) => return Ok(Vec::new()),
        (Some("2"), Some("1")) => {}
        _ => return Err(unfit("it has more than one filter of system calls")),
    }
    let ask = |to: *mut u64| {
        // SAFETY: with a null pointer the call only counts the instructions; with another one it writes as many of
        // them, 8 bytes each, and the vector below has room for as many. The process is stopped meanwhile, and
        // has as many as before.
        let count = unsafe { libc::ptrace(GET_FILTER, pid, 0, to) };
        if count < 0 {
            Err(io::Error::last_os_error())
        } else {
            usize::try_from(count).map_err(io::Error::other)
        }
    };
    let asked = || "read its filter of system calls".to_owned();
    let mut filter = vec![0; doing(asked, ask(std::ptr::null_mut()))?];
    doing(asked, ask(filter.as_mut_ptr()))?;
    Ok(filter)
}
