//! Programs that run as long as a test does, in its namespaces: firewalld, Docker's engine.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::host::{command, find, run};

/// How long one may take to come up: a busy host takes a while.
const UP: Duration = Duration::from_secs(120);

/// A program that ends with the test.
pub struct Running(Child);

impl Running {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// If it is not there.
    #[must_use]
    pub fn start(line: &str) -> Self {
        let mut command = command(line);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{line}: {error}")))
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Panics
    ///
    /// If it has ended before.
    pub fn stop(mut self) {
        run(&format!("kill {}", self.0.id()));
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for something.
///
/// # Panics
///
/// If it does not come.
pub fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < UP, "{what} does not come up");
        // wait: whether a program listens can only be tried
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Lets changes of /etc be gone with this mount namespace, whose /run is its own.
///
/// # Panics
///
/// If that fails.
pub fn own_etc() {
    for dir in ["/run/upper", "/run/work"] {
        std::fs::create_dir_all(dir).expect("/run can be written to");
    }
    run("mount -t overlay none -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work /etc");
}

/// Starts firewalld, with a bus of its own and this default zone.
///
/// # Panics
///
/// If it does not come up.
#[must_use]
pub fn firewalld(zone: &str) -> Vec<Running> {
    std::fs::create_dir_all("/run/dbus").expect("/run can be written to");
    let bus = r#"<busconfig>
        <type>system</type>
        <listen>unix:path=/run/dbus/system_bus_socket</listen>
        <auth>EXTERNAL</auth>
        <policy context="default">
            <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
        </policy>
    </busconfig>"#;
    std::fs::write("/run/bus.conf", bus).expect("/run can be written to");
    let mut running = vec![Running::start("dbus-daemon --nofork --config-file=/run/bus.conf")];
    until("the bus", || Path::new("/run/dbus/system_bus_socket").exists());
    running.push(Running::start("firewalld --nofork --nopid"));
    until("firewalld", || {
        command("firewall-cmd --state").output().is_ok_and(|it| it.status.success())
    });
    run(&format!("firewall-cmd --set-default-zone={zone}"));
    run("firewall-cmd --reload");
    running
}

/// Docker's engine.
pub struct Docker(PathBuf);

impl Docker {
    /// Finds it: installed, or unpacked in `$SKEP_TEST_DOCKER`, as `scripts/test` does.
    #[must_use]
    pub fn find() -> Option<Self> {
        let unpacked = std::env::var_os("SKEP_TEST_DOCKER").map(PathBuf::from);
        let program = unpacked.map(|dir| dir.join("usr/sbin/dockerd")).filter(|it| it.is_file());
        program.or_else(|| find("dockerd")).map(Self)
    }

    /// Starts it, with all that it has in /run; its iptables is the first in the search path.
    ///
    /// # Panics
    ///
    /// If it does not come up.
    #[must_use]
    pub fn start(&self) -> Running {
        let sbin = self.0.parent().expect("it is in a directory");
        let bin = sbin.with_file_name("bin");
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{path}:{}:{}", sbin.display(), bin.display());
        let line = format!(
            "env PATH={path} {} --storage-driver vfs --data-root /run/docker/data --exec-root /run/docker/exec \
             --pidfile /run/docker/pid -H unix:///run/docker/socket",
            self.0.display()
        );
        std::fs::create_dir_all("/run/docker").expect("/run can be written to");
        let socket = Path::new("/run/docker/socket");
        let _ = std::fs::remove_file(socket);
        let running = Running::start(&line);
        // It listens before its networks are made, and answers after.
        until("dockerd", || ping(socket).is_ok_and(|answer| answer.contains("200 OK")));
        running
    }
}

fn ping(socket: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
