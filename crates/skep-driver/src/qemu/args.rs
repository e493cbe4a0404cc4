//! From a machine to QEMU's command line: a pure function.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use skep_core::model::{Mac, NetworkRecord, NodeRecord, Size};

use super::{Accelerator, Emulator, QemuVersion, console, disk};
use crate::shell::AGENT_SOCKET;

/// The monitor that actions use; a monitor serves one client at a time.
pub const MONITOR: &str = "run/qmp.sock";

/// The monitor that looks use, so that a look never waits for an action.
pub const SECOND_MONITOR: &str = "run/qmp-look.sock";

/// The monitor through which the console is read.
pub const CONSOLE_MONITOR: &str = "run/qmp-console.sock";

/// The ID of the console.
pub const CONSOLE: &str = "console";

/// The name of the disk in the monitor's commands.
pub const DISK: &str = "root";

/// The ID of the guest agent's port in the monitor's events.
pub const AGENT_PORT: &str = "agent";

/// The size of the translation cache under software emulation, in MiB: all that a node runs until it is verified
/// fits into it. Half of it costs a quarter more time, twice of it saves none (docs/measured.md).
const TRANSLATION_CACHE: u32 = 256;

/// The same for a machine that is kept with what it has translated: with what it does from its boot on, and as much again for
/// what a copy does. The former is shared by all copies.
const KEPT_TRANSLATION_CACHE: u32 = 512;

/// The machine type. No high precision timer: nothing needs it, and it wakes an idle guest's emulator.
pub const MACHINE: &str = "q35,hpet=off,vmport=off";

/// From this version on QEMU maps a file privately, to write, that it has open only to read (`rom=off`).
pub const SHARES_MEMORY: QemuVersion = QemuVersion::new(8, 2);

/// Where a machine's memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory<'a> {
    /// Nowhere but in memory.
    Anonymous,
    /// In a file, to be copied from when the machine is frozen.
    Written(&'a Path),
    /// A private copy of what is in a file: pages that are not changed are shared by all copies, from [`SHARES_MEMORY`] on.
    Copied(&'a Path),
}

/// Everything that the command line depends on.
#[derive(Debug)]
pub struct Invocation<'a> {
    /// What executes the guest's code.
    pub emulator: &'a Emulator,
    /// The name of the process.
    pub name: String,
    /// The number of virtual CPUs.
    pub cpus: u32,
    /// The memory's size.
    pub size: Size,
    /// Where the memory is.
    pub memory: Memory<'a>,
    /// The hardware address of the network interface, whose host's end is descriptor 3.
    pub mac: Mac,
    /// The user that QEMU becomes when it has opened everything; none to stay whoever starts it.
    pub user: Option<u32>,
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: PathBuf,
    /// What the guest's set-up is told, beside what all are told.
    pub words: Vec<String>,
    /// The disk and all that it stands on, from the top.
    pub disk: Vec<PathBuf>,
    /// Where QEMU writes its process number, if it is not to end with us.
    pub pid: Option<PathBuf>,
}

