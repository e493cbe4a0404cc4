//! What `sudo skep setup` changes on a host so that ordinary users can have clusters, and takes back.
//!
//! ```text
//! /var/lib/skep-net/setup.json     what was changed, written down before it is
//! /var/lib/skep-net/grants.json    what users may have
//! /usr/local/libexec/skep-net      a copy of skep, which acts as root
//! /etc/sudoers.d/skep              who may run that
//! /etc/apparmor.d/skep             where AppArmor keeps programs without a profile from having namespaces of users
//! ```
//!
//! What is missing is a list of parts, made by a pure function; each is looked at, done and taken back by itself.

mod act;
mod apparmor;
mod look;
mod sudoers;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skep_sys::{CmdError, FileError, LockError, shell_quoted};
use thiserror::Error;

pub use act::{set_up, undo};
pub use apparmor::is_restricted;
pub use look::{Seen, User, look};
pub use sudoers::render_sudoers;

use crate::hosts;
use crate::network;
use crate::privileged_helper::{Grants, PROGRAM};

/// The group whose members may have clusters.
pub const GROUP: &str = "skep";

/// The group that may use the processor's virtualization, on most distributions.
const KVM: &str = "kvm";

/// The file that lets members of the group run the copy of skep.
pub const SUDOERS: &str = "/etc/sudoers.d/skep";

/// How many users a namespace of a user gets (subuid(5)): all that a distribution's packages have.
const SUBIDS: u32 = 65536;

/// What went wrong with setting a host up.
#[derive(Debug, Error)]
pub enum Error {
    /// Only root may change a host.
    #[error("only root can change what users may do")]
    NotRoot,
    /// There is no such user.
    #[error("there is no user {0}")]
    NoUser(String),
    /// There is no sudo.
    #[error("sudo is not installed; non-root users need it to run skep-net")]
    NoSudo,
    /// sudo does not take the file that it would be given.
    #[error("sudo rejects {SUDOERS}; it was not installed")]
    Sudoers(#[source] CmdError),
    /// AppArmor does not take the profile that lets skep have namespaces of users.
    #[error("{} was not installed or not loaded", apparmor::PROFILE)]
    Profile(#[source] CmdError),
    /// Users have clusters.
    #[error("users have clusters on this host")]
    InUse(Vec<Used>),
    /// A program failed.
    #[error(transparent)]
    Cmd(#[from] CmdError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Names of users could not be taken away.
    #[error(transparent)]
    Names(#[from] hosts::Error),
    /// A lock could not be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The network of a user could not be taken away.
    #[error(transparent)]
    Net(#[from] network::Error),
}

/// A network that a user has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Used {
    /// The bridge.
    pub bridge: String,
    /// The cluster.
    pub cluster: String,
    /// The user, by name if there is one.
    pub user: String,
}

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The users that may have clusters, beside those that may already.
    pub users: Vec<String>,
    /// What they may have.
    pub grants: Grants,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The group.
    Group,
    /// The directory of the copy.
    ProgramDir,
    /// The copy of skep that acts as root.
    Program,
    /// What users may have of it.
    Grants,
    /// Who may run it.
    Sudoers,
    /// The profile that lets a program have namespaces of users.
    Profile {
        /// The program.
        program: PathBuf,
    },
    /// A user's membership in a group.
    Member {
        /// The user.
        user: String,
        /// The group.
        group: String,
    },
    /// The numbers that a user may give to users of a namespace.
    SubIds {
        /// The user.
        user: String,
        /// The first of them.
        first: u32,
    },
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group => write!(f, "group {GROUP}"),
            Self::ProgramDir => write!(f, "directory {}", act::program_dir().display()),
            Self::Program => {
                write!(f, "{PROGRAM}, a copy of skep that makes users' networks as root")
            }
            Self::Grants => write!(f, "what users may have of it"),
            Self::Sudoers => write!(f, "{SUDOERS}, which lets group {GROUP} run it"),
            Self::Profile { program } => {
                let (file, program) = (apparmor::PROFILE, program.display());
                write!(f, "{file}, which lets {program} have namespaces of users")
            }
            Self::Member { user, group } => write!(f, "user {user} in group {group}"),
            Self::SubIds { user, first } => {
                let last = first + (SUBIDS - 1);
                write!(f, "user {user} in /etc/subuid and /etc/subgid, {first}-{last}")
            }
        }
    }
}

/// What was changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The number of the format.
    pub format: u32,
    /// The version of skep that changed it last.
    pub version: String,
    /// The changes, in their order.
    pub parts: Vec<Part>,
}

