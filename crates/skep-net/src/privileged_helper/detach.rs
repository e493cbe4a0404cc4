//! What the process that acts as root leaves of the caller behind.
//!
//! Whatever it inherits is the caller's to choose: a terminal whose keys stop it, a scheduling class in which it hardly
//! runs, a cgroup that an ordinary user may freeze, limits, a mask for files. It holds a lock that others wait for, so
//! it leaves all of that before it takes one, and ends by itself after [`LIFE`].

use std::io;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit};
use tokio::signal::unix::{SignalKind, signal};

/// How long it lives at most, whatever happens. With its end the kernel releases its locks.
const LIFE: Duration = Duration::from_secs(120);

/// The numbers of signals by which a terminal stops programs: TSTP, TTIN and TTOU (signal(7), x86 and ARM).
const STOPS: [i32; 3] = [20, 21, 22];

/// Where a process goes to be in no cgroup but the first one (cgroups(7)).
const FIRST_CGROUP: &str = "/sys/fs/cgroup/cgroup.procs";

/// Leaves the caller's session, terminal, cgroup and limits. Call it before any thread is started.
///
/// # Errors
///
/// If this process leads a process group, or may not set its limits.
pub fn leave_caller(ended: fn() -> !) -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::setpriority_process(None, 0)?;
    for resource in [Resource::Cpu, Resource::Fsize, Resource::Data, Resource::As] {
        rustix::process::setrlimit(resource, Rlimit { current: None, maximum: None })?;
    }
    // In a container there may be no such file, and then nobody else's cgroups either.
    let _ = std::fs::write(FIRST_CGROUP, "0");
    std::thread::Builder::new().spawn(move || {
        // wait: the end of this time is the condition.
        std::thread::sleep(LIFE);
        ended()
    })?;
    Ok(())
}

/// Has the signals of terminals do nothing. The kernel keeps them from a session without a terminal; this is for those
/// that sudo hands on. SIGTERM still ends the process, which is for administrators.
///
/// # Errors
///
/// If a signal cannot be handled; call it within a runtime.
pub fn ignore_terminals() -> io::Result<()> {
    let others = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit()];
    for kind in others.into_iter().chain(STOPS.map(SignalKind::from_raw)) {
        // The handler stays when this is dropped.
        drop(signal(kind)?);
    }
    Ok(())
}
