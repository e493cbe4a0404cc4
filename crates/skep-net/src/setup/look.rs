//! What there is of a set-up.

use std::path::{Path, PathBuf};

use serde_json::Value;
use skep_store::parse_known;
use skep_sys::{Cmd, FileError, checksum, read_own};

use super::{GROUP, KVM, Record, SUBIDS, Used, Wanted, act, apparmor, sudoers};
use crate::network::claims;
use crate::privileged_helper::{Grants, PROGRAM};
use crate::setup::Error;

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Whether there is the group.
    pub group: bool,
    /// Whether there is the group of /dev/kvm.
    pub kvm: bool,
    /// Whether there is the directory of the copy.
    pub program_dir: bool,
    /// Whether the copy is this very skep.
    pub program: bool,
    /// Whether sudo has its file.
    pub sudoers: bool,
    /// This program, if AppArmor keeps it from having namespaces of users.
    pub unprofiled: Option<PathBuf>,
    /// What users may have; none if nothing was said.
    pub grants: Option<Grants>,
    /// The users that are asked for.
    pub users: Vec<User>,
    /// The first number that nobody has for the users of namespaces.
    pub next_subid: u32,
    /// What was changed by setting up before.
    pub record: Record,
    /// The members of the group.
    pub members: Vec<String>,
    /// The networks that users have.
    pub used: Vec<Used>,
}

/// A user.
#[derive(Debug, Clone)]
pub struct User {
    /// The name.
    pub name: String,
    /// The groups.
    pub groups: Vec<String>,
    /// Whether the user has numbers for users of namespaces.
    pub subids: bool,
}

/// Looks at what there is; changes nothing. Some of it only root can see.
///
/// # Errors
///
/// If a user that is asked for does not exist, or what was written down is damaged.
pub async fn look(wanted: &Wanted, state: &Path) -> Result<Seen, Error> {
    let subuid = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
    let subgid = std::fs::read_to_string("/etc/subgid").unwrap_or_default();
    let members = group(GROUP).await?;
    let mut users = Vec::new();
    for name in &wanted.users {
        users.push(user(name, [&subuid, &subgid]).await?);
    }
    let mut used = Vec::new();
    for (bridge, claim) in claims::read(state)? {
        if claim.user == 0 {
            // Root needs no set-up.
            continue;
        }
        used.push(Used { bridge, cluster: claim.cluster, user: name_of(claim.user).await });
    }
    let same = match (checksum(Path::new("/proc/self/exe")), checksum(Path::new(PROGRAM))) {
        (Ok(own), Ok(copy)) => own == copy,
        _ => false,
    };
    let own = apparmor::own_program()?;
    let unprofiled = apparmor::is_restricted() && !apparmor::is_in_place(&own);
    Ok(Seen {
        group: members.is_some(),
        kvm: group(KVM).await?.is_some(),
        program_dir: act::program_dir().is_dir(),
        program: same,
        sudoers: sudoers::is_in_place().await,
        unprofiled: unprofiled.then_some(own),
        grants: state.join(Grants::FILE).exists().then(|| Grants::read(state)).transpose()?,
        users,
        next_subid: next_subid(&[&subuid, &subgid]),
        record: record(state)?,
        members: members.unwrap_or_default(),
        used,
    })
}

/// Reads what was changed; nothing if nothing was written down.
pub(super) fn record(state: &Path) -> Result<Record, Error> {
    let path = state.join("setup.json");
    let fail = |error: std::io::Error| FileError::new("read", &path, error);
    let text = match read_own(&path) {
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Record::default());
        }
        text => text?,
    };
    let value: Value = serde_json::from_slice(&text).map_err(|error| fail(error.into()))?;
    if value["format"].as_u64().is_some_and(|format| format > Record::FORMAT.into()) {
        let version = value["version"].as_str().unwrap_or("of an unknown version");
        let newer = format!("a newer skep wrote it, {version}; use that one");
        return Err(fail(std::io::Error::other(newer)).into());
    }
    Ok(parse_known(&path, &text)?)
}

async fn user(name: &str, subids: [&String; 2]) -> Result<User, Error> {
    let unknown = || Error::NoUser(name.to_owned());
    // What begins with a dash would be an option.
    if name.is_empty() || name.starts_with('-') || name.contains([':', ',', '/', ' ', '\n']) {
        return Err(unknown());
    }
    let (status, output) = Cmd::new("id").args(["-Gn", name]).status().await?;
    if !status.success() {
        return Err(unknown());
    }
    let groups = output.text().split_whitespace().map(str::to_owned).collect();
    let subids = subids.iter().all(|text| has_subids(text, name));
    Ok(User { name: name.to_owned(), groups, subids })
}

/// Returns the members of a group; none if there is no such group.
async fn group(name: &str) -> Result<Option<Vec<String>>, Error> {
    let (status, output) = Cmd::new("getent").args(["group", name]).status().await?;
    let text = output.text();
    let members = text.rsplit(':').next().unwrap_or_default().split(',');
    let members = members.filter(|it| !it.is_empty()).map(str::to_owned).collect();
    Ok(status.success().then_some(members))
}

async fn name_of(user: u32) -> String {
    let ran = Cmd::new("id").args(["-un", &user.to_string()]).run().await;
    ran.map_or_else(|_| user.to_string(), |output| output.text())
}

/// Tells whether a user has enough numbers of his own in a file (subuid(5)).
fn has_subids(text: &str, user: &str) -> bool {
    ranges(text).any(|(name, _, count)| name == user && count >= SUBIDS)
}

fn next_subid(texts: &[&String]) -> u32 {
    let ends = texts.iter().flat_map(|text| ranges(text));
    let last = ends.map(|(_, first, count)| first.saturating_add(count)).max();
    last.unwrap_or(0).max(100_000)
}

fn ranges(text: &str) -> impl Iterator<Item = (&str, u32, u32)> {
    text.lines().filter_map(|line| {
        let mut words = line.trim().split(':');
        Some((words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_namespaces_are_nobodys() {
        let text = "alice:100000:65536\nbob:165536:65536\n# none\nshort:300000:10\n".to_owned();
        assert!(has_subids(&text, "bob") && !has_subids(&text, "short"));
        assert!(!has_subids(&text, "carol"));
        assert_eq!(next_subid(&[&text, &String::new()]), 300_010);
        assert_eq!(next_subid(&[&String::new()]), 100_000);
    }

    #[test]
    fn a_newer_skeps_record_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("setup.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            record(state.path()).map_err(|error| skep_sys::chain(&error))
        };
        let part = r#"{"member": {"user": "a", "group": "b"}}"#;
        let parts = |format: u32, part: &str| {
            format!(r#"{{"format": {format}, "version": "9.9", "parts": [{part}]}}"#)
        };
        assert_eq!(read(&parts(1, part)).unwrap().parts.len(), 1);
        let later = r#"{"member": {"user": "a", "group": "b", "later": 1}}"#;
        let error = read(&parts(1, later)).unwrap_err();
        assert!(error.contains("parts.0.member.later"), "{error}");
        // A newer format is called that, also where it cannot be understood.
        let error = read(&parts(2, r#"{"another": {}}"#)).unwrap_err();
        assert!(error.contains("a newer skep wrote it, 9.9"), "{error}");
    }
}
