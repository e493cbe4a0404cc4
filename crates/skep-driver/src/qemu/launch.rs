//! Starting a machine and waiting for its guest.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use skep_core::model::Role;
use skep_net::network::Network;
use skep_store::Machine;
use skep_sys::{
    Bind, Cmd, CmdError, FileError, Output, ProcessId, leave_session, make_private_dir, read_own,
    tail, value_of, write_atomic,
};
use tokio::time::timeout;

use super::args::{AGENT_PORT, Invocation, MONITOR, Memory, SHARES_MEMORY, node_words};
use super::qmp::Qmp;
use super::template::await_monitor;
use super::{Accelerator, Emulator, Files, Profile, console, disk, power, program, user, user_of};
use crate::shell::AgentShell;
use crate::{Boot, Error, Remark, Say, shape_of};

/// How long a process may take to end whose monitor has broken off.
const ENDING: Duration = Duration::from_secs(2);

/// How often an ordinary user's skep tries to lower a worker's priority while others do the same.
const PRIORITY_TRIES: usize = 40;

/// What is noted of a machine's process when it starts.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Note {
    #[serde(flatten)]
    pub process: ProcessId,
    accelerator: Accelerator,
    /// How its guest is treated; in the notes of older versions only if a test said so.
    #[serde(default, alias = "test_profile", skip_serializing_if = "Option::is_none")]
    profile: Option<Profile>,
}

impl Note {
    /// Returns how the process's guest is treated.
    pub(super) fn profile(&self) -> Profile {
        self.profile.unwrap_or(Profile::of(self.accelerator))
    }
}

/// Returns what was noted of the process that runs in a machine's directory, or did last.
pub(super) fn note(dir: &Path) -> Option<Note> {
    let text = read_own(&Files::in_dir(dir).process()).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Returns the process that runs in a machine's directory, if one does. It may be killed: it is the one that
/// was noted, by its number, start time and boot, runs as machines do and is QEMU's.
pub(super) fn process(dir: &Path) -> Option<ProcessId> {
    let noted = note(dir).map(|note| note.process).filter(|it| it.is_alive());
    if let Some(noted) =
        noted.filter(|it| is_machines(it.pid) && (is_qemu(it.pid) || is_of(it.pid, dir)))
    {
        return Some(noted);
    }
    // A skep that was killed between the start and the note left only QEMU's own file. Its number
    // may since be another process's: that one does not have our machine on its command line.
    let files = Files::in_dir(dir);
    let pid = read_own(&files.pid()).or_else(|_| read_own(&files.old_pid())).ok()?;
    let pid = std::str::from_utf8(&pid).ok()?.trim().parse().ok()?;
    let process = ProcessId::of(pid)?;
    (is_machines(pid) && is_of(pid, dir) && process.is_alive()).then_some(process)
}

/// Tells whether a process is of a user that machines run as.
fn is_machines(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let user = value_of(&status, "Uid").and_then(|ids| ids.split_whitespace().next()?.parse().ok());
    user.is_some_and(user::may_be_a_machines)
}

/// Tells whether a process executes QEMU, whatever its distribution calls that.
fn is_qemu(pid: u32) -> bool {
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    program.file_name().is_some_and(|name| name.to_string_lossy().contains("qemu"))
}

/// Tells whether a process was started for the machine in a directory: also while it is still what starts QEMU.
fn is_of(pid: u32, dir: &Path) -> bool {
    let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let files = Files::in_dir(dir);
    let needles = [files.pid(), files.old_pid()];
    let mut words = command_line.split(|byte| *byte == 0);
    words.any(|word| needles.iter().any(|it| word == it.as_os_str().as_encoded_bytes()))
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
    say: Say<'_>,
) -> Result<(), Error> {
    let files = Files::of(machine);
    let command = command(machine, boot, emulator, memory, (network, secluded)).await?;
    let mut daemon = command.start(&files.log())?;
    // From here on QEMU alone has the tap.
    drop(command);
    if let Some(process) = daemon.process() {
        note_process(&files, process, emulator)?;
    }
    if let Some(process) = daemon.process() {
        place(process, machine, boot, emulator.profile(), say).await;
    }
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
    let mut stale =
        vec![files.process(), files.pid(), files.old_pid(), files.console(), files.memory()];
    stale.retain(|file| !matches!(memory, Memory::Copied(ram) if ram == file));
    for stale in stale {
        let _ = std::fs::remove_file(stale);
    }
    let record = &machine.record;
    let shape = shape_of(machine)?;
    let invocation = Invocation {
        emulator,
        name: title(machine, boot),
        cpus: shape.cpus,
        size: shape.memory,
        memory,
        mac: record.mac,
        user: user_of(record.address),
        kernel: boot.kernel.clone(),
        initrd: boot.initrd.clone(),
        words: node_words(record, &boot.network, &boot.resolvers),
        disk: disk::chain(&machine.dir)?,
        pid: Some(files.pid()),
    };
    make_private_dir(&files.run())?;
    let tap = network.tap(&record.tap, &boot.network, &boot.owner).await?;
    let mut command =
        Cmd::new(program::program()).args(invocation.args()).dir(&machine.dir).descriptor(tap);
    if secluded {
        let shares = emulator.version >= SHARES_MEMORY;
        command = command.secluded(seen(&files, &invocation, shares));
    }
    Ok(command)
}

/// Returns what a machine's process is called.
pub(super) fn title(machine: &Machine, boot: &Boot) -> String {
    format!("skep-{}-{}", boot.owner.cluster, machine.record.name())
}

/// Gives a machine's new process its place among the host's: apart from our own session, and a worker's behind managers'.
pub(super) async fn place(
    process: ProcessId,
    machine: &Machine,
    boot: &Boot,
    profile: Profile,
    say: Say<'_>,
) {
    if let Some(reason) = leave_session(process, &title(machine, boot)).await {
        say(Remark::Warning(&format!(
            "QEMU stays in the control group of this session and may end with it, as systemd made no scope: {reason}"
        )));
    }
    let Some(nice) = profile.worker_niceness() else { return };
    if machine.record.spec.role == Role::Manager {
        return;
    }
    for _ in 0..PRIORITY_TRIES {
        match process.lower_priority(nice) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                // wait: the kernel lets ordinary users change one session's share every 0.1 s.
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
            Err(error) => {
                return tracing::debug!("process {} keeps its priority: {error}", process.pid);
            }
            Ok(()) => return,
        }
    }
}