impl Invocation<'_> {
    /// Returns the arguments of QEMU. It has to be started in the machine's directory: the sockets'
    /// paths are relative to it.
    ///
    /// A machine and its copies need the same devices in the same order.
    #[must_use]
    pub fn args(&self) -> Vec<String> {
        let mut args = Vec::new();
        let mut option = |name: &str, value: String| {
            args.push(format!("-{name}"));
            args.push(value);
        };
        option("name", self.name.clone());
        option("machine", self.machine());
        option("accel", self.accel());
        option("cpu", cpu(self.emulator));
        option("smp", self.cpus.to_string());
        option("m", format!("{}M", self.size.as_mib()));
        if let Some(backend) = self.memory_backend() {
            option("object", backend);
        }
        option("kernel", path(&self.kernel));
        option("initrd", path(&self.initrd));
        option("append", self.kernel_command_line());
        option("blockdev", disk::blockdev(&self.disk, self.locks()).to_string());
        option("device", format!("virtio-blk-pci,drive={DISK}"));
        option("netdev", "tap,id=net0,fd=3".into());
        option("device", format!("virtio-net-pci,netdev=net0,mac={},romfile=", self.mac));
        option("device", "virtio-rng-pci".into());
        // Tells the kernel of a copy that it is one, to change its random numbers.
        option("device", "vmgenid,guid=auto".into());
        option("device", "virtio-serial-pci".into());
        option("chardev", format!("socket,id=agent,path={AGENT_SOCKET},server=on,wait=off"));
        option(
            "device",
            format!("virtserialport,chardev=agent,name=org.qemu.guest_agent.0,id={AGENT_PORT}"),
        );
        option("chardev", console::chardev());
        option("serial", format!("chardev:{CONSOLE}"));
        option("qmp", format!("unix:{MONITOR},server=on,wait=off"));
        option("qmp", format!("unix:{SECOND_MONITOR},server=on,wait=off"));
        option("qmp", format!("unix:{CONSOLE_MONITOR},server=on,wait=off"));
        option("display", "none".into());
        if let Memory::Copied(_) = self.memory {
            option("incoming", "defer".into());
        }
        if let Some(pid) = &self.pid {
            option("pidfile", path(pid));
        }
        args.extend(confinement(self.user, self.emulator.version));
        args.extend(["-nodefaults".into(), "-no-user-config".into()]);
        args
    }

    fn machine(&self) -> String {
        // The memory is the machine's own, or an object beside it.
        match self.memory {
            Memory::Anonymous => MACHINE.to_owned(),
            _ => format!("{MACHINE},memory-backend=mem"),
        }
    }

    /// Many copies of a process that is kept have its disk open, to read: none may lock it.
    fn locks(&self) -> bool {
        !matches!(self.memory, Memory::Written(_))
    }

    fn memory_backend(&self) -> Option<String> {
        let (file, how) = match self.memory {
            Memory::Anonymous => return None,
            Memory::Written(file) => (file, "share=on"),
            // Nothing that QEMU does reaches the file, and so all copies: it is open to read only.
            Memory::Copied(file) if self.emulator.version >= SHARES_MEMORY => {
                (file, "share=off,readonly=on,rom=off")
            }
            // This one is the machine's own (`fork`).
            Memory::Copied(file) => (file, "share=off"),
        };
        let (size, file) = (self.size.as_mib(), value(file));
        Some(format!("memory-backend-file,id=mem,size={size}M,mem-path={file},{how}"))
    }

    fn accel(&self) -> String {
        match self.emulator.accelerator {
            Accelerator::Kvm => "kvm".into(),
            Accelerator::Tcg => {
                let cache = match self.memory {
                    Memory::Written(_) => KEPT_TRANSLATION_CACHE,
                    _ => TRANSLATION_CACHE,
                };
                format!("tcg,thread=multi,tb-size={cache}")
            }
        }
    }

    /// What is on the kernel's command line can be read by everyone in the guest: no secrets.
    fn kernel_command_line(&self) -> String {
        // Warnings and what is worse: the console is read when something went wrong, and each line
        // on it costs an emulated boot time.
        let mut line = "console=ttyS0 loglevel=5 root=/dev/vda rw".to_owned();
        line.push_str(&kernel_words(self.emulator));
        for word in &self.words {
            line.push(' ');
            line.push_str(word);
        }
        line
    }
}

/// Returns what takes from QEMU whatever it does not need once its devices are made: it starts no
/// programs, changes no priorities, and is not root.
#[must_use]
pub fn confinement(user: Option<u32>, version: QemuVersion) -> Vec<String> {
    // To become somebody else is one of the calls that would be denied; after it there is nothing left to
    // become, as the filter also bars what a program's file would give.
    let elevate = if user.is_some() { "allow" } else { "deny" };
    let mut args = vec![
        "-sandbox".to_owned(),
        format!("on,obsolete=deny,elevateprivileges={elevate},spawn=deny,resourcecontrol=deny"),
    ];
    if let Some(id) = user {
        args.extend(match version >= QemuVersion::new(9, 1) {
            true => ["-run-with".to_owned(), format!("user={id}:{id}")],
            false => ["-runas".to_owned(), format!("{id}:{id}")],
        });
    }
    args
}

/// Returns what a guest's set-up is told on the kernel's command line to be this node.
#[must_use]
pub fn node_words(record: &NodeRecord, network: &NetworkRecord, dns: &[Ipv4Addr]) -> Vec<String> {
    let mut words = vec![
        format!("skep.hostname={}", record.name()),
        format!("skep.address={}/{}", record.address, network.subnet.prefix_len()),
        format!("skep.gateway={}", network.gateway()),
    ];
    if !dns.is_empty() {
        let servers: Vec<_> = dns.iter().map(Ipv4Addr::to_string).collect();
        words.push(format!("skep.dns={}", servers.join(",")));
    }
    words
}

/// Returns what kernels are told under an accelerator.
///
/// Emulated code is not speculated on by the processor that the guest sees, so that its kernel's way round
/// (`mitigations`) would only cost: an eighth of a container's start. What hardens a kernel against its own mistakes
/// costs a seventh of the rest. Turns are longer (`setup.sh`). And a guest that is slow to boot takes its cycle
/// counter for unsteady, unless it is told, and then asks a device for the time at every turn. The counter is the host's.
#[must_use]
pub fn kernel_words(emulator: &Emulator) -> String {
    if !emulator.profile().tunes_guests() {
        return String::new();
    }
    let counter = if emulator.steady_counter { " tsc=reliable" } else { "" };
    format!(" {EMULATED_KERNEL} skep.emulated{counter}")
}

