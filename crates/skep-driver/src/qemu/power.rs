//! Stopping machines, and looking at whether they run.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use skep_core::observed::MachineState;
use skep_store::Machine;
use skep_sys::ProcessId;
use skep_sys::shell::NodeShell;
use tokio::time::{Instant, timeout};

use super::args::{MONITOR, SECOND_MONITOR};
use super::console;
use super::launch::process;
use super::qmp::Qmp;
use crate::Error;
use crate::shell::AgentShell;

/// How long a guest's own shutdown may take (`image/guest/shutdown.sh`): its engine waits as long as the longest grace of
/// its containers, up to 45 s, and the other services have 5 s.
pub const SHUTDOWN: Duration = Duration::from_secs(45 + 5);

/// What a host waits longer than that, on hardware virtualization: for the order to arrive and the kernel to end.
pub const SHUTDOWN_MARGIN: Duration = Duration::from_secs(10);

/// How long a look waits for the monitor.
const LOOK: Duration = Duration::from_millis(500);

/// How soon a guest that is waited for is looked at again.
const STOPPED_AGAIN: Duration = Duration::from_millis(500);

/// How long a killed process may take to be gone.
const DEATH: Duration = Duration::from_secs(20);

pub(super) async fn state(machine: &Machine) -> MachineState {
    if process(&machine.dir).is_none() {
        return MachineState::Stopped;
    }
    // A monitor that is slow says nothing about the guest: the process runs.
    of_status(status_word(&machine.dir).await.as_deref())
}

/// Returns QEMU's word for the state of the machine in a directory; none if its monitor does not say it in time.
async fn status_word(dir: &Path) -> Option<String> {
    let status = async {
        let mut qmp = Qmp::open(dir, SECOND_MONITOR).await?;
        qmp.execute("query-status", json!({})).await
    };
    let status = timeout(LOOK, status).await.ok()?.ok()?;
    Some(status.get("status")?.as_str()?.to_owned())
}

/// Waits until QEMU says that the guest in a directory stopped by an error or by itself, and returns QEMU's word for that.
pub(super) async fn stopped(dir: &Path) -> String {
    loop {
        // wait: the monitor announces events to one client, which waits for another one.
        tokio::time::sleep(STOPPED_AGAIN).await;
        if let Some(word) = status_word(dir).await
            && STOPPED.iter().any(|(known, _)| word == *known)
        {
            return word;
        }
    }
}

/// The states in which a guest does not go on by itself, and what each means to a user.
const STOPPED: [(&str, &str); 5] = [
    ("internal-error", "KVM could not go on with it; `dmesg` and the lines below may say why"),
    ("io-error", "this host's disk is full or failed; `df -h` shows which"),
    ("guest-panicked", "its kernel panicked"),
    ("watchdog", "its watchdog ended it"),
    ("shutdown", "it shut down while it started"),
];

/// Returns what one of QEMU's words for a stopped guest means.
pub(crate) fn stop_reason(word: &str) -> &'static str {
    STOPPED.iter().find(|(known, _)| word == *known).map_or("it does not run", |(_, why)| why)
}

/// All of QEMU's words for a machine's state (`RunState` of its qapi/run-state.json, 7.2 to 10.1), and what each means here.
const STATES: [(&str, MachineState); 16] = [
    ("running", MachineState::Running),
    ("paused", MachineState::Paused),
    // Not yet begun, or stopped by a debugger.
    ("prelaunch", MachineState::Paused),
    ("debug", MachineState::Paused),
    // A copy whose start was cut off waits for its state, or is as its template was when that had been saved.
    ("inmigrate", MachineState::Paused),
    ("postmigrate", MachineState::Paused),
    ("finish-migrate", MachineState::Paused),
    ("save-vm", MachineState::Paused),
    ("restore-vm", MachineState::Paused),
    ("colo", MachineState::Paused),
    // The guest put itself to sleep (ACPI S3).
    ("suspended", MachineState::Paused),
    // The disk found no room on the host; the guest goes on when it is told to.
    ("io-error", MachineState::Paused),
    // KVM could not go on with the guest.
    ("internal-error", MachineState::Crashed),
    ("guest-panicked", MachineState::Crashed),
    ("watchdog", MachineState::Crashed),
    // The guest has ended, and its process has not.
    ("shutdown", MachineState::Crashed),
];

/// Returns the state that QEMU's own word for it means. A word that is not known says nothing: the process runs.
fn of_status(word: Option<&str>) -> MachineState {
    let known = STATES.iter().find(|(known, _)| word == Some(known));
    known.map_or(MachineState::Running, |(_, state)| *state)
}

/// Halts a machine's processors.
pub(super) async fn pause(machine: &Machine) -> Result<(), Error> {
    if process(&machine.dir).is_none() {
        return Err(Error::NotRunning);
    }
    Qmp::open(&machine.dir, MONITOR).await?.execute("stop", json!({})).await?;
    Ok(())
}

