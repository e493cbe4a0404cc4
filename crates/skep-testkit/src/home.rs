//! A home of its own for a test's clusters, and the skep that is tested.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::schema::assert_described;

/// A store in a directory of its own. What is left in it when a test fails is taken away, after the
/// last words of its machines.
pub struct Home {
    dir: TempDir,
    skep: PathBuf,
    hosts_file: PathBuf,
    variables: Vec<(&'static str, String)>,
}

/// What a command printed.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Home {
    /// Makes a home for the program `skep`; names of hosts go to the host's own file.
    ///
    /// # Panics
    ///
    /// If there is no room for it.
    #[must_use]
    pub fn new(skep: impl Into<PathBuf>) -> Self {
        let dir = tempfile::Builder::new().prefix("skep-test.").tempdir().expect("a directory");
        Self { dir, skep: skep.into(), hosts_file: "/etc/hosts".into(), variables: Vec::new() }
    }

    /// Has every skep of this home take KVM's path while QEMU emulates, with KVM's time limits times `slowness`
    /// (`SKEP_TEST_KVM_PATH`, see docs/design/kvm-and-emulation.md).
    #[must_use]
    pub fn on_kvms_path(mut self, slowness: u32) -> Self {
        self.variables.push(("SKEP_TEST_KVM_PATH", slowness.to_string()));
        self
    }

    /// Returns the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the directory of a cluster.
    #[must_use]
    pub fn cluster(&self, name: &str) -> PathBuf {
        self.dir.path().join("clusters").join(name)
    }

    /// Returns a command in this home, to be run by the test itself.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.skep);
        command.args(args).stdin(Stdio::null());
        self.set_env(&mut command);
        command
    }

    /// Lets any program work in this home.
    pub fn set_env(&self, command: &mut Command) {
        command
            .env("SKEP_HOME", self.dir.path())
            .env("SKEP_HOSTS_FILE", &self.hosts_file)
            .env("SKEP", &self.skep)
            .env("DOCKER_CONFIG", self.dir.path().join("docker"))
            .env_remove("SKEP_CLUSTER")
            .env_remove("SKEP_LOG")
            .env_remove("SKEP_TEST_KVM_PATH")
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
    }

    /// Runs a command that has to succeed, and returns its standard output.
    ///
    /// # Panics
    ///
    /// If it fails; with all that it said.
    pub fn run(&self, line: &str) -> String {
        self.run_args(line.split_whitespace())
    }

    /// As [`Home::run`], with arguments that have blanks.
    ///
    /// # Panics
    ///
    /// If it fails; with all that it said.
    pub fn run_args<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let said = finish(&mut self.command(args));
        assert_eq!(said.code, 0, "it failed:\n{}{}", said.stdout, said.stderr);
        if std::env::var("SKEP_REQUIRE_KVM").is_ok_and(|value| value == "1") {
            let fell_back = fell_back(&said.stderr);
            assert!(fell_back.is_none(), "SKEP_REQUIRE_KVM=1, and it fell back: {fell_back:?}");
        }
        said.stdout
    }

    /// Runs a command to whatever end.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn try_run(&self, line: &str) -> Said {
        finish(&mut self.command(line.split_whitespace()))
    }

    /// Returns what `skep status` says of a cluster, well or not.
    ///
    /// # Panics
    ///
    /// If it says nothing, or something that its schema does not describe.
    #[must_use]
    pub fn status(&self, cluster: &str) -> serde_json::Value {
        let said = self.try_run(&format!("status {cluster} -o json"));
        assert!(!said.stdout.is_empty(), "{said:?}");
        assert_described("status", &said.stdout)
    }

    /// Returns a field of every node of a cluster, in their order.
    #[must_use]
    pub fn each_node(&self, cluster: &str, field: &str) -> Vec<String> {
        let status = self.status(cluster);
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        nodes.iter().map(|node| text_of(&node[field])).collect()
    }

    /// Ends a node's machine at once, behind skep's back, as a power cut does.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn cut_power(&self, cluster: &str, node: &str) {
        let machine = self.cluster(cluster).join("machines").join(node);
        let pid = std::fs::read_to_string(machine.join("run/qemu.pid")).expect("it runs");
        let kill = Command::new("kill").args(["-9", pid.trim()]).status();
        assert!(kill.expect("kill is there").success(), "{node} does not run");
    }
}

