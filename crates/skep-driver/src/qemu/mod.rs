//! Machines that are QEMU processes.
//!
//! No daemon stands between: a machine is found by the process number and start time in its
//! directory, and spoken to through the sockets there.
//!
//! ```text
//!            create_disk          start                await_guest
//!   (nothing) ────────▶ stopped ────────▶ running ─────────────────▶ guest up
//!                          ▲                 │ stop: agent, else ACPI, else kill
//!                          └─────────────────┘ kill
//! ```

pub mod accel;
pub mod args;
mod bake;
mod console;
mod disk;
mod emulator_checkpoint;
mod fork;
mod host;
mod launch;
mod power;
mod profile;
pub mod program;
mod qcow2;
pub mod qmp;
mod template;
mod usage;
mod user;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use skep_core::model::{ImageSet, Shape};
use skep_core::observed::{Baked, MachineState};
use skep_net::network::Network;
use skep_store::{Entries, Entry, Machine};
use skep_sys::shell::NodeShell;
use skep_sys::{Bind, Cmd, FileError, Lock};
use tokio::sync::OnceCell;

pub use accel::Accelerator;
pub use power::stop_limit;
pub(super) use power::stop_reason;
pub use profile::{Choice, Profile};
pub use program::QemuVersion;
pub use template::{Manifest, Template};
pub use usage::{Usage, usage};
pub use user::{MACHINE_USERS, has_users};

use self::args::Memory;
use self::template::{Making, template_id};
use self::user::user_of;
use super::{Adopt, Boot, Driver, Error, Fork, Remark, Say};
use crate::image::Image;
use crate::shell::{AgentShell, RUN};

/// What executes guests: a state that one has saved is not loaded by another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emulator {
    /// QEMU's version.
    pub version: QemuVersion,
    /// Which build of it.
    pub build: String,
    /// What executes the guests' code.
    pub accelerator: Accelerator,
    /// The host's processor, where guests see it.
    pub processor: Option<String>,
    /// The host's kernel, KVM and microcode, where a saved state depends on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kvm: Option<String>,
    /// Whether the host trusts its cycle counter, which is what emulated guests see as theirs.
    #[serde(default)]
    pub steady_counter: bool,
    /// How its guests are treated, if not as their accelerator's usually are: only in tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_profile: Option<Profile>,
    /// By what factor limits stretch on this host at least. It says nothing of a saved state.
    #[serde(skip, default = "one")]
    pub slowness: u32,
}

const fn one() -> u32 {
    1
}

impl Emulator {
    /// Returns how its guests are treated.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.test_profile.unwrap_or(Profile::of(self.accelerator).slowed(self.slowness))
    }
}

/// The QEMU driver.
pub struct Qemu {
    cache_dir: PathBuf,
    network: Arc<dyn Network>,
    choice: Choice,
    chosen: OnceCell<Emulator>,
    /// Whether machines' processes can be kept from their user's files.
    secludes: OnceCell<bool>,
    /// The templates that this process uses, each looked at once.
    templates: tokio::sync::Mutex<BTreeMap<String, Slot>>,
}

/// Where a template is waited for by all who want it.
type Slot = Arc<OnceCell<(Template, Lock)>>;

/// The files of a machine.
pub(super) struct Files(PathBuf);

impl Files {
    pub(super) fn of(machine: &Machine) -> Self {
        Self::in_dir(&machine.dir)
    }

    pub(super) fn in_dir(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    pub(super) fn dir(&self) -> &Path {
        &self.0
    }

    pub(super) fn disk(&self) -> PathBuf {
        self.0.join("disk.qcow2")
    }

    /// What is written down of the disk.
    pub(super) fn disk_note(&self) -> PathBuf {
        self.0.join("disk.json")
    }

    /// The only directory that the machine's process may write to when it has started: its sockets.
    pub(super) fn run(&self) -> PathBuf {
        self.0.join(RUN)
    }

    /// A copy of the template's memory, only while a QEMU starts that cannot share it.
    pub(super) fn memory(&self) -> PathBuf {
        self.0.join("ram")
    }

    pub(super) fn console(&self) -> PathBuf {
        self.0.join("console.log")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.0.join("qemu.log")
    }

    pub(super) fn pid(&self) -> PathBuf {
        self.run().join("qemu.pid")
    }

    /// Where an older skep had QEMU write it.
    pub(super) fn old_pid(&self) -> PathBuf {
        self.0.join("qemu.pid")
    }

    pub(super) fn process(&self) -> PathBuf {
        self.0.join("process.json")
    }
}

impl Qemu {
    /// Creates the driver. What it finds out about the host is kept in `cache_dir`; taps come from
    /// `network`; `choice` is what is to execute the guests' code.
    #[must_use]
    pub fn new(cache_dir: PathBuf, network: Arc<dyn Network>, choice: Choice) -> Self {
        let (chosen, secludes) = (OnceCell::new(), OnceCell::new());
        Self { cache_dir, network, choice, chosen, secludes, templates: Default::default() }
    }

