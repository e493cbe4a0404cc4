//! Configs and secrets whose files have changed. Swarm changes neither, and docker refuses the stack. The new content gets a
//! name of its own, from its digest, and services move to that; what had the old name stays for a rollback, and goes with the
//! stack.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use skep_sys::{FileError, remove_file, write_atomic};

use crate::file::Reference;

/// The longest name of a config or a secret (swarmkit).
const LONGEST: usize = 64;

/// What docker says of one whose content has changed.
const REFUSED: &str = "only updates to Labels are allowed";

/// Names for what has changed, in a file that docker reads after the user's own.
pub(super) struct Renamed<'a> {
    stack: &'a str,
    /// What the user's files have.
    objects: &'a [Reference],
    /// The version of their format; files of different versions are not read together.
    version: &'a str,
    names: BTreeMap<(&'static str, &'a str), (String, &'a str)>,
    file: PathBuf,
}

impl<'a> Renamed<'a> {
    /// Returns no names yet; a file for them is made in this directory when there are some.
    pub fn new(stack: &'a str, objects: &'a [Reference], version: &'a str, dir: &Path) -> Self {
        let file = dir.join(format!("renamed-{}.json", std::process::id()));
        Self { stack, objects, version, names: BTreeMap::new(), file }
    }

    /// Gives a new name to what docker refused to change. Returns what to tell, or nothing if another name is no way out:
    /// it was given one before, the user chose its name, or it is not of these files.
    pub fn give(&mut self, said: &str) -> Option<String> {
        let (kind, name) = refused(said)?;
        let is_it = |it: &&Reference| {
            it.kind == kind && it.given.is_none() && format!("{}_{}", self.stack, it.name) == name
        };
        let object = self.objects.iter().find(is_it).filter(|_| names_are_free(self.version))?;
        let digest = skep_sys::hex(&Sha256::digest(std::fs::read(&object.path).ok()?)[..4]);
        let mut new = name.to_owned();
        new.truncate(LONGEST - 1 - digest.len());
        let new = format!("{new}-{digest}");
        let told = format!("{kind} {name} has changed: services get it as {new}");
        let before = self.names.insert((kind, &object.name), (new, &object.path));
        before.is_none().then_some(told)
    }

    /// Writes the file if there are any names, and returns it.
    pub fn file(&self) -> Result<Option<&Path>, FileError> {
        if self.names.is_empty() {
            return Ok(None);
        }
        write_atomic(&self.file, 0o600, self.text().to_string().as_bytes())?;
        Ok(Some(&self.file))
    }

    fn text(&self) -> Value {
        let mut sections = json!({"version": self.version});
        for ((kind, key), (name, path)) in &self.names {
            sections[format!("{kind}s")][*key] = json!({"name": name, "file": path});
        }
        sections
    }
}

impl Drop for Renamed<'_> {
    fn drop(&mut self) {
        let _ = remove_file(&self.file);
    }
}

/// Returns what docker refused to change, and its name.
fn refused(said: &str) -> Option<(&'static str, &str)> {
    let line = said.lines().find(|line| line.contains(REFUSED))?;
    let (_, rest) = line.split_once("failed to update ")?;
    let (kind, rest) = rest.split_once(' ')?;
    let kind = ["config", "secret"].into_iter().find(|it| *it == kind)?;
    Some((kind, rest.split(':').next()?))
}

/// Tells whether a format lets a config have another name than its key: since 3.5.
fn names_are_free(version: &str) -> bool {
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    (major.parse().unwrap_or(0), minor.parse().unwrap_or(0)) >= (3u32, 5u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a 26.1 swarm said it.
    fn said(kind: &str, name: &str) -> String {
        format!(
            "failed to update {kind} {name}: Error response from daemon: rpc error: code = InvalidArgument desc = only updates \
             to Labels are allowed"
        )
    }

    fn object(kind: &'static str, name: &str, path: &Path, given: Option<&str>) -> Reference {
        let path = path.display().to_string();
        Reference { kind, name: name.to_owned(), path, given: given.map(str::to_owned) }
    }

    #[test]
    fn what_has_changed_gets_a_name_from_its_content_once() {
        let dir = tempfile::tempdir().unwrap();
        let page = dir.path().join("page.html");
        std::fs::write(&page, "new").unwrap();
        let objects = [object("config", "page", &page, None), object("secret", "key", &page, None)];
        let mut renamed = Renamed::new("shop", &objects, "3.8", dir.path());
        assert!(renamed.file().unwrap().is_none());
        let told = renamed.give(&said("config", "shop_page")).unwrap();
        assert_eq!(told, "config shop_page has changed: services get it as shop_page-11507a0e");
        assert_eq!(renamed.give(&said("config", "shop_page")), None, "that is no way out again");
        renamed.give(&said("secret", "shop_key")).unwrap();
        let file = renamed.file().unwrap().unwrap().to_owned();
        let text: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(
            text,
            json!({
                "version": "3.8",
                "configs": {"page": {"name": "shop_page-11507a0e", "file": page}},
                "secrets": {"key": {"name": "shop_key-11507a0e", "file": page}},
            })
        );
        drop(renamed);
        assert!(!file.exists());
    }

    #[test]
    fn what_another_name_does_not_help_is_left_to_docker() {
        let dir = tempfile::tempdir().unwrap();
        let page = dir.path().join("page.html");
        std::fs::write(&page, "new").unwrap();
        let objects = [
            object("config", "page", &page, Some("shop_page")),
            object("secret", "key", &page, None),
        ];
        let give =
            |version, said: &str| Renamed::new("shop", &objects, version, dir.path()).give(said);
        assert_eq!(give("3.8", &said("config", "shop_page")), None, "its user chose the name");
        assert_eq!(give("3.8", &said("config", "other_page")), None);
        assert_eq!(give("3.4", &said("secret", "shop_key")), None, "the format has no names");
        assert_eq!(give("3.8", "failed to update service shop_web: update out of sequence"), None);
        assert!(give("3.12", &said("secret", "shop_key")).is_some());
        // A name has its limit.
        let long = "k".repeat(70);
        let objects = [object("secret", &long, &page, None)];
        let told = Renamed::new("shop", &objects, "3.12", dir.path())
            .give(&said("secret", &format!("shop_{long}")));
        assert_eq!(told.unwrap().rsplit(' ').next().unwrap().len(), LONGEST);
    }
}
