//! The process of a template's emulator, kept with what it has translated, for copies to go on as.
//!
//! Under software emulation most of the time in which nodes become a swarm goes to translating their code, and most of
//! their memory to what was translated. A process that is started as a template's was begins with all of that, and shares
//! it with the others: it is mapped from a file, as the guest's memory is.
//!
//! The template's machine is stopped for good when its process is kept: its state was saved, its disk has an empty overlay
//! above it. A copy has its own overlay there, its own tap, and its own sockets. QEMU takes
//! disks for changed after a state was saved, and reads them again when the guest goes on.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use qemu_checkpoint::{Checkpoint, Ioctl, Restoring, connected, dump, restore};
use serde_json::json;
use skep_core::model::Size;
use skep_net::network::Network;
use skep_store::Machine;
use skep_sys::{FileError, ProcessId, read_own, write_atomic};
use tokio::time::Instant;

use super::args::{CONSOLE_MONITOR, DISK, MONITOR, Memory, SECOND_MONITOR};
use super::qmp::Qmp;
use super::template::Template;
use super::{Emulator, Files, QemuVersion, console, disk, host, launch, user_of};
use crate::shell::AGENT_SOCKET;
use crate::{Boot, Error, Say};

/// The file of the process's pages.
pub(super) const PAGES: &str = "process";

/// The file of all else.
pub(super) const REST: &str = "process.json";

/// What it takes on the disk at most, in bytes: what was translated, and the emulator's own.
pub(super) const ROOM: u64 = 768 << 20;

/// The overlay that is above the template's disk in the process: a copy has its own disk there.
const OVERLAY: &str = "overlay.qcow2";

/// How many descriptors QEMU is started with: three, and the tap.
const INHERITED: u64 = 4;

/// The tap's descriptor.
const TAP: u64 = 3;

/// How long QEMU may take to notice that nobody is connected any more.
const PARTING: Duration = Duration::from_secs(20);

/// TUNSETVNETHDRSZ and TUNSETOFFLOAD of linux/if_tun.h.
const SET_HEADER: u64 = 0x4004_54d8;
const SET_OFFLOAD: u64 = 0x4004_54d0;

/// What a guest's driver takes off the host (TUN_F_CSUM and those after it there): checksums, and segmentation of all kinds,
/// of which QEMU knows that of UDP from 8.1 and Linux from 6.2 on.
const OFFLOADS: u32 = 0x7f;
const OFFLOADS_BEFORE: u32 = 0x1f;

/// Returns what QEMU has told the tap when its guest's driver is ready. The header is what virtio puts before a frame, of 12
/// bytes.
fn tap_settings(version: QemuVersion) -> [Ioctl; 2] {
    let (value, or) = match version >= QemuVersion::new(8, 1) {
        true => (OFFLOADS, Some(OFFLOADS_BEFORE)),
        false => (OFFLOADS_BEFORE, None),
    };
    [
        Ioctl { descriptor: TAP, request: SET_HEADER, value: 12, or: None, by_address: true },
        Ioctl { descriptor: TAP, request: SET_OFFLOAD, value, or, by_address: false },
    ]
}

/// Tells whether to keep a process is of use, and can be done: only root may read which system calls a process is kept
/// from, and copies are to be kept from the same.
pub(super) fn is_of_use(emulator: &Emulator) -> bool {
    emulator.profile().checkpoints_emulator() && skep_sys::is_root()
}

/// Returns what a process that was kept depends on: the kernel, and the processor that was translated for.
pub(super) fn host() -> [String; 2] {
    [qemu_checkpoint::kernel(), host::processor()]
}

/// Returns the process that was kept in a template's directory, if one was.
pub(super) fn of(template: &Path) -> Option<Checkpoint> {
    serde_json::from_slice(&read_own(&template.join(REST)).ok()?).ok()
}