    /// Returns what is in the cache of templates.
    #[must_use]
    pub fn templates(cache_dir: &Path) -> Entries {
        Entries::new(cache_dir.join("templates"))
    }

    /// Returns what a template in the cache was made from; none if it is only a part of one.
    #[must_use]
    pub fn template(entry: &Entry) -> Option<Manifest> {
        template::read(&entry.dir).map(|template| template.manifest)
    }

    /// Finds out, once, whether a machine's process can be kept from the files of the user that it runs as; one
    /// that is nobody else's user is kept from them already.
    async fn secludes(&self, dir: &Path, say: Say<'_>) -> bool {
        if skep_sys::is_root() {
            return false;
        }
        let tried = async || match Cmd::new("true")
            .dir(dir)
            .secluded([Bind::writable(dir)])
            .run()
            .await
        {
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(%error, "no namespaces");
                say(Remark::Warning(
                    "QEMU is not kept from your files, as this host lets users have no namespaces",
                ));
                false
            }
        };
        *self.secludes.get_or_init(tried).await
    }

    /// Finds out, once, which QEMU is there and what it can use.
    async fn choose(&self, kernel: &Path, initrd: &Path, say: Say<'_>) -> Result<&Emulator, Error> {
        let choose = async || {
            let (version, build) = QemuVersion::installed().await?;
            let (accelerator, slowness) = match self.choice {
                Choice::Accelerator(chosen) => (chosen, 1),
                Choice::Test(_) => (Accelerator::Tcg, 1),
                Choice::Tried => {
                    let probing = || say(Remark::Progress("trying a guest under KVM"));
                    let dir = &self.cache_dir;
                    let found = accel::choose(dir, version, kernel, initrd, probing).await;
                    if found.accelerator == Accelerator::Tcg {
                        let reason = found.reason;
                        if !program::has(Accelerator::Tcg).await? {
                            return Err(program::only_kvm(&reason, &program::program()));
                        }
                        say(Remark::Warning(&format!(
                            "software emulation, 5 to 20 times slower than KVM ({reason})"
                        )));
                    }
                    (found.accelerator, found.slowness)
                }
            };
            let test_profile = match self.choice {
                Choice::Test(profile) => Some(profile),
                Choice::Accelerator(_) | Choice::Tried => None,
            };
            let profile = test_profile.unwrap_or(Profile::of(accelerator));
            let processor = profile.state_depends_on_host().then(host::processor);
            let kvm = profile.state_depends_on_host().then(host::kvm);
            let steady_counter = host::steady_counter();
            Ok(Emulator {
                version,
                build,
                accelerator,
                processor,
                kvm,
                steady_counter,
                test_profile,
                slowness,
            })
        };
        self.chosen.get_or_try_init(choose).await
    }
}

#[async_trait]
impl Fork for Qemu {
    async fn ensure_template(
        &self,
        image: &Image,
        shape: Shape,
        images: &[ImageSet],
        say: Say<'_>,
    ) -> Result<PathBuf, Error> {
        let emulator = self.choose(&image.kernel(), &image.initrd(), say).await?;
        let (network, secluded) = (&*self.network, self.secludes(&image.dir, say).await);
        let keeps = !secluded && emulator_checkpoint::is_of_use(emulator);
        let id = template_id(image, shape, images, emulator, keeps);
        let slot = self.templates.lock().await.entry(id.clone()).or_default().clone();
        let making = Making { image, shape, images, emulator, keeps, network, secluded, say };
        let entries = Self::templates(&self.cache_dir);
        let (template, _) = slot.get_or_try_init(|| entries.ensure(&id, &making)).await?;
        Ok(template.disk())
    }

