//! What a machine takes of the host.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use skep_sys::{stat_fields, value_of};

use super::launch::process;

/// What a machine's process takes of the host (proc(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Memory that no other process has, in KiB.
    pub private_kib: u64,
    /// Its part of all memory, what is shared divided by those who share it (PSS), in KiB.
    pub proportional_kib: u64,
    /// Processor time that it has used since it was started.
    pub cpu: Duration,
    /// How often each of its threads, by its number, has begun to wait since that was started.
    pub waits: BTreeMap<u64, u64>,
}

impl Usage {
    /// Returns how often its threads have begun to wait since it was looked at before: an idle machine's wake-ups. Threads that
    /// have ended since then are left out.
    #[must_use]
    pub fn waits_since(&self, before: &Self) -> u64 {
        let new = |(thread, waits): (&u64, &u64)| {
            waits.saturating_sub(before.waits.get(thread).copied().unwrap_or(0))
        };
        self.waits.iter().map(new).sum()
    }
}

/// Returns what the machine that has this directory takes; none if it does not run.
#[must_use]
pub fn usage(dir: &Path) -> Option<Usage> {
    let proc = Path::new("/proc").join(process(dir)?.pid.to_string());
    let memory = std::fs::read_to_string(proc.join("smaps_rollup")).ok()?;
    let field = |name| value_of(&memory, name)?.trim_end_matches(" kB").parse::<u64>().ok();
    let private = ["Private_Clean", "Private_Dirty"].into_iter().filter_map(field).sum();
    let waits = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).ok()?;
        let waits = value_of(&status, "voluntary_ctxt_switches")?.parse().ok()?;
        Some((task.file_name().to_str()?.parse().ok()?, waits))
    };
    let waits = std::fs::read_dir(proc.join("task")).ok()?.flatten().filter_map(waits).collect();
    let ticks = cpu_ticks(&std::fs::read_to_string(proc.join("stat")).ok()?)?;
    Some(Usage {
        private_kib: private,
        proportional_kib: field("Pss")?,
        cpu: Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()),
        waits,
    })
}

/// Returns the time in user and kernel mode of a line of /proc/PID/stat.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat_fields(stat)?.skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(ticks()? + ticks()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_has_ended_takes_nothing_away() {
        let usage = |waits: &[(u64, u64)]| Usage {
            private_kib: 0,
            proportional_kib: 0,
            cpu: Duration::ZERO,
            waits: waits.iter().copied().collect(),
        };
        let before = usage(&[(1, 100), (2, 5000)]);
        assert_eq!(usage(&[(1, 130), (3, 4)]).waits_since(&before), 34);
    }

    #[test]
    fn time_is_read_past_a_name_with_blanks() {
        let stat = "7 (CPU 0/KVM) x) S 1 7 7 0 -1 4194624 9 0 0 0 120 30 0 0 20 0 5 0 99";
        assert_eq!(cpu_ticks(stat), Some(150));
        assert_eq!(cpu_ticks("7 (x"), None);
    }
}
