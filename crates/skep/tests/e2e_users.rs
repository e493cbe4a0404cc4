//! An ordinary user has a cluster after `sudo skep setup`, and QEMU is that user.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use skep_core::model::ImageSpec;
use skep_driver::image::image_id;
use skep_testkit::home::{Said, fetch, finish};
use skep_testkit::host::can_run_machines;
use skep_testkit::traces::Traces;
use skep_testkit::users::OwnHost;

const SKEP: &str = env!("CARGO_BIN_EXE_skep");

#[test]
fn an_ordinary_user_has_a_cluster() {
    if !can_run_machines() {
        return;
    }
    let host = Traces::look();
    let is_host = OwnHost::tell("an_ordinary_user_has_a_cluster", SKEP, false, |host| {
        host.add_user("alice");
        let before = host.files();
        let names = std::fs::read_to_string("/etc/hosts").unwrap();
        well(host.skep("setup --user alice --hosts"));
        take_image_along("alice");
        let home = OwnHost::home("alice");
        std::fs::write(home.join("secret"), "hers").unwrap();

        let up = "up theirs -n 1 --cold --no-verify --hostname theirs.skep-test.example";
        well(host.skep_as("alice", up));
        let has_name =
            |line: &str| line.starts_with("10.") && line.contains("theirs.skep-test.example");
        assert!(std::fs::read_to_string("/etc/hosts").unwrap().lines().any(has_name));
        let machines = machines("skep-theirs-node0");
        assert_eq!(machines.len(), 1);
        assert_eq!(machines[0].0, std::fs::metadata(&home).unwrap().uid(), "QEMU is its user");
        let strict = "elevateprivileges=deny,spawn=deny";
        assert!(machines[0].1.contains(strict), "and may become nobody: {}", machines[0].1);
        let seen = |path: &str| std::fs::read_to_string(format!("/proc/{}/{path}", machines[0].2));
        let in_root = |path: &str| seen(&format!("root{}/{path}", home.display()));
        assert!(in_root("secret").is_err(), "her files are not QEMU's");
        let own = ".local/share/skep/clusters/theirs/machines/node0";
        assert!(in_root(&format!("{own}/run/qemu.pid")).is_ok(), "its own are");
        for file in ["key.pem", "id_rsa", "config.json", "process.json", "disk.json"] {
            assert!(in_root(&format!("{own}/{file}")).is_err(), "{file} is skep's");
        }
        assert!(!seen("net/dev").unwrap().contains("skep-theirs"), "nor is the network");
        let status = well(host.skep_as("alice", "status theirs -o json"));
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["nodes"][0]["swarm"], "ready", "{status}");
        let members = well(host.skep_as("alice", "docker --cluster theirs -- node ls -q"));
        assert_eq!(members.lines().count(), 1, "{members}");
        well(host.skep_as("alice", "ssh theirs/node0 true"));

        // Not even root's own skep takes it from under her.
        let said = host.skep("setup --undo");
        assert!(said.code == 1 && said.stderr.contains("theirs of alice"), "{said:?}");
        well(host.skep_as("alice", "node kill node0 --cluster theirs"));
        well(host.skep_as("alice", "down theirs -y"));
        assert_eq!(std::fs::read_to_string("/etc/hosts").unwrap(), names);
        well(host.skep("setup --undo"));
        assert_eq!(host.files(), before, "all is as it was");
    });
    if is_host {
        host.assert_unchanged();
    }
}