impl Record {
    /// The number of the format that this skep writes.
    pub const FORMAT: u32 = 1;
}

/// Returns the command that sets this host up; where sudo would not find this skep, with its path.
#[must_use]
pub fn remedy() -> String {
    let own = std::env::current_exe().unwrap_or_default();
    let found = own.parent().is_some_and(|dir| {
        ["/usr/local/bin", "/usr/bin", "/bin"].iter().any(|it| dir == Path::new(it))
    });
    match found || own.as_os_str().is_empty() {
        true => "sudo skep setup".to_owned(),
        false => format!("sudo {} setup", shell_quoted(&own.to_string_lossy())),
    }
}

/// Returns what has to be done, in order.
#[must_use]
pub fn plan(wanted: &Wanted, seen: &Seen) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut need = |there: bool, part: Part| {
        if !there {
            parts.push(part);
        }
    };
    need(seen.group, Part::Group);
    need(seen.program_dir, Part::ProgramDir);
    need(seen.program, Part::Program);
    need(seen.grants.as_ref() == Some(&wanted.grants), Part::Grants);
    need(seen.sudoers, Part::Sudoers);
    if let Some(program) = &seen.unprofiled {
        need(false, Part::Profile { program: program.clone() });
    }
    let mut next = seen.next_subid;
    for user in &seen.users {
        let member =
            |group: &str| Part::Member { user: user.name.clone(), group: group.to_owned() };
        need(user.groups.iter().any(|it| it == GROUP), member(GROUP));
        need(!seen.kvm || user.groups.iter().any(|it| it == KVM), member(KVM));
        need(user.subids, Part::SubIds { user: user.name.clone(), first: next });
        if !user.subids {
            next += SUBIDS;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare() -> Seen {
        Seen {
            kvm: true,
            next_subid: 165_536,
            users: ["alice", "bob"]
                .map(|name| User { name: name.into(), groups: vec![name.into()], subids: false })
                .into(),
            ..Seen::default()
        }
    }

    fn lines(parts: &[Part]) -> Vec<String> {
        parts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_that_is_missing_is_listed() {
        let parts = plan(&Wanted::default(), &bare());
        insta::assert_snapshot!(lines(&parts).join("\n"));
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let mut seen = bare();
        seen.group = true;
        seen.program_dir = true;
        seen.program = true;
        seen.sudoers = true;
        seen.grants = Some(Grants::default());
        seen.users[0].groups = vec![GROUP.into(), KVM.into()];
        seen.users[0].subids = true;
        seen.users[1].groups = vec![KVM.into()];
        seen.users[1].subids = true;
        let wanted = Wanted::default();
        assert_eq!(lines(&plan(&wanted, &seen)), ["user bob in group skep"]);
        seen.kvm = false;
        seen.users.truncate(1);
        seen.users[0].groups = vec![GROUP.into()];
        assert!(plan(&wanted, &seen).is_empty());
        seen.unprofiled = Some("/usr/bin/skep".into());
        let line = "/etc/apparmor.d/skep, which lets /usr/bin/skep have namespaces of users";
        assert_eq!(lines(&plan(&wanted, &seen)), [line]);
        seen.unprofiled = None;
        let wanted = Wanted { grants: Grants { hosts: true, ..Grants::default() }, ..wanted };
        assert_eq!(plan(&wanted, &seen), [Part::Grants]);
    }
}
