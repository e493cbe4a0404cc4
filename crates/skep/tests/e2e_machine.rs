//! docker-machine's face on virtual machines: a script that knows only that name sets up a swarm, and
//! machines are stopped, set up anew, half made and removed.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use skep_testkit::home::{Said, eventually, finish, say};
use skep_testkit::host::can_run_machines;
use skep_testkit::traces::Traces;

/// A store, and a directory of programs with docker-machine and docker in it. What is left in the store
/// when a test fails is taken away.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("skep-machine.").tempdir().unwrap();
        let place = Self { dir };
        std::fs::create_dir(place.path("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_skep"), place.path("bin/docker-machine")).unwrap();
        // The image's own, as there need not be one on the host.
        let docker = place.path("bin/docker");
        let script = "#!/bin/sh\nfor docker in \"${XDG_CACHE_HOME:-$HOME/.cache}\"/skep/images/*/docker\n\
                      do exec \"$docker\" \"$@\"\ndone\n";
        std::fs::write(&docker, script).unwrap();
        std::fs::set_permissions(&docker, PermissionsExt::from_mode(0o755)).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, program: &Path) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            .stdin(Stdio::null())
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("MACHINE_STORAGE_PATH", self.path("store"))
            .env("SKEP_HOME", self.path("home"))
            .env("DOCKER_CONFIG", self.path("docker"))
            // As a login has it; where there is none, `env` asks for `--shell`, as docker-machine does.
            .env("SHELL", "/bin/bash");
        for name in ["DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_MACHINE_NAME"]
        {
            command.env_remove(name);
        }
        command
    }

    fn machine(&self, words: &[&str]) -> Command {
        let mut command = self.command(&self.path("bin/docker-machine"));
        command.args(words);
        command
    }

    /// Runs a command of docker-machine that has to succeed.
    fn run(&self, words: &[&str]) -> String {
        let said = finish(&mut self.machine(words));
        assert_eq!(said.code, 0, "it failed:\n{}{}", said.stdout, said.stderr);
        said.stdout
    }

    fn try_run(&self, words: &[&str]) -> Said {
        finish(&mut self.machine(words))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.path("store/machines")).into_iter().flatten().flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            if std::thread::panicking() {
                // Of what was said, the part that was listened to.
                let console = std::fs::read(entry.path().join("console.log")).unwrap_or_default();
                say(&format!("{name} console:\n{}", String::from_utf8_lossy(&console)));
            }
            let _ = self.try_run(&["rm", "-f", &name]);
        }
    }
}

#[test]
fn a_script_that_knows_only_docker_machine_gets_a_swarm() {
    if !can_run_machines() {
        return;
    }
    let host = Traces::look();
    let place = Place::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/esgf.sh");
    let said = finish(place.command(&script).arg(place.path("work")));
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
    say(&said.stdout);
    host.assert_unchanged();
    assert!(!place.path("store/skep.json").exists());
}

#[test]
fn a_machine_keeps_its_own_whatever_becomes_of_it() {
    if !can_run_machines() {
        return;
    }
    let host = Traces::look();
    let place = Place::new();
    let options = ["--engine-label", "a=b c", "--engine-opt", "log-driver=local"];
    let more = ["--engine-env", "X=it's one", "--tls-san", "box.skep-test.example"];
    let create = ["create", "-d", "kvm", "--kvm-memory", "2048", "--kvm-disk-size", "30000"];
    let said = place.run(&[&create[..], &options, &more, &["box"]].concat());
    insta::assert_snapshot!(without_news(
        &said.replace(place.dir.path().to_str().unwrap(), "ROOT")
    ));

    is_what_was_asked_for(&place);
    looks_like_boot2docker(&place);
    let address = place.run(&["ip", "box"]);
    an_upgrade_without_a_network_changes_nothing(&place);
    let ssh = |command: &str| place.run(&["ssh", "box", command]);
    ssh(
        "echo vm.swappiness=7 | sudo tee /etc/sysctl.d/90-own.conf; echo 192.0.2.9 db | sudo tee -a /etc/hosts; \
         sudo mkdir /srv/own; echo tmpfs /srv/own tmpfs size=1m 0 0 | sudo tee -a /etc/fstab",
    );
    power_comes_and_goes(&place);
    assert_eq!(
        ssh(
            "cat /proc/sys/vm/swappiness; getent hosts db | wc -l; df -P /srv/own | tail -n 1 | cut -c-5"
        ),
        "7\n1\ntmpfs\n"
    );
    assert_eq!(place.run(&["ip", "box"]), address);
    is_what_was_asked_for(&place);
    certificates_are_made_anew(&place);

    assert_eq!(place.run(&["rm", "-y", "box"]).lines().last(), Some("Successfully removed box"));
    host.assert_unchanged();
}

