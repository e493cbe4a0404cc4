//! Templates: machines with a warm engine, frozen, that nodes are copies of.
//!
//! ```text
//! CACHE/templates/ID/ram            the guest's memory, with holes where it was never written
//! CACHE/templates/ID/state          processors and devices
//! CACHE/templates/ID/process        the emulator's own memory, under software emulation (`kept`)
//! CACHE/templates/ID/process.json   and what else its process has
//! CACHE/templates/ID/disk.qcow2     what differs from the image's root disk
//! CACHE/templates/ID/template.json  what it was made from, and checksums
//! ```
//!
//! A template belongs to one image, shape, accelerator, and build of QEMU: a state is never loaded
//! by another QEMU than the one that saved it.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use skep_core::model::{EngineImages, ImageSet, ImageSpec, Mac, Shape};
use skep_core::observed::Baked;
use skep_net::network::Network;
use skep_store::{Kind, Note};
use skep_sys::shell::NodeShell as _;
use skep_sys::{
    Bind, Checksum, Cmd, FileError, checksum, hex, make_private_dir, read_own, write_atomic,
};

use super::args::{Invocation, MACHINE, MONITOR, Memory, cpu, kernel_words};
use super::bake::BAKE;
use super::fork::{leave_out_memory, load, memory_file, save_state};
use super::launch::{await_guest, explained, last_words};
use super::qmp::Qmp;
use super::{Emulator, Files, disk, emulator_checkpoint, program, qcow2, user_of};
use crate::image::{Image, image_id};
use crate::shell::AgentShell;
use crate::{Error, Remark, Say};

/// The number of the manifest's format.
const FORMAT: u32 = 1;

/// What warms a guest up, and leaves nothing in it that its copies may not share.
const WARM_UP: &str = include_str!("warm_up.sh");

/// How long a template may take on hardware virtualization, from its start to being warm.
pub(super) const WARM_LIMIT: Duration = Duration::from_secs(60);

/// What a template's disk and memory need at most beside what the memory's size tells.
const ROOM: u64 = 512 << 20;

/// The address that a template's machine would have.
const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

pub(super) const MANIFEST: &str = "template.json";

/// A frozen machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its address.
    pub id: String,
    /// Its directory.
    pub dir: PathBuf,
    /// What it was made from.
    pub manifest: Manifest,
}

/// What a template was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The number of the manifest's format.
    pub format: u32,
    /// The image.
    pub image: String,
    /// The shape of its machines.
    pub shape: Shape,
    /// What executed it.
    pub emulator: Emulator,
    /// Its files, with what tells damage.
    pub files: Vec<(String, Checksum)>,
    /// The container images that its engine has, beside those of skep's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageSet>,
    /// What the image was made from, if there are container images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<ImageSpec>,
}

impl Manifest {
    /// Returns what plans need to know, if this has container images and its image is the one that would
    /// be made today.
    #[must_use]
    pub fn baked(&self) -> Option<Baked> {
        let spec = self.spec.clone()?;
        let id = image_id(&spec).ok()?;
        let own = self.image.split_once('.').map_or(self.image.as_str(), |(id, _)| id);
        (id == own).then(|| Baked {
            image: spec,
            shape: self.shape,
            images: EngineImages::of(&self.images),
        })
    }
}

impl Template {
    /// Returns the file of its memory.
    #[must_use]
    pub fn ram(&self) -> PathBuf {
        self.dir.join("ram")
    }

    /// Returns the file of its processors' and devices' state.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Returns its disk, which disks of nodes are overlays of.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        Files::in_dir(&self.dir).disk()
    }
}

/// Returns the address of a template.
pub(super) fn template_id(
    image: &Image,
    shape: Shape,
    images: &[ImageSet],
    emulator: &Emulator,
    keeps: bool,
) -> String {
    let (cpu, words) = (cpu(emulator), kernel_words(emulator));
    let mut machine = json!([FORMAT, image.id, shape, emulator, MACHINE, cpu, words, WARM_UP]);
    if !images.is_empty() {
        // What they are counts, not where they came from or in which order.
        machine = json!([machine, EngineImages::of(images).0, BAKE]);
    }
    if keeps {
        machine = json!([machine, emulator_checkpoint::host()]);
    }
    hex(&Sha256::digest(machine.to_string())[..8])
}

