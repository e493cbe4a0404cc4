//! Starting a machine and waiting for its guest.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::args::{AGENT_PORT, Invocation, Link, MONITOR, Memory, node_words};
use super::qmp::Qmp;
use super::{Accelerator, Emulator, Files, QEMU, console_tail};
use crate::driver::{Boot, Error};
use crate::shell::AgentShell;
use crate::store::Machine;
use crate::sys::{Cmd, CmdError, Output, ProcessId, tail, write_atomic};

/// The oldest QEMU that is supported: Debian 12's.
pub const OLDEST: QemuVersion = QemuVersion::new(7, 2);

/// A version of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QemuVersion {
    major: u32,
    minor: u32,
}

impl QemuVersion {
    /// Creates a version.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Asks the installed QEMU for its version; also returns the line in which it says which build
    /// it is.
    ///
    /// # Errors
    ///
    /// If it is not installed, or older than what is supported.
    pub async fn installed() -> Result<(Self, String), Error> {
        let text = Cmd::new(QEMU).arg("--version").run().await?.text();
        let version = Self::parse(&text)
            .ok_or_else(|| Error::Unfit(format!("{QEMU} does not tell its version: {text}")))?;
        if version < OLDEST {
            return Err(Error::Unfit(format!("QEMU is {version}; at least {OLDEST} is needed")));
        }
        Ok((version, text.lines().next().unwrap_or_default().to_owned()))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_once("version ")?.1.split(|c: char| !c.is_ascii_digit());
        Some(Self::new(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What is noted of a machine's process when it starts.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Note {
    #[serde(flatten)]
    pub process: ProcessId,
    pub accelerator: Accelerator,
}

/// Returns what was noted of the process that runs in a machine's directory, or did last.
pub(super) fn note(dir: &Path) -> Option<Note> {
    let text = std::fs::read(Files::in_dir(dir).process()).ok()?;
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
    let pid = std::fs::read_to_string(files.pid()).ok()?.trim().parse().ok()?;
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

/// Starts a machine's process; it becomes a daemon once its devices are made, so what is wrong with
/// them is said here.
pub(super) async fn start(
    machine: &Machine,
    boot: &Boot,
    emulator: &Emulator,
    memory: Memory<'_>,
) -> Result<(), Error> {
    let files = Files::of(machine);
    write_atomic(&files.ifup(), 0o700, boot.ifup.as_bytes())?;
    for stale in [files.process(), files.pid(), files.log()] {
        let _ = std::fs::remove_file(stale);
    }
    let record = &machine.record;
    let accelerator = emulator.accelerator;
    let invocation = Invocation {
        accelerator,
        version: emulator.version,
        name: format!("skep-{}-{}", boot.cluster, record.name()),
        cpus: record.spec.cpus,
        size: record.spec.memory,
        memory,
        link: Link { tap: &record.tap, mac: record.mac, ifup: Some(files.ifup()) },
        kernel: boot.kernel.clone(),
        initrd: boot.initrd.clone(),
        words: node_words(record, &boot.network, &boot.resolvers),
        disk: files.disk(),
        console: files.console(),
        log: files.log(),
        pid: Some(files.pid()),
    };
    let started = Cmd::new(QEMU)
        .args(invocation.args())
        .dir(&machine.dir)
        .timeout(Duration::from_secs(20) * accelerator.slowness())
        .run()
        .await;
    explained(started, &files)?;
    let process = process(&machine.dir).ok_or_else(|| Error::Died(last_words(&files)))?;
    let note = serde_json::to_vec(&Note { process, accelerator }).expect("plain values");
    Ok(write_atomic(&files.process(), 0o600, &note)?)
}

/// Adds to an error what QEMU wrote to its log, and leaves out most of its command line.
pub(super) fn explained(ended: Result<Output, CmdError>, files: &Files) -> Result<(), Error> {
    match ended {
        Err(CmdError::Failed { command, status, tail: said }) => {
            let log = tail(&std::fs::read(files.log()).unwrap_or_default());
            let tail = [said, log].into_iter().filter(|text| !text.is_empty());
            let tail = tail.collect::<Vec<_>>().join("\n");
            Err(CmdError::Failed { command: shortened(&command), status, tail }.into())
        }
        ended => ended.map(|_| ()).map_err(Error::from),
    }
}

/// The whole command line is in the debug log; in an error it would bury the reason.
fn shortened(command: &str) -> String {
    command.split(" -machine").next().unwrap_or(command).to_owned()
}

/// Waits until the agent of the guest whose machine has that directory answers.
pub(super) async fn await_guest(dir: &Path, limit: Duration) -> Result<(), Error> {
    let files = Files::in_dir(dir);
    let up = async {
        await_agent_port(dir).await?;
        AgentShell::new(dir.to_owned()).sync(limit).await?;
        Ok(())
    };
    match timeout(limit, up).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) if process(dir).is_none() => Err(Error::Died(last_words(&files))),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::NoGuest {
            limit_s: limit.as_secs(),
            console: console_tail(&files.console()),
        }),
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
    let log = tail(&std::fs::read(files.log()).unwrap_or_default());
    let console = console_tail(&files.console());
    [log, console].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        let debian = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright (c) …";
        assert_eq!(QemuVersion::parse(debian), Some(QemuVersion::new(10, 0)));
        let plain = "QEMU emulator version 7.2.19";
        assert_eq!(QemuVersion::parse(plain), Some(QemuVersion::new(7, 2)));
        assert_eq!(QemuVersion::parse("something else"), None);
        assert!(QemuVersion::new(10, 0) > QemuVersion::new(7, 2));
    }
}
