//! Machines: how one is made, started, stopped, removed and looked at.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]

mod any;
pub mod image;
pub mod qemu;
pub mod shell;
pub mod ssh;

pub use any::AnyDriver;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use skep_core::model::{HostSpec, ImageSet, NetworkRecord, Shape};
use skep_core::observed::{Baked, MachineState};
use skep_net::network;
use skep_store::{Machine, Owner};
use skep_sys::shell::NodeShell;
use skep_sys::{CmdError, FileError, LockError, WireError};
use thiserror::Error;

use crate::image::Image;

/// What a machine is started with, beside what is written down of it.
#[derive(Debug, Clone)]
pub struct Boot {
    /// Whose it is.
    pub owner: Owner,
    /// The network that it is connected to.
    pub network: NetworkRecord,
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: PathBuf,
    /// Addresses of DNS servers.
    pub resolvers: Vec<std::net::Ipv4Addr>,
}

/// What went wrong with a machine.
#[derive(Debug, Error)]
pub enum Error {
    /// The QEMU that is installed is too old.
    #[error("QEMU is {found}; at least {oldest} is needed")]
    OldQemu {
        /// What is there.
        found: qemu::QemuVersion,
        /// What is needed.
        oldest: qemu::QemuVersion,
    },
    /// A program failed.
    #[error(transparent)]
    Cmd(#[from] CmdError),
    /// The network interface could not be made.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A lock could not be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The machine's process ended while it was needed.
    #[error("the machine died{}", said(.0))]
    Died(String),
    /// The guest did not come up in time.
    #[error("timed out after {limit_s} s waiting for the guest to boot{}", said(.console))]
    NoGuest {
        /// The limit in seconds.
        limit_s: u64,
        /// The console's last lines.
        console: String,
    },
    /// The guest's kernel panicked before its agent answered.
    #[error("the guest's kernel panicked{}", said(.0))]
    Panicked(String),
    /// The guest was given up before its agent answered, and does not go on by itself.
    #[error("the guest stopped: {} (QEMU's state is {state}){}", qemu::stop_reason(.state), said(.last_words))]
    Stopped {
        /// QEMU's own word for it.
        state: String,
        /// The last lines of QEMU's log and of the console.
        last_words: String,
    },
    /// The machine does not run.
    #[error("the machine is not running")]
    NotRunning,
    /// The machine did not end.
    #[error("process {0} did not end")]
    Immortal(u32),
    /// The monitor could not be reached.
    #[error("QEMU's monitor does not respond")]
    Monitor(#[source] std::io::Error),
    /// The monitor broke off.
    #[error("the connection to QEMU's monitor broke")]
    Wire(#[from] WireError),
    /// The monitor refused.
    #[error("QEMU's monitor refused {command}: {reason}")]
    Refused {
        /// The monitor's command.
        command: String,
        /// Its reason.
        reason: String,
    },
    /// Container images could not be had.
    #[error(transparent)]
    Images(#[from] skep_docker::oci::Error),
    /// The guest's agent failed.
    #[error(transparent)]
    Shell(#[from] skep_sys::shell::Error),
    /// A disk is not what was written down of it: whoever starts it would open what its header says.
    #[error("{} is not opened: {reason}", .path.display())]
    Disk {
        /// The disk, or what was written down of it.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A choice is not possible here.
    #[error("{0}")]
    Unfit(String),
}

fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("; its last words:\n{text}") }
}

/// What a driver tells while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remark<'a> {
    /// How far it is: of interest until the next one.
    Progress(&'a str),
    /// What the user should know afterwards too.
    Warning(&'a str),
}

/// Is told what a user may want to know, such as how guests are executed.
pub type Say<'a> = &'a (dyn for<'text> Fn(Remark<'text>) + Send + Sync);

/// A kind of machine that can be copied while it runs.
#[async_trait]
pub trait Fork: Send + Sync {
    /// Makes sure that there is a template of that shape whose engine has these container images to
    /// make copies of, and returns its disk, on which the copies' disks are to be made.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    async fn ensure_template(
        &self,
        image: &Image,
        shape: Shape,
        images: &[ImageSet],
        say: Say<'_>,
    ) -> Result<PathBuf, Error>;

    /// Returns the templates that have container images.
    fn baked(&self) -> Vec<Baked>;

    /// Starts the machine as a copy of the one on whose disk its own was made; one that runs is left
    /// as it is. It is everything that it is a copy of, and connected to its own network, until it is
    /// told what it is.
    ///
    /// # Errors
    ///
    /// If the process does not start, or the copy does not run; with its own words.
    async fn fork(&self, machine: &Machine, boot: &Boot, say: Say<'_>) -> Result<(), Error>;
}

/// A kind of machine that is there before it is a node and after.
#[async_trait]
pub trait Adopt: Send + Sync {
    /// Gives the machine an engine, if it has none, that listens to the cluster's clients. `owner` tells
    /// the cluster from all others; what is done is written down on the machine under this name.
    ///
    /// # Errors
    ///
    /// If nobody can log in, the machine is not fit or another's, or the set-up fails.
    async fn adopt(&self, machine: &Machine, owner: &str, say: Say<'_>) -> Result<(), Error>;

    /// Lets other nodes in through the machine's own firewall, if that is on, and nobody who was let in
    /// before.
    ///
    /// # Errors
    ///
    /// If nobody can log in, or the firewall refuses.
    async fn open(
        &self,
        machine: &Machine,
        owner: &str,
        to: &[Ipv4Addr],
        say: Say<'_>,
    ) -> Result<(), Error>;

    /// Takes back what was done to the machine for `owner`; an engine that was installed is removed with
    /// all its data, unless it is to be kept, or something needs it that came later. Returns what stays, and why.
    ///
    /// # Errors
    ///
    /// If nobody can log in, or something cannot be taken back.
    async fn release(
        &self,
        machine: &Machine,
        owner: &str,
        keep: bool,
    ) -> Result<Vec<String>, Error>;
}

/// A kind of machine.
#[async_trait]
pub trait Driver: Send + Sync {
    /// Returns the driver's way to make machines that are copies of a running one, if it has one.
    fn forks(&self) -> Option<&dyn Fork>;

    /// Returns the driver's way to take machines in that are there already, if it has one.
    fn adopts(&self) -> Option<&dyn Adopt>;

    /// Makes the machine's disk on an image's root disk or a template's disk; one that is there is
    /// kept.
    ///
    /// # Errors
    ///
    /// If there is no room or the base is not there.
    async fn create_disk(&self, machine: &Machine, base: &Path) -> Result<(), Error>;

    /// Tells whether the machine has a disk.
    fn has_disk(&self, machine: &Machine) -> bool;

    /// Returns the root disk of the image on which the machine's disk stands.
    fn base(&self, machine: &Machine) -> Option<PathBuf>;

    /// Starts the machine; one that runs is left as it is.
    ///
    /// # Errors
    ///
    /// If the process does not start; with its own words.
    async fn start(&self, machine: &Machine, boot: &Boot, say: Say<'_>) -> Result<(), Error>;

    /// Waits until the guest takes commands, for `limit` or as long as the driver finds right.
    ///
    /// # Errors
    ///
    /// If the machine dies, or the guest does not come up in time; with the console's last lines.
    async fn await_guest(&self, machine: &Machine, limit: Option<Duration>) -> Result<(), Error>;

    /// Tells whether the machine still runs.
    ///
    /// # Errors
    ///
    /// If it does not; with its last words.
    fn check_alive(&self, machine: &Machine) -> Result<(), Error>;

    /// Halts the machine's processors; one that halts already is fine.
    ///
    /// # Errors
    ///
    /// If the machine is not running.
    async fn pause(&self, machine: &Machine) -> Result<(), Error>;

    /// Lets a paused machine go on.
    ///
    /// # Errors
    ///
    /// If the machine is not running.
    async fn resume(&self, machine: &Machine) -> Result<(), Error>;

    /// Shuts the guest down, and ends the process if it does not follow in time. Returns whether
    /// the guest followed.
    ///
    /// # Errors
    ///
    /// If the process does not end even when killed.
    async fn stop(&self, machine: &Machine) -> Result<bool, Error>;

    /// Ends at once the machine that has this directory, even if nothing else is known of it; one
    /// that does not run is fine.
    ///
    /// # Errors
    ///
    /// If the process does not end.
    async fn kill(&self, dir: &Path) -> Result<(), Error>;

    /// Returns the machine's state, quickly and without a word to the guest.
    async fn state(&self, machine: &Machine) -> MachineState;

    /// Returns by how much limits are stretched for this machine.
    fn slowness(&self, machine: &Machine) -> u32;

    /// Tells whether a cluster with this machine has its overlay network verified if nobody says what to verify.
    fn verifies_overlay(&self, _machine: &Machine) -> bool {
        true
    }

    /// Returns a shell in the node.
    fn shell(&self, machine: &Machine) -> Box<dyn NodeShell>;

    /// Returns the last lines of the machine's console.
    fn last_words(&self, machine: &Machine) -> String;
}

/// Returns the shape of a machine that is virtual.
///
/// # Errors
///
/// If it is a host.
pub fn shape_of(machine: &Machine) -> Result<Shape, Error> {
    let shape = machine.record.spec.shape();
    shape.ok_or_else(|| Error::Unfit("it is an existing host, no virtual machine".to_owned()))
}

/// Returns how to log in to a machine that is a host.
fn host_of(machine: &Machine) -> Result<&HostSpec, Error> {
    let host = machine.record.spec.host();
    host.ok_or_else(|| Error::Unfit("it is a virtual machine, no existing host".to_owned()))
}
