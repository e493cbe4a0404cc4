//! A process whose threads are stopped: its memory, its registers, and system calls in its name (ptrace(2)).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use nix::libc::user_regs_struct;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::maps::Map;
use super::unfit;

/// The instruction `syscall` of processors of the x86-64 kind.
pub(super) const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// The event of a thread that was stopped, or that begins (PTRACE_EVENT_STOP).
const STOP: i32 = 128;

/// What a system call returns that a stop broke into, and that is to be made once more
/// (ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND of the kernel's include/linux/errno.h).
const AGAIN: [i64; 3] = [-512, -513, -514];

/// The same for one that would go on with the rest of its time (ERESTART_RESTARTBLOCK): that rest is known to
/// the kernel alone.
const AGAIN_FOR_THE_REST: i64 = -516;

/// What a program sees when a signal has broken into a system call.
const EINTR: i64 = -4;

/// Defines [`Registers`] by their names, which the kernel's structure has as well.
macro_rules! registers {
    ($($name:ident),*) => {
        /// The registers that a thread needs to go on after a system call; those of floating point are not among them, as
        /// no caller of a function relies on them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub(super) struct Registers {
            $(pub(super) $name: u64),*
        }

        impl Registers {
            fn of(it: &user_regs_struct) -> Self {
                Self { $($name: it.$name),* }
            }

            /// Returns all registers of a thread, with these in them, so that it goes on there and in no system call.
            fn within(&self, all: user_regs_struct) -> user_regs_struct {
                user_regs_struct { $($name: self.$name,)* orig_rax: u64::MAX, ..all }
            }
        }
    };
}

registers!(
    r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, rip, eflags, rsp,
    fs_base
);

/// How long a process may take to stop, and to end when it is killed. It takes microseconds, but where a thread of it is
/// in a call that nothing breaks into, such as one to a file server that is gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a process is looked at that should stop at any moment, before it is given more time between looks.
const LOOKS: u32 = 200;

/// More threads than any process has that is kept.
const MOST_THREADS: usize = 1024;

/// A process of which the calling thread holds every thread; all that is done to it has to be done by this one.
#[derive(Debug)]
pub(super) struct Traced {
    pub(super) pid: i32,
    memory: File,
    /// Where the instruction [`SYSCALL`] is.
    gate: u64,
}

impl Traced {
    /// Stops all threads of a process, and returns their numbers too, its own first. They go on when they
    /// are released, or the calling thread ends.
    pub(super) fn seize(pid: i32) -> io::Result<(Self, Vec<i32>)> {
        let mut threads = Vec::new();
        loop {
            let found = threads_of(pid)?;
            let Some(new) = found.iter().find(|thread| !threads.contains(*thread)) else { break };
            let new = *new;
            if threads.len() == MOST_THREADS {
                return Err(unfit(format!("it has more than {MOST_THREADS} threads")));
            }
            ptrace::seize(Pid::from_raw(new), Options::empty())?;
            ptrace::interrupt(Pid::from_raw(new))?;
            match waited(new)? {
                WaitStatus::PtraceEvent(_, _, STOP) => threads.push(new),
                other => return Err(unexpected(&other)),
            }
        }
        Ok((Self { pid, memory: memory_of(pid)?, gate: 0 }, threads))
    }

