//! Disks: a qcow2 overlay for each node on the image's read-only root disk (qemu-img(1)).
//!
//! ```text
//! MACHINE/disk.json      what the disk stands on and how large it is, written down before it is made
//! MACHINE/disk.qcow2     the disk
//! ```
//!
//! The note is what counts. The disk's own header must say the same before anything opens the disk, and what
//! opens it is told each file below it: a guest that took over its QEMU may have written the header ([`qcow2`]).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use skep_core::model::Size;
use skep_store::Machine;
use skep_sys::{Cmd, FileError, check_dir, publish, read_own, remove_file, write_atomic};

use super::args::DISK;
use super::{Files, qcow2, template};
use crate::{Error, shape_of};

/// The number of the note's format.
const FORMAT: u32 = 1;

/// What is written down of a machine's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    format: u32,
    /// The disk that it is an overlay of.
    backing: PathBuf,
    /// Its virtual size, in bytes.
    size: u64,
}

pub(super) async fn create(machine: &Machine, base: &Path) -> Result<(), Error> {
    let files = Files::of(machine);
    let disk = files.disk();
    if disk.exists() {
        return Ok(());
    }
    let size = shape_of(machine)?.disk;
    write_note(&files, base, size.bytes())?;
    // Under another name first: a disk that was cut off while it was made is none.
    let new = machine.dir.join("disk.new");
    // qemu-img would keep the mode of what a skep that was killed left there.
    remove_file(&new)?;
    overlay(&new, base, size).await?;
    Ok(publish(&new, &disk)?)
}

/// Makes an overlay of a disk that is never written to again.
pub(super) async fn overlay(disk: &Path, base: &Path, size: Size) -> Result<(), Error> {
    let below = qcow2::read(base).map_err(|reason| unfit(base, reason))?;
    let format = if below.is_some() { "qcow2" } else { "raw" };
    // `-u`: the base is not opened, as nothing has to be known of it.
    Cmd::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-u", "-F", format, "-b"])
        .arg(base)
        .arg(disk)
        .arg(size.bytes().to_string())
        .run()
        .await?;
    Ok(())
}

/// Refuses a disk whose header says something else than what was written down, and makes it as large as it is
/// wanted; the guest grows its file system when it starts.
pub(super) async fn prepare(machine: &Machine) -> Result<(), Error> {
    let files = Files::of(machine);
    let (known, size) = check(&machine.dir)?;
    let wanted = shape_of(machine)?.disk.bytes();
    if size >= wanted {
        return Ok(());
    }
    // First the note: a disk that is smaller than that is as good, one that is larger is refused.
    write_note(&files, &known.backing, known.size.max(wanted))?;
    let mut disk = blockdev(&chain(&machine.dir)?, true);
    disk.as_object_mut().map(|disk| disk.remove("node-name"));
    Cmd::new("qemu-img")
        .args(["resize", "-q", &format!("json:{disk}")])
        .arg(wanted.to_string())
        .run()
        .await?;
    Ok(())
}

/// Compares the disk of the machine in a directory with its note, which it returns with the disk's size.
fn check(dir: &Path) -> Result<(Note, u64), Error> {
    let disk = Files::in_dir(dir).disk();
    let refused = |reason: String| Error::Disk { path: disk.clone(), reason };
    let header = qcow2::read(&disk).map_err(refused)?;
    let header = header.ok_or_else(|| refused("it is not of skep's format".to_owned()))?;
    let note = note(dir)?;
    if header.backing.as_ref() != Some(&note.backing) {
        let (is, was) = (header.backing.unwrap_or_default(), note.backing.display());
        return Err(refused(format!("it says that it stands on {}, not on {was}", is.display())));
    }
    if header.size > note.size {
        let (is, was) = (header.size, note.size);
        return Err(refused(format!(
            "it says that it has {is} bytes, more than the {was} it was given"
        )));
    }
    Ok((note, header.size))
}

fn write_note(files: &Files, backing: &Path, size: u64) -> Result<(), FileError> {
    let note = Note { format: FORMAT, backing: backing.to_owned(), size };
    let text = serde_json::to_vec(&note).expect("plain values");
    write_atomic(&files.disk_note(), 0o600, &text)
}

