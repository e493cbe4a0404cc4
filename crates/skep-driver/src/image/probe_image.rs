//! The image of the probe service: a static program that serves one page. Nodes of ours have one with busybox in
//! their image; for hosts, skep carries a program of its own.
//!
//! Made here, byte for byte the same each time, so that it has one ID wherever it is loaded: a
//! service that names its image by ID starts without asking a registry.

use serde_json::json;
use sha2::{Digest, Sha256};

/// What the probe's page says.
pub const PAGE: &str = "skep probe\n";

/// The image of a probe service that needs nothing from the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Its archive, as `docker load` reads it.
    pub archive: Vec<u8>,
    /// Its name: another program's is another.
    pub name: String,
}

/// Returns the probe image that skep carries, for engines of this program's own architecture.
///
/// # Errors
///
/// If it does not fit into the archive's format.
pub fn carried() -> std::io::Result<Carried> {
    let digest = hex_digest(skep_guest::PROBE);
    let name = format!("skep/probe:{}", &digest[..12]);
    let (archive, _) = archive_of("probe", skep_guest::PROBE, &[], &name)?;
    Ok(Carried { archive, name })
}

/// Returns the archive that `docker load` reads (Docker Image Specification v1.2), and the image's
/// ID.
pub(super) fn archive(busybox: &[u8]) -> std::io::Result<(Vec<u8>, String)> {
    let args = ["httpd", "-f", "-p", "80", "-h", "/www"];
    archive_of("busybox", busybox, &args, "skep/probe:latest")
}

fn archive_of(
    name: &str,
    program: &[u8],
    args: &[&str],
    tag: &str,
) -> std::io::Result<(Vec<u8>, String)> {
    let path = format!("/bin/{name}");
    let command: Vec<&str> = [path.as_str()].into_iter().chain(args.iter().copied()).collect();
    let mut layer = tar::Builder::new(Vec::new());
    for dir in ["bin/", "www/"] {
        append(&mut layer, dir, tar::EntryType::Directory, 0o755, b"")?;
    }
    append(&mut layer, &path[1..], tar::EntryType::Regular, 0o755, program)?;
    append(&mut layer, "www/index.html", tar::EntryType::Regular, 0o644, PAGE.as_bytes())?;
    let layer = layer.into_inner()?;
    let diff_id = format!("sha256:{}", hex_digest(&layer));
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Cmd": command,
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
        "RepoTags": [tag],
        "Layers": ["layer.tar"],
    }]);
    let mut archive = tar::Builder::new(Vec::new());
    let file = tar::EntryType::Regular;
    append(&mut archive, &format!("{id}.json"), file, 0o644, &config)?;
    append(&mut archive, "layer.tar", file, 0o644, &layer)?;
    append(&mut archive, "manifest.json", file, 0o644, &serde_json::to_vec(&manifest)?)?;
    Ok((archive.into_inner()?, format!("sha256:{id}")))
}

/// Returns this program's architecture in Docker's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
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
    skep_sys::hex(&Sha256::digest(bytes))
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
    fn the_program_that_is_carried_answers_with_the_page() {
        assert_eq!(&skep_guest::PROBE[..4], b"\x7fELF");
        let text = skep_guest::PROBE_SOURCE;
        assert!(text.contains(&format!("{PAGE:?}")), "it serves another page");
        let carried = carried().unwrap();
        assert!(
            carried.name.starts_with("skep/probe:")
                && carried.archive.len() > skep_guest::PROBE.len()
        );
    }

    #[test]
    fn another_program_makes_another_image() {
        assert_ne!(archive(b"one").unwrap().1, archive(b"two").unwrap().1);
    }
}
