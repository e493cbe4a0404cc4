//! A host's shell through ssh(1), the system's own: agents, jump hosts and keys of any kind work as its
//! user knows them.
//!
//! All commands to a host share one connection, which ends by itself when it has not been used for a while,
//! also if skep was killed. Nothing asks for a password. The host's key is written down when the host is
//! first spoken to, in the directory of the machine that it is, and must be the same from then on.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::time::Instant;

use skep_store::pki::KNOWN_HOSTS;
use skep_sys::shell::{Error, NodeOutput, NodeShell};
use skep_sys::{Cmd, CmdError, FileError, shell_quoted, tail, write_atomic};

/// The connection's socket, in the directory of the machine. ssh(1) runs there, as a socket's whole path may be
/// longer than an address can be.
const SOCKET: &str = "ssh.sock";

/// How long a host may take to answer at all, in seconds.
const CONNECT_S: u64 = 10;

/// How long a connection that nobody uses is kept, in seconds.
const KEEP_S: u64 = 10;

/// What a command may take longer than its limit there until its end is known here.
const GRACE: Duration = Duration::from_secs(15);

/// The code of ssh(1) for its own failures.
const OWN_FAILURE: i32 = 255;

/// The code of timeout(1) for a command that it ended.
const TIMED_OUT: i32 = 124;

/// Where and as whom to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The address or name of the host.
    pub host: String,
    /// The user, who is root or may become it with sudo(8).
    pub user: String,
    /// The port.
    pub port: u16,
    /// The private key; none for those that ssh(1) finds itself.
    pub key: Option<PathBuf>,
    /// Whether the user's own settings of ssh(1) count.
    pub user_config: bool,
}

impl Login {
    /// Returns the usual way to log in at an address: as root, with the keys that ssh(1) finds.
    #[must_use]
    pub fn of(address: std::net::Ipv4Addr) -> Self {
        let (host, user) = (address.to_string(), "root".to_owned());
        Self { host, user, port: 22, key: None, user_config: true }
    }

    /// Returns the options of ssh(1) and scp(1) that lead to the host, but for port, user and host.
    #[must_use]
    pub fn options(&self, known_hosts: &str) -> Vec<String> {
        self.options_with(known_hosts, &Known::default())
    }

    /// Returns them, with other files of known hosts beside the one that is written to.
    fn options_with(&self, known_hosts: &str, known: &Known) -> Vec<String> {
        let mut words = Vec::new();
        if !self.user_config {
            words.extend(["-F".to_owned(), "/dev/null".to_owned()]);
        }
        let settings = [
            "BatchMode=yes".to_owned(),
            "StrictHostKeyChecking=accept-new".to_owned(),
            format!(
                "UserKnownHostsFile={}",
                [&[known_hosts.to_owned()], &known.files[..]].concat().join(" ")
            ),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            "HashKnownHosts=no".to_owned(),
            "UpdateHostKeys=no".to_owned(),
            format!("ConnectTimeout={CONNECT_S}"),
            "LogLevel=ERROR".to_owned(),
        ];
        words.extend(settings.into_iter().flat_map(|setting| ["-o".to_owned(), setting]));
        if let Some(key) = &self.key {
            let key = skep_sys::ssh_path(key).to_string_lossy().into_owned();
            words.extend(["-o", "IdentitiesOnly=yes", "-i", &key].map(str::to_owned));
        }
        words
    }
}

/// What the user's settings may say of a host to log in to it, and what keeps a command from being run there with its
/// standard input (ssh_config(5)). Some of it is unknown to ssh(1) before 8.7, as other settings of the user's may be.
const ONE_COMMAND: [&str; 7] = [
    "IgnoreUnknown=*",
    "RemoteCommand=none",
    "RequestTTY=no",
    "SessionType=default",
    "StdinNull=no",
    "ForkAfterAuthentication=no",
    "PermitLocalCommand=no",
];

/// A host's shell through ssh.
#[derive(Debug, Clone)]
pub struct SshShell {
    login: Login,
    dir: PathBuf,
    known: Known,
}

/// What the user and this host's administrator know of hosts' keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    /// The name by which the host is known, if ssh(1) uses another one than its address.
    alias: Option<String>,
    /// The files.
    files: Vec<String>,
}

