//! Programs that are to go on leave the control group of whoever started them.
//!
//! A login session, a terminal's window or a unit of systemd has a control group, in which stays whatever is started there. It
//! ends with it, and when memory is short systemd-oomd kills all of it. So each program that goes on gets a scope in
//! `skep.slice` (systemd.scope(5)): from the system's manager if this is root, else from the user's.
//!
//! ```text
//! who starts it                              where it goes           when it ends
//! root                                       system, skep.slice      with the host
//! a user who lingers (loginctl(1))           user, skep.slice        with the host
//! a user, in a unit of that user's manager   user, skep.slice        with the last logout, as before
//! a user, in a login session                 it stays                with the session, if logind kills (KillUserProcesses=)
//! a host without systemd                     it stays                with the host
//! ```
//!
//! In a session it stays because most distributions let what is in it go on after a logout, and a user's manager ends then.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cmd::{Cmd, CmdError};
use super::process::ProcessId;

/// The slice of all scopes.
const SLICE: &str = "skep.slice";

/// How long systemd may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

/// A manager of units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manager {
    System,
    User,
}

/// When programs of this user end that were to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// Only with the host.
    Host,
    /// With the user's last logout.
    LastLogout,
    /// With the logout from the session in which they were started.
    Session,
}

/// What tells where programs go.
#[derive(Debug, Clone)]
struct Place {
    root: bool,
    /// Whether systemd runs this host (`sd_booted(3)`).
    booted: bool,
    /// Whether the user's manager goes on after the last logout.
    lingers: bool,
    /// Whether logind ends what is left of a session.
    kills: bool,
    /// The control group of this process (`cgroups(7)`).
    cgroup: String,
}

impl Place {
    /// Finds out where this process is. What cannot be read is taken as most distributions have it.
    async fn look() -> Self {
        let root = crate::is_root();
        let booted = Path::new("/run/systemd/system").is_dir();
        let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let asks = booted && !root;
        Self {
            root,
            booted,
            lingers: asks && lingers().await,
            kills: asks && kills().await,
            cgroup,
        }
    }

    /// Tells whether this process is in a unit of its user's manager.
    fn in_users_unit(&self) -> bool {
        let mut words = self.cgroup.lines().flat_map(|line| line.split('/'));
        words.any(|word| word.starts_with("user@") && word.ends_with(".service"))
    }

    fn manager(&self) -> Option<Manager> {
        match self {
            Self { booted: false, .. } => None,
            Self { root: true, .. } => Some(Manager::System),
            Self { lingers: true, .. } => Some(Manager::User),
            _ if self.in_users_unit() => Some(Manager::User),
            _ => None,
        }
    }

    fn lasting(&self) -> Lasting {
        match self {
            Self { booted: false, .. } | Self { root: true, .. } | Self { lingers: true, .. } => {
                Lasting::Host
            }
            _ if self.in_users_unit() => Lasting::LastLogout,
            Self { kills: true, .. } => Lasting::Session,
            _ => Lasting::Host,
        }
    }
}

async fn lingers() -> bool {
    let user = rustix::process::geteuid().as_raw().to_string();
    let asked = Cmd::new("loginctl").args(["show-user", &user, "--property=Linger", "--value"]);
    asked.timeout(LIMIT).run().await.is_ok_and(|said| said.text() == "yes")
}

async fn kills() -> bool {
    let name = "org.freedesktop.login1";
    let asked = Cmd::new("busctl").args(["--system", "get-property", name]);
    let asked = asked.args(["/org/freedesktop/login1", "org.freedesktop.login1.Manager"]);
    let said = asked.arg("KillUserProcesses").timeout(LIMIT).run().await;
    said.is_ok_and(|said| said.text() == "b true")
}

/// Tells when programs end that are started from here and are to go on.
pub async fn lasting() -> Lasting {
    Place::look().await.lasting()
}

/// Moves a process to a scope of its own, if systemd runs here. Without one it keeps running where it is, and the
/// reason is returned.
pub async fn leave(process: ProcessId, title: &str) -> Option<String> {
    let manager = Place::look().await.manager()?;
    let asked = Cmd::new("busctl").args(request(manager, process, title)).timeout(LIMIT);
    let asked = match (manager, users_dir()) {
        // What sudo(8) or su(1) starts lacks it.
        (Manager::User, Some(dir)) => asked.env("XDG_RUNTIME_DIR", dir),
        _ => asked,
    };
    let error = asked.run().await.err()?;
    tracing::debug!(%error, "no scope");
    process.is_alive().then(|| reason(&error))
}