    /// Takes a child that stops itself, lets it go on to its next program, and stops it before the first
    /// instruction of that. It is killed if the calling thread ends before it is released.
    pub(super) fn take_at_exec(pid: i32) -> io::Result<Self> {
        let it = Pid::from_raw(pid);
        match wait_for(pid, WaitPidFlag::WUNTRACED)? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
            other => return Err(unexpected(&other)),
        }
        let options =
            [Options::PTRACE_O_EXITKILL, Options::PTRACE_O_TRACEEXEC, Options::PTRACE_O_TRACECLONE];
        ptrace::seize(it, options.into_iter().collect())?;
        kill(it, Signal::SIGCONT)?;
        loop {
            match waited(pid)? {
                WaitStatus::PtraceEvent(_, _, event)
                    if event == Event::PTRACE_EVENT_EXEC as i32 =>
                {
                    break;
                }
                WaitStatus::PtraceEvent(_, _, STOP) | WaitStatus::Stopped(_, Signal::SIGCONT) => {
                    ptrace::cont(it, None)?;
                }
                other => return Err(unexpected(&other)),
            }
        }
        // It is still inside execve(2), whose result would go into a register that is to hold something else.
        ptrace::step(it, None)?;
        match waited(pid)? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
            other => return Err(unexpected(&other)),
        }
        Ok(Self { pid, memory: memory_of(pid)?, gate: 0 })
    }

    /// Has system calls made by an instruction of the kernel's own code in the process (vdso(7)).
    pub(super) fn call_through_vdso(&mut self, maps: &[Map]) -> io::Result<()> {
        let vdso = maps
            .iter()
            .find(|map| map.name == "[vdso]")
            .ok_or_else(|| unfit("there is no vDSO"))?;
        let mut code = vec![0; usize::try_from(vdso.end - vdso.start).map_err(io::Error::other)?];
        self.read(vdso.start, &mut code)?;
        let at = code.windows(SYSCALL.len()).position(|bytes| bytes == SYSCALL);
        self.gate = vdso.start + at.ok_or_else(|| unfit("the vDSO makes no system call"))? as u64;
        Ok(())
    }

    /// Has system calls made by an instruction that is written there.
    pub(super) fn call_through(&mut self, address: u64) -> io::Result<()> {
        self.write(address, &SYSCALL)?;
        self.gate = address;
        Ok(())
    }

    /// Reads memory.
    pub(super) fn read(&self, address: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.memory.read_exact_at(bytes, address)
    }

    /// Writes memory.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        self.memory.write_all_at(bytes, address)
    }

    /// Returns a thread's registers as they are to be when it goes on: one that was stopped inside a system call makes
    /// it once more.
    pub(super) fn registers(&self, thread: i32) -> io::Result<Registers> {
        let all = ptrace::getregs(Pid::from_raw(thread))?;
        let mut registers = Registers::of(&all);
        if all.orig_rax.cast_signed() >= 0 {
            let result = all.rax.cast_signed();
            if AGAIN.contains(&result) {
                registers.rax = all.orig_rax;
                registers.rip -= SYSCALL.len() as u64;
            } else if result == AGAIN_FOR_THE_REST {
                registers.rax = EINTR.cast_unsigned();
            }
        }
        Ok(registers)
    }

    /// Sets a thread's registers.
    pub(super) fn set_registers(&self, thread: i32, registers: &Registers) -> io::Result<()> {
        let it = Pid::from_raw(thread);
        Ok(ptrace::setregs(it, registers.within(ptrace::getregs(it)?))?)
    }

    /// Has the first thread make a system call, and returns its result.
    pub(super) fn call(&self, number: i64, args: &[u64]) -> io::Result<u64> {
        self.call_with_child(number, args).map(|(result, _)| result)
    }

    /// Has the first thread make a system call, and returns its result with the thread that it made, if any.
    pub(super) fn call_with_child(
        &self,
        number: i64,
        args: &[u64],
    ) -> io::Result<(u64, Option<i32>)> {
        let it = Pid::from_raw(self.pid);
        let arg = |at: usize| args.get(at).copied().unwrap_or(0);
        let registers = Registers {
            rip: self.gate,
            rax: number.cast_unsigned(),
            rdi: arg(0),
            rsi: arg(1),
            rdx: arg(2),
            r10: arg(3),
            r8: arg(4),
            r9: arg(5),
            ..Registers::of(&ptrace::getregs(it)?)
        };
        self.set_registers(self.pid, &registers)?;
        let mut child = None;
        loop {
            ptrace::step(it, None)?;
            match waited(self.pid)? {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => break,
                WaitStatus::PtraceEvent(_, _, event)
                    if event == Event::PTRACE_EVENT_CLONE as i32 =>
                {
                    let number = i32::try_from(ptrace::getevent(it)?).map_err(io::Error::other)?;
                    match waited(number)? {
                        WaitStatus::PtraceEvent(_, _, STOP) => child = Some(number),
                        other => return Err(unexpected(&other)),
                    }
                }
                other => return Err(unexpected(&other)),
            }
        }
        let result = ptrace::getregs(it)?.rax.cast_signed();
        match i32::try_from(result) {
            Ok(error @ -4095..=-1) => Err(io::Error::from_raw_os_error(-error)),
            _ => Ok((result.cast_unsigned(), child)),
        }
    }

    /// Lets these threads go on by themselves.
    pub(super) fn release(&self, threads: &[i32]) -> io::Result<()> {
        threads.iter().try_for_each(|thread| Ok(ptrace::detach(Pid::from_raw(*thread), None)?))
    }
}

/// Returns the numbers of a process's threads, the first one first.
fn threads_of(pid: i32) -> io::Result<Vec<i32>> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task"))?;
    let mut threads: Vec<i32> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    threads.sort_by_key(|thread| (*thread != pid, *thread));
    Ok(threads)
}

fn memory_of(pid: i32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"))
}

/// Ends a child with all its threads that the calling thread holds, and returns when what they had open is closed.
///
/// # Errors
///
/// If it does not end in time.
pub(super) fn end(pid: i32) -> io::Result<()> {
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        // Whoever traces a thread has to hear of its end, or the process's own is not announced.
        for thread in threads_of(pid).unwrap_or_default().into_iter().rev() {
            let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
            match waitpid(Pid::from_raw(thread), Some(flags)) {
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) if thread == pid => {
                    return Ok(());
                }
                // It was stopped by something else meanwhile, and is to die of the signal.
                Ok(WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..)) => {
                    let _ = ptrace::cont(Pid::from_raw(thread), None);
                }
                Err(nix::errno::Errno::ECHILD) if thread == pid => return Ok(()),
                _ => {}
            }
        }
        if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
            return Ok(());
        }
        // wait: the ends of threads come one by one
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("process {pid} was killed and does not end"),
    ))
}

fn waited(thread: i32) -> io::Result<WaitStatus> {
    wait_for(thread, WaitPidFlag::__WALL)
}

/// Waits for what a thread does next, but not for ever.
fn wait_for(thread: i32, flags: WaitPidFlag) -> io::Result<WaitStatus> {
    let deadline = Instant::now() + PATIENCE;
    for look in 0_u32.. {
        match waitpid(Pid::from_raw(thread), Some(flags | WaitPidFlag::WNOHANG))? {
            WaitStatus::StillAlive => {}
            status => return Ok(status),
        }
        if Instant::now() >= deadline {
            break;
        }
        if look < LOOKS {
            std::thread::yield_now();
        } else {
            // wait: waitpid(2) has no time limit of its own
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    let seconds = PATIENCE.as_secs();
    let text = format!("thread {thread} did not stop within {seconds} s");
    Err(io::Error::new(io::ErrorKind::TimedOut, text))
}

fn unexpected(status: &WaitStatus) -> io::Error {
    io::Error::other(format!("the process did something else: {status:?}"))
}