impl Known {
    /// Reads what `ssh -G` prints (ssh_config(5)), in which a percent sign stands for itself. Paths with blanks cannot be told from two, and are left out.
    fn parse(text: &str) -> Self {
        let mut known = Self::default();
        for line in text.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "hostkeyalias" => known.alias = Some(rest.to_owned()),
                "userknownhostsfile" | "globalknownhostsfile" => {
                    let files = rest.split(' ').filter(|it| it.starts_with('/'));
                    known.files.extend(
                        files.filter(|it| *it != "/dev/null").map(|it| it.replace('%', "%%")),
                    );
                }
                _ => {}
            }
        }
        known
    }
}

impl SshShell {
    /// Creates the shell of the host of which `dir` holds the pinned key and the connection.
    #[must_use]
    pub fn new(login: Login, dir: &Path) -> Self {
        Self { login, dir: dir.to_owned(), known: Known::default() }
    }

    /// Creates the shell of a host that is spoken to for the first time: its key has to be the one by which the user
    /// or this host knows it, if they do.
    pub async fn first(login: Login, dir: &Path) -> Self {
        let asked = Cmd::new("ssh").args(["-G", "-p", &login.port.to_string(), "-l", &login.user]);
        let asked = asked.args(["--", &login.host]).timeout(Duration::from_secs(CONNECT_S));
        let known = match asked.run().await {
            Ok(said) if login.user_config => Known::parse(&said.text()),
            _ => Known::default(),
        };
        Self { known, ..Self::new(login, dir) }
    }

    /// Pins the host's key after the first contact; tells its fingerprint if nobody knew it before.
    ///
    /// # Errors
    ///
    /// If the pin cannot be written.
    pub async fn pin(&self) -> Result<Option<String>, FileError> {
        let pinned = self.dir.join(KNOWN_HOSTS);
        if pinned.exists() {
            // ssh(1) writes down only what is in none of the files.
            let list = Cmd::new("ssh-keygen").arg("-lf").arg(&pinned);
            let list = list.timeout(Duration::from_secs(CONNECT_S)).run().await;
            let text = list.map(|said| said.text()).unwrap_or_default();
            return Ok(Some(text.split(' ').nth(1).unwrap_or("unknown").to_owned()));
        }
        let name = match (&self.known.alias, &self.login) {
            (Some(alias), _) => alias.clone(),
            (None, Login { host, port: 22, .. }) => host.clone(),
            (None, Login { host, port, .. }) => format!("[{host}]:{port}"),
        };
        let mut lines = String::new();
        for file in &self.known.files {
            let find = Cmd::new("ssh-keygen").args(["-F", &name, "-f", file]);
            // It fails where the file is not there or does not have the host.
            let Ok(found) = find.timeout(Duration::from_secs(CONNECT_S)).run().await else {
                continue;
            };
            let text = found.text();
            let entries = text.lines().filter(|line| !line.starts_with('#'));
            entries.for_each(|line| lines.extend([line, "\n"]));
        }
        write_atomic(&pinned, 0o600, lines.as_bytes())?;
        Ok(None)
    }

    /// Returns the command line of ssh(1) that runs a command there.
    fn command(&self, argv: &[&str], limit: Duration) -> Cmd {
        let Login { host, user, port, .. } = &self.login;
        let connection = [
            "ServerAliveInterval=5".to_owned(),
            "ServerAliveCountMax=3".to_owned(),
            "ForwardAgent=no".to_owned(),
            "ForwardX11=no".to_owned(),
            "ControlMaster=auto".to_owned(),
            format!("ControlPath={SOCKET}"),
            format!("ControlPersist={KEEP_S}"),
        ];
        Cmd::new("ssh")
            .dir(&self.dir)
            .args(self.login.options_with(KNOWN_HOSTS, &self.known))
            .args(connection.iter().flat_map(|setting| ["-o", setting]))
            .args(ONE_COMMAND.iter().flat_map(|setting| ["-o", setting]))
            .args(["-p", &port.to_string(), "-l", user, "--", host])
            .arg(as_root(user, argv, limit))
            .timeout(limit + GRACE)
    }