/// Puts an overlay above the disk of a template's machine, which has stopped; its process is that user.
pub(super) async fn prepare(
    dir: &Path,
    qmp: &mut Qmp,
    size: Size,
    user: Option<u32>,
) -> Result<(), Error> {
    let overlay = dir.join(OVERLAY);
    disk::overlay(&overlay, &Files::in_dir(dir).disk(), size).await?;
    std::os::unix::fs::chown(&overlay, user, user)
        .map_err(|source| FileError::new("give away", &overlay, source))?;
    // What it stands on is known to QEMU already.
    let overlay = json!({
        "driver": "qcow2", "node-name": "overlay", "discard": "unmap", "backing": null,
        "file": {"driver": "file", "filename": OVERLAY},
    });
    qmp.execute("blockdev-add", overlay).await?;
    qmp.execute("blockdev-snapshot", json!({"node": DISK, "overlay": "overlay"})).await.map(|_| ())
}

/// Keeps the process of a template's machine, whose state was saved and to whom nobody is connected any more.
pub(super) async fn keep(dir: &Path, process: u32) -> Result<(), Error> {
    // A copy's console is its own.
    console::take_over(dir);
    let (pages, rest) = (dir.join(PAGES), dir.join(REST));
    let fail = |what, path: &Path| {
        let path = path.to_owned();
        move |source| FileError::new(what, &path, source)
    };
    let deadline = Instant::now() + PARTING;
    while connected(process, INHERITED).map_err(fail("look at", dir))? && Instant::now() < deadline
    {
        // wait: QEMU does not announce that it has noticed the end of a connection.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (ram, to) = (dir.join("ram"), pages.clone());
    let kept = tokio::task::spawn_blocking(move || {
        let file = File::create(&to)?;
        dump(process, &ram, INHERITED, &file)
    });
    let kept = kept
        .await
        .expect("keeping does not panic")
        .map_err(fail("keep the emulator's process in", &pages));
    let written = kept.and_then(|checkpoint| {
        let text = serde_json::to_vec(&checkpoint).expect("plain values");
        write_atomic(&rest, 0o600, &text)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&pages);
    }
    Ok(written?)
}

/// Starts a machine's process as a copy of the one that was kept with its template; its guest waits.
pub(super) async fn go_on(
    machine: &Machine,
    boot: &Boot,
    emulator: &Emulator,
    (template, kept): (&Template, &Checkpoint),
    host: (&dyn Network, bool),
    say: Say<'_>,
) -> Result<(), Error> {
    let files = Files::of(machine);
    let ram = template.ram();
    let command = launch::command(machine, boot, emulator, Memory::Copied(&ram), host).await?;
    for socket in [AGENT_SOCKET, MONITOR, SECOND_MONITOR, CONSOLE_MONITOR] {
        let _ = std::fs::remove_file(machine.dir.join(socket));
    }
    let halting = command.halting(&files.log())?;
    // From here on QEMU alone has the tap.
    drop(command);
    let (pages, below, own) = (template.dir.join(PAGES), template.disk(), files.disk());
    let checkpoint = kept.clone();
    let (user, started) = (user_of(machine.record.address), emulator.clone());
    let ioctls = tap_settings(emulator.version);
    let restored = tokio::task::spawn_blocking(move || {
        let place = |path: &Path| match path.file_name() {
            Some(name) if name == OVERLAY => (own.clone(), true),
            Some(name) if Some(name) == below.file_name() => (below.clone(), false),
            Some(name) if Some(name) == ram.file_name() => (ram.clone(), false),
            _ => (path.to_owned(), false),
        };
        let note = |process: ProcessId| {
            // As QEMU itself does when it starts.
            let own = format!("{}\n", process.pid);
            write_atomic(&files.pid(), 0o600, own.as_bytes())
                .and_then(|()| launch::note_process(&files, process, &started))
                .map_err(io::Error::other)
        };
        restore(
            halting,
            &Restoring {
                checkpoint: &checkpoint,
                pages: &pages,
                shared: &ram,
                place: &place,
                ioctls: &ioctls,
                user,
                note: &note,
            },
        )
    });
    let restored = restored.await.expect("restoring does not panic");
    let rest = template.dir.join(REST);
    restored.map_err(|source| FileError::new("go on from", &rest, source))?;
    if let Some(process) = launch::process(&machine.dir) {
        launch::place(process, machine, boot, emulator.profile(), say).await;
    }
    Ok(())
}
