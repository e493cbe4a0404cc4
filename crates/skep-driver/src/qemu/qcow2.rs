//! What the header of a qcow2 file says (QEMU's docs/interop/qcow2.txt), read before QEMU reads it.
//!
//! A guest that has taken over its QEMU can write its disk's header. QEMU believes what is there: it opens the
//! backing file and the data file that a header names, with the rights of whoever starts it (CVE-2024-32498,
//! CVE-2024-4467). So what is none of what skep makes is refused, and names are told to QEMU, not read by it.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// What a qcow2 file begins with.
const MAGIC: [u8; 4] = *b"QFI\xfb";

/// How much of a file is read: headers, and the name in them, lie in the first cluster, of 64 KiB.
const LIMIT: u64 = 64 << 10;

/// The longest name of a backing file.
const LONGEST_NAME: u32 = 1023;

/// The header extensions that skep's disks have: the format of the backing file, and names of features.
const EXTENSIONS: [u32; 2] = [0xe279_2aca, 0x6803_f857];

/// The one incompatible feature that a disk may have: it was not closed properly.
const DIRTY: u64 = 1;

/// The others that are known, to be named.
const OTHERS: [(u64, &str); 4] = [
    (1 << 1, "QEMU has found it corrupt"),
    (1 << 2, "its data is in another file, which it names"),
    (1 << 3, "it is compressed in another way"),
    (1 << 4, "it has extended entries"),
];

/// A header of a disk as skep makes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// How large the guest sees it, in bytes.
    pub size: u64,
    /// The file that it is an overlay of.
    pub backing: Option<PathBuf>,
}

/// Reads a file's header. None if it is no qcow2 file.
///
/// # Errors
///
/// If it cannot be read, or is none that skep makes; with the reason.
pub(super) fn read(disk: &Path) -> Result<Option<Header>, String> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(disk).and_then(|file| file.take(LIMIT).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => Err("it is not there".to_owned()),
        Err(error) => Err(format!("it cannot be read: {error}")),
        Ok(_) if !bytes.starts_with(&MAGIC) => Ok(None),
        Ok(_) => parse(&bytes).map(Some),
    }
}

/// The numbers of a header, which are big endian.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u32(&self, at: usize) -> Result<u32, String> {
        let bytes = self.0.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map(|it| u32::from_be_bytes(*it)).ok_or_else(|| "its header is cut off".to_owned())
    }

    fn u64(&self, at: usize) -> Result<u64, String> {
        Ok(u64::from(self.u32(at)?) << 32 | u64::from(self.u32(at + 4)?))
    }

    fn bytes(&self, at: u64, length: u32) -> Option<&[u8]> {
        let at = usize::try_from(at).ok()?;
        self.0.get(at..at.checked_add(usize::try_from(length).ok()?)?)
    }
}

fn parse(bytes: &[u8]) -> Result<Header, String> {
    let fields = Fields(bytes);
    let version = fields.u32(4)?;
    let features = match version {
        2 => 0,
        3 => fields.u64(72)?,
        _ => return Err(format!("it is of version {version} of its format")),
    };
    if let Some((_, what)) = OTHERS.iter().find(|(bit, _)| features & bit != 0) {
        return Err((*what).to_owned());
    }
    if features & !DIRTY != 0 {
        return Err(format!("it has features that are not known (0x{features:x})"));
    }
    if fields.u32(32)? != 0 {
        return Err("it is encrypted".to_owned());
    }
    if fields.u32(60)? != 0 {
        return Err("it has snapshots in it".to_owned());
    }
    let clusters = fields.u32(20)?;
    if !(9..=21).contains(&clusters) {
        return Err(format!("its clusters have 2^{clusters} bytes"));
    }
    let mut end = 72;
    if version == 3 {
        if fields.u64(88)? != 0 {
            return Err("it has bitmaps, or its data is in another file".to_owned());
        }
        end = fields.u32(100)?;
        if !(104..=512).contains(&end) || end % 8 != 0 {
            return Err(format!("its header has {end} bytes"));
        }
    }
    check_extensions(&fields, u64::from(end))?;
    Ok(Header { size: fields.u64(24)?, backing: backing(&fields)? })
}

