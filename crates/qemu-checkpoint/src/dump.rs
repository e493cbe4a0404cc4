//! From a process to a checkpoint.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::libc;
use skep_sys::value_of;

use super::descriptors::descriptors;
use super::filter::filter;
use super::maps::{self, Map};
use super::trace::Traced;
use super::{Checkpoint, Stamp, Thread, doing, kernel, unfit};

/// Where the GNU C library keeps a thread's number, from the thread's own address on: `tid` of its `struct pthread`
/// (nptl/descr.h), on this architecture.
const NUMBER: u64 = 0x2d0;

/// The number of signals that programs deal with (signal(7)).
const SIGNALS: u64 = 31;

/// The size of the kernel's `struct sigaction` and of its sets of signals, in bytes.
const ACTION: usize = 32;
const SET: u64 = 8;

/// Keeps a process that waits, which goes on waiting. What its memory holds goes to `pages`, but for
/// what is in files that do not change; `shared` is the one file that it may share memory with. What it was started with
/// are the first `inherited` descriptors.
///
/// # Errors
///
/// If it cannot be traced (for its filter of system calls, only root may read that), or if it has or is something that
/// could not be made once more.
pub fn dump(pid: u32, shared: &Path, inherited: u64, pages: &File) -> io::Result<Checkpoint> {
    let (mut traced, numbers) = Traced::seize(pid.cast_signed())?;
    let main = traced.registers(traced.pid)?;
    let kept = keep(&mut traced, &numbers, shared, inherited, pages);
    // The calls that it was made to make have changed them.
    traced.set_registers(traced.pid, &main)?;
    traced.release(&numbers)?;
    kept
}

fn keep(
    traced: &mut Traced,
    numbers: &[i32],
    shared: &Path,
    inherited: u64,
    pages: &File,
) -> io::Result<Checkpoint> {
    let pid = traced.pid;
    let maps = Map::all(pid)?;
    let threads =
        numbers.iter().map(|number| thread(traced, *number)).collect::<io::Result<_>>()?;
    let descriptors = descriptors(pid, inherited)?;
    let filter = filter(pid)?;
    let timer_slack = std::fs::read_to_string(format!("/proc/{pid}/timerslack_ns"))?;
    let timer_slack = timer_slack.trim().parse().map_err(io::Error::other)?;
    let regions = doing(|| "keep its memory".into(), maps::save(traced, &maps, shared, pages))?;
    let stamped = |path: PathBuf| Stamp::of(&path).map(|stamp| (path, stamp));
    let files = maps::files(&regions).into_iter().map(stamped).collect::<io::Result<_>>()?;
    let heap = maps::heap(&maps).ok_or_else(|| unfit("it has no heap"))?;
    let kernels = maps.iter().filter(|map| map.is_kernels() && map.name != "[vsyscall]");
    let vdso = kernels.map(|map| (map.name.clone(), map.start, map.end)).collect();
    traced.call_through_vdso(&maps)?;
    let actions = doing(|| "ask what it does about signals".into(), actions(traced))?;
    Ok(Checkpoint {
        kernel: kernel(),
        vdso,
        regions,
        heap,
        files,
        threads,
        descriptors,
        actions,
        filter,
        timer_slack,
    })
}

fn thread(traced: &Traced, number: i32) -> io::Result<Thread> {
    let registers = traced.registers(number)?;
    let status = std::fs::read_to_string(format!("/proc/{}/task/{number}/status", traced.pid))?;
    let field = |name| value_of(&status, name);
    let blocked = field("SigBlk").and_then(|text| u64::from_str_radix(text, 16).ok());
    // The last one is that in the innermost namespace, which is where it lives (proc_pid_status(5)).
    let own: Option<u32> =
        field("NSpid").and_then(|text| text.split_whitespace().last()?.parse().ok());
    let number_at = registers.fs_base + NUMBER;
    let mut known = [0; 4];
    traced.read(number_at, &mut known)?;
    if own != Some(u32::from_ne_bytes(known)) {
        return Err(unfit(
            "its C library is another one than the GNU C library as it is known here",
        ));
    }
    let blocked =
        blocked.ok_or_else(|| unfit("the kernel does not tell which signals it blocks"))?;
    Ok(Thread { registers, blocked, number_at })
}

/// Asks the process what it does about each signal, by way of some bytes below its stack's end.
fn actions(traced: &Traced) -> io::Result<Vec<(u64, Vec<u8>)>> {
    let room = traced.registers(traced.pid)?.rsp - super::PAGE;
    let mut actions = Vec::new();
    for signal in (1..=SIGNALS).filter(|signal| !is_fixed(*signal)) {
        traced.call(libc::SYS_rt_sigaction, &[signal, 0, room, SET])?;
        let mut action = vec![0; ACTION];
        traced.read(room, &mut action)?;
        if action.iter().any(|byte| *byte != 0) {
            actions.push((signal, action));
        }
    }
    Ok(actions)
}

fn is_fixed(signal: u64) -> bool {
    [libc::SIGKILL, libc::SIGSTOP].map(i32::cast_unsigned).map(u64::from).contains(&signal)
}