/// Reads the template whose disk that is, without a look at how whole it is.
pub(super) fn around(disk: &Path) -> Option<Template> {
    read(disk.parent()?)
}

pub(super) fn read(dir: &Path) -> Option<Template> {
    let id = dir.file_name()?.to_str()?.to_owned();
    let text = read_own(&dir.join(MANIFEST)).ok()?;
    let manifest: Manifest = serde_json::from_slice(&text).ok()?;
    (manifest.format == FORMAT && !manifest.files.is_empty()).then(|| Template {
        id,
        dir: dir.to_owned(),
        manifest,
    })
}

/// The making of one template.
pub(super) struct Making<'a> {
    pub image: &'a Image,
    pub shape: Shape,
    pub images: &'a [ImageSet],
    pub emulator: &'a Emulator,
    /// Whether the emulator's process is kept too.
    pub keeps: bool,
    /// Where the tap is from, which is connected to nothing: what matters is that a copy finds the same
    /// kind of interface.
    pub network: &'a dyn Network,
    /// Whether the machine's process is kept from all files but its own.
    pub secluded: bool,
    pub say: Say<'a>,
}

impl Kind for Making<'_> {
    type Entry = Template;
    type Error = Error;

    async fn read(&self, dir: &Path) -> Option<Template> {
        read(dir).filter(|template| template.manifest.image == self.image.id)
    }

    async fn open(&self, dir: &Path) -> Option<Template> {
        let template = self.read(dir).await?;
        if let Some(kept) = emulator_checkpoint::of(dir)
            && let Err(reason) = kept.check_host()
        {
            tracing::debug!(?dir, reason, "stale");
            return None;
        }
        let files = template.manifest.files.iter().cloned();
        let checks: Vec<_> = files
            .map(|(name, sum)| {
                let path = dir.join(name);
                tokio::task::spawn_blocking(move || checksum(&path).is_ok_and(|it| it == sum))
            })
            .collect();
        for whole in checks {
            if !whole.await.ok()? {
                return None;
            }
        }
        Some(template)
    }

    async fn make(&self, dir: &Path) -> Result<(), Error> {
        let needed = self.shape.memory.bytes()
            + ROOM
            + if self.keeps { emulator_checkpoint::ROOM } else { 0 };
        let free = skep_sys::free_space(dir)?;
        if free < needed {
            return Err(Error::Unfit(format!(
                "{} has {} MiB free, and a template takes up to {} MiB",
                dir.display(),
                free >> 20,
                needed >> 20
            )));
        }
        let files = Files::in_dir(dir);
        disk::overlay(&files.disk(), &self.image.root_disk(), self.shape.disk).await?;
        if !self.images.is_empty() {
            self.bake(dir).await?;
        }
        (self.say)(Remark::Progress("booting a machine to copy nodes from"));
        let invocation = self.invocation(&files);
        let limit = WARM_LIMIT * self.emulator.profile().slowness();
        let machine = self.process(&[dir], &invocation, &[]).await?.timeout(limit);
        let machine = machine.run();
        tokio::pin!(machine);
        tokio::select! {
            ended = &mut machine => {
                explained(ended)?;
                return Err(Error::Died(last_words(&files)));
            }
            frozen = self.warm_and_freeze(dir, limit) => frozen?,
        }
        explained(machine.await)?;
        // Its guest ran: what its disk says is believed from here on.
        let header = qcow2::read(&files.disk()).map(|header| header.and_then(|it| it.backing));
        if header.as_ref() != Ok(&Some(self.image.root_disk())) {
            let reason = header.err().unwrap_or_else(|| "it stands on another disk".to_owned());
            return Err(Error::Disk { path: files.disk(), reason });
        }
        self.try_copy(dir, limit).await?;
        self.seal(dir).await
    }

    fn note(&self, note: Note) {
        match note {
            Note::Elsewhere(holder) => {
                let text = format!("waiting for {holder}, which makes this template");
                (self.say)(Remark::Progress(&text));
            }
            Note::Damaged => {
                let text = "the cached one is damaged and another one is made";
                (self.say)(Remark::Warning(text));
            }
        }
    }
}

