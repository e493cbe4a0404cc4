//! Starting a machine as a copy of a template's running one.
//!
//! The copy's memory is the template's file, mapped privately: a page is the copy's own from when it
//! is first written to. What is not memory (registers, the state of devices) is read from a second
//! file, as if a machine moved here from elsewhere (QEMU docs/devel/migration).

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use skep_net::network::Network;
use skep_store::Machine;
use skep_sys::{Cmd, FileError, set_mode};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::args::{MONITOR, Memory, SHARES_MEMORY};
use super::launch::{self, last_words, process};
use super::qmp::Qmp;
use super::template::{self, Template};
use super::{Emulator, Files, disk, emulator_checkpoint, power};
use crate::{Boot, Error, Remark, Say};

/// How long the state may take to be read: it is a few hundred KiB.
const LOAD: Duration = Duration::from_secs(10);

/// How long a copy of the memory may take: its size is that of a template's `ram`, some 100 MiB, on a slow disk.
const COPY: Duration = Duration::from_secs(120);

/// Leaves the memory out of a state, as it is in a file that both ends map.
pub(super) async fn leave_out_memory(qmp: &mut Qmp) -> Result<(), Error> {
    let capabilities = json!([{"capability": "x-ignore-shared", "state": true}]);
    let capabilities = json!({"capabilities": capabilities});
    qmp.execute("migrate-set-capabilities", capabilities).await.map(|_| ())
}

/// The name under which QEMU is given its end of the connection that a state goes through.
///
/// A connection and no file: QEMU is started so that it can open no file any more, and could not run a
/// program to read one for it. What an old QEMU needs is the same.
const STATE: &str = "state";

/// Begins to save a machine's state to a file; the future ends when all that QEMU sent is there.
pub(super) async fn save_state(
    qmp: &mut Qmp,
    state: &Path,
) -> Result<impl Future<Output = Result<(), FileError>> + use<>, Error> {
    let (ours, theirs) = UnixStream::pair().map_err(Error::Monitor)?;
    qmp.give(STATE, &theirs).await?;
    drop(theirs);
    let path = state.to_owned();
    let copying = tokio::spawn(async move {
        let fail = |source| FileError::new("write", &path, source);
        let mut file = tokio::fs::File::create(&path).await.map_err(fail)?;
        tokio::io::copy(&mut { ours }, &mut file).await.map_err(fail)?;
        file.flush().await.map_err(fail)
    });
    qmp.execute("migrate", json!({"uri": format!("fd:{STATE}")})).await?;
    Ok(async { copying.await.expect("copying does not panic") })
}

/// Begins to load a state from a file into a machine that waits for it.
async fn load_state(qmp: &mut Qmp, state: &Path) -> Result<(), Error> {
    let fail = |source| FileError::new("read", state, source);
    let mut file = tokio::fs::File::open(state).await.map_err(fail)?;
    let (ours, theirs) = UnixStream::pair().map_err(Error::Monitor)?;
    qmp.give(STATE, &theirs).await?;
    drop(theirs);
    // Whether all of it arrived is seen by what comes of the machine.
    tokio::spawn(async move { tokio::io::copy(&mut file, &mut { ours }).await });
    qmp.execute("migrate-incoming", json!({"uri": format!("fd:{STATE}")})).await?;
    Ok(())
}

/// Starts the machine as a copy of the template on which its disk stands.
pub(super) async fn fork(
    machine: &Machine,
    boot: &Boot,
    emulator: &Emulator,
    host: (&dyn Network, bool),
    say: Say<'_>,
) -> Result<(), Error> {
    let template = template_of(machine)?;
    if template.manifest.emulator != *emulator {
        let id = &template.id;
        return Err(Error::Unfit(format!("template {id} was made by another QEMU, kernel or KVM")));
    }
    if let Some(kept) = emulator_checkpoint::of(&template.dir) {
        let goes_on = async {
            emulator_checkpoint::go_on(machine, boot, emulator, (&template, &kept), host, say)
                .await?;
            load(&machine.dir, &template).await
        };
        match goes_on.await {
            Ok(()) => return Ok(()),
            Err(error) => say(Remark::Progress(&format!(
                "its emulator starts without the checkpoint: {error}"
            ))),
        }
        power::kill(&machine.dir).await?;
    }
    let ram = memory_file(&Files::of(machine), &template).await?;
    let started = launch::start(machine, boot, emulator, Memory::Copied(&ram), host, say).await;
    // QEMU has mapped its own copy, or has ended: nobody opens the file again.
    let _ = std::fs::remove_file(Files::of(machine).memory());
    started?;
    let loaded = load(&machine.dir, &template).await;
    if loaded.is_err() {
        // Half a copy is worth nothing, and its monitor would be taken for a machine's.
        power::kill(&machine.dir).await?;
    }
    loaded
}

