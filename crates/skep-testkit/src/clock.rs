//! How right a guest's clock is, and what makes it wrong.

use std::path::Path;
use std::time::Duration;

use skep_driver::qemu::{args::MONITOR, qmp::Qmp};
use skep_driver::shell::AgentShell;
use skep_sys::shell::NodeShell as _;

/// Returns by how much the clock of the guest whose machine has that directory is wrong, early or
/// late, as precisely as an answer of its agent comes quickly.
///
/// # Panics
///
/// If its agent does not answer.
#[must_use]
pub fn wrong_by(machine: &Path) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let shell = AgentShell::new(machine.to_owned());
    let behind = runtime.expect("a runtime").block_on(shell.clock_behind(Duration::from_secs(20)));
    Duration::from_nanos(behind.expect("the agent answers").unsigned_abs())
}

/// Halts or resumes the guest whose machine has that directory, behind skep's back: `stop` or `cont`.
///
/// # Panics
///
/// If its monitor does not answer.
pub fn tell(machine: &Path, command: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.expect("a runtime").block_on(async {
        let mut qmp = Qmp::open(machine, MONITOR).await?;
        qmp.execute(command, serde_json::json!({})).await
    });
    done.expect("the monitor answers");
}