/// Returns the end of what went wrong; the command line before it is long, and in the debug log.
fn reason(error: &CmdError) -> String {
    match error {
        CmdError::Failed { tail, .. } => tail.clone(),
        CmdError::Timeout { limit, .. } => format!("no answer within {} s", limit.as_secs()),
        error => super::chain(error),
    }
}

/// Returns the directory in which the socket of the user's bus is, as logind makes it (`pam_systemd(8)`).
fn users_dir() -> Option<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    Some(PathBuf::from(format!("/run/user/{user}"))).filter(|dir| dir.is_dir())
}

/// Returns the arguments of busctl(1) that make a scope of a process (org.freedesktop.systemd1(5)).
fn request(manager: Manager, process: ProcessId, title: &str) -> Vec<String> {
    let bus = match manager {
        Manager::System => "--system",
        Manager::User => "--user",
    };
    // A number is given out again; with the start it is not.
    let unit = format!("{}-{}-{}.scope", unit_name(title), process.pid, process.start);
    let pid = process.pid.to_string();
    let call = [
        bus,
        "call",
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
        "StartTransientUnit",
        "ssa(sv)a(sa(sv))",
        &unit,
        "fail",
    ];
    // A scope whose process has failed is not kept for somebody to look at.
    let properties = [
        &["4", "Description", "s", title][..],
        &["Slice", "s", SLICE],
        &["CollectMode", "s", "inactive-or-failed"],
        &["PIDs", "au", "1", &pid],
        &["0"],
    ];
    call.iter().chain(properties.iter().copied().flatten()).map(|word| (*word).to_owned()).collect()
}

/// Returns a title as a unit's name: what is no letter, digit or dash there is one.
fn unit_name(title: &str) -> String {
    let name = title.rsplit('/').next().unwrap_or(title);
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = name.chars().map(plain).take(100).collect();
    if name.starts_with("skep") { name } else { format!("skep-{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        let cgroup = "0::/user.slice/user-1000.slice/session-3.scope\n".to_owned();
        Place { root: false, booted: true, lingers: false, kills: false, cgroup }
    }

    #[test]
    fn a_machine_goes_where_it_outlives_a_logout_if_there_is_such_a_place() {
        let terminal = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte.scope\n";
        let terminal = Place { cgroup: terminal.to_owned(), ..place() };
        let cases = [
            (Place { root: true, ..place() }, Some(Manager::System), Lasting::Host),
            (Place { booted: false, ..place() }, None, Lasting::Host),
            (Place { booted: false, root: true, ..place() }, None, Lasting::Host),
            (Place { lingers: true, ..place() }, Some(Manager::User), Lasting::Host),
            // The manager would end with the last logout, what stays in the session would not.
            (place(), None, Lasting::Host),
            (Place { kills: true, ..place() }, None, Lasting::Session),
            (terminal.clone(), Some(Manager::User), Lasting::LastLogout),
            (Place { kills: true, ..terminal.clone() }, Some(Manager::User), Lasting::LastLogout),
            (Place { lingers: true, ..terminal }, Some(Manager::User), Lasting::Host),
        ];
        for (place, manager, lasting) in cases {
            assert_eq!((place.manager(), place.lasting()), (manager, lasting), "{place:?}");
        }
    }

    #[test]
    fn a_scope_is_asked_for_by_the_process_that_runs() {
        let process = ProcessId { pid: 42, start: 777, boot: None };
        let words = request(Manager::User, process, "skep-demo-node0").join(" ");
        assert_eq!(
            words,
            "--user call org.freedesktop.systemd1 /org/freedesktop/systemd1 \
             org.freedesktop.systemd1.Manager StartTransientUnit ssa(sv)a(sa(sv)) \
             skep-demo-node0-42-777.scope fail 4 Description s skep-demo-node0 \
             Slice s skep.slice CollectMode s inactive-or-failed PIDs au 1 42 0"
        );
        assert_eq!(unit_name("/opt/with blank/pasta"), "skep-pasta");
        assert!(request(Manager::System, process, "x").contains(&"--system".to_owned()));
    }
}