/// Notes which process a machine is.
pub(super) fn note_process(
    files: &Files,
    process: ProcessId,
    emulator: &Emulator,
) -> Result<(), FileError> {
    let profile = Some(emulator.profile());
    let note = Note { process, accelerator: emulator.accelerator, profile };
    let note = serde_json::to_vec(&note).expect("plain values");
    write_atomic(&files.process(), 0o600, &note)
}

/// Returns what a machine's process sees of its user's files: what it reads, its disk, and where its sockets are. Not
/// its directory: that has keys, and what other skeps believe of the machine.
fn seen(files: &Files, invocation: &Invocation<'_>, shares_memory: bool) -> Vec<Bind> {
    let (disk, below) = invocation.disk.split_first().expect("there is a disk");
    let read = below.iter().chain([&invocation.kernel, &invocation.initrd]);
    let mut seen = vec![Bind::writable(files.run()), Bind::writable(disk)];
    seen.extend(read.map(Bind::read_only));
    seen.extend(match invocation.memory {
        Memory::Copied(ram) if shares_memory => Some(Bind::read_only(ram)),
        Memory::Copied(ram) | Memory::Written(ram) => Some(Bind::writable(ram)),
        Memory::Anonymous => None,
    });
    seen
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
        tokio::select! {
            result = up => result,
            state = power::stopped(dir) => {
                Err(Error::Stopped { state, last_words: last_words(&files) })
            }
            () = console::await_panic(dir) => Err(Error::Panicked(console::last_lines(dir))),
        }
    };
    match timeout(limit, up).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error @ (Error::Stopped { .. } | Error::Panicked(_)))) => Err(error),
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

/// A process that has the command line of a machine's emulator, for tests.
#[cfg(test)]
pub(super) mod fake {
    use std::io::Read as _;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};

    /// Starts one with a file of the process's number; it waits until it is killed.
    pub fn sleeping_machine(pid_file: &Path) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", "echo; read line", "qemu-system-x86_64", "-pidfile"]).arg(pid_file);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // A parent continues an instant before the kernel has set the new program's command line.
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        child
    }
}

#[cfg(test)]
mod tests {
    use super::fake::sleeping_machine;
    use super::*;
    use crate::qemu::QemuVersion;

