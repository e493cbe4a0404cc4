//! Archives of container images, made of nothing but what a test gives.

use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

/// Writes an archive in Docker's form with one image of these layers, which are tar files for an
/// engine to unpack, and anything for a fake one. Returns the image's ID.
///
/// # Panics
///
/// If it cannot be written.
pub fn write(path: &Path, name: &str, layers: &[&[u8]]) -> String {
    let diff_ids: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", digest(layer))).collect();
    let files: Vec<_> =
        layers.iter().map(|layer| format!("blobs/sha256/{}", digest(layer))).collect();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = config.to_string();
    let id = digest(config.as_bytes());
    let own = format!("blobs/sha256/{id}");
    let manifest = json!([{"Config": own, "RepoTags": [name], "Layers": files}]).to_string();
    let mut archive = tar::Builder::new(std::fs::File::create(path).expect("a file"));
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content).expect("room");
    };
    add(&own, config.as_bytes());
    files.iter().zip(layers).for_each(|(file, layer)| add(file, layer));
    add("manifest.json", manifest.as_bytes());
    archive.finish().expect("room");
    format!("sha256:{id}")
}

/// Returns a layer with one file of that many bytes.
///
/// # Panics
///
/// Never: it is in memory.
#[must_use]
pub fn layer(name: &str, bytes: usize) -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    let content: Vec<u8> = (0..bytes).map(|at| (at / 7 % 256) as u8).collect();
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes as u64);
    header.set_mode(0o644);
    layer.append_data(&mut header, name, &*content).expect("room");
    layer.into_inner().expect("room")
}

fn digest(bytes: &[u8]) -> String {
    skep_sys::hex(&Sha256::digest(bytes))
}