impl Making<'_> {
    /// Returns what starts a machine in the first directory, with files in all of them. It stays our child and ends with us: a half-made template is
    /// of no use to anybody.
    pub(super) async fn process(
        &self,
        dirs: &[&Path],
        invocation: &Invocation<'_>,
        more: &[&str],
    ) -> Result<Cmd, Error> {
        make_private_dir(&Files::in_dir(dirs[0]).run())?;
        let tap = self.network.detached_tap().await?;
        let machine = Cmd::new(program::program()).args(invocation.args()).args(more).dir(dirs[0]);
        let machine = match self.secluded {
            true => {
                let (image, own) = (self.image, dirs.iter().map(Bind::writable));
                let below = [image.kernel(), image.initrd(), image.root_disk()];
                machine.secluded(own.chain(below.map(Bind::read_only)))
            }
            false => machine,
        };
        Ok(machine.contained().descriptor(tap))
    }

    pub(super) fn invocation(&self, files: &Files) -> Invocation<'_> {
        Invocation {
            emulator: self.emulator,
            name: "skep-template".to_owned(),
            cpus: self.shape.cpus,
            size: self.shape.memory,
            // The directory is renamed when it is whole; QEMU is started in it.
            memory: Memory::Written(Path::new("ram")),
            mac: Mac::for_address(NOBODY),
            user: user_of(NOBODY),
            kernel: self.image.kernel(),
            initrd: self.image.initrd(),
            words: Vec::new(),
            disk: vec![files.disk(), self.image.root_disk()],
            pid: None,
        }
    }

    /// Brings the guest to a warm engine, saves it, and ends the machine.
    async fn warm_and_freeze(&self, dir: &Path, limit: Duration) -> Result<(), Error> {
        await_monitor(dir).await;
        await_guest(dir, limit).await?;
        (self.say)(Remark::Progress("warming its engine up"));
        let probe = skep_sys::read(&self.image.probe_archive())?;
        let shell = AgentShell::new(dir.to_owned());
        shell.succeed("the warm-up", &["/bin/sh", "-c", WARM_UP], &probe, limit).await?;
        (self.say)(Remark::Progress("freezing it"));
        let mut qmp = Qmp::open(dir, MONITOR).await?;
        qmp.execute("stop", json!({})).await?;
        if self.keeps {
            emulator_checkpoint::prepare(dir, &mut qmp, self.shape.disk, user_of(NOBODY)).await?;
        }
        leave_out_memory(&mut qmp).await?;
        let saving = save_state(&mut qmp, &dir.join("state")).await?;
        loop {
            let status = qmp.execute("query-migrate", json!({})).await?;
            match status.get("status").and_then(Value::as_str) {
                Some("completed") => break,
                Some("failed" | "cancelled") => {
                    let reason = status.get("error-desc").and_then(Value::as_str);
                    let reason = reason.unwrap_or("no reason given");
                    return Err(Error::Unfit(format!("the state cannot be saved: {reason}")));
                }
                // wait: the end is announced only to those who asked; the machine's limit bounds it.
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        saving.await?;
        if self.keeps {
            let process = qmp.process()?;
            drop(qmp);
            if let Err(error) = emulator_checkpoint::keep(dir, process).await {
                (self.say)(Remark::Progress(&format!(
                    "no checkpoint of the emulator, so forks translate all code again: {error}"
                )));
            }
            qmp = Qmp::open(dir, MONITOR).await?;
        }
        // It may be gone before it has answered.
        let _ = qmp.execute("quit", json!({})).await;
        Ok(())
    }

    /// Starts one copy, and ends it when its guest answers. Under KVM a state can be saved that this very host does not
    /// load, or with which a guest hangs; each node would come to that by itself, and wait for its time limit.
    async fn try_copy(&self, dir: &Path, limit: Duration) -> Result<(), Error> {
        (self.say)(Remark::Progress("trying one copy"));
        let trial = dir.join("trial");
        let fail = |what, source| FileError::new(what, &trial, source);
        std::fs::create_dir(&trial).map_err(|source| fail("make", source))?;
        let files = Files::in_dir(&trial);
        disk::overlay(&files.disk(), &Files::in_dir(dir).disk(), self.shape.disk).await?;
        let template = self.unsealed(dir);
        let ram = memory_file(&files, &template).await?;
        let disk = vec![files.disk(), Files::in_dir(dir).disk(), self.image.root_disk()];
        let memory = Memory::Copied(&ram);
        let invocation = Invocation { memory, disk, ..self.invocation(&files) };
        let machine = self.process(&[&trial, dir], &invocation, &[]).await?.timeout(limit);
        let tried = await_copy(&trial, &template, machine, limit).await;
        skep_sys::remove_tree(&trial)?;
        let why = |error: Error| {
            let reason = skep_sys::chain(&error);
            Error::Unfit(format!("a copy of the template does not run: {reason}"))
        };
        tried.map_err(why)
    }

    /// Returns the template as it is before it is sealed.
    fn unsealed(&self, dir: &Path) -> Template {
        let manifest = self.manifest(Vec::new());
        Template { id: String::new(), dir: dir.to_owned(), manifest }
    }

    fn manifest(&self, files: Vec<(String, Checksum)>) -> Manifest {
        Manifest {
            format: FORMAT,
            image: self.image.id.clone(),
            shape: self.shape,
            emulator: self.emulator.clone(),
            files,
            images: self.images.to_vec(),
            spec: (!self.images.is_empty()).then(|| self.image.manifest.spec.clone()),
        }
    }

    /// Leaves only what copies need, unwritable, with checksums.
    async fn seal(&self, dir: &Path) -> Result<(), Error> {
        let keep =
            ["ram", "state", "disk.qcow2", emulator_checkpoint::PAGES, emulator_checkpoint::REST];
        let fail = |path: &Path, source| FileError::new("seal", path, source);
        for entry in std::fs::read_dir(dir).map_err(|source| fail(dir, source))?.flatten() {
            if !keep.iter().any(|name| entry.file_name() == *name) {
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let remove = if is_dir { std::fs::remove_dir_all } else { std::fs::remove_file };
                remove(entry.path()).map_err(|source| fail(&entry.path(), source))?;
            }
        }
        let mut files = Vec::new();
        for name in keep {
            let path = dir.join(name);
            if !path.exists()
                && [emulator_checkpoint::PAGES, emulator_checkpoint::REST].contains(&name)
            {
                continue;
            }
            let read_only = std::os::unix::fs::PermissionsExt::from_mode(0o400);
            std::fs::set_permissions(&path, read_only).map_err(|source| fail(&path, source))?;
            let file = std::fs::File::open(&path).map_err(|source| fail(&path, source))?;
            // What the manifest vouches for has to be on the disk before it.
            file.sync_all().map_err(|source| fail(&path, source))?;
            files.push((name.to_owned(), checksum(&path)?));
        }
        let manifest = self.manifest(files);
        let text = serde_json::to_vec_pretty(&manifest).expect("a manifest has only text keys");
        Ok(write_atomic(&dir.join(MANIFEST), 0o644, &text)?)
    }
}

/// Runs a copy until its guest answers.
async fn await_copy(
    trial: &Path,
    template: &Template,
    machine: Cmd,
    limit: Duration,
) -> Result<(), Error> {
    let files = Files::in_dir(trial);
    let machine = machine.run();
    tokio::pin!(machine);
    let answers = async {
        await_monitor(trial).await;
        load(trial, template).await?;
        await_guest(trial, limit).await
    };
    tokio::select! {
        ended = &mut machine => {
            explained(ended)?;
            return Err(Error::Died(last_words(&files)));
        }
        answers = answers => answers?,
    }
    // Its memory and disk are nobody's: there is nothing to shut down.
    let mut qmp = Qmp::open(trial, MONITOR).await?;
    let _ = qmp.execute("quit", json!({})).await;
    // It may end as it likes.
    let _ = machine.await;
    Ok(())
}

/// Waits until a machine that was just started as our child listens; its end ends the wait.
pub(super) async fn await_monitor(dir: &Path) {
    while skep_sys::connect_in(dir, MONITOR).await.is_err() {
        // wait: a child does not announce that it has made its sockets.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image;
    use crate::qemu::args::SECOND_MONITOR;
    use crate::qemu::qmp::fake::FakeMonitor;
    use crate::qemu::{Accelerator, Profile, QemuVersion};
    use skep_core::model::{ContainerImage, Size};
    use std::sync::LazyLock;

    use skep_net::network::LinuxNetwork;

    fn image(id: &str) -> Image {
        let manifest = image::Manifest {
            format: 1,
            spec: ImageSpec::default(),
            probe_image: "sha256:0".into(),
            packages: Vec::new(),
            files: Vec::new(),
            checksums: Vec::new(),
        };
        Image { id: id.into(), dir: "/nowhere".into(), manifest }
    }

    fn emulator() -> Emulator {
        Emulator {
            version: QemuVersion::new(10, 0),
            build: "QEMU emulator version 10.0.2".into(),
            accelerator: Accelerator::Tcg,
            processor: None,
            kvm: None,
            steady_counter: true,
            test_profile: None,
            slowness: 1,
        }
    }

    const SHAPE: Shape = Shape { cpus: 1, memory: Size::gib(1), disk: Size::gib(20) };

    #[test]
    fn whatever_a_copy_would_notice_makes_another_template() {
        let set = |source: &str, id: &str| ImageSet {
            source: source.into(),
            images: vec![ContainerImage { id: id.into(), names: vec!["app:1".into()] }],
        };
        let with = |set| template_id(&image("a"), SHAPE, &[set], &emulator(), false);
        assert_eq!(with(set("a.tar", "sha256:1")), with(set("b.tar", "sha256:1")));
        let plain = template_id(&image("a"), SHAPE, &[], &emulator(), false);
        let others = [
            with(set("a.tar", "sha256:1")),
            with(set("a.tar", "sha256:2")),
            template_id(&image("b"), SHAPE, &[], &emulator(), false),
            template_id(&image("a"), Shape { cpus: 2, ..SHAPE }, &[], &emulator(), false),
            template_id(
                &image("a"),
                Shape { memory: Size::gib(2), ..SHAPE },
                &[],
                &emulator(),
                false,
            ),
            template_id(
                &image("a"),
                Shape { disk: Size::gib(30), ..SHAPE },
                &[],
                &emulator(),
                false,
            ),
            template_id(
                &image("a"),
                SHAPE,
                &[],
                &Emulator { build: "other".into(), ..emulator() },
                false,
            ),
            template_id(
                &image("a"),
                SHAPE,
                &[],
                &Emulator { accelerator: Accelerator::Kvm, ..emulator() },
                false,
            ),
            template_id(
                &image("a"),
                SHAPE,
                &[],
                &Emulator { processor: Some("another".into()), ..emulator() },
                false,
            ),
            template_id(
                &image("a"),
                SHAPE,
                &[],
                &Emulator { kvm: Some("another".into()), ..emulator() },
                false,
            ),
            template_id(&image("a"), SHAPE, &[], &emulator(), true),
            template_id(
                &image("a"),
                SHAPE,
                &[],
                &Emulator { steady_counter: false, ..emulator() },
                false,
            ),
            template_id(
                &image("a"),
                SHAPE,
                &[],
                &Emulator { test_profile: Profile::kvm_under_emulation(3), ..emulator() },
                false,
            ),
        ];
        assert_eq!(plain, template_id(&image("a"), SHAPE, &[], &emulator(), false));
        for (index, other) in others.iter().enumerate() {
            assert!(*other != plain && !others[..index].contains(other), "{index}");
        }
    }

    static NETWORK: LazyLock<LinuxNetwork> = LazyLock::new(LinuxNetwork::host);

    fn making<'a>(image: &'a Image, emulator: &'a Emulator) -> Making<'a> {
        let (network, say) = (&*NETWORK, &|_: Remark<'_>| ());
        let (shape, secluded) = (SHAPE, false);
        Making { image, shape, images: &[], emulator, keeps: false, network, secluded, say }
    }

    /// Runs a copy whose QEMU is this script, and whose monitors say `after` once the guest goes on.
    async fn run_copy(script: &str, after: &'static str) -> (Error, Duration) {
        let place = tempfile::tempdir().unwrap();
        let trial = place.path().join("trial");
        std::fs::create_dir_all(Files::in_dir(&trial).run()).unwrap();
        std::fs::write(place.path().join("state"), "state").unwrap();
        std::fs::write(Files::in_dir(&trial).console(), "[    0.5] the guest's last line\n")
            .unwrap();
        if !after.is_empty() {
            FakeMonitor::migrating(after).serve(&trial, &[MONITOR, SECOND_MONITOR]);
        }
        let (image, emulator) = (image("a"), emulator());
        let template = making(&image, &emulator).unsealed(place.path());
        // Its time limit is one that nobody waits for.
        let limit = Duration::from_secs(600);
        let machine = Cmd::new("sh").args(["-c", script]).timeout(limit);
        let began = std::time::Instant::now();
        let tried = await_copy(&trial, &template, machine, limit).await;
        (tried.unwrap_err(), began.elapsed())
    }

    #[tokio::test]
    async fn a_copy_that_kvm_does_not_run_is_given_up_at_once_with_the_reason() {
        let hangs = "exec sleep 600";
        let cases = [
            // As it is where the host's KVM lacks a register that the state has.
            ("echo 'error: failed to set MSR 0x48e' >&2; exit 1", "", "failed to set MSR 0x48e"),
            (hangs, "internal-error", "KVM could not go on with it"),
            (hangs, "guest-panicked", "its kernel panicked"),
            (hangs, "io-error", "disk is full or failed"),
            (hangs, "shutdown", "shut down while it started"),
        ];
        for (script, after, wanted) in cases {
            let (error, took) = run_copy(script, after).await;
            let said = error.to_string();
            assert!(said.contains(wanted), "{after}: {said}");
            assert!(after.is_empty() || said.contains(after), "{said}");
            assert!(after.is_empty() || said.contains("the guest's last line"), "{said}");
            assert!(took < Duration::from_secs(60), "{after}: {took:?}");
        }
    }

    #[tokio::test]
    async fn a_flipped_bit_is_noticed_in_every_file() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("0123456789abcdef");
        std::fs::create_dir(&dir).unwrap();
        for name in ["ram", "state", "disk.qcow2", "console.log"] {
            std::fs::write(dir.join(name), format!("{name}: {}", "x".repeat(5000))).unwrap();
        }
        let (image, emulator) = (image("a"), emulator());
        let kind = making(&image, &emulator);
        assert_eq!(kind.open(&dir).await, None, "without a manifest it is none");
        kind.seal(&dir).await.unwrap();
        assert!(!dir.join("console.log").exists());
        assert_eq!(kind.open(&dir).await.unwrap().manifest.shape, SHAPE);
        for name in ["ram", "state", "disk.qcow2", MANIFEST] {
            let path = dir.join(name);
            let whole = std::fs::read(&path).unwrap();
            let mut damaged = whole.clone();
            damaged[40] ^= 1;
            let put = |bytes: &[u8]| {
                std::fs::remove_file(&path).unwrap();
                std::fs::write(&path, bytes).unwrap();
            };
            put(&damaged);
            let found = kind.open(&dir).await;
            assert!(found.is_none() || name == MANIFEST, "{name}");
            put(&whole[..whole.len() - 1]);
            assert_eq!(kind.open(&dir).await, None, "{name}");
            put(&whole);
            assert!(kind.open(&dir).await.is_some(), "{name}");
        }
        let other = Image { id: "b".into(), ..image.clone() };
        let kind = making(&other, &emulator);
        assert_eq!(kind.open(&dir).await, None, "it is another image's");
    }
}
