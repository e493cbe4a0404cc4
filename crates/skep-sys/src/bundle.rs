//! A compressed archive of texts, for somebody who is to help.

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::{FileError, write_atomic};

/// Writes texts by their names into a file that only its owner can read (tar(5), gzip(1)).
///
/// # Errors
///
/// If the file cannot be written.
pub fn write(path: &Path, texts: &[(String, String)]) -> Result<(), FileError> {
    let packed = pack(texts).map_err(|source| FileError::new("pack", path, source))?;
    write_atomic(path, 0o600, &packed)
}

fn pack(texts: &[(String, String)]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, text) in texts {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        archive.append_data(&mut header, name, text.as_bytes())?;
    }
    let mut packed = archive.into_inner()?;
    packed.flush()?;
    packed.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn texts_come_out_as_they_went_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bundle.tar.gz");
        write(&path, &[("a/one".into(), "1\n".into()), ("a/two".into(), String::new())]).unwrap();
        let packed = flate2::read::GzDecoder::new(std::fs::File::open(&path).unwrap());
        let mut archive = tar::Archive::new(packed);
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.push((entry.path().unwrap().display().to_string(), text));
        }
        assert_eq!(found, [("a/one".into(), "1\n".into()), ("a/two".into(), String::new())]);
    }
}
