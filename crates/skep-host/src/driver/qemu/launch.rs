//! Starting a machine and waiting for its guest.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::args::{AGENT_PORT, Invocation, MONITOR, Memory, node_words};
use super::qmp::Qmp;
use super::template::await_monitor;
use super::{Accelerator, Emulator, Files, Profile, console, disk, power, program, user_of};
use crate::driver::{Boot, Error};
use crate::net::Network;
use crate::shell::AgentShell;
use crate::store::Machine;
use crate::sys::{Cmd, CmdError, FileError, Output, ProcessId, read_own, tail, write_atomic};

/// How long a process may take to end whose monitor has broken off.
const ENDING: Duration = Duration::from_secs(2);

/// What is noted of a machine's process when it starts.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Note {
    #[serde(flatten)]
    pub process: ProcessId,
    accelerator: Accelerator,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    test_profile: Option<Profile>,
}

impl Note {
    /// Returns how the process's guest is treated.
    pub(super) fn profile(&self) -> Profile {
        self.test_profile.unwrap_or(Profile::of(self.accelerator))
    }
}

/// Returns what was noted of the process that runs in a machine's directory, or did last.
pub(super) fn note(dir: &Path) -> Option<Note> {
    let text = read_own(&Files::in_dir(dir).process()).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Returns the process that runs in a machine's directory, if one does.
pub(super) fn process(dir: &Path) -> Option<ProcessId> {
    if let Some(noted) = note(dir).filter(|note| note.process.is_alive()) {
        return Some(noted.process);
    }
    // A skep that was killed between the start and the note left only QEMU's own file. Its number
    // may since be another process's: that one does not have our machine on its command line.
    let files = Files::in_dir(dir);
    let pid = read_own(&files.pid()).ok()?;
    let pid = std::str::from_utf8(&pid).ok()?.trim().parse().ok()?;
    let process = ProcessId::of(pid)?;
    let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let needle = files.pid();
    let needle = needle.as_os_str().as_encoded_bytes();
    let ours = command_line.split(|byte| *byte == 0).any(|word| word == needle);
    (ours && process.is_alive()).then_some(process)
}

pub(super) fn check_alive(machine: &Machine) -> Result<(), Error> {
    match process(&machine.dir) {
        Some(_) => Ok(()),
        None => Err(Error::Died(last_words(&Files::of(machine)))),
    }
}

/// Starts a machine's process, and waits until its devices are made and its monitor answers; what is
/// wrong with them is said here. Its tap is from `network`; it is kept from all files but its own if that is
/// wanted.
pub(super) async fn start(
    machine: &Machine,
    boot: &Boot,
    emulator: &Emulator,
    memory: Memory<'_>,
    (network, secluded): (&dyn Network, bool),
) -> Result<(), Error> {
    let files = Files::of(machine);
    let command = command(machine, boot, emulator, memory, (network, secluded)).await?;
    let mut daemon = command.start(&files.log())?;
    // From here on QEMU alone has the tap.
    drop(command);
    if let Some(process) = daemon.process() {
        note_process(&files, process, emulator)?;
    }
    daemon.leave_session(&title(machine, boot)).await;
    let limit = Duration::from_secs(20) * emulator.profile().slowness();
    let answers = async {
        await_monitor(&machine.dir).await;
        let mut qmp = Qmp::open(&machine.dir, MONITOR).await?;
        qmp.execute("query-status", json!({})).await
    };
    let started = tokio::select! {
        ended = daemon.ended() => explained(Err(ended)),
        answer = timeout(limit, answers) => match answer {
            Ok(Ok(_)) => Ok(()),
            // One that ends takes its monitor along, and says more.
            Ok(Err(broken)) => match timeout(ENDING, daemon.ended()).await {
                Ok(ended) => explained(Err(ended)),
                Err(_) => Err(broken),
            },
            Err(_) => Err(Error::Monitor(std::io::ErrorKind::TimedOut.into())),
        },
    };
    if started.is_err() {
        // What does not answer would be taken for a machine that runs.
        power::kill(&machine.dir).await?;
    }
    started
}

/// Returns what starts a machine's process, with its tap.
pub(super) async fn command(
    machine: &Machine,
    boot: &Boot,
    emulator: &Emulator,
    memory: Memory<'_>,
    (network, secluded): (&dyn Network, bool),
) -> Result<Cmd, Error> {
    let files = Files::of(machine);
    let mut stale = vec![files.process(), files.pid(), files.console(), files.memory()];
    stale.retain(|file| !matches!(memory, Memory::Copied(ram) if ram == file));
    for stale in stale {
        let _ = std::fs::remove_file(stale);
    }
    let record = &machine.record;
    let invocation = Invocation {
        emulator,
        name: title(machine, boot),
        cpus: record.spec.cpus,
        size: record.spec.memory,
        memory,
        mac: record.mac,
        user: user_of(record.address),
        kernel: boot.kernel.clone(),
        initrd: boot.initrd.clone(),
        words: node_words(record, &boot.network, &boot.resolvers),
        disk: files.disk(),
        pid: Some(files.pid()),
    };
    let tap = network.tap(&record.tap, &boot.network, &boot.owner).await?;
    let mut command =
        Cmd::new(program::program()).args(invocation.args()).dir(&machine.dir).descriptor(tap);
    if secluded {
        command = command.secluded(places(machine, boot, memory));
    }
    Ok(command)
}

/// Returns what a machine's process is called.
pub(super) fn title(machine: &Machine, boot: &Boot) -> String {
    format!("skep-{}-{}", boot.owner.cluster, machine.record.name())
}

/// Notes which process a machine is.
pub(super) fn note_process(
    files: &Files,
    process: ProcessId,
    emulator: &Emulator,
) -> Result<(), FileError> {
    let Emulator { accelerator, test_profile, .. } = *emulator;
    let note = Note { process, accelerator, test_profile };
    let note = serde_json::to_vec(&note).expect("plain values");
    write_atomic(&files.process(), 0o600, &note)
}

/// Returns the directories that a machine's process has files in: its own, and those of what it is a copy of
/// or stands on.
fn places(machine: &Machine, boot: &Boot, memory: Memory<'_>) -> Vec<PathBuf> {
    let disk = Files::of(machine).disk();
    let below = [disk::backing(&disk), disk::base(&disk), Some(boot.kernel.clone())];
    let ram = match memory {
        Memory::Copied(file) | Memory::Written(file) => Some(file.to_owned()),
        Memory::Anonymous => None,
    };
    let files = below.into_iter().chain([ram, Some(boot.initrd.clone())]).flatten();
    let mut places: Vec<_> = files.filter_map(|file| Some(file.parent()?.to_owned())).collect();
    places.push(machine.dir.clone());
    places.sort();
    places.dedup();
    places
}

/// Leaves out of an error most of QEMU's command line.
pub(super) fn explained(ended: Result<Output, CmdError>) -> Result<(), Error> {
    match ended {
        Err(CmdError::Failed { command, status, tail }) => {
            Err(CmdError::Failed { command: shortened(&command), status, tail }.into())
        }
        ended => ended.map(|_| ()).map_err(Error::from),
    }
}

/// The whole command line is in the debug log; in an error it would bury the reason.
fn shortened(command: &str) -> String {
    let from = program::position(command).map_or(command, |at| &command[at..]);
    from.split(" -machine").next().unwrap_or(from).to_owned()
}

/// Waits until the agent of the guest whose machine has that directory answers.
pub(super) async fn await_guest(dir: &Path, limit: Duration) -> Result<(), Error> {
    let files = Files::in_dir(dir);
    let up = async {
        await_agent_port(dir).await?;
        AgentShell::new(dir.to_owned()).sync(limit).await?;
        Ok(())
    };
    // What the guest says goes with QEMU if that dies, so it is heard while it is waited for.
    let up = async {
        tokio::select! { result = up => result, never = console::listen(dir) => match never {} }
    };
    match timeout(limit, up).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) if process(dir).is_none() => Err(Error::Died(last_words(&files))),
        Ok(Err(error)) => Err(error),
        Err(_) => {
            Err(Error::NoGuest { limit_s: limit.as_secs(), console: console::last_lines(dir) })
        }
    }
}

/// Waits until the guest's agent has opened its port; what is written before piles up.
async fn await_agent_port(dir: &Path) -> Result<(), Error> {
    let mut qmp = Qmp::open(dir, MONITOR).await?;
    let ports = qmp.execute("query-chardev", json!({})).await?;
    let open = ports.as_array().is_some_and(|ports| {
        ports.iter().any(|port| {
            port.get("label").and_then(Value::as_str) == Some("agent")
                && port.get("frontend-open").and_then(Value::as_bool) == Some(true)
        })
    });
    if open {
        return Ok(());
    }
    loop {
        let (name, data) = qmp.event().await?;
        let text = |key: &str| data.get(key).and_then(Value::as_str);
        let opened = data.get("open").and_then(Value::as_bool) == Some(true);
        if name == "VSERPORT_CHANGE" && text("id") == Some(AGENT_PORT) && opened {
            return Ok(());
        }
    }
}

pub(super) fn last_words(files: &Files) -> String {
    let log = tail(&read_own(&files.log()).unwrap_or_default());
    let console = console::last_lines(files.dir());
    [log, console].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
}