/// What the kernel of an emulated guest does without (Linux Documentation/admin-guide/kernel-parameters.txt): hardening; `AppArmor`,
/// as Debian's docker has no profile for it in a node; timers finer than the 4 ms of its clock's tick, each of which
/// wakes the emulator by itself; and to break into its own work for a program that waits.
const EMULATED_KERNEL: &str = "mitigations=off init_on_alloc=0 hardened_usercopy=off randomize_kstack_offset=off \
                               apparmor=0 nowatchdog highres=off preempt=none";

/// What an emulated processor lacks, as it costs time: with fast strings (`erms`, `fsrm`) memory is copied byte by
/// byte, five levels of page tables (`la57`) make each walk longer, the registers of `mpx` and `pku` are saved at
/// every switch of tasks, and with `smap` each access to a program's memory ends a piece of translated code.
const SLOW_FEATURES: &str = "erms=off,fsrm=off,la57=off,mpx=off,pku=off,smap=off";

/// Returns the processor that guests see.
#[must_use]
pub fn cpu(emulator: &Emulator) -> String {
    match emulator.accelerator {
        Accelerator::Kvm => "host".to_owned(),
        // Before 8.0 the emulation of cmpxchg16b makes current kernels panic.
        Accelerator::Tcg if emulator.version < QemuVersion::new(8, 0) => {
            format!("max,cx16=off,{SLOW_FEATURES}")
        }
        Accelerator::Tcg => format!("max,{SLOW_FEATURES}"),
    }
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Returns a path as a value among other key-value pairs, where a comma has to be doubled.
fn value(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_core::fixtures;

    fn arguments(accelerator: Accelerator, version: QemuVersion, memory: Memory<'_>) -> String {
        let dir = PathBuf::from("/store, one/node0");
        let record = fixtures::node();
        let network = fixtures::network();
        let resolvers = ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        let emulator = Emulator {
            version,
            build: String::new(),
            accelerator,
            processor: None,
            kvm: None,
            steady_counter: true,
            test_profile: None,
            slowness: 1,
        };
        let invocation = Invocation {
            emulator: &emulator,
            name: "skep-demo-node0".into(),
            cpus: 2,
            size: skep_core::model::Shape::DEFAULT.memory,
            memory,
            mac: record.mac,
            user: Some(1_879_048_194),
            kernel: "/cache/kernel".into(),
            initrd: "/cache/initrd".into(),
            words: node_words(&record, &network, &resolvers),
            disk: vec![
                dir.join("disk.qcow2"),
                "/cache, two/disk.qcow2".into(),
                "/cache/root.img".into(),
            ],
            pid: Some(dir.join("run/qemu.pid")),
        };
        invocation.args().join("\n")
    }

    #[test]
    fn under_software_emulation() {
        let version = QemuVersion::new(10, 0);
        insta::assert_snapshot!(arguments(Accelerator::Tcg, version, Memory::Anonymous));
    }

    #[test]
    fn what_differs_under_kvm_and_on_old_versions() {
        let args = arguments(Accelerator::Kvm, QemuVersion::new(10, 0), Memory::Anonymous);
        assert!(args.contains("-accel\nkvm\n-cpu\nhost\n"));
        assert!(!args.contains("mitigations") && !args.contains("tsc="), "{args}");
        let args = arguments(Accelerator::Tcg, QemuVersion::new(7, 2), Memory::Anonymous);
        assert!(args.contains("-cpu\nmax,cx16=off,erms=off,"));
        assert!(args.contains("-runas\n1879048194:1879048194\n"));
        let args = confinement(None, QemuVersion::new(10, 0));
        assert!(args[1].contains("elevateprivileges=deny,spawn=deny"), "{args:?}");
        assert_eq!(args.len(), 2, "whoever is not root stays who he is");
    }

    #[test]
    fn a_copy_has_the_devices_of_what_it_is_a_copy_of() {
        let file = Path::new("/cache, two/ram");
        for version in [QemuVersion::new(7, 2), QemuVersion::new(10, 0)] {
            let written = arguments(Accelerator::Tcg, version, Memory::Written(file));
            let copied = arguments(Accelerator::Tcg, version, Memory::Copied(file));
            let devices = |args: &str| {
                let lines: Vec<_> = args.lines().map(str::to_owned).collect();
                let pairs = lines.windows(2).filter(|pair| pair[0] == "-device");
                pairs.map(|pair| pair[1].clone()).collect::<Vec<_>>()
            };
            assert_eq!(devices(&written), devices(&copied));
            assert!(written.contains("mem-path=/cache,, two/ram,share=on\n"));
            assert!(
                copied.contains("memory-backend=mem\n") && copied.contains("-incoming\ndefer\n")
            );
            let guarded = copied.contains(",share=off,readonly=on,rom=off\n");
            assert_eq!(guarded, version >= QemuVersion::new(8, 2));
        }
    }
}