    fn emulator() -> Emulator {
        Emulator {
            version: QemuVersion::new(10, 0),
            build: String::new(),
            accelerator: Accelerator::Kvm,
            processor: None,
            kvm: None,
            steady_counter: true,
            test_profile: None,
            slowness: 1,
        }
    }

    #[test]
    fn only_a_process_of_the_machine_is_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::in_dir(dir.path());
        let mut ours = sleeping_machine(&files.pid());
        let mut others = sleeping_machine(Path::new("/elsewhere/qemu.pid"));
        let note = |child: &std::process::Child| {
            let process = ProcessId::of(child.id()).unwrap();
            note_process(&files, process, &emulator()).unwrap();
            process
        };
        // What was noted names a process of somebody else's: it is not to be killed.
        note(&others);
        assert_eq!(process(dir.path()), None);
        let noted = note(&ours);
        assert_eq!(process(dir.path()), Some(noted));
        std::fs::remove_file(files.process()).unwrap();
        for (child, found) in [(&others, None), (&ours, Some(noted))] {
            make_private_dir(&files.run()).unwrap();
            write_atomic(&files.pid(), 0o600, child.id().to_string().as_bytes()).unwrap();
            assert_eq!(process(dir.path()), found);
        }
        for child in [&mut ours, &mut others] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(process(dir.path()), None);
    }

    /// What a QEMU that its guest has taken over can get at, where it is its user's.
    #[tokio::test]
    async fn a_secluded_machine_sees_no_keys_and_no_record() {
        let place = tempfile::tempdir_in("/var/tmp").unwrap();
        let file = |name: &str| {
            let path = place.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, name).unwrap();
            path
        };
        let (image, machine) = ("cache/images/a", "store/machines/node0");
        for other in ["key.pem", "id_rsa", "config.json", "process.json", "../node1/disk.qcow2"] {
            file(&format!("{machine}/{other}"));
        }
        for other in ["manifest.json", "busybox"] {
            file(&format!("{image}/{other}"));
        }
        let disks = ["store/machines/node0/disk.qcow2", "cache/templates/b/disk.qcow2"];
        let ram = file("cache/templates/b/ram");
        let emulator = emulator();
        let record = skep_core::fixtures::node();
        let invocation = Invocation {
            emulator: &emulator,
            name: String::new(),
            cpus: 1,
            size: skep_core::model::Shape::DEFAULT.memory,
            memory: Memory::Copied(&ram),
            mac: record.mac,
            user: None,
            kernel: file(&format!("{image}/kernel")),
            initrd: file(&format!("{image}/initrd")),
            words: Vec::new(),
            disk: disks
                .iter()
                .map(|name| file(name))
                .chain([file(&format!("{image}/root.img"))])
                .collect(),
            pid: None,
        };
        let files = Files::in_dir(&place.path().join(machine));
        make_private_dir(&files.run()).unwrap();
        let script = "find \"$1\" -type f | sort; echo; : >run/socket; \
                      for it in $(find \"$1\" -type f) ./new ../new run/new; do \
                          (: >>$it) 2>/dev/null && echo $it; done; true";
        let program = Cmd::new("sh").args(["-c", script, "sh"]).arg(place.path());
        let program = program.dir(files.dir()).secluded(seen(&files, &invocation, true));
        let said = match program.run().await {
            Err(error) if !skep_sys::is_root() => {
                return test_skip::skip(&format!("no namespaces here: {error}"));
            }
            ran => ran.unwrap().text().replace(place.path().to_str().unwrap(), ""),
        };
        let (sees, writes) = said.split_once("\n\n").unwrap();
        let expected = [
            "/cache/images/a/initrd",
            "/cache/images/a/kernel",
            "/cache/images/a/root.img",
            "/cache/templates/b/disk.qcow2",
            "/cache/templates/b/ram",
            "/store/machines/node0/disk.qcow2",
        ];
        assert_eq!(sees.lines().collect::<Vec<_>>(), expected);
        let expected =
            ["/store/machines/node0/disk.qcow2", "/store/machines/node0/run/socket", "run/new"];
        let mut writes: Vec<_> = writes.lines().collect();
        writes.sort_unstable();
        assert_eq!(writes, expected);
        assert!(files.run().join("socket").exists(), "sockets are seen from outside");
    }
}
