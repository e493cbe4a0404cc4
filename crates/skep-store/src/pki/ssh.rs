//! ssh keys, made by ssh-keygen(1).

use std::net::Ipv4Addr;
use std::path::Path;

use skep_core::model::NodeName;
use skep_sys::{Cmd, FileError, UNFINISHED, publish, read, write_atomic};

use super::{Error, KNOWN_HOSTS, certs_dir, copy, machine_dir};

/// Makes the key that logs in to all nodes of a store, if it is not there.
///
/// # Errors
///
/// If ssh-keygen is missing or fails.
pub async fn ensure_ssh_key(store: &Path) -> Result<(), Error> {
    // RSA of that length, as docker-machine makes it and the file's name promises.
    generate(&certs_dir(store).join("id_rsa"), &["-t", "rsa", "-b", "2048"]).await
}

/// Makes the key by which a node's ssh server is known, if it is not there, and puts what is needed
/// to log in into the node's directory.
///
/// # Errors
///
/// If ssh-keygen is missing or fails, or a file cannot be written.
pub async fn ensure_host_key(
    store: &Path,
    node: &NodeName,
    address: Ipv4Addr,
) -> Result<(), Error> {
    let dir = machine_dir(store, node);
    for name in ["id_rsa", "id_rsa.pub"] {
        copy(&certs_dir(store).join(name), &dir.join(name), 0o600)?;
    }
    ensure_server_key(&dir, address).await
}

/// Makes the key that logs in to one machine, and the one by which its ssh server is known, if they are
/// not there.
///
/// # Errors
///
/// If ssh-keygen is missing or fails, or a file cannot be written.
pub async fn ensure_machine_ssh_key(dir: &Path, address: Ipv4Addr) -> Result<(), Error> {
    generate(&dir.join("id_rsa"), &["-t", "rsa", "-b", "2048"]).await?;
    ensure_server_key(dir, address).await
}

async fn ensure_server_key(dir: &Path, address: Ipv4Addr) -> Result<(), Error> {
    let key = dir.join("ssh_host_ed25519_key");
    generate(&key, &["-t", "ed25519"]).await?;
    let public = String::from_utf8_lossy(&read(&key.with_extension("pub"))?).into_owned();
    let fields: Vec<_> = public.split_whitespace().take(2).collect();
    let known = format!("{address} {}\n", fields.join(" "));
    Ok(write_atomic(&dir.join(KNOWN_HOSTS), 0o600, known.as_bytes())?)
}

async fn generate(path: &Path, kind: &[&str]) -> Result<(), Error> {
    let public = path.with_extension("pub");
    if path.exists() && public.exists() {
        return Ok(());
    }
    // Elsewhere first: what ssh-keygen leaves when it is cut off is no key.
    let dir = path.parent().unwrap_or(Path::new("."));
    let scratch = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(dir)
        .map_err(|source| FileError::new("make a directory in", dir, source))?;
    let new = scratch.path().join("key");
    let keygen = Cmd::new("ssh-keygen").args(["-q", "-N", "", "-C", "skep"]).args(kind);
    keygen.arg("-f").arg(&new).run().await?;
    publish(&new.with_extension("pub"), &public)?;
    Ok(publish(&new, path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_are_made_once_and_the_server_is_known() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("certs")).unwrap();
        std::fs::create_dir_all(dir.path().join("machines/node0")).unwrap();
        let node: NodeName = "node0".parse().unwrap();
        let address = "10.193.0.2".parse().unwrap();
        let mut before = None;
        for _ in 0..2 {
            ensure_ssh_key(dir.path()).await.unwrap();
            ensure_host_key(dir.path(), &node, address).await.unwrap();
            let machine = dir.path().join("machines/node0");
            let now = ["id_rsa", "ssh_host_ed25519_key", "known_hosts"]
                .map(|name| std::fs::read(machine.join(name)).unwrap());
            assert!(now[2].starts_with(b"10.193.0.2 ssh-ed25519 AAAA"));
            assert!(before.is_none_or(|before| before == now));
            before = Some(now);
        }
    }
}
