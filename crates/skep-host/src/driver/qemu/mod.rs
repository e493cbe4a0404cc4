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
mod disk;
mod fork;
mod launch;
mod power;
pub mod qmp;
mod template;
mod usage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use skep_core::model::{ImageSet, Shape};
use skep_core::observed::{Baked, MachineState};
use tokio::sync::OnceCell;

pub use accel::Accelerator;
pub use launch::QemuVersion;
pub use template::{Manifest, Template};
pub use usage::{Usage, usage};

use self::args::Memory;
use self::template::{Making, template_id};
use super::{Adopt, Boot, Driver, Error, Fork, Say};
use crate::image::Image;
use crate::shell::{AgentShell, NodeShell};
use crate::store::{Entries, Entry, Machine};
use crate::sys::{Lock, tail};

/// The program.
pub(super) const QEMU: &str = "qemu-system-x86_64";

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
}

/// The QEMU driver.
#[derive(Debug)]
pub struct Qemu {
    cache_dir: PathBuf,
    forced: Option<Accelerator>,
    chosen: OnceCell<Emulator>,
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

    pub(super) fn disk(&self) -> PathBuf {
        self.0.join("disk.qcow2")
    }

    pub(super) fn console(&self) -> PathBuf {
        self.0.join("console.log")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.0.join("qemu.log")
    }

    pub(super) fn pid(&self) -> PathBuf {
        self.0.join("qemu.pid")
    }

    pub(super) fn process(&self) -> PathBuf {
        self.0.join("process.json")
    }

    pub(super) fn ifup(&self) -> PathBuf {
        self.0.join("ifup")
    }
}

impl Qemu {
    /// Creates the driver. What it finds out about the host is kept in `cache_dir`; `forced` is the
    /// user's own choice of what executes the guests' code.
    #[must_use]
    pub fn new(cache_dir: PathBuf, forced: Option<Accelerator>) -> Self {
        Self { cache_dir, forced, chosen: OnceCell::new(), templates: Default::default() }
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

    /// Finds out, once, which QEMU is there and what it can use.
    async fn choose(&self, kernel: &Path, initrd: &Path, say: Say<'_>) -> Result<&Emulator, Error> {
        let choose = async || {
            let (version, build) = QemuVersion::installed().await?;
            let accelerator = match self.forced {
                Some(forced) => forced,
                None => {
                    let probing = || say("trying a guest under KVM");
                    let dir = &self.cache_dir;
                    let choice = accel::choose(dir, version, kernel, initrd, probing).await;
                    if choice.accelerator == Accelerator::Tcg {
                        let reason = choice.reason;
                        say(&format!("software emulation, 5 to 20 times slower ({reason})"));
                    }
                    choice.accelerator
                }
            };
            let processor = match accelerator {
                Accelerator::Kvm => Some(accel::processor()),
                Accelerator::Tcg => None,
            };
            Ok(Emulator { version, build, accelerator, processor })
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
        let id = template_id(image, shape, images, emulator);
        let slot = self.templates.lock().await.entry(id.clone()).or_default().clone();
        let making = Making { image, shape, images, emulator, say };
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
        fork::fork(machine, boot, emulator).await
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
        disk::grow(machine).await?;
        launch::start(machine, boot, emulator, Memory::Anonymous).await
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
        power::stop(machine, Duration::from_secs(15) * self.slowness(machine)).await
    }

    async fn kill(&self, dir: &Path) -> Result<(), Error> {
        power::kill(dir).await
    }

    async fn state(&self, machine: &Machine) -> MachineState {
        power::state(machine).await
    }

    fn slowness(&self, machine: &Machine) -> u32 {
        let started_with = launch::note(&machine.dir).map(|note| note.accelerator);
        started_with.unwrap_or(Accelerator::Tcg).slowness()
    }

    fn shell(&self, machine: &Machine) -> Box<dyn NodeShell> {
        Box::new(AgentShell::new(machine.dir.clone()))
    }

    fn last_words(&self, machine: &Machine) -> String {
        console_tail(&Files::of(machine).console())
    }
}

/// Returns the root disk on which the disk of the machine in this directory stands.
#[must_use]
pub fn base(dir: &Path) -> Option<PathBuf> {
    disk::base(&Files::in_dir(dir).disk())
}

/// Returns the template of which the machine in this directory is, or was, a copy.
#[must_use]
pub fn template_of(dir: &Path) -> Option<String> {
    let backing = disk::backing(&Files::in_dir(dir).disk())?;
    template::around(&backing).map(|template| template.id)
}

/// Returns where a machine's console is written to.
#[must_use]
pub fn console_path(machine: &Machine) -> PathBuf {
    Files::of(machine).console()
}

/// Returns the last lines of a console's log, without what a terminal would act on.
fn console_tail(path: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let mut text = Vec::new();
    let read = std::fs::File::open(path).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(8 << 10)))?;
        file.take(8 << 10).read_to_end(&mut text)
    });
    if read.is_err() {
        return String::new();
    }
    tail(&text).chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}
