//! Another certificate authority in the place of the one there is, while clients and engines go on.
//!
//! `certs` is what clients go by. While authorities change, `certs.next` is beside it, whose
//! `generation` says whether it comes after or was before:
//!
//! ```text
//!   stage        certs/ca.pem   certs/cert.pem   certs.next     nodes admit clients of
//!   settled      old            by the old       none           the old
//!   spreading    old, new       by the old       the new one    the old; then both
//!   withdrawing  new, old       by the new       the old one    both; then the new
//!   settled      new            by the new       none           the new
//! ```
//!
//! A stage begins and ends with one rename, so that whoever is cut off leaves one of these lines.

use std::path::{Path, PathBuf};

use skep_core::model::NodeName;
use skep_core::observed::Rotation;
use skep_sys::{
    FileError, exchange, make_new_dir, read_own, remove_file, remove_tree, rename, sync_dir,
    write_atomic,
};

use super::x509::{self, Pair};
use super::{Error, certs_dir, copy_clients, machine_dir};

/// In a machine's directory, whose clients its engine admits while that is not `ca.pem`.
const ADMITTED: &str = "admitted.pem";

/// The first authority's certificate, by which hosts know the cluster ([`origin`]).
const ORIGIN: &str = "origin.pem";

/// Tells how far a change of the authority has come.
///
/// # Errors
///
/// If a file that tells it cannot be read.
pub fn stage(store: &Path) -> Result<Rotation, Error> {
    let next = next_dir(store);
    if !next.exists() {
        return Ok(Rotation::Settled);
    }
    Ok(match generation(&next)? > generation(&certs_dir(store))? {
        true => Rotation::Spreading,
        false => Rotation::Withdrawing,
    })
}

/// Tells whether the authority that clients go by, or their certificate, is not valid now.
///
/// # Errors
///
/// If one of them cannot be read.
pub fn is_out_of_time(store: &Path) -> Result<bool, Error> {
    match x509::check_clients(&certs_dir(store)) {
        Err(Error::OutOfTime { .. }) => Ok(true),
        checked => checked.map(|()| false),
    }
}

/// Makes another authority with a client's certificate and writes it down; then lets clients trust
/// both. In any later stage nothing is done.
///
/// # Errors
///
/// If the authority there is cannot be read, or a file cannot be written.
pub fn prepare(store: &Path, user: &str) -> Result<(), Error> {
    let certs = certs_dir(store);
    let next = next_dir(store);
    match stage(store)? {
        Rotation::Withdrawing => return Ok(()),
        Rotation::Spreading => {}
        Rotation::Settled => {
            let origin = certs.join(ORIGIN);
            if !origin.exists() {
                write_atomic(&origin, 0o644, &read_own(&certs.join("ca.pem"))?)?;
            }
            let new = copied(&certs, &store.join("certs.making"))?;
            let generation = (generation(&certs)? + 1).to_string();
            write_atomic(&new.join("generation"), 0o644, generation.as_bytes())?;
            x509::make_authority(&Pair::authority(&new), user)?;
            x509::make_client(&new, user)?;
            let both = [first(&new)?, first(&certs)?].concat();
            write_atomic(&new.join("ca.pem"), 0o644, both.as_bytes())?;
            rename(&new, &next)?;
            sync_dir(store)?;
        }
    }
    let both = [first(&certs)?, first(&next)?].concat();
    Ok(write_atomic(&certs.join("ca.pem"), 0o644, both.as_bytes())?)
}

/// Lets clients go by the new authority, all of them before any node refuses the old one. Where they
/// do, nothing is done.
///
/// # Errors
///
/// If the directories cannot be exchanged, or a file cannot be written.
pub fn switch(store: &Path) -> Result<(), Error> {
    let certs = certs_dir(store);
    if stage(store)? == Rotation::Spreading {
        exchange(&certs, &next_dir(store))?;
        sync_dir(store)?;
    }
    for dir in machine_dirs(store).filter(|dir| dir.join("key.pem").exists()) {
        copy_clients(&certs, &dir)?;
    }
    Ok(())
}