    fn failure(&self, words: &[u8]) -> Error {
        let Login { host, user, port, .. } = &self.login;
        let reason = tail(words);
        let at = format!("{user}@{host}");
        if reason.contains("IDENTIFICATION HAS CHANGED") || reason.contains("Host key verification")
        {
            // At the first contact it is another file than our own.
            let words = String::from_utf8_lossy(words);
            let file = offending_file(&words).map(PathBuf::from);
            let file = file.filter(|file| file.is_absolute());
            let file = file.unwrap_or_else(|| self.dir.join(KNOWN_HOSTS));
            return Error::HostKey { host: host.clone(), file };
        }
        if reason.contains("Permission denied") {
            return Error::Login { at, reason: last_line(&reason) };
        }
        Error::NoHost { host: format!("{host}, port {port}"), reason: last_line(&reason) }
    }
}

#[async_trait]
impl NodeShell for SshShell {
    async fn run(&self, argv: &[&str], stdin: &[u8], limit: Duration) -> Result<NodeOutput, Error> {
        let what = || argv.first().map_or_else(String::new, |word| (*word).to_owned());
        let late = || Error::Timeout { what: what(), limit };
        let (status, output) = match self.command(argv, limit).stdin(stdin).status().await {
            Ok(ended) => ended,
            Err(CmdError::Timeout { .. }) => return Err(late()),
            Err(error) => return Err(Error::Ssh(error)),
        };
        match status.code() {
            Some(OWN_FAILURE) => Err(self.failure(&output.stderr)),
            Some(TIMED_OUT) => Err(late()),
            code => Ok(NodeOutput {
                code: code.unwrap_or(-1),
                stdout: output.stdout,
                stderr: output.stderr,
            }),
        }
    }

    async fn clock_behind(&self, limit: Duration) -> Result<i64, Error> {
        let (before, start) = (SystemTime::now(), Instant::now());
        let output = self.succeed("date", &["date", "+%s%N"], b"", limit).await?;
        let here = before + start.elapsed() / 2;
        let here = here.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let text = String::from_utf8_lossy(&output.stdout);
        let there = text.trim().parse::<i128>().unwrap_or_default();
        let behind = i128::try_from(here).unwrap_or(i128::MAX) - there;
        Ok(i64::try_from(behind).unwrap_or(i64::MAX))
    }
}

/// Returns the text that the login shell there reads: the command, as root, ended when its time is over.
fn as_root(user: &str, argv: &[&str], limit: Duration) -> String {
    let seconds = limit.as_secs().max(1).to_string();
    let sudo: &[&str] = if user == "root" { &[] } else { &["sudo", "-n", "--"] };
    let bound = ["timeout", "-k", "5", &seconds];
    let words = sudo.iter().chain(&bound).chain(argv);
    words.map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

/// Quotes a word for a POSIX shell.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    shell_quoted(word)
}