    fn baked(&self) -> Vec<Baked> {
        let entries = Self::templates(&self.cache_dir).list().unwrap_or_default();
        entries.iter().filter_map(|entry| Self::template(entry)?.baked()).collect()
    }

    async fn fork(&self, machine: &Machine, boot: &Boot, say: Say<'_>) -> Result<(), Error> {
        if launch::process(&machine.dir).is_some() {
            return Ok(());
        }
        let emulator = self.choose(&boot.kernel, &boot.initrd, say).await?;
        disk::prepare(machine).await?;
        let secluded = self.secludes(&machine.dir, say).await;
        fork::fork(machine, boot, emulator, (&*self.network, secluded), say).await
    }
}

#[async_trait]
impl Driver for Qemu {
    async fn create_disk(&self, machine: &Machine, base: &Path) -> Result<(), Error> {
        disk::create(machine, base).await
    }

    fn forks(&self) -> Option<&dyn Fork> {
        Some(self)
    }

    fn adopts(&self) -> Option<&dyn Adopt> {
        None
    }

    fn has_disk(&self, machine: &Machine) -> bool {
        Files::of(machine).disk().exists()
    }

    fn base(&self, machine: &Machine) -> Option<PathBuf> {
        base(&machine.dir)
    }

    async fn start(&self, machine: &Machine, boot: &Boot, say: Say<'_>) -> Result<(), Error> {
        if launch::process(&machine.dir).is_some() {
            return Ok(());
        }
        let emulator = self.choose(&boot.kernel, &boot.initrd, say).await?;
        disk::prepare(machine).await?;
        let secluded = self.secludes(&machine.dir, say).await;
        let host = (&*self.network, secluded);
        launch::start(machine, boot, emulator, Memory::Anonymous, host, say).await
    }

    async fn await_guest(&self, machine: &Machine, limit: Option<Duration>) -> Result<(), Error> {
        let limit = limit.unwrap_or(Duration::from_secs(20) * self.slowness(machine));
        launch::await_guest(&machine.dir, limit).await
    }

    fn check_alive(&self, machine: &Machine) -> Result<(), Error> {
        launch::check_alive(machine)
    }

    async fn pause(&self, machine: &Machine) -> Result<(), Error> {
        power::pause(machine).await
    }

    async fn resume(&self, machine: &Machine) -> Result<(), Error> {
        if power::resume(machine).await? {
            return Ok(());
        }
        fork::finish(machine).await
    }

    async fn stop(&self, machine: &Machine) -> Result<bool, Error> {
        power::stop(machine, power::stop_limit(self.slowness(machine))).await
    }

    async fn kill(&self, dir: &Path) -> Result<(), Error> {
        power::kill(dir).await
    }

    async fn state(&self, machine: &Machine) -> MachineState {
        power::state(machine).await
    }

    fn slowness(&self, machine: &Machine) -> u32 {
        profile(machine).slowness()
    }

    fn verifies_overlay(&self, machine: &Machine) -> bool {
        profile(machine).verifies_overlay()
    }

    fn shell(&self, machine: &Machine) -> Box<dyn NodeShell> {
        Box::new(AgentShell::new(machine.dir.clone()))
    }

    fn last_words(&self, machine: &Machine) -> String {
        console::last_lines(&machine.dir)
    }
}

/// Returns how the guest of a machine that runs is treated; one of which nothing is noted is given the most time.
fn profile(machine: &Machine) -> Profile {
    let started = launch::note(&machine.dir).map(|note| note.profile());
    started.unwrap_or(Profile::of(Accelerator::Tcg))
}

/// Returns the root disk on which the disk of the machine in this directory stands.
#[must_use]
pub fn base(dir: &Path) -> Option<PathBuf> {
    disk::base(dir)
}

/// Returns the template of which the machine in this directory is, or was, a copy.
#[must_use]
pub fn template_of(dir: &Path) -> Option<String> {
    let backing = disk::backing(dir)?;
    template::around(&backing).map(|template| template.id)
}

/// Returns what a machine's console said last: as much of it as is kept.
///
/// # Errors
///
/// If it has said nothing yet.
pub fn console(machine: &Machine) -> Result<Vec<u8>, FileError> {
    console::read(&machine.dir)
}