/// Removes the old authority: nobody trusts it any more.
///
/// # Errors
///
/// If a file cannot be written or removed.
pub fn withdraw(store: &Path) -> Result<(), Error> {
    if stage(store)? != Rotation::Withdrawing {
        return Ok(());
    }
    let own = first(&certs_dir(store))?;
    write_atomic(&certs_dir(store).join("ca.pem"), 0o644, own.as_bytes())?;
    for dir in machine_dirs(store).filter(|dir| dir.join("ca.pem").exists()) {
        write_atomic(&dir.join("ca.pem"), 0o644, own.as_bytes())?;
        remove_file(&dir.join(ADMITTED))?;
    }
    Ok(remove_tree(&next_dir(store))?)
}

/// Makes the client's certificate anew, by the same authority; key and certificate change at once.
///
/// # Errors
///
/// If the authority cannot be read, or a file cannot be written.
pub fn renew_client(store: &Path, user: &str) -> Result<(), Error> {
    let (certs, new) = (certs_dir(store), store.join("certs.making"));
    copied(&certs, &new)?;
    x509::make_client(&new, user)?;
    exchange(&certs, &new)?;
    sync_dir(store)?;
    Ok(remove_tree(&new)?)
}

/// Writes down whose clients a node's engine is to admit, beside whom its clients trust.
pub(super) fn write_admitted(store: &Path, node: &NodeName) -> Result<(), Error> {
    let path = machine_dir(store, node).join(ADMITTED);
    match stage(store)? {
        Rotation::Withdrawing => {
            Ok(write_atomic(&path, 0o644, first(&certs_dir(store))?.as_bytes())?)
        }
        Rotation::Settled | Rotation::Spreading => Ok(remove_file(&path)?),
    }
}

/// Returns the certificates of those whose clients a machine's engine is to admit.
///
/// # Errors
///
/// If they cannot be read.
pub fn admitted(dir: &Path) -> Result<Vec<u8>, FileError> {
    let own = dir.join(ADMITTED);
    read_own(&if own.exists() { own } else { dir.join("ca.pem") })
}

/// Returns the file by which hosts know the cluster: its first authority, whatever came after.
#[must_use]
pub fn origin(store: &Path) -> PathBuf {
    let origin = certs_dir(store).join(ORIGIN);
    if origin.exists() { origin } else { certs_dir(store).join("ca.pem") }
}

fn machine_dirs(store: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(store.join("machines")).into_iter().flatten().flatten().map(|it| it.path())
}

fn next_dir(store: &Path) -> PathBuf {
    store.join("certs.next")
}

/// Returns how many authorities there were before.
fn generation(certs: &Path) -> Result<u64, Error> {
    let path = certs.join("generation");
    if !path.exists() {
        return Ok(0);
    }
    let text = String::from_utf8_lossy(&read_own(&path)?).into_owned();
    text.trim().parse().map_err(|_| Error::Damaged { path, reason: "it is no number".to_owned() })
}

/// Returns the authority's own certificate, without that of the other one.
fn first(certs: &Path) -> Result<String, Error> {
    const END: &str = "-----END CERTIFICATE-----\n";
    let path = certs.join("ca.pem");
    let text = String::from_utf8_lossy(&read_own(&path)?).replace("\r\n", "\n");
    match text.split_once(END) {
        Some((own, _)) => Ok(format!("{own}{END}")),
        None => Err(Error::Damaged { path, reason: "it is no certificate".to_owned() }),
    }
}

/// Copies a directory of certificates, with the modes of its files.
fn copied(certs: &Path, new: &Path) -> Result<PathBuf, Error> {
    use std::os::unix::fs::PermissionsExt;
    remove_tree(new)?;
    make_new_dir(new)?;
    let list = |source| FileError::new("list", certs, source);
    for entry in std::fs::read_dir(certs).map_err(list)? {
        let entry = entry.map_err(list)?;
        let found = entry.metadata().map_err(list)?;
        if found.is_file() {
            let to = new.join(entry.file_name());
            write_atomic(&to, found.permissions().mode() & 0o777, &read_own(&entry.path())?)?;
        }
    }
    Ok(new.to_owned())
}

#[cfg(test)]
mod tests;