/// Returns the file from which the copy's QEMU maps its memory.
///
/// From 8.2 on QEMU opens it only to read (`readonly=on,rom=off`), and all copies share the template's. Older ones
/// open it to write, even to map it privately (`file_ram_open` in softmmu/physmem.c). An ordinary user's is refused that, as
/// the template's files are read-only; root's would hold what the memory of all its machines is made of, open for
/// writing. So an old QEMU gets a copy of its own, which takes as much of the disk as the template's machine had used.
pub(super) async fn memory_file(files: &Files, template: &Template) -> Result<PathBuf, Error> {
    if template.manifest.emulator.version >= SHARES_MEMORY {
        return Ok(template.ram());
    }
    let own = files.memory();
    // It keeps the holes, and shares the blocks where the file system can do that.
    let copy =
        Cmd::new("cp").args(["--remove-destination", "--sparse=auto", "--reflink=auto", "--"]);
    let copied = copy.arg(template.ram()).arg(&own).timeout(COPY).run().await;
    let writable = copied.map_err(Error::from).and_then(|_| Ok(set_mode(&own, 0o600)?));
    if writable.is_err() {
        let _ = std::fs::remove_file(&own);
    }
    writable.map(|()| own)
}

/// Lets a copy go on whose start was cut off before its state was read.
pub(super) async fn finish(machine: &Machine) -> Result<(), Error> {
    load(&machine.dir, &template_of(machine)?).await
}

fn template_of(machine: &Machine) -> Result<Template, Error> {
    let template = disk::backing(&machine.dir).and_then(|backing| template::around(&backing));
    let disk = || Files::of(machine).disk();
    template.ok_or_else(|| Error::Unfit(format!("{} has no template", disk().display())))
}

pub(super) async fn load(dir: &Path, template: &Template) -> Result<(), Error> {
    let emulator = &template.manifest.emulator;
    let limit = LOAD * emulator.profile().slowness();
    let loading = async {
        let mut qmp = Qmp::open(dir, MONITOR).await?;
        let mut loads = false;
        loop {
            let status = qmp.execute("query-status", json!({})).await?;
            match status.get("status").and_then(Value::as_str) {
                Some("inmigrate") if !loads => {
                    leave_out_memory(&mut qmp).await?;
                    load_state(&mut qmp, &template.state()).await?;
                    loads = true;
                }
                // wait: the end is announced only to those who asked for all events.
                Some("inmigrate") => tokio::time::sleep(Duration::from_millis(5)).await,
                // As the template was when it was saved; after that, if its process goes on.
                Some("paused" | "postmigrate") => {
                    return qmp.execute("cont", json!({})).await.map(|_| ());
                }
                other => return Err(Error::Unfit(format!("the copy does not run: {other:?}"))),
            }
        }
    };
    let files = Files::in_dir(dir);
    match timeout(limit, loading).await {
        Ok(Err(_)) if process(dir).is_none() => Err(Error::Died(last_words(&files))),
        Ok(result) => result,
        Err(_) => Err(Error::NoGuest { limit_s: limit.as_secs(), console: last_words(&files) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu::{Accelerator, QemuVersion};
    use skep_core::fixtures;
    use skep_core::model::{Shape, Size};
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    fn template(dir: &Path, version: QemuVersion) -> Template {
        let emulator = Emulator {
            version,
            build: String::new(),
            accelerator: Accelerator::Kvm,
            processor: None,
            kvm: None,
            test_profile: None,
            slowness: 1,
            steady_counter: true,
        };
        let manifest = template::Manifest {
            format: 1,
            image: "a".into(),
            shape: Shape { cpus: 1, memory: Size::gib(1), disk: Size::gib(20) },
            emulator,
            files: Vec::new(),
            images: Vec::new(),
            spec: None,
        };
        Template { id: "0".into(), dir: dir.to_owned(), manifest }
    }

    #[tokio::test]
    async fn a_qemu_that_opens_memory_to_write_gets_a_copy_of_its_own() {
        let place = tempfile::tempdir().unwrap();
        let dir = |name: &str| {
            let dir = place.path().join(name);
            std::fs::create_dir(&dir).unwrap();
            dir
        };
        let (cache, own) = (dir("template"), dir("node0"));
        let ram = std::fs::File::create(cache.join("ram")).unwrap();
        ram.set_len(64 << 20).unwrap();
        ram.write_all_at(b"what the guest wrote", 32 << 20).unwrap();
        set_mode(&cache.join("ram"), 0o400).unwrap();
        let machine = Machine { dir: own, record: fixtures::node() };

        let new = template(&cache, QemuVersion::new(8, 2));
        assert_eq!(memory_file(&Files::of(&machine), &new).await.unwrap(), new.ram());
        let old = template(&cache, QemuVersion::new(7, 2));
        // What a skep that was killed has left does not matter.
        std::fs::write(Files::of(&machine).memory(), "stale").unwrap();
        let copy = memory_file(&Files::of(&machine), &old).await.unwrap();
        let (copied, shared) = (copy.metadata().unwrap(), old.ram().metadata().unwrap());
        assert_ne!(copied.ino(), shared.ino());
        assert_eq!((copied.mode() & 0o7777, shared.mode() & 0o7777), (0o600, 0o400));
        assert!(copied.blocks() * 512 < 8 << 20, "the holes are kept: {}", copied.blocks());
        assert!(std::fs::read(&copy).unwrap() == std::fs::read(old.ram()).unwrap());

        std::fs::remove_file(old.ram()).unwrap();
        assert!(memory_file(&Files::of(&machine), &old).await.is_err());
        assert!(!copy.exists(), "half a copy is not left");
    }
}