/// Lets a paused machine go on. Returns whether it did: a copy that has no state yet has nothing to
/// go on with.
pub(super) async fn resume(machine: &Machine) -> Result<bool, Error> {
    if process(&machine.dir).is_none() {
        return Err(Error::NotRunning);
    }
    let mut qmp = Qmp::open(&machine.dir, MONITOR).await?;
    let status = qmp.execute("query-status", json!({})).await?;
    let order = match status.get("status").and_then(Value::as_str) {
        Some("inmigrate") => return Ok(false),
        Some("suspended") => "system_wakeup",
        _ => "cont",
    };
    qmp.execute(order, json!({})).await?;
    Ok(true)
}

/// Returns how long a guest may take from the order to shut down until its machine has ended. What the guest waits for
/// is the same time everywhere: an emulated one counts the same seconds.
pub fn stop_limit(slowness: u32) -> Duration {
    SHUTDOWN + SHUTDOWN_MARGIN * slowness
}

pub(super) async fn stop(machine: &Machine, limit: Duration) -> Result<bool, Error> {
    let Some(process) = process(&machine.dir) else { return Ok(true) };
    let deadline = Instant::now() + limit;
    match state(machine).await {
        MachineState::Paused => drop(resume(machine).await?),
        MachineState::Crashed => return kill(&machine.dir).await.map(|()| false),
        MachineState::Running | MachineState::Stopped => {}
    }
    // The agent's `poweroff` runs the guest's own shutdown; the power button does if it listens.
    let asked = async {
        let shell = AgentShell::new(machine.dir.clone());
        shell.run(&["/sbin/poweroff"], b"", limit / 4).await
    };
    if asked.await.is_err()
        && let Ok(mut qmp) = Qmp::open(&machine.dir, MONITOR).await
    {
        let _ = qmp.execute("system_powerdown", json!({})).await;
    }
    let ended = tokio::select! {
        ended = await_end(process, deadline) => ended,
        // What looks like a panic may be a container's words: a guest that shuts down has all the time it was given.
        never = console::listen(&machine.dir) => match never {},
    };
    if ended {
        return Ok(true);
    }
    kill(&machine.dir).await?;
    Ok(false)
}

pub(super) async fn kill(dir: &Path) -> Result<(), Error> {
    let Some(process) = process(dir) else { return Ok(()) };
    console::take_over(dir);
    process.kill();
    if await_end(process, Instant::now() + DEATH).await {
        Ok(())
    } else {
        Err(Error::Immortal(process.pid))
    }
}

async fn await_end(process: ProcessId, deadline: Instant) -> bool {
    while process.is_alive() {
        if Instant::now() >= deadline {
            return false;
        }
        // wait: the process is not our child, so its end is not announced to us.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::guest_file;
    use crate::qemu::launch::fake::sleeping_machine;
    use crate::qemu::qmp::fake::FakeMonitor;
    use skep_core::fixtures;

    #[test]
    fn the_host_waits_longer_than_the_guest_does() {
        let script = guest_file("shutdown.sh").unwrap();
        let waits = script.lines().filter_map(|line| line.strip_prefix("sv -w "));
        let waits: Vec<u64> =
            waits.map(|rest| rest.split(' ').next().unwrap().parse().unwrap()).collect();
        assert_eq!(waits.len(), 2, "{script}");
        assert_eq!(Duration::from_secs(waits.iter().sum()), SHUTDOWN);
        assert!(stop_limit(1) >= SHUTDOWN + Duration::from_secs(10));
        assert!(stop_limit(12) > stop_limit(1));
    }

    #[test]
    fn each_word_of_the_monitor_has_its_meaning() {
        for word in ["paused", "inmigrate", "postmigrate", "io-error", "suspended"] {
            assert_eq!(of_status(Some(word)), MachineState::Paused, "{word}");
        }
        for word in ["internal-error", "guest-panicked", "shutdown", "watchdog"] {
            assert_eq!(of_status(Some(word)), MachineState::Crashed, "{word}");
        }
        for word in [Some("running"), Some("another"), None] {
            assert_eq!(of_status(word), MachineState::Running, "{word:?}");
        }
        let words: std::collections::BTreeSet<_> = STATES.iter().map(|(word, _)| word).collect();
        assert_eq!(words.len(), STATES.len());
    }

    #[tokio::test]
    async fn a_machine_that_kvm_gave_up_has_crashed_and_is_ended_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine { record: fixtures::node(), dir: dir.path().to_owned() };
        std::fs::create_dir(dir.path().join(crate::shell::RUN)).unwrap();
        // What is no machine's process would not be ended.
        let pid = dir.path().join(crate::shell::RUN).join("qemu.pid");
        let mut child = sleeping_machine(&pid);
        let process = ProcessId::of(child.id()).unwrap();
        let note = json!({"pid": process.pid, "start": process.start, "accelerator": "kvm"});
        std::fs::write(dir.path().join("process.json"), note.to_string()).unwrap();
        FakeMonitor::saying("internal-error").serve(dir.path(), &[SECOND_MONITOR]);
        let seen = state(&machine).await;
        let began = Instant::now();
        let followed = stop(&machine, Duration::from_secs(60)).await;
        let _ = child.kill();
        let _ = child.wait();
        assert_eq!(seen, MachineState::Crashed);
        assert!(!followed.unwrap(), "no guest was there to follow");
        assert!(began.elapsed() < Duration::from_secs(30), "nobody was asked to shut down");
        assert_eq!(state(&machine).await, MachineState::Stopped);
    }
}
