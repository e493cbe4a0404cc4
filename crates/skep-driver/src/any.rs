//! All kinds of machines: each is left to the driver of its kind.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use skep_core::model::NodeKind;
use skep_core::observed::MachineState;
use skep_store::Machine;
use skep_sys::shell::NodeShell;

use super::qemu::Qemu;
use super::ssh::SshHosts;
use super::{Adopt, Boot, Driver, Error, Fork, Say};

/// Virtual machines of ours, and hosts that exist already.
pub struct AnyDriver {
    /// Makes virtual machines.
    pub qemu: Qemu,
    /// Reaches hosts.
    pub hosts: SshHosts,
}

impl AnyDriver {
    /// Creates it from the driver of virtual machines.
    #[must_use]
    pub fn new(qemu: Qemu) -> Self {
        Self { qemu, hosts: SshHosts::default() }
    }

    fn of(&self, machine: &Machine) -> &dyn Driver {
        match machine.record.spec.kind {
            NodeKind::Host(_) => &self.hosts,
            NodeKind::Vm(_) => &self.qemu,
        }
    }
}

#[async_trait]
impl Driver for AnyDriver {
    fn forks(&self) -> Option<&dyn Fork> {
        self.qemu.forks()
    }

    fn adopts(&self) -> Option<&dyn Adopt> {
        self.hosts.adopts()
    }

    async fn create_disk(&self, machine: &Machine, base: &Path) -> Result<(), Error> {
        self.of(machine).create_disk(machine, base).await
    }

    fn has_disk(&self, machine: &Machine) -> bool {
        self.of(machine).has_disk(machine)
    }

    fn base(&self, machine: &Machine) -> Option<PathBuf> {
        self.of(machine).base(machine)
    }

    async fn start(&self, machine: &Machine, boot: &Boot, say: Say<'_>) -> Result<(), Error> {
        self.of(machine).start(machine, boot, say).await
    }

    async fn await_guest(&self, machine: &Machine, limit: Option<Duration>) -> Result<(), Error> {
        self.of(machine).await_guest(machine, limit).await
    }

    fn check_alive(&self, machine: &Machine) -> Result<(), Error> {
        self.of(machine).check_alive(machine)
    }

    async fn pause(&self, machine: &Machine) -> Result<(), Error> {
        self.of(machine).pause(machine).await
    }

    async fn resume(&self, machine: &Machine) -> Result<(), Error> {
        self.of(machine).resume(machine).await
    }

    async fn stop(&self, machine: &Machine) -> Result<bool, Error> {
        self.of(machine).stop(machine).await
    }

    /// Ends the virtual machine that has this directory; a host's has no process.
    async fn kill(&self, dir: &Path) -> Result<(), Error> {
        self.qemu.kill(dir).await
    }

    async fn state(&self, machine: &Machine) -> MachineState {
        self.of(machine).state(machine).await
    }

    fn slowness(&self, machine: &Machine) -> u32 {
        self.of(machine).slowness(machine)
    }

    fn verifies_overlay(&self, machine: &Machine) -> bool {
        self.of(machine).verifies_overlay(machine)
    }

    fn shell(&self, machine: &Machine) -> Box<dyn NodeShell> {
        self.of(machine).shell(machine)
    }

    fn last_words(&self, machine: &Machine) -> String {
        self.of(machine).last_words(machine)
    }
}
