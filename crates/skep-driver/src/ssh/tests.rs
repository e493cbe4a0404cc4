//! The scripts on a host of the dnf family, whose programs are fakes in a directory and whose files are below
//! another one.

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::firewall::OPEN;
use super::setup::{RELEASE, SETUP, Script};

/// What the scripts may call of this host.
const REAL: &str = "cat chmod cmp comm cp grep head mkdir mktemp mv rm rmdir sed sh \
                    sha256sum sleep sort tail timeout tr";

/// What the host has of its own, below `$T/bin`; each says in `$T/log` what it was asked for.
const FAKES: [(&str, &str); 9] = [
    ("rpm", "case $1 in -qf) grep -E '^(moby-engine|docker-ce)$' $T/installed ;; *) cat $T/installed ;; esac"),
    (
        "dnf",
        "case \"$*\" in
         '-q list --available '*) [ -e \"$T/repository/$4\" ] ;;
         '-q -y install '*) shift 3
            for it; do echo $it; echo $it-libs; done >>$T/installed; cp $T/dockerd $T/bin ;;
         '-q -y remove --setopt=clean_requirements_on_remove=False '*) shift 4
            for it; do sed -i \"/^$it\\$/d\" $T/installed; done; rm $T/bin/dockerd ;;
         '-q repoquery --installed --whatrequires '*)
            echo; while read -r by it; do [ $it != $5 ] || ! grep -qx $by $T/installed || echo $by; done <$T/needs ;;
         *) echo \"no such thing: dnf $*\" >&2; exit 64 ;;
         esac",
    ),
    (
        "systemctl",
        "case \"$*\" in
         'is-enabled '*) echo disabled; exit 1 ;;
         'show docker.service -p ExecStart --value') echo '{ path=/usr/bin/dockerd ; argv[]=/usr/bin/dockerd \
         --host=fd:// $OPTIONS ; ignore_errors=no ; pid=0 }' ;;
         esac",
    ),
    ("hostname", "[ $# = 0 ] || echo \"$1\" >$T/name; cat $T/name"),
    ("getent", "exit 2"),
    ("groupdel", "exit 0"),
    ("ip", "exit 1"),
    ("sync", "exit 0"),
    ("curl", "cp $T/script \"$7\""),
];

/// What a host of Debian's family has in the place of `rpm` and `dnf`.
const DEBIAN: [(&str, &str); 5] = [
    (
        "dpkg-query",
        "case \"$*\" in
         -S*) echo docker.io: $2 ;;
         *db:Status*) sed 's/^/ii  /' $T/installed ;;
         *) cat $T/installed ;;
         esac",
    ),
    ("dpkg", "exit 0"),
    ("apt-cache", "exit 1"),
    ("apt-mark", "case $1 in showmanual) cat $T/manual ;; *) exit 0 ;; esac"),
    (
        "apt-get",
        "all() {
            for it; do echo $it; done >$T/all
            while :; do
                cp $T/all $T/before
                while read -r by it; do
                    if grep -qx $it $T/all && grep -qx $by $T/installed; then echo $by; fi
                done <$T/needs >>$T/all
                sort -u $T/all >$T/more; mv $T/more $T/all
                ! cmp -s $T/all $T/before || break
            done
        }
        case \"$*\" in
        *' install '*) shift 6
            for it; do echo $it; echo $it >>$T/manual; done >>$T/installed
            echo runc >>$T/installed; cp $T/dockerd $T/bin ;;
        '-q -s '*' purge '*) shift 5; all \"$@\"; sed 's/.*/Purg & [1.0]/' $T/all ;;
        *' purge '*) shift 5; all \"$@\"
            for it in $(cat $T/all); do sed -i \"/^$it\\$/d\" $T/installed; done
            grep -qx docker.io $T/installed || rm $T/bin/dockerd ;;
        esac",
    ),
];

