//! Disks: a qcow2 overlay for each node on the image's read-only root disk (qemu-img(1)).

use std::ffi::OsString;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use skep_core::model::Size;

use super::Files;
use crate::driver::Error;
use crate::store::Machine;
use crate::sys::{Cmd, FileError, sync_dir};

/// What a qcow2 file begins with.
const MAGIC: &[u8; 4] = b"QFI\xfb";

pub(super) async fn create(machine: &Machine, base: &Path) -> Result<(), Error> {
    let disk = Files::of(machine).disk();
    if disk.exists() {
        return Ok(());
    }
    // Under another name first: a disk that was cut off while it was made is none.
    let new = machine.dir.join("disk.new");
    overlay(&new, base, machine.record.spec.disk).await?;
    crate::sys::rename(&new, &disk)?;
    Ok(sync_dir(&machine.dir)?)
}

/// Makes an overlay of a disk that is never written to again.
pub(super) async fn overlay(disk: &Path, base: &Path, size: Size) -> Result<(), Error> {
    if !base.exists() {
        let missing = std::io::ErrorKind::NotFound.into();
        return Err(FileError::new("read", base, missing).into());
    }
    let format = if is_qcow2(base) { "qcow2" } else { "raw" };
    Cmd::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", format, "-b"])
        .arg(base)
        .arg(disk)
        .arg(size.bytes().to_string())
        .run()
        .await?;
    Ok(())
}

/// Makes the disk as large as it is wanted; the guest grows its file system when it starts.
pub(super) async fn grow(machine: &Machine) -> Result<(), Error> {
    let disk = Files::of(machine).disk();
    let wanted = machine.record.spec.disk.bytes();
    let info = Cmd::new("qemu-img").args(["info", "--output=json"]).arg(&disk).run().await?;
    let info: Value = serde_json::from_slice(&info.stdout)
        .map_err(|error| Error::Unfit(format!("{} is damaged: {error}", disk.display())))?;
    let present = info.get("virtual-size").and_then(Value::as_u64).unwrap_or(0);
    if present < wanted {
        Cmd::new("qemu-img")
            .args(["resize", "-q", "-f", "qcow2"])
            .arg(&disk)
            .arg(wanted.to_string())
            .run()
            .await?;
    }
    Ok(())
}

/// Returns the root disk that a disk stands on in the end, whatever lies between.
pub(super) fn base(disk: &Path) -> Option<PathBuf> {
    let mut base = backing(disk)?;
    // A template's disk lies between; more is not made, and a circle not followed.
    for _ in 0..4 {
        match backing(&base) {
            Some(next) => base = next,
            None => return Some(base),
        }
    }
    None
}

fn is_qcow2(disk: &Path) -> bool {
    let mut magic = [0; 4];
    let read = std::fs::File::open(disk).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *MAGIC
}

/// Returns the disk that a disk is an overlay of: the backing file of its header, whose layout is in
/// QEMU's docs/interop/qcow2.txt.
pub(super) fn backing(disk: &Path) -> Option<PathBuf> {
    let mut file = std::fs::File::open(disk).ok()?;
    let mut header = [0; 20];
    file.read_exact(&mut header).ok()?;
    let magic = header.first_chunk::<4>()?;
    let offset = u64::from_be_bytes(*header[8..].first_chunk()?);
    let length = u32::from_be_bytes(*header[16..].first_chunk()?);
    if magic != MAGIC || offset == 0 || !(1..=1023).contains(&length) {
        return None;
    }
    let mut name = vec![0; usize::try_from(length).ok()?];
    file.seek(SeekFrom::Start(offset)).ok()?;
    file.read_exact(&mut name).ok()?;
    Some(OsString::from_vec(name).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_read_from_the_header() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk.qcow2");
        let mut bytes = b"QFI\xfb\0\0\0\x03".to_vec();
        bytes.extend(32u64.to_be_bytes());
        bytes.extend(9u32.to_be_bytes());
        bytes.resize(32, 0);
        bytes.extend(b"/a/root.i");
        std::fs::write(&disk, &bytes).unwrap();
        assert_eq!(base(&disk).unwrap(), Path::new("/a/root.i"));
        let top = dir.path().join("top.qcow2");
        let name = disk.to_str().unwrap();
        let mut above = bytes[..16].to_vec();
        above.extend(u32::try_from(name.len()).unwrap().to_be_bytes());
        above.resize(32, 0);
        above.extend(name.bytes());
        std::fs::write(&top, &above).unwrap();
        assert_eq!(backing(&top).unwrap(), disk);
        assert_eq!(base(&top).unwrap(), Path::new("/a/root.i"));
        for damage in [0, 8, 16, 31] {
            let mut damaged = bytes.clone();
            damaged[damage] = 0xff;
            std::fs::write(&disk, &damaged[..damaged.len() - usize::from(damage == 31)]).unwrap();
            assert_eq!(base(&disk), None, "{damage}");
        }
        assert_eq!(base(&dir.path().join("none")), None);
    }
}
