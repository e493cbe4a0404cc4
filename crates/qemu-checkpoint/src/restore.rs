//! From a checkpoint to a process.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::libc;
use skep_sys::{ProcessId, stat_fields};

use super::descriptors::{CLOSE_ON_EXEC, Kind};
use super::maps::Map;
use super::trace::{Traced, end};
use super::{Checkpoint, Content, PAGE, Region, Thread, doing, unfit};

/// The room that a process needs for being made: a page of code, and some of data.
const ROOM: u64 = 4 * PAGE;

/// From where on that room is looked for: below anything that is usually mapped.
const LOW: u64 = 0x1000_0000;

/// How many connections a socket may keep waiting.
const BACKLOG: u64 = 16;

/// A request about a descriptor that the process was started with (ioctl(2)), which a program made when it
/// got the first one.
#[derive(Debug, Clone, Copy)]
pub struct Ioctl {
    /// The descriptor.
    pub descriptor: u64,
    /// The request.
    pub request: u64,
    /// Its argument.
    pub value: u32,
    /// What to ask for if that is refused.
    pub or: Option<u32>,
    /// Whether the request takes the argument's address.
    pub by_address: bool,
}

/// How a process goes on.
pub struct Restoring<'a> {
    /// From where.
    pub checkpoint: &'a Checkpoint,
    /// The file of its pages.
    pub pages: &'a Path,
    /// The file of which it gets a private view in the place of the shared memory.
    pub shared: &'a Path,
    /// Where a file is that was open, and whether it may be written to if it was.
    pub place: &'a dyn Fn(&Path) -> (PathBuf, bool),
    /// What is to be asked of descriptors.
    pub ioctls: &'a [Ioctl],
    /// The user and group that it becomes.
    pub user: Option<u32>,
    /// Is told which process it is before it runs: it is killed if we end until then, and goes on if we end later.
    pub note: &'a dyn Fn(ProcessId) -> io::Result<()>,
}

/// Starts a program that goes on as the process of a checkpoint did. The command has to stop itself
/// (SIGSTOP) and then to start the program that it was, with what is inherited as it was. It should end with the calling
/// thread until then (PR_SET_PDEATHSIG(2const)), as from then on it does; what it is told of that is taken back.
///
/// # Errors
///
/// If the program cannot be started, traced, or given what it had; then it has ended, and has nothing open any more.
pub fn restore(mut command: Command, how: &Restoring<'_>) -> io::Result<()> {
    let mut child = command.spawn()?;
    let made = Traced::take_at_exec(child.id().cast_signed())
        .and_then(|traced| Making::new(traced, how)?.finish());
    match made {
        Ok(()) => {
            // Whoever started it has to hear of its end, or it would stay in the list of processes.
            std::thread::spawn(move || child.wait());
            Ok(())
        }
        // Its descriptors are to be had by what is started in its place.
        Err(error) => match end(child.id().cast_signed()) {
            Ok(()) => Err(error),
            Err(second) => Err(io::Error::new(error.kind(), format!("{error}; {second}"))),
        },
    }
}

/// A process that is being made.
struct Making<'a> {
    how: &'a Restoring<'a>,
    from: &'a Checkpoint,
    traced: Traced,
    room: u64,
}