/// Takes out what is told only where image or template have to be made first.
fn without_news(said: &str) -> String {
    let told = ["(box) Creating", "(box) Starting"];
    let news =
        |line: &&str| line.starts_with("(box)") && !told.iter().any(|it| line.starts_with(it));
    said.lines().filter(|line| !news(line)).map(|line| format!("{line}\n")).collect()
}

fn is_what_was_asked_for(place: &Place) {
    let ssh = |command: &str| place.run(&["ssh", "box", command]);
    assert_eq!(labels(place), ["a=b c", "provider=kvm"]);
    assert_eq!(ssh("docker info -f '{{.LoggingDriver}}'"), "local\n");
    assert_eq!(
        ssh("sudo cat /proc/$(pidof dockerd)/environ | tr '\\0' '\\n' | grep ^X="),
        "X=it's one\n"
    );
    assert_eq!(ssh("hostname; whoami; sudo id -u"), "box\ndocker\n0\n");
    let memory: u64 = ssh("awk '/MemTotal/ {print $2}' /proc/meminfo").trim().parse().unwrap();
    assert!((1_900_000..=2_097_152).contains(&memory), "{memory}");
    let disk: u64 = ssh("cat /sys/class/block/vda/size").trim().parse().unwrap();
    assert!((30_000_000_000..30_002_000_000).contains(&(disk * 512)), "{disk}");
    let names = ssh("sudo cat /etc/docker/tls/server.pem");
    let own = std::fs::read_to_string(place.path("store/machines/box/server.pem")).unwrap();
    assert_eq!(names, own);
    let mut curl = Command::new("curl");
    let store = place.path("store/certs");
    let to = format!("box.skep-test.example:2376:{}", place.run(&["ip", "box"]).trim());
    curl.args(["-sS", "--max-time", "20", "--resolve", &to, "--cacert"]).arg(store.join("ca.pem"));
    curl.arg("--cert").arg(store.join("cert.pem")).arg("--key").arg(store.join("key.pem"));
    curl.arg("https://box.skep-test.example:2376/_ping");
    assert_eq!(finish(&mut curl).stdout, "OK");
}

/// What scripts written for boot2docker's machines find there, as the user that they log in as.
fn looks_like_boot2docker(place: &Place) {
    let ssh = |command: &str| place.run(&["ssh", "box", command]);
    let address = place.run(&["ip", "box"]);
    assert!(ssh("ip -4 -o addr show eth1").contains(address.trim()));
    assert!(ssh("ifconfig eth1").contains(address.trim()));
    let old = "/var/lib/boot2docker";
    ssh(&format!("openssl x509 -noout -in {old}/server.pem && grep -q BEGIN {old}/ca.pem"));
    let own = std::fs::read_to_string(place.path("store/machines/box/server.pem")).unwrap();
    assert_eq!(ssh(&format!("cat {old}/server.pem")), own);
    let profile = ssh(&format!("cat {old}/profile"));
    for line in
        ["EXTRA_ARGS='\n", "--log-driver=local\n", "DOCKER_TLS=auto\n", "export \"X=it's one\"\n"]
    {
        assert!(profile.contains(line), "{line:?} is missing:\n{profile}");
    }
    ssh("ls -d /mnt/sda1/var/lib/docker && sudo ls /mnt/sda1/var/lib/docker/volumes");
    assert_eq!(ssh("cat /mnt/sda1/var/lib/boot2docker/profile"), profile);
    assert_eq!(ssh("df -P /tmp | awk 'END {print $1}'"), "/dev/vda\n");
    assert_eq!(ssh("pgrep -f $(which dockerd)"), ssh("pidof dockerd"));
    ssh("command -v rsync curl git");
}

/// Returns the labels of the engine, which tells them in any order.
fn labels(place: &Place) -> Vec<String> {
    let said = place.run(&["ssh", "box", "docker info -f '{{json .Labels}}'"]);
    let mut labels: Vec<String> = serde_json::from_str(&said).unwrap();
    labels.sort();
    labels
}

fn an_upgrade_without_a_network_changes_nothing(place: &Place) {
    let engine = place.run(&["ssh", "box", "sudo ip route del default; pidof dockerd"]);
    let said = place.try_run(&["upgrade", "box"]);
    assert!(said.code == 1 && said.stderr.contains("the engine is as it was"), "{said:?}");
    assert_eq!(place.run(&["ssh", "box", "pidof dockerd"]), engine);
}

/// The certificates that programs in a machine trust.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