/// Returns the file of known hosts that ssh(1) says has another key.
fn offending_file(words: &str) -> Option<&str> {
    let line =
        words.lines().find(|line| line.starts_with("Offending ") && line.contains(" key in "))?;
    Some(line.split_once(" key in ")?.1.trim_end().rsplit_once(':')?.0)
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or("ssh said nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(user: &str) -> SshShell {
        let login = Login {
            host: "192.0.2.7".into(),
            user: user.into(),
            port: 2222,
            key: Some("/keys/a key".into()),
            user_config: true,
        };
        SshShell::new(login, Path::new("/store/machines/box"))
    }

    #[test]
    fn a_command_arrives_as_its_words_with_a_bound_and_as_root() {
        let limit = Duration::from_secs(20);
        let words = ["sh", "-c", "echo 'it is'\n", ""];
        assert_eq!(
            as_root("root", &words, limit),
            "timeout -k 5 20 sh -c 'echo '\\''it is'\\''\n' ''"
        );
        assert!(as_root("me", &["true"], limit).starts_with("sudo -n -- timeout -k 5 20 true"));
    }

    #[test]
    fn nothing_asks_and_the_key_is_pinned() {
        insta::assert_snapshot!(shell("root").command(&["true"], Duration::from_secs(20)));
    }

    #[tokio::test]
    async fn settings_for_a_login_do_not_keep_a_command_from_running() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config");
        let text =
            "SomeTypo yes\nRemoteCommand tmux\nRequestTTY force\nSessionType none\nStdinNull yes\n";
        std::fs::write(&config, text).unwrap();
        let line = shell("root").command(&["true"], Duration::from_secs(20)).to_string();
        let own: Vec<_> =
            line.split(" -o ").skip(1).filter_map(|it| it.split(' ').next()).collect();
        let said = Cmd::new("ssh").args(["-G", "-F"]).arg(config);
        let said = own.iter().fold(said, |cmd, setting| cmd.args(["-o", setting]));
        let said = said.arg("192.0.2.7").run().await.unwrap().text();
        for wanted in ["requesttty false", "sessiontype default", "stdinnull no"] {
            assert!(said.lines().any(|line| line == wanted), "{wanted}: {said}");
        }
        assert!(!said.contains("tmux"), "{said}");
    }

    /// Two keys that nobody has.
    const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBbSyFZbzDYPXfCpYQrHKNvsGv4wJSN2dYlhNyzqSpD2";
    const OTHER: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9Kx4o1L7mcP3s0s7V5b8b1xJ0kZ5u2m3n4o5p6q7r8";

    #[test]
    fn at_the_first_contact_what_the_user_and_the_host_know_counts() {
        let known = Known::parse(
            "user me\nglobalknownhostsfile /etc/ssh/ssh_known_hosts /dev/null\n\
             userknownhostsfile /users/me/.ssh/known_hosts none\nhostkeyalias box\n",
        );
        assert_eq!(known.files, ["/etc/ssh/ssh_known_hosts", "/users/me/.ssh/known_hosts"]);
        assert_eq!(known.alias.as_deref(), Some("box"));
        let shell = SshShell { known, ..shell("root") };
        let line = shell.command(&["true"], Duration::from_secs(20)).to_string();
        let files =
            "UserKnownHostsFile=known_hosts /etc/ssh/ssh_known_hosts /users/me/.ssh/known_hosts";
        assert!(
            line.contains(files) && line.contains("StrictHostKeyChecking=accept-new"),
            "{line}"
        );
        let said = "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nOffending ED25519 key in \
                    /users/me/.ssh/known_hosts:3\n  remove with:\nHost key verification failed.";
        let Error::HostKey { file, .. } = shell.failure(said.as_bytes()) else { panic!("{said}") };
        assert_eq!(file, Path::new("/users/me/.ssh/known_hosts"));
    }

    #[tokio::test]
    async fn the_key_by_which_a_host_is_known_is_the_one_that_is_pinned() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("users");
        let entries = format!("192.0.2.7 {OTHER}\n[192.0.2.7]:2222 {ONE}\nother {OTHER}\n");
        std::fs::write(&file, entries).unwrap();
        let known = Known { alias: None, files: vec!["/none".into(), file.display().to_string()] };
        let shell = SshShell { known, dir: dir.path().to_owned(), ..shell("root") };
        assert_eq!(shell.pin().await.unwrap(), None, "it was known");
        let pinned = std::fs::read_to_string(dir.path().join(KNOWN_HOSTS)).unwrap();
        assert_eq!(pinned, format!("[192.0.2.7]:2222 {ONE}\n"));
        // What ssh itself has written down was known to nobody, and is told.
        let told = shell.pin().await.unwrap().unwrap();
        assert!(told.starts_with("SHA256:"), "{told}");
    }

    #[test]
    fn sshs_own_failures_are_told_apart() {
        let shell = shell("me");
        let said = |text: &str| shell.failure(text.as_bytes()).to_string();
        assert_eq!(
            said("me@192.0.2.7: Permission denied (publickey)."),
            "cannot log in as me@192.0.2.7: me@192.0.2.7: Permission denied (publickey)."
        );
        assert!(
            said("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nx").contains("known_hosts")
        );
        assert_eq!(
            said("ssh: connect to host 192.0.2.7 port 2222: No route to host"),
            "192.0.2.7, port 2222 is unreachable: ssh: connect to host 192.0.2.7 port 2222: \
             No route to host"
        );
    }
}