/// Returns what was written down of the disk of the machine in a directory.
fn note(dir: &Path) -> Result<Note, Error> {
    let path = Files::in_dir(dir).disk_note();
    let text = match read_own(&path) {
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {
            return first_note(dir);
        }
        text => text?,
    };
    let note: Note = serde_json::from_slice(&text)
        .map_err(|error| Error::Disk { path: path.clone(), reason: error.to_string() })?;
    match note.format {
        FORMAT => Ok(note),
        other => {
            Err(Error::Disk { path, reason: format!("it has format {other}, a newer skep's") })
        }
    }
}

/// Writes down what a disk's own header says, where an older skep made the disk: only the root disk of an image or the
/// disk of a template can be what it stands on.
fn first_note(dir: &Path) -> Result<Note, Error> {
    let files = Files::in_dir(dir);
    let disk = files.disk();
    let refused = |reason: String| Error::Disk { path: disk.clone(), reason };
    let header = qcow2::read(&disk).map_err(refused)?;
    let header = header.ok_or_else(|| refused("it is not of skep's format".to_owned()))?;
    let backing = header.backing.unwrap_or_default();
    let is_cached = backing.parent().is_some_and(|entry| {
        let has = |manifest: &str| read_own(&entry.join(manifest)).is_ok();
        check_dir(entry).is_ok() && (has(template::MANIFEST) || has("manifest.json"))
    });
    if !is_cached {
        let backing = backing.display();
        return Err(refused(format!("it says that it stands on {backing}, which is in no cache")));
    }
    write_note(&files, &backing, header.size)?;
    Ok(Note { format: FORMAT, backing, size: header.size })
}

/// Returns the disk of the machine in a directory and all that it stands on, from the top.
pub(super) fn chain(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut chain = vec![Files::in_dir(dir).disk(), note(dir)?.backing];
    // Between them and the root disk there is at most a template's disk; a circle is not followed.
    while let Some(last) = chain.last() {
        let header = qcow2::read(last).map_err(|reason| unfit(last, reason))?;
        match header.and_then(|header| header.backing) {
            Some(next) if chain.len() < 4 => chain.push(next),
            Some(_) => return Err(unfit(last, "too many disks stand on each other".to_owned())),
            None => break,
        }
    }
    Ok(chain)
}

fn unfit(path: &Path, reason: String) -> Error {
    Error::Disk { path: path.to_owned(), reason }
}

/// Returns what QEMU is told of a disk and what it stands on: all files by their names and formats, so that it
/// takes none from a header.
pub(super) fn blockdev(chain: &[PathBuf], locks: bool) -> Value {
    let mut below = Value::Null;
    for (index, path) in chain.iter().enumerate().rev() {
        let mut file = json!({"driver": "file", "filename": path});
        let is_top = index == 0;
        if is_top && !locks {
            file["locking"] = json!("off");
        }
        // What lies lowest is a root disk, which is an image of a file system.
        let driver = if index + 1 == chain.len() && !is_top { "raw" } else { "qcow2" };
        let mut node = json!({"driver": driver, "file": file});
        if is_top {
            node["node-name"] = json!(DISK);
            node["discard"] = json!("unmap");
        } else {
            node["read-only"] = json!(true);
        }
        if driver == "qcow2" {
            node["backing"] = below;
        }
        below = node;
    }
    below
}

/// Returns the root disk that the disk of the machine in a directory stands on in the end.
pub(super) fn base(dir: &Path) -> Option<PathBuf> {
    chain(dir).ok()?.pop()
}