#[test]
fn a_user_without_anybodys_leave_has_a_cluster() {
    if !can_run_machines() {
        return;
    }
    let host = Traces::look();
    let name = "a_user_without_anybodys_leave_has_a_cluster";
    let is_host = OwnHost::tell(name, SKEP, false, |host| {
        host.add_user("bob");
        give_taps_to_all();
        take_image_along("bob");
        let said = host.skep_as("bob", "up own -n 2 --dry-run");
        assert!(said.stderr.contains("use --net user") || said.code == 0, "{said:?}");
        let said = host.skep_as("bob", "up own --net user --publish 80");
        assert!(said.code == 2 && said.stderr.contains("port 80 of 127.0.0.1"), "{said:?}");
        let said = host.skep_as("bob", "up own --net user --hostname own.skep-test.example");
        assert!(said.code == 2 && said.stderr.contains("--net user"), "{said:?}");
        assert!(!network_of("bob").exists(), "nothing came of it");

        well(host.skep_as("bob", "up own -n 2 --net user --publish 18080"));
        let machines = machines("skep-own-node");
        let bob = std::fs::metadata(OwnHost::home("bob")).unwrap().uid();
        assert!(machines.len() == 2 && machines.iter().all(|it| it.0 == bob), "{machines:?}");
        assert!(!Path::new("/sys/class/net/skep-own").exists(), "nothing of it is on the host");
        let status = well(host.skep_as("bob", "status own -o json"));
        assert_eq!(status.matches("\"swarm\": \"ready\"").count(), 2, "{status}");
        assert_eq!(well(host.skep_as("bob", "up own --dry-run")), "nothing to do\n");
        let env = well(host.skep_as("bob", "env own --shell sh"));
        assert!(env.contains("DOCKER_HOST=\"tcp://127.193.0.2:2376\""), "{env}");
        let members = well(host.skep_as("bob", "docker --cluster own -- node ls -q"));
        assert_eq!(members.lines().count(), 2, "{members}");
        let serve = "ssh own/node0 mkdir /tmp/page && echo mine >/tmp/page/index.html && \
                     busybox httpd -p 18080 -h /tmp/page";
        well(host.skep_as("bob", serve));
        let page = fetch("127.0.0.1", 18080);
        assert_eq!(page.as_deref(), Some("mine\n"));
        well(host.skep_as("bob", "registry start own"));
        let ca = OwnHost::home("bob").join(".local/share/skep/clusters/own/certs/ca.pem");
        let mut curl = Command::new("curl");
        curl.args(["-fsS", "--max-time", "60", "https://127.193.0.2:5000/v2/_catalog"]);
        assert_eq!(well(finish(curl.arg("--cacert").arg(ca))), "{\"repositories\":[]}\n");

        well(host.skep_as("bob", "node stop node1 --cluster own"));
        well(host.skep_as("bob", "up own --no-verify"));
        assert_eq!(fetch("127.0.0.1", 18080).as_deref(), Some("mine\n"));
        well(host.skep_as("bob", "down own -y"));
        assert!(!network_of("bob").exists(), "nothing is left of it");
    });
    if is_host {
        host.assert_unchanged();
    }
}

/// Returns where a user's skep notes what it has of a network of the user's own.
fn network_of(user: &str) -> PathBuf {
    OwnHost::home(user).join(".local/share/skep/network")
}

/// Lets all users of the test's own host have taps, as udev does on others.
fn give_taps_to_all() {
    let script = "mknod /var/lib/tun c 10 200 && chmod 666 /var/lib/tun && \
                  mount --bind /var/lib/tun /dev/net/tun";
    assert!(Command::new("sh").args(["-c", script]).status().unwrap().success());
}

/// Gives a user the image that root's cache has, if it has it by now; else hers is built.
fn take_image_along(user: &str) {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache =
        cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    let image = cache.join("skep/images").join(image_id(&ImageSpec::default()).unwrap());
    if image.exists() {
        let script = "mkdir -p \"$2/.cache/skep/images\" && \
                      cp -r --sparse=always --reflink=auto \"$1\" \"$2/.cache/skep/images/\" && \
                      chown -R \"$3:$3\" \"$2/.cache\"";
        let mut copy = Command::new("sh");
        let copy = copy.args(["-c", script, "sh"]).arg(&image).arg(OwnHost::home(user)).arg(user);
        let status = copy.status().unwrap();
        assert!(status.success());
    }
}

/// Returns whose the processes of a machine are, their command lines and their numbers.
fn machines(name: &str) -> Vec<(u32, String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.starts_with("qemu-system") && line.contains(name) {
            let process = entry.file_name().to_string_lossy().into_owned();
            found.push((entry.metadata().unwrap().uid(), line, process));
        }
    }
    found
}

fn well(said: Said) -> String {
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
    said.stdout
}
