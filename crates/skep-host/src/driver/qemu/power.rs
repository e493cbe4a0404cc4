//! Stopping machines, and looking at whether they run.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use skep_core::observed::MachineState;
use tokio::time::{Instant, timeout};

use super::args::{MONITOR, SECOND_MONITOR};
use super::launch::process;
use super::qmp::Qmp;
use crate::driver::Error;
use crate::shell::{AgentShell, NodeShell};
use crate::store::Machine;
use crate::sys::ProcessId;

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
    match status.get("status").and_then(Value::as_str) {
        // A copy whose start was cut off waits for its state.
        Some("paused" | "inmigrate") => MachineState::Paused,
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
    if await_end(process, deadline).await {
        return Ok(true);
    }
    kill(&machine.dir).await?;
    Ok(false)
}

pub(super) async fn kill(dir: &Path) -> Result<(), Error> {
    let Some(process) = process(dir) else { return Ok(()) };
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
