//! The image of the probe service: a static busybox that serves one page.
//!
//! Made here, byte for byte the same each time, so that it has one ID wherever it is loaded: a
//! service that names its image by ID starts without asking a registry.

use serde_json::json;
use sha2::{Digest, Sha256};

/// What the probe's page says.
pub const PAGE: &str = "skep probe\n";

/// Returns the archive that `docker load` reads (Docker Image Specification v1.2), and the image's
/// ID.
pub(super) fn archive(busybox: &[u8]) -> std::io::Result<(Vec<u8>, String)> {
    let mut layer = tar::Builder::new(Vec::new());
    for dir in ["bin/", "www/"] {
        append(&mut layer, dir, tar::EntryType::Directory, 0o755, b"")?;
    }
    append(&mut layer, "bin/busybox", tar::EntryType::Regular, 0o755, busybox)?;
    append(&mut layer, "www/index.html", tar::EntryType::Regular, 0o644, PAGE.as_bytes())?;
    let layer = layer.into_inner()?;
    let diff_id = format!("sha256:{}", hex_digest(&layer));
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Cmd": ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www"],
            "ExposedPorts": {"80/tcp": {}},
            // The server handles no signal, so as process 1 it would ignore any other.
            "StopSignal": "SIGKILL",
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "skep"}],
    });
    let config = serde_json::to_vec(&config)?;
    let id = hex_digest(&config);
    let manifest = json!([{
        "Config": format!("{id}.json"),
        "RepoTags": ["skep/probe:latest"],
        "Layers": ["layer.tar"],
    }]);
    let mut archive = tar::Builder::new(Vec::new());
    let file = tar::EntryType::Regular;
    append(&mut archive, &format!("{id}.json"), file, 0o644, &config)?;
    append(&mut archive, "layer.tar", file, 0o644, &layer)?;
    append(&mut archive, "manifest.json", file, 0o644, &serde_json::to_vec(&manifest)?)?;
    Ok((archive.into_inner()?, format!("sha256:{id}")))
}

fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    path: &str,
    kind: tar::EntryType,
    mode: u32,
    content: &[u8],
) -> std::io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(u64::try_from(content.len()).expect("a file in memory"));
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, path, content)
}

fn hex_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_id_is_the_configurations_and_the_same_each_time() {
        let (first, id) = archive(b"a program").unwrap();
        let (second, same) = archive(b"a program").unwrap();
        assert_eq!((&first, &id), (&second, &same));
        let mut archive = tar::Archive::new(&first[..]);
        let mut config = archive.entries().unwrap().next().unwrap().unwrap();
        let name = config.path().unwrap().display().to_string();
        let mut text = Vec::new();
        config.read_to_end(&mut text).unwrap();
        assert_eq!(id, format!("sha256:{}", hex_digest(&text)));
        assert_eq!(name, format!("{}.json", hex_digest(&text)));
    }

    #[test]
    fn another_program_makes_another_image() {
        assert_ne!(archive(b"one").unwrap().1, archive(b"two").unwrap().1);
    }
}
