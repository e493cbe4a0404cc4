//! Stopping machines, and looking at whether they run.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use skep_core::observed::MachineState;
use tokio::time::{Instant, timeout};

use super::args::{MONITOR, SECOND_MONITOR};
use super::console;
use super::launch::process;
use super::qmp::Qmp;
use crate::driver::Error;
use crate::shell::{AgentShell, NodeShell};
use crate::store::Machine;
use crate::sys::ProcessId;

/// How long a guest's own shutdown may take (`image/guest/shutdown.sh`): its engine waits as long as the longest grace of
/// its containers, up to 45 s, and the other services have 5 s.
pub const SHUTDOWN: Duration = Duration::from_secs(45 + 5);

/// What a host waits longer than that, on hardware virtualization: for the order to arrive and the kernel to end.
pub const SHUTDOWN_MARGIN: Duration = Duration::from_secs(10);

/// How long a look waits for the monitor.
const LOOK: Duration = Duration::from_millis(500);

/// How long a killed process may take to be gone.
const DEATH: Duration = Duration::from_secs(20);

pub(super) async fn state(machine: &Machine) -> MachineState {
    if process(&machine.dir).is_none() {
        return MachineState::Stopped;
    }
    let status = async {
        let mut qmp = Qmp::open(&machine.dir, SECOND_MONITOR).await?;
        qmp.execute("query-status", json!({})).await
    };
    // A monitor that is slow says nothing about the guest: the process runs.
    let Ok(Ok(status)) = timeout(LOOK, status).await else { return MachineState::Running };
    of_status(status.get("status").and_then(Value::as_str))
}

/// Returns the state that QEMU's own word for it means.
fn of_status(word: Option<&str>) -> MachineState {
    match word {
        // A copy whose start was cut off waits for its state, or is as its template was when that had been saved. A guest whose disk found no room on the
        // host is halted, and goes on when it is told to.
        Some("paused" | "inmigrate" | "postmigrate" | "io-error") => MachineState::Paused,
        _ => MachineState::Running,
    }
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
    if status.get("status").and_then(Value::as_str) == Some("inmigrate") {
        return Ok(false);
    }
    qmp.execute("cont", json!({})).await?;
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
    if state(machine).await == MachineState::Paused {
        resume(machine).await?;
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
    fn what_has_to_be_told_to_go_on_is_paused() {
        for word in ["paused", "inmigrate", "postmigrate", "io-error"] {
            assert_eq!(of_status(Some(word)), MachineState::Paused, "{word}");
        }
        for word in [Some("running"), Some("internal-error"), None] {
            assert_eq!(of_status(word), MachineState::Running, "{word:?}");
        }
    }
}