/// Returns the disk that the disk of the machine in a directory is an overlay of.
pub(super) fn backing(dir: &Path) -> Option<PathBuf> {
    Some(note(dir).ok()?.backing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_core::fixtures;

    /// A machine whose disk stands on a template's, which stands on an image's.
    async fn machine(place: &Path) -> (Machine, [PathBuf; 3]) {
        let dir = |name: &str| {
            let dir = place.join(name);
            std::fs::create_dir(&dir).unwrap();
            dir
        };
        let (image, entry, own) = (dir("image"), dir("template"), dir("node0"));
        let (root, between) = (image.join("root.img"), entry.join("disk.qcow2"));
        std::fs::write(&root, vec![0; 1 << 20]).unwrap();
        std::fs::write(entry.join(template::MANIFEST), "{}").unwrap();
        overlay(&between, &root, Size::gib(3)).await.unwrap();
        let mut record = fixtures::node();
        fixtures::shape(&mut record.spec).disk = Size::gib(3);
        let machine = Machine { record, dir: own };
        create(&machine, &between).await.unwrap();
        let disk = Files::of(&machine).disk();
        (machine, [disk, between, root])
    }

    /// Writes over a part of a disk, as a QEMU that was taken over can.
    fn captured(disk: &Path, at: u64, bytes: &[u8]) {
        use std::os::unix::fs::FileExt;
        let file = std::fs::OpenOptions::new().write(true).open(disk).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }

    #[tokio::test]
    async fn a_disk_names_what_it_stands_on_and_grows() {
        let place = tempfile::tempdir().unwrap();
        let (mut machine, chained) = machine(place.path()).await;
        assert_eq!(chain(&machine.dir).unwrap(), chained);
        assert_eq!(base(&machine.dir).as_ref(), Some(&chained[2]));
        assert_eq!(backing(&machine.dir).as_ref(), Some(&chained[1]));
        prepare(&machine).await.unwrap();
        fixtures::shape(&mut machine.record.spec).disk = Size::gib(5);
        for _ in 0..2 {
            prepare(&machine).await.unwrap();
            assert_eq!(qcow2::read(&chained[0]).unwrap().unwrap().size, 5 << 30);
        }
        // As wanted once, and not taken away again.
        fixtures::shape(&mut machine.record.spec).disk = Size::gib(3);
        prepare(&machine).await.unwrap();
        let json = blockdev(&chained, false).to_string();
        let json = json.replace(place.path().to_str().unwrap(), "PLACE");
        insta::assert_snapshot!(json);
    }

    #[tokio::test]
    async fn a_header_that_a_captured_qemu_wrote_is_refused_at_the_next_start() {
        let place = tempfile::tempdir().unwrap();
        let (machine, [disk, between, root]) = machine(place.path()).await;
        let whole = std::fs::read(&disk).unwrap();
        let refused = async || {
            let error = prepare(&machine).await.unwrap_err().to_string();
            assert!(error.contains(disk.to_str().unwrap()), "{error}");
            std::fs::write(&disk, &whole).unwrap();
            error
        };
        captured(&disk, 79, &[1 << 2]);
        assert!(refused().await.ends_with("its data is in another file, which it names"));
        captured(&disk, 79, &[1 << 6]);
        assert!(refused().await.ends_with("features that are not known (0x40)"));
        captured(&disk, 24, &(1u64 << 50).to_be_bytes());
        assert!(refused().await.contains("more than the"));
        captured(&disk, 0, b"RAW!");
        assert!(refused().await.ends_with("it is not of skep's format"));
        // Another file in the place of its own: one of the host, or the disk of another node.
        let offset = u64::from_be_bytes(*whole[8..].first_chunk().unwrap());
        let secret = place.path().join("secret");
        std::fs::write(&secret, "what only root can read").unwrap();
        for other in [&secret, &root] {
            let name = other.to_str().unwrap().as_bytes();
            captured(&disk, 16, &u32::try_from(name.len()).unwrap().to_be_bytes());
            captured(&disk, offset, name);
            let told = format!(
                "it says that it stands on {}, not on {}",
                other.display(),
                between.display()
            );
            assert!(refused().await.ends_with(&told));
            // What was not written down by the skep that made it is written down once, if it can be.
            captured(&disk, 16, &u32::try_from(name.len()).unwrap().to_be_bytes());
            captured(&disk, offset, name);
            std::fs::remove_file(Files::of(&machine).disk_note()).unwrap();
            assert!(refused().await.ends_with("which is in no cache"));
            prepare(&machine).await.unwrap();
        }
    }
}