impl<'a> Making<'a> {
    /// Takes from a process all that it has, but for its descriptors and what the kernel told it.
    fn new(mut traced: Traced, how: &'a Restoring<'a>) -> io::Result<Self> {
        let from = how.checkpoint;
        let own = Map::all(traced.pid)?;
        let (kernels, others): (Vec<_>, Vec<_>) = own.iter().partition(|map| map.is_kernels());
        let (stack, others): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|map| map.name == "[stack]");
        // The words of its command line are on its first stack, where the kernel shows them from.
        let stays = stack.iter().map(|map| (map.start, map.end));
        let wanted = || {
            let regions = from.regions.iter().map(|region| (region.start, region.end));
            regions.chain(from.vdso.iter().map(|(_, start, end)| (*start, *end)))
        };
        let overlap = |a: (u64, u64), b: (u64, u64)| a.0 < b.1 && b.0 < a.1;
        if stays.clone().any(|stack| wanted().any(|wanted| overlap(stack, wanted))) {
            return Err(unfit("its place in memory is taken"));
        }
        let taken = |room| {
            own.iter().map(|map| (map.start, map.end)).chain(wanted()).any(|it| overlap(it, room))
        };
        let free = (0..).map(|at| LOW + at * ROOM).find(|at| !taken((*at, at + ROOM)));
        let room = free.ok_or_else(|| unfit("there is no room"))?;
        traced.call_through_vdso(&own)?;
        let all = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC).cast_unsigned().into();
        let anonymous = fixed(libc::MAP_ANONYMOUS);
        doing(
            || "make room".into(),
            traced.call(libc::SYS_mmap, &[room, ROOM, all, anonymous, NONE, 0]),
        )?;
        traced.call_through(room)?;
        for map in others {
            traced.call(libc::SYS_munmap, &[map.start, map.end - map.start])?;
        }
        let making = Self { how, from, traced, room };
        making.move_vdso(&kernels)?;
        Ok(making)
    }

    /// Makes it what it was, and lets it go on.
    fn finish(self) -> io::Result<()> {
        self.map_memory()?;
        self.move_heap()?;
        self.open_descriptors()?;
        for (signal, action) in &self.from.actions {
            let data = self.put(action)?;
            self.call(
                "set what it does about signals",
                libc::SYS_rt_sigaction,
                &[*signal, data, 0, 8],
            )?;
        }
        self.become_user()?;
        let threads = self.make_threads()?;
        self.outlive_parent()?;
        self.set_filter()?;
        let pid = self.traced.pid;
        self.traced.call(libc::SYS_munmap, &[self.room, ROOM])?;
        self.traced.set_registers(pid, &self.from.threads[0].registers)?;
        let process = ProcessId::of(pid.cast_unsigned());
        (self.how.note)(process.ok_or_else(|| io::Error::other("it has ended"))?)?;
        self.traced.release(&threads)
    }

    /// Moves what the kernel maps into each process to where the process knows it.
    fn move_vdso(&self, own: &[&Map]) -> io::Result<()> {
        for (name, start, end) in &self.from.vdso {
            let same =
                own.iter().find(|map| map.name == *name && map.end - map.start == end - start);
            let same = same.ok_or_else(|| unfit(format!("the kernel's {name} is another one")))?;
            if same.start != *start {
                let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED).cast_unsigned().into();
                let size = end - start;
                self.call(
                    "move the vDSO",
                    libc::SYS_mremap,
                    &[same.start, size, size, flags, *start],
                )?;
            }
        }
        Ok(())
    }

    fn map_memory(&self) -> io::Result<()> {
        let mut files = BTreeMap::new();
        // Above all that it had.
        let high = self.from.descriptors.last().map_or(3, |last| last.number + 1);
        let read = libc::O_RDONLY.cast_unsigned().into();
        for region in &self.from.regions {
            let (path, offset) = match &region.content {
                Content::Zeros => {
                    self.map(region, libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, NONE, 0)?;
                    continue;
                }
                Content::Saved(offset) => (self.how.pages, *offset),
                Content::Shared(offset) => (self.how.shared, *offset),
                Content::File(path, offset) => (path.as_path(), *offset),
            };
            let file = match files.get(path) {
                Some(file) => *file,
                None => {
                    let to = high + files.len() as u64;
                    self.number(self.open(path, read)?, to, CLOSE_ON_EXEC)?;
                    files.insert(path, to);
                    to
                }
            };
            self.map(region, libc::MAP_NORESERVE, file, offset)?;
            if let Content::Shared(_) = region.content {
                // As QEMU has it; a kernel without that merging refuses.
                let advice = libc::MADV_MERGEABLE.cast_unsigned().into();
                let _ = self
                    .traced
                    .call(libc::SYS_madvise, &[region.start, region.end - region.start, advice]);
            }
        }
        for file in files.values() {
            self.traced.call(libc::SYS_close, &[*file])?;
        }
        Ok(())
    }

    fn map(&self, region: &Region, flags: i32, file: u64, offset: u64) -> io::Result<()> {
        let Region { start, end, protection, .. } = *region;
        let mapped = self
            .traced
            .call(libc::SYS_mmap, &[start, end - start, protection, fixed(flags), file, offset]);
        doing(|| format!("map its memory at {start:x}"), mapped).map(|_| ())
    }

    /// Tells the kernel where memory grows by brk(2). Where it would have begun in this process is chance; from above the
    /// old place, brk(2) would seem to succeed and give nothing.
    fn move_heap(&self) -> io::Result<()> {
        let (start, end) = self.from.heap;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.traced.pid))?;
        // What is not moved stays as proc_pid_stat(5) has it.
        let field = |number: usize| {
            let value =
                stat_fields(&stat).and_then(|mut it| it.nth(number - 3)?.parse::<u64>().ok());
            value.ok_or_else(|| unfit("the kernel does not tell where its code is"))
        };
        // struct prctl_mm_map (PR_SET_MM(2const)): code, data, heap, stack, arguments, environment; no auxiliary
        // vector, and no other program.
        let (code, data) = ([field(26)?, field(27)?], [field(45)?, field(46)?]);
        let words = [field(28)?, field(48)?, field(49)?, field(50)?, field(51)?];
        let map = [&code[..], &data, &[start, end], &words, &[0, NO_PROGRAM]].concat();
        let map: Vec<u8> = map.into_iter().flat_map(u64::to_ne_bytes).collect();
        let option = libc::PR_SET_MM.cast_unsigned().into();
        let what = libc::PR_SET_MM_MAP.cast_unsigned().into();
        let args = [option, what, self.put(&map)?, map.len() as u64, 0];
        self.call("move its heap", libc::SYS_prctl, &args).map(|_| ())
    }

    fn open_descriptors(&self) -> io::Result<()> {
        let nonblocking = libc::O_NONBLOCK;
        for descriptor in &self.from.descriptors {
            let flags = descriptor.flags & u64::from(nonblocking.cast_unsigned());
            let made = match &descriptor.kind {
                Kind::Inherited => {
                    let args = [descriptor.number, libc::F_SETFL.cast_unsigned().into(), flags];
                    self.call("set a descriptor's flags", libc::SYS_fcntl, &args)?;
                    continue;
                }
                Kind::Event { count } => {
                    self.call("make a counter", libc::SYS_eventfd2, &[*count, flags])?
                }
                Kind::Signal { mask } => {
                    let data = self.put(&mask.to_ne_bytes())?;
                    self.call("take signals", libc::SYS_signalfd4, &[NONE, data, 8, flags])?
                }
                Kind::Epoll => self.call("make an epoll set", libc::SYS_epoll_create1, &[0])?,
                Kind::Listening { path } => {
                    doing(|| format!("listen at {}", path.display()), self.listen(path, flags))?
                }
                Kind::File { path } => {
                    let (path, writable) = (self.how.place)(path);
                    let access = match descriptor.flags & u64::from(libc::O_ACCMODE.cast_unsigned())
                    {
                        _ if !writable => 0,
                        access => access,
                    };
                    self.open(&path, access | flags)?
                }
            };
            let close = if descriptor.has(CLOSE_ON_EXEC) { CLOSE_ON_EXEC } else { 0 };
            self.number(made, descriptor.number, close)?;
        }
        for ioctl in self.how.ioctls {
            let ask = |value: u32| {
                let value = match ioctl.by_address {
                    true => self.put(&value.to_ne_bytes())?,
                    false => value.into(),
                };
                let args = [ioctl.descriptor, ioctl.request, value];
                self.call("set a descriptor up", libc::SYS_ioctl, &args)
            };
            match (ask(ioctl.value), ioctl.or) {
                (Err(_), Some(other)) => ask(other)?,
                (asked, _) => asked?,
            };
        }
        Ok(())
    }

    fn open(&self, path: &Path, flags: u64) -> io::Result<u64> {
        let mut name = path.as_os_str().as_bytes().to_vec();
        name.push(0);
        let args = [
            libc::AT_FDCWD as u64,
            self.put(&name)?,
            flags | u64::from(CLOSE_ON_EXEC.cast_unsigned()),
            0,
        ];
        doing(|| format!("open {}", path.display()), self.traced.call(libc::SYS_openat, &args))
    }

    fn listen(&self, path: &Path, flags: u64) -> io::Result<u64> {
        let kind = u64::from((libc::SOCK_STREAM | libc::SOCK_CLOEXEC).cast_unsigned()) | flags;
        let family = libc::AF_UNIX.cast_unsigned();
        let socket = self.traced.call(libc::SYS_socket, &[family.into(), kind, 0])?;
        // struct sockaddr_un: a number of two bytes, and the path (unix(7)).
        let mut address = u16::try_from(family).map_err(io::Error::other)?.to_ne_bytes().to_vec();
        address.extend(path.as_os_str().as_bytes());
        address.push(0);
        self.traced.call(libc::SYS_bind, &[socket, self.put(&address)?, address.len() as u64])?;
        self.traced.call(libc::SYS_listen, &[socket, BACKLOG])?;
        Ok(socket)
    }

    /// Gives a descriptor another number.
    fn number(&self, descriptor: u64, number: u64, flags: i32) -> io::Result<()> {
        if descriptor != number {
            self.call(
                "number a descriptor",
                libc::SYS_dup3,
                &[descriptor, number, flags.cast_unsigned().into()],
            )?;
            self.traced.call(libc::SYS_close, &[descriptor])?;
        }
        Ok(())
    }

    fn become_user(&self) -> io::Result<()> {
        if let Some(user) = self.how.user {
            let groups = self.put(&user.to_ne_bytes())?;
            let user = user.into();
            self.call("leave its groups", libc::SYS_setgroups, &[1, groups])?;
            self.call("change its group", libc::SYS_setresgid, &[user, user, user])?;
            self.call("change its user", libc::SYS_setresuid, &[user, user, user])?;
        }
        let no_new_rights = libc::PR_SET_NO_NEW_PRIVS.cast_unsigned().into();
        self.call("bar it from new rights", libc::SYS_prctl, &[no_new_rights, 1, 0, 0, 0])?;
        let slack = libc::PR_SET_TIMERSLACK.cast_unsigned().into();
        let args = [slack, self.from.timer_slack, 0, 0, 0];
        self.call("say how late its timers may be", libc::SYS_prctl, &args).map(|_| ())
    }

    /// It does not end with the thread that started it any more; until it is released, it ends with its tracer.
    fn outlive_parent(&self) -> io::Result<()> {
        let option = libc::PR_SET_PDEATHSIG.cast_unsigned().into();
        self.call("let it outlive its parent", libc::SYS_prctl, &[option, 0, 0, 0, 0]).map(|_| ())
    }

    /// Makes the threads, stopped, and returns the numbers of all, and of the first one.
    fn make_threads(&self) -> io::Result<Vec<i32>> {
        let flags = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM
            | libc::CLONE_SETTLS
            | libc::CLONE_PARENT_SETTID
            | libc::CLONE_CHILD_CLEARTID;
        let mut numbers = vec![self.traced.pid];
        for thread in &self.from.threads[1..] {
            self.block(thread)?;
            let Thread { registers, number_at, .. } = thread;
            let args = [
                flags.cast_unsigned().into(),
                registers.rsp,
                *number_at,
                *number_at,
                registers.fs_base,
            ];
            let made = doing(
                || "make a thread".into(),
                self.traced.call_with_child(libc::SYS_clone, &args),
            )?;
            let number = made.1.ok_or_else(|| io::Error::other("no thread was made"))?;
            self.traced.set_registers(number, registers)?;
            numbers.push(number);
        }
        let main = &self.from.threads[0];
        self.block(main)?;
        let number =
            self.call("number its thread", libc::SYS_set_tid_address, &[main.number_at])?;
        let number = u32::try_from(number).map_err(io::Error::other)?;
        self.traced.write(main.number_at, &number.to_ne_bytes())?;
        Ok(numbers)
    }

    /// Blocks the signals that a thread blocks; a thread that is made then inherits that.
    fn block(&self, thread: &Thread) -> io::Result<()> {
        let set = self.put(&thread.blocked.to_ne_bytes())?;
        let how = libc::SIG_SETMASK.cast_unsigned().into();
        self.call("block signals", libc::SYS_rt_sigprocmask, &[how, set, 0, 8]).map(|_| ())
    }

    /// Filters the system calls of all threads, as before.
    fn set_filter(&self) -> io::Result<()> {
        let filter = &self.from.filter;
        if filter.is_empty() {
            return Ok(());
        }
        // struct sock_fprog: how many instructions, and where they are (seccomp(2)).
        let data = self.room + PAGE;
        let mut program = (filter.len() as u64).to_ne_bytes().to_vec();
        program.extend((data + 16).to_ne_bytes());
        program.extend(filter.iter().flat_map(|instruction| instruction.to_ne_bytes()));
        let data = self.put(&program)?;
        let mode = u64::from(libc::SECCOMP_SET_MODE_FILTER);
        self.call(
            "filter its system calls",
            libc::SYS_seccomp,
            &[mode, libc::SECCOMP_FILTER_FLAG_TSYNC, data],
        )
        .map(|_| ())
    }

    /// Writes what a call needs where the process finds it.
    fn put(&self, bytes: &[u8]) -> io::Result<u64> {
        let data = self.room + PAGE;
        if bytes.len() as u64 > ROOM - PAGE {
            return Err(unfit("too much for one call"));
        }
        self.traced.write(data, bytes)?;
        Ok(data)
    }

    fn call(&self, what: &str, number: i64, args: &[u64]) -> io::Result<u64> {
        doing(|| what.to_owned(), self.traced.call(number, args))
    }
}

/// An auxiliary vector of no length, and no descriptor of a program: two numbers of four bytes.
const NO_PROGRAM: u64 = 0xffff_ffff << 32;

/// No descriptor.
const NONE: u64 = u64::MAX;

fn fixed(flags: i32) -> u64 {
    (libc::MAP_PRIVATE | libc::MAP_FIXED | flags).cast_unsigned().into()
}