/// Firewalls that are told something; what they let in is `on` from then on.
const FIREWALLS: &str = "
tell() {
	echo \"$1 $2\" >>$T/told
	case $2 in
	apply) : >$T/$1 ;;
	remove) rm -f $T/$1 ;;
	look) if [ -e $T/$1 ]; then echo on; else echo off; fi ;;
	esac
}
firewall_nftables() ( set -eu; tell nftables \"$1\" )
firewall_ufw() ( set -eu; tell ufw \"$1\" )
";

/// A host, or what the scripts take for one.
struct Host {
    dir: tempfile::TempDir,
    /// After how many seconds what runs is ended.
    within: std::cell::RefCell<Option<&'static str>>,
}

impl Host {
    fn new() -> Self {
        let host = Self { dir: tempfile::tempdir().unwrap(), within: None.into() };
        for dir in ["bin", "repository", "etc/systemd", "proc/sys/net/ipv4", "var/lib", "run"] {
            std::fs::create_dir_all(host.at(dir)).unwrap();
        }
        for program in REAL.split(' ') {
            let path = std::env::var_os("PATH").unwrap();
            let found = skep_sys::find_program(program, &path).unwrap();
            symlink(found, host.at(&format!("bin/{program}"))).unwrap();
        }
        for (name, body) in FAKES {
            host.write_program(&format!("bin/{name}"), body);
        }
        host.write_program("dockerd", "echo 'Docker version 28.1.1, build x'");
        for (name, text) in [
            ("installed", "rpm\nbash\n"),
            ("needs", ""),
            ("manual", ""),
            ("name", "plain\n"),
            ("etc/hosts", "127.0.0.1 localhost\n"),
            ("proc/sys/net/ipv4/ip_forward", "0\n"),
        ] {
            std::fs::write(host.at(name), text).unwrap();
        }
        host
    }

    /// Makes a host of Debian's family, on which a package called for by name brings `runc` with it.
    fn debian() -> Self {
        let host = Self::new();
        for name in ["rpm", "dnf"] {
            std::fs::remove_file(host.at("bin").join(name)).unwrap();
        }
        for (name, body) in DEBIAN {
            host.write_program(&format!("bin/{name}"), body);
        }
        std::fs::write(host.at("installed"), "bash\ndpkg\n").unwrap();
        std::fs::write(host.at("needs"), "docker.io runc\n").unwrap();
        host
    }

    /// Installs what the owner of the host wants, which needs something that is there.
    fn install(&self, package: &str, needs: &str) {
        for (file, line) in
            [("installed", package.to_owned()), ("needs", format!("{package} {needs}"))]
        {
            let text = format!("{}{line}\n", self.read(file));
            std::fs::write(self.at(file), text).unwrap();
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.at(path)).unwrap()
    }

    fn offer(&self, package: &str) {
        std::fs::write(self.at("repository").join(package), "").unwrap();
    }

    fn write_program(&self, path: &str, body: &str) {
        let text = format!("#!/bin/sh\necho \"${{0##*/}} $*\" >>$T/log\n{body}\n");
        std::fs::write(self.at(path), text).unwrap();
        std::fs::set_permissions(self.at(path), PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Runs a script whose files are the host's, and returns its last words, if it failed.
    fn run(&self, text: &str, args: &[&str], input: &[u8]) -> Result<String, String> {
        // All are marked first: the directory's own path may begin like one of them.
        let mut text = text.to_owned();
        for dir in ["/etc/", "/proc/", "/run/", "/var/"] {
            text = text.replace(dir, &format!("\0{dir}"));
        }
        text = text.replace('\0', &self.dir.path().display().to_string());
        let script = Script::new(&text, args, input);
        let within = self.within.borrow().map(|limit| vec!["timeout".to_owned(), limit.to_owned()]);
        let argv = [within.unwrap_or_default(), script.argv].concat();
        let mut child = Command::new(self.at("bin").join(&argv[0]))
            .args(&argv[1..])
            .env_clear()
            .env("PATH", self.at("bin"))
            .env("T", self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&script.stdin).unwrap();
        drop(stdin);
        let done = child.wait_with_output().unwrap();
        let words = |said: Vec<u8>| String::from_utf8_lossy(&said).into_owned();
        if done.status.success() { Ok(words(done.stdout)) } else { Err(words(done.stderr)) }
    }

    fn set_up(&self, url: &str, name: &str) -> Result<String, String> {
        self.set_up_for("demo 01", url, name)
    }

    fn set_up_for(&self, owner: &str, url: &str, name: &str) -> Result<String, String> {
        let input = "--- ca.pem\nCA\n--- server.pem\nS\n--- server-key.pem\nK\n\
                     --- settings\nExecStart=@EXEC@ -H tcp\n";
        let (certs, settings) = self.places();
        self.run(SETUP, &[owner, url, name, &certs, &settings], input.as_bytes())
    }

    fn release(&self, keep: &str) -> Result<String, String> {
        let (certs, settings) = self.places();
        let text = format!("{FIREWALLS}{RELEASE}");
        self.run(&text, &["demo 01", &certs, &settings, keep], b"")
    }

    /// Opens the firewall that is on, for those whom a digest stands for.
    fn open(&self, owner: &str, detected: &str, digest: &str) -> Result<String, String> {
        let text = format!("detect() {{ echo {detected}; }}\n{FIREWALLS}{OPEN}");
        let wanted = ["nftables", "ufw"].map(|firewall| format!("{firewall} {digest}"));
        self.run(&text, &[owner, &wanted[0], &wanted[1]], b"")
    }

    /// Returns what firewalls were told since the last time.
    fn told(&self) -> Vec<String> {
        let told = std::fs::read_to_string(self.at("told")).unwrap_or_default();
        let _ = std::fs::remove_file(self.at("told"));
        told.lines().filter(|line| !line.ends_with(" look")).map(str::to_owned).collect()
    }

    fn places(&self) -> (String, String) {
        let path = |path: &str| self.at(path).display().to_string();
        (path("etc/docker/skep"), path("etc/systemd/docker.service.d/50-skep.conf"))
    }

    fn mode(&self, path: &str) -> u32 {
        std::fs::metadata(self.at(path)).unwrap().permissions().mode() & 0o777
    }

    /// Returns all files and directories of the host.
    fn tree(&self) -> Vec<PathBuf> {
        let mut open: Vec<_> = ["etc", "run", "var"].iter().map(|it| self.at(it)).collect();
        let mut tree = Vec::new();
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                tree.push(path.clone());
                if path.is_dir() {
                    open.push(path);
                }
            }
        }
        tree.sort();
        tree
    }
}

fn count(text: &str, line: &str) -> usize {
    text.lines().filter(|it| it.contains(line)).count()
}

#[test]
fn dnf_installs_an_engine_and_takes_it_away_again() {
    let host = Host::new();
    host.offer("moby-engine");
    host.offer("docker-ce");
    let before = host.tree();
    host.set_up("", "").unwrap();
    assert_eq!(host.read("installed"), "rpm\nbash\nmoby-engine\nmoby-engine-libs\n");
    assert_eq!(host.read("var/lib/skep/packages"), "moby-engine\nmoby-engine-libs\n");
    let settings = host.read("etc/systemd/docker.service.d/50-skep.conf");
    assert_eq!(settings, "ExecStart=/usr/bin/dockerd --host=fd:// $OPTIONS -H tcp\n");
    assert_eq!(host.mode("etc/docker/skep/server-key.pem"), 0o600);
    assert_eq!((host.mode("etc/docker"), host.mode("etc/systemd")), (0o755, 0o755));

    host.set_up("", "").unwrap();
    assert_eq!(count(&host.read("log"), "systemctl restart docker.service"), 1);
    assert_eq!(count(&host.read("log"), "dnf -q -y install"), 1);

    host.release("").unwrap();
    assert_eq!(host.read("installed"), "rpm\nbash\n");
    assert_eq!((host.tree(), host.read("name")), (before, "plain\n".to_owned()));
    host.release("").unwrap();
}

#[test]
fn an_engine_that_is_kept_goes_on_without_what_the_cluster_wanted() {
    let host = Host::new();
    host.offer("docker-ce");
    host.set_up("", "").unwrap();
    host.release("keep").unwrap();
    assert_eq!(host.read("installed"), "rpm\nbash\ndocker-ce\ndocker-ce-libs\n");
    assert_eq!(count(&host.read("log"), "systemctl restart docker.service"), 2);
    assert_eq!(count(&host.read("log"), "disable"), 0);
    assert!(!host.at("var/lib/skep").exists() && !host.at("etc/docker/skep").exists());
}

#[test]
fn what_cannot_be_installed_is_told_and_leaves_nothing() {
    let host = Host::new();
    let before = host.tree();
    let error = host.set_up("", "").unwrap_err();
    assert!(error.contains("neither moby-engine nor docker-ce"), "{error}");
    std::fs::write(host.at("script"), "exit 0\n").unwrap();
    let error = host.set_up("https://localhost/get", "").unwrap_err();
    assert!(error.contains("https://localhost/get has installed no engine"), "{error}");
    host.release("").unwrap();
    assert_eq!((host.tree(), host.read("installed")), (before, "rpm\nbash\n".to_owned()));
}

#[test]
fn a_script_from_a_url_installs_an_engine_and_the_host_gets_its_name() {
    let host = Host::new();
    let script = "umask >$T/umask; echo docker-ce >>$T/installed; cp $T/dockerd $T/bin\n";
    std::fs::write(host.at("script"), script).unwrap();
    let digest = skep_sys::hex(&<sha2::Sha256 as sha2::Digest>::digest(script));
    let error = host.set_up(&format!("https://localhost/get#sha256={}", "0".repeat(64)), "box");
    let error = error.unwrap_err();
    assert!(
        error.contains(&format!("not the one that was named: its SHA-256 digest is {digest}")),
        "{error}"
    );
    assert!(!host.at("umask").exists(), "it was run");
    host.set_up(&format!("https://localhost/get#sha256={digest}"), "box").unwrap();
    assert_eq!(count(&host.read("log"), "https://localhost/get"), 2);
    assert_eq!(count(&host.read("log"), "curl --proto =https --proto-redir =https "), 2);
    assert_eq!(host.read("umask"), "0022\n");
    assert_eq!((host.read("name"), host.read("etc/hostname")), ("box\n".into(), "box\n".into()));
    assert_eq!(host.read("etc/hosts"), "127.0.0.1 localhost\n127.0.1.1 box\n");
    assert_eq!(host.read("var/lib/skep/packages"), "docker-ce\n");
    assert!(Path::new(&host.at("etc/docker/skep/ca.pem")).exists());
}

#[test]
fn a_firewall_is_opened_once_and_closed_at_the_end() {
    let host = Host::new();
    host.offer("moby-engine");
    let before = host.tree();
    host.set_up("", "").unwrap();
    assert_eq!(host.open("demo 01", "nftables open", "a").unwrap(), "");
    assert_eq!(host.open("demo 01", "ufw closed", "a").unwrap(), "ufw\n");
    assert_eq!(host.told(), ["ufw apply"]);
    assert_eq!(host.open("demo 01", "ufw closed", "a").unwrap(), "");
    assert_eq!(host.told(), [""; 0]);
    assert_eq!(host.open("demo 01", "ufw closed", "b").unwrap(), "ufw\n");
    // Somebody has taken the rules away, or the firewall is off for now.
    std::fs::remove_file(host.at("ufw")).unwrap();
    assert_eq!(host.open("demo 01", "nftables open", "b").unwrap(), "ufw\n");
    assert_eq!(host.told(), ["ufw apply", "ufw apply"]);
    // Another firewall has taken its place.
    assert_eq!(host.open("demo 01", "nftables closed", "b").unwrap(), "nftables\n");
    assert_eq!(host.told(), ["ufw remove", "nftables apply"]);
    assert_eq!(host.read("var/lib/skep/firewall"), "nftables b\n");

    let error = host.open("other 02", "nftables closed", "c").unwrap_err();
    assert!(error.contains("another cluster"), "{error}");
    let error = host.set_up_for("other 02", "", "").unwrap_err();
    assert!(error.contains("another cluster: demo 01"), "{error}");
    assert_eq!(host.told(), [""; 0]);
    host.release("").unwrap();
    assert_eq!(host.told(), ["nftables remove"]);
    assert_eq!(host.tree(), before);
}

#[test]
fn what_the_owner_installed_since_and_what_that_needs_stays() {
    let host = Host::debian();
    host.set_up("", "").unwrap();
    let installed = "bash\ndpkg\ndocker.io\nca-certificates\niptables\nrunc\n";
    assert_eq!(host.read("installed"), installed);
    host.install("fail2ban", "iptables");
    let said = host.release("").unwrap();
    assert_eq!(said, "iptables stays: fail2ban needs it, which came later\n");
    assert_eq!(host.read("installed"), "bash\ndpkg\niptables\nfail2ban\n");
    assert_eq!(count(&host.read("log"), "apt-mark -q auto iptables"), 1);
    assert!(!host.at("var/lib/docker").exists() && !host.at("var/lib/skep").exists());
}

#[test]
fn an_engine_that_something_needs_stays_with_its_data() {
    for needs in ["docker.io", "runc"] {
        let host = Host::debian();
        host.set_up("", "").unwrap();
        std::fs::create_dir_all(host.at("var/lib/docker/volumes")).unwrap();
        host.install("docker-compose", needs);
        if needs == "runc" {
            // The engine needs what stays, and may go; with it goes nothing else.
            assert_eq!(
                host.release("").unwrap(),
                "runc stays: docker-compose needs it, which came later\n"
            );
            assert_eq!(host.read("installed"), "bash\ndpkg\nrunc\ndocker-compose\n");
            assert!(!host.at("var/lib/docker").exists());
            continue;
        }
        let said = host.release("").unwrap();
        assert!(said.contains("docker.io stays: docker-compose needs it"), "{said}");
        assert!(host.read("installed").contains("docker.io\n"), "{}", host.read("installed"));
        assert!(host.read("installed").contains("runc\n"), "the engine needs it");
        assert!(host.at("var/lib/docker/volumes").exists());
        assert!(!host.at("var/lib/skep").exists() && !host.at("etc/docker/skep").exists());
    }
}

#[test]
fn what_the_owner_asked_for_by_name_since_stays() {
    let host = Host::debian();
    host.set_up("", "").unwrap();
    std::fs::write(host.at("manual"), "ca-certificates\ndocker.io\niptables\nrunc\n").unwrap();
    let said = host.release("").unwrap();
    assert_eq!(said, "runc stays: it was asked for there since\n");
    assert_eq!(host.read("installed"), "bash\ndpkg\nrunc\n");
}

#[test]
fn dnf_leaves_what_is_needed_since() {
    let host = Host::new();
    host.offer("moby-engine");
    host.set_up("", "").unwrap();
    host.install("podman", "moby-engine-libs");
    let said = host.release("").unwrap();
    assert_eq!(said, "moby-engine-libs stays: podman needs it, which came later\n");
    assert_eq!(host.read("installed"), "rpm\nbash\nmoby-engine-libs\npodman\n");
}

#[test]
fn where_dnf_cannot_tell_what_is_needed_nothing_is_removed() {
    let host = Host::new();
    host.offer("moby-engine");
    host.set_up("", "").unwrap();
    let before = host.read("installed");
    host.write_program("bin/dnf", "exit 1");
    let said = host.release("").unwrap();
    assert!(said.contains("moby-engine stays"), "{said}");
    assert_eq!(host.read("installed"), before);
}

#[test]
fn keys_do_not_stay_when_a_set_up_is_ended() {
    let host = Host::new();
    host.write_program("bin/curl", ": >$T/fetching; exec sleep 60");
    let left = || {
        let all = std::fs::read_dir(host.at("run")).unwrap();
        all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    // What ends it is timeout(1), as when its time is over.
    *host.within.borrow_mut() = Some("1");
    host.set_up("https://localhost/get", "").unwrap_err();
    assert!(host.at("fetching").exists(), "it was ended before it had the keys");
    assert_eq!(left(), [""; 0], "the shell that was ended has left its directory");

    // One that was killed leaves it, until the next comes.
    let dead = "skep-4194305.abcdef";
    std::fs::create_dir(host.at("run").join(dead)).unwrap();
    std::fs::write(host.at("run").join(dead).join("server-key.pem"), "K").unwrap();
    *host.within.borrow_mut() = None;
    host.write_program("bin/curl", "exit 22");
    host.set_up("https://localhost/get", "").unwrap_err();
    assert_eq!(left(), [""; 0]);
    std::fs::create_dir(host.at("run").join(dead)).unwrap();
    host.release("").unwrap();
    assert_eq!(left(), [""; 0]);
}