fn power_comes_and_goes(place: &Place) {
    place.run(&["ssh", "box", "docker volume create kept"]);
    // As scripts did that were written for boot2docker.
    let dir = "/var/lib/boot2docker";
    for line in [
        format!("echo 'export Y=2' >>{dir}/profile"),
        format!("sed -i 's/^EXTRA_ARGS=.$/&--log-level=warn/' {dir}/profile"),
        format!("mkdir -p {dir}/certs; head -n 30 {dir}/ca.pem >{dir}/certs/own.pem"),
        format!(
            "echo 'docker volume create local; cat {dir}/ca.pem >>{BUNDLE}' >{dir}/bootlocal.sh"
        ),
        "echo kept? >/tmp/file".to_owned(),
        format!("grep -q BEGIN {dir}/server.pem && test -s {dir}/log/docker.log"),
    ] {
        place.run(&["ssh", "box", &format!("sudo sh -c \"{}\"", line.replace('"', "\\\""))]);
    }
    assert_eq!(place.run(&["stop", "box"]), "Stopping \"box\"...\nMachine \"box\" was stopped.\n");
    assert_eq!(place.run(&["status", "box"]), "Stopped\n");
    let said = place.try_run(&["env", "box"]);
    assert_eq!(said.stderr, "Error checking TLS connection: Host is not running\n");
    let said = place.try_run(&["kill", "box"]);
    assert_eq!(said.stderr, "Machine \"box\" is already stopped.\n");
    let started = place.run(&["start", "box"]);
    assert!(started.contains("Machine \"box\" was started.\n"), "{started}");
    // Its engine answers as soon as the command has ended.
    assert!(place.run(&["version", "box"]).starts_with(|c: char| c.is_ascii_digit()));
    place.run(&["kill", "box"]);
    place.run(&["restart", "box"]);
    let volumes = || place.run(&["ssh", "box", "docker volume ls -q"]);
    eventually("bootlocal.sh has run", Duration::from_secs(60), || {
        (volumes() == "kept\nlocal\n").then_some(())
    });
    // One of the directory and one of the script's, though this is the second boot of both.
    let last = format!("tail -n 2 {dir}/ca.pem | head -n 1");
    let count = format!("ls /tmp/file 2>/dev/null; grep -cF \"$({last})\" {BUNDLE}");
    eventually("the bundle has both", Duration::from_secs(30), || {
        (place.run(&["ssh", "box", &count]) == "2\n").then_some(())
    });
    let engine = "sudo cat /proc/$(pidof dockerd)/cmdline /proc/$(pidof dockerd)/environ";
    let engine = place.run(&["ssh", "box", engine]);
    assert!(engine.contains("--log-level=warn\0") && engine.contains("\0Y=2\0"), "{engine}");
}

fn certificates_are_made_anew(place: &Place) {
    let certificate = || std::fs::read(place.path("store/machines/box/server.pem")).unwrap();
    let (before, engine) = (certificate(), place.run(&["ssh", "box", "pidof dockerd"]));
    place.run(&["regenerate-certs", "-f", "box"]);
    assert_ne!(before, certificate());
    let there = place.run(&["ssh", "box", "cat /var/lib/boot2docker/server.pem"]);
    assert_eq!(there.as_bytes(), certificate());
    place.run(&["config", "box"]);
    assert_eq!(place.run(&["ssh", "box", "pidof dockerd"]), engine, "it had no need to restart");
    let path = place.path("store/machines/box/config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("a=b c", "a=other")).unwrap();
    place.run(&["provision", "box"]);
    assert_eq!(labels(place), ["a=other", "provider=kvm"]);
    std::fs::write(&path, config).unwrap();
}

#[test]
fn what_a_crash_leaves_half_made_can_be_removed() {
    if !can_run_machines() {
        return;
    }
    let host = Traces::look();
    let place = Place::new();
    let mut killed = false;
    for seconds in [1, 2, 4] {
        let mut create = place.machine(&["create", "-d", "qemu", "--qemu-memory", "2048", "box"]);
        let mut create = create.stdout(Stdio::null()).spawn().unwrap();
        let record = place.path("store/machines/box/config.json");
        eventually("a record", Duration::from_secs(60), || record.exists().then_some(()));
        // wait: this is the crash's moment
        std::thread::sleep(Duration::from_secs(seconds));
        create.kill().unwrap();
        killed |= !create.wait().unwrap().success();
        let again = place.try_run(&["create", "-d", "qemu", "--qemu-memory", "2048", "box"]);
        assert_eq!(again.stderr, "Docker machine \"box\" already exists\n");
        if seconds == 4 {
            std::fs::write(&record, "damaged").unwrap();
        }
        let said = place.try_run(&["rm", "-f", "box"]);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.stdout.ends_with("Successfully removed box\n"), "{said:?}");
        host.assert_unchanged();
    }
    assert!(killed, "each was made before it was killed");
    // Whoever removes one that is still being made knows what he does.
    let create = ["create", "-d", "qemu", "--qemu-memory", "2048", "box"];
    let create = place.machine(&create).stderr(Stdio::piped()).spawn().unwrap();
    let record = place.path("store/machines/box/config.json");
    eventually("a record", Duration::from_secs(60), || record.exists().then_some(()));
    place.run(&["rm", "-f", "box"]);
    let create = create.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&create.stderr).into_owned();
    assert!(!create.status.success() && said.contains("\"box\" was removed meanwhile"), "{said}");
    let left: Vec<_> = std::fs::read_dir(place.path("store/machines")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    host.assert_unchanged();
}