fn check_extensions(fields: &Fields<'_>, mut at: u64) -> Result<(), String> {
    loop {
        let start = usize::try_from(at).map_err(|error| error.to_string())?;
        let (kind, length) = (fields.u32(start)?, fields.u32(start + 4)?);
        if kind == 0 {
            return Ok(());
        }
        if !EXTENSIONS.contains(&kind) {
            return Err(format!("its header has a part that is not known (0x{kind:x})"));
        }
        at += 8 + u64::from(length).next_multiple_of(8);
    }
}

fn backing(fields: &Fields<'_>) -> Result<Option<PathBuf>, String> {
    let (offset, length) = (fields.u64(8)?, fields.u32(16)?);
    if offset == 0 {
        return Ok(None);
    }
    let name = fields.bytes(offset, length).filter(|_| (1..=LONGEST_NAME).contains(&length));
    let name = name.ok_or("the name of its backing file is not in its header")?;
    Ok(Some(OsString::from_vec(name.to_owned()).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_sys::Cmd;

    /// Makes an overlay as skep does, and returns its first bytes.
    async fn made(dir: &Path) -> (PathBuf, Vec<u8>) {
        let (base, disk) = (dir.join("root.img"), dir.join("disk.qcow2"));
        std::fs::write(&base, vec![0; 1 << 20]).unwrap();
        super::super::disk::overlay(&disk, &base, skep_core::model::Size::gib(3)).await.unwrap();
        let bytes = std::fs::read(&disk).unwrap();
        (disk, bytes)
    }

    #[tokio::test]
    async fn what_qemu_img_makes_for_skep_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, bytes) = made(dir.path()).await;
        let header = Header { size: 3 << 30, backing: Some(dir.path().join("root.img")) };
        assert_eq!(read(&disk), Ok(Some(header.clone())));
        // A machine that lost its power leaves it so.
        let mut dirty = bytes.clone();
        dirty[79] |= 1;
        assert_eq!(parse(&dirty), Ok(header));
        assert_eq!(read(&dir.path().join("root.img")), Ok(None), "it is no qcow2 file");
        assert_eq!(read(&dir.path().join("none")), Err("it is not there".to_owned()));
    }

    #[tokio::test]
    async fn what_skep_does_not_make_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let (_, bytes) = made(dir.path()).await;
        let with = |at: usize, value: u8| {
            let mut changed = bytes.clone();
            changed[at] = value;
            parse(&changed).unwrap_err()
        };
        assert_eq!(with(79, 1 << 2), "its data is in another file, which it names");
        assert_eq!(with(79, 1 << 1), "QEMU has found it corrupt");
        assert_eq!(with(79, 1 << 5), "it has features that are not known (0x20)");
        assert_eq!(with(72, 0x80), "it has features that are not known (0x8000000000000000)");
        assert_eq!(with(35, 2), "it is encrypted");
        assert_eq!(with(63, 1), "it has snapshots in it");
        assert_eq!(with(95, 1), "it has bitmaps, or its data is in another file");
        assert_eq!(with(7, 4), "it is of version 4 of its format");
        assert_eq!(with(23, 63), "its clusters have 2^63 bytes");
        assert_eq!(with(103, 8), "its header has 8 bytes");
        assert_eq!(with(8, 0xff), "the name of its backing file is not in its header");
        assert_eq!(with(16, 0xff), "the name of its backing file is not in its header");
        let extension = usize::from(bytes[103]);
        assert!(with(extension, 0x44).contains("a part that is not known"));
    }

    /// As `qemu-img create -o data_file=` makes it: the attack on disks that users give to a cloud.
    #[tokio::test]
    async fn a_data_file_that_qemu_itself_made_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, data) = (dir.path().join("disk.qcow2"), dir.path().join("data"));
        let option = format!("data_file={},data_file_raw=on", data.display());
        let create = Cmd::new("qemu-img").args(["create", "-q", "-f", "qcow2", "-o", &option]);
        create.arg(&disk).arg("1M").run().await.unwrap();
        assert_eq!(read(&disk).unwrap_err(), "its data is in another file, which it names");
    }

    #[tokio::test]
    async fn a_header_that_is_cut_off_anywhere_is_read_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (_, bytes) = made(dir.path()).await;
        for length in 4..800 {
            let _ = parse(&bytes[..length]);
        }
        assert!(parse(&bytes[..100]).is_err());
    }
}