impl Home {
    /// Shows what a cluster's machines said last.
    fn tell_last_words(&self, name: &str, cluster: &Path) {
        for machine in std::fs::read_dir(cluster.join("machines")).into_iter().flatten().flatten() {
            let node = machine.file_name().to_string_lossy().into_owned();
            let console = self.try_run(&format!("logs {node} --cluster {name}")).stdout;
            let log = std::fs::read(machine.path().join("qemu.log")).unwrap_or_default();
            for (what, text) in [("console", console.as_bytes()), ("qemu.log", &log)] {
                let text = String::from_utf8_lossy(&text[text.len().saturating_sub(3000)..]);
                say(&format!("{node} {what}:\n{text}"));
            }
        }
    }
}

/// Returns the line in which skep says that it does not use KVM, or that machines boot that were to be copies.
fn fell_back(said: &str) -> Option<&str> {
    let signs = ["software emulation, ", "booting machines, as they cannot be forked"];
    said.lines().find(|line| signs.iter().any(|sign| line.contains(sign)))
}

fn text_of(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Drop for Home {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.dir.path().join("clusters")).into_iter().flatten() {
            let Ok(path) = entry.map(|entry| entry.path()) else { continue };
            if !path.is_dir() {
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if std::thread::panicking() {
                self.tell_last_words(&name, &path);
            }
            let _ = finish(&mut self.command(["down", name.as_str(), "-y"]));
        }
    }
}

/// Runs a command to its end and tells how long that took.
///
/// # Panics
///
/// If it cannot be started.
pub fn finish(command: &mut Command) -> Said {
    let began = Instant::now();
    let Output { status, stdout, stderr } = command.output().expect("it can be started");
    let args: Vec<_> = command.get_args().map(|it| it.to_string_lossy().into_owned()).collect();
    let said = Said {
        code: status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    };
    say(&format!(
        "{:6.1} s  skep {}: {}",
        began.elapsed().as_secs_f64(),
        args.join(" "),
        said.code
    ));
    said
}

/// Tells what a test is at. Not eprintln!(), whose output of a test that passes is never seen.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Waits until a look finds what it looks for, and returns that.
///
/// # Panics
///
/// If that is not within the limit.
pub fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {} s", limit.as_secs());
        // wait: what is looked at announces nothing
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Fetches a page over HTTP; none if nothing answers with success.
#[must_use]
pub fn fetch(host: &str, port: u16) -> Option<String> {
    use std::io::Read;
    use std::net::{TcpStream, ToSocketAddrs};
    let address = (host, port).to_socket_addrs().ok()?.next()?;
    let limit = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&address, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    write!(stream, "GET / HTTP/1.0\r\nHost: {host}\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.take(64 << 10).read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.lines().next()?.contains(" 200 ").then(|| body.to_owned())
}

/// Adds a command line, what it printed and its exit code to a transcript, with `HOME` for the store.
pub fn record(text: &mut String, line: &str, said: &Said, home: &Home) {
    text.push_str(&format!("$ skep {line}\n"));
    let all = format!("{}{}", said.stdout, said.stderr);
    let all = all.replace(&home.path().display().to_string(), "HOME");
    for line in all.lines() {
        text.push_str(&format!("{}\n", line.trim_end()));
    }
    text.push_str(&format!("[{}]\n\n", said.code));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_falls_back_is_seen_in_what_is_said() {
        let emulated =
            "node0: software emulation, 5 to 20 times slower than KVM (/dev/kvm: No such file)";
        assert_eq!(fell_back(&format!("trying a guest under KVM\n{emulated}\n")), Some(emulated));
        let booted = "cluster: booting machines, as they cannot be forked: it ended";
        assert_eq!(fell_back(booted), Some(booted));
        assert_eq!(fell_back("node0: fork machine: done in 0.1 s\ncluster is up\n"), None);
    }
}
