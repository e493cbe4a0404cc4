//! An image of noise, which nothing can make smaller: to measure how long it takes to get to engines.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, Header};

use skep_sys::{FileError, fill_random, hex};

/// How many layers it has.
const LAYERS: usize = 4;

/// Writes an archive, in Docker's form, of an image with this name and that much noise.
///
/// # Errors
///
/// If it cannot be written.
pub fn write_bench_image(path: &Path, name: &str, mib: usize) -> Result<(), FileError> {
    let fail = |source: std::io::Error| FileError::new("write", path, source);
    let mut archive = Builder::new(File::create(path).map_err(fail)?);
    let mut digests = Vec::new();
    for number in 0..LAYERS {
        let mut content = vec![0; (mib << 20) / LAYERS];
        fill_random(&mut content)?;
        let layer = layer(number, &content).map_err(fail)?;
        let digest = hex(&Sha256::digest(&layer));
        add(&mut archive, &format!("blobs/sha256/{digest}"), &layer).map_err(fail)?;
        digests.push(digest);
    }
    let diff_ids: Vec<_> = digests.iter().map(|digest| format!("sha256:{digest}")).collect();
    let layers: Vec<_> = digests.iter().map(|digest| format!("blobs/sha256/{digest}")).collect();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = config.to_string();
    let own = format!("blobs/sha256/{}", hex(&Sha256::digest(config.as_bytes())));
    add(&mut archive, &own, config.as_bytes()).map_err(fail)?;
    let manifest = json!([{"Config": own, "RepoTags": [name], "Layers": layers}]).to_string();
    add(&mut archive, "manifest.json", manifest.as_bytes()).map_err(fail)?;
    archive.into_inner().and_then(|mut file| file.flush()).map_err(fail)
}

fn layer(number: usize, content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    add(&mut layer, &format!("noise{number}"), content)?;
    layer.into_inner()
}

fn add<W: Write>(archive: &mut Builder<W>, name: &str, content: &[u8]) -> std::io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, content)
}

#[cfg(test)]
mod tests {
    use crate::oci::Source;

    use super::*;

    #[tokio::test]
    async fn it_is_an_image_of_that_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("noise.tar");
        write_bench_image(&path, "noise:1", 2).unwrap();
        let contents = Source::Path(path).contents().await.unwrap().unwrap();
        assert_eq!(contents.ids().len(), 1);
        assert!(contents.files().values().sum::<u64>() > 2 << 20);
    }
}
