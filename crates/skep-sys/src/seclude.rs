//! Programs that see no more of the host than they need.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::Cmd;

/// What makes a root of its own for a program.
const SCRIPT: &str = include_str!("seclude.sh");

/// The namespaces: of users, so that an ordinary user may make the others; of mounts, of the network, which
/// then has nothing, and of memory that processes share (unshare(1)).
const NAMESPACES: [&str; 6] =
    ["--map-current-user", "--keep-caps", "--mount", "--net", "--ipc", "--"];

/// A file or directory that a program still sees, at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    path: PathBuf,
    writable: bool,
}

impl Bind {
    /// Lets it be read.
    pub fn read_only(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), writable: false }
    }

    /// Lets it be read and written.
    pub fn writable(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), writable: true }
    }
}

impl Cmd {
    /// Keeps the program from the network and from all files but these and what programs are made of. The
    /// directory that it runs in has what of these is in it, and nothing else. It stays the same process. It has no
    /// /proc, through which it would get at the files of its user's other processes.
    ///
    /// It takes a kernel that lets users have namespaces.
    #[must_use]
    pub fn secluded(mut self, seen: impl IntoIterator<Item = Bind>) -> Self {
        let program = std::mem::replace(&mut self.program, "unshare".into());
        let words = NAMESPACES.iter().chain(&["sh", "-c", SCRIPT, "sh"]).map(OsStr::new);
        let mut args: Vec<OsString> = words.map(OsStr::to_owned).collect();
        for Bind { path, writable } in seen {
            args.extend([if writable { "rw" } else { "ro" }.into(), path.into()]);
        }
        args.extend(["--".into(), program]);
        args.append(&mut self.args);
        self.args = args;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a user of root that nobody else is, as for root some things go that do not for others.
    const NOBODY: [&str; 3] = ["--reuid=54321", "--regid=54321", "--clear-groups"];

    #[tokio::test]
    async fn a_secluded_program_has_its_directories_and_nothing_else() {
        let root = crate::is_root();
        // Everybody gets there, wherever the other tests have their files.
        let place = tempfile::tempdir_in("/var/tmp").unwrap();
        let (own, others) = (place.path().join("own, 'dir'"), place.path().join("others"));
        for dir in [&own, &others] {
            std::fs::create_dir(dir).unwrap();
            std::fs::write(dir.join("file"), "what is in it").unwrap();
        }
        let script = "cat file; : >made; ls -d \"$1\" /proc /home /etc/passwd 2>/dev/null; \
                      ls /sys 2>/dev/null; grep Cap /proc/self/status 2>/dev/null; echo; echo end";
        let program = Cmd::new("sh").args(["-c", script, "sh"]).arg(&others).dir(&own);
        let mut program = program.secluded([Bind::writable(&own)]);
        if root {
            std::os::unix::fs::chown(&own, Some(54321), Some(54321)).unwrap();
            crate::set_mode(place.path(), 0o755).unwrap();
            let inner = std::mem::replace(&mut program, Cmd::new("setpriv").args(NOBODY).dir(&own));
            program = program.arg(inner.program).args(inner.args);
        }
        let output = match program.run().await {
            // There are hosts, and containers, whose users have no namespaces.
            Err(error) if !root => {
                return test_skip::skip(&format!("no namespaces here: {error}"));
            }
            ran => ran.unwrap().text(),
        };
        assert_eq!(output, "what is in it\nend");
        assert!(own.join("made").exists());
    }
}
