//! Hosts that exist already: a plain Debian machine with a firewall and without an engine becomes a node beside a virtual
//! machine of ours, survives a power cut in the middle, and is left as it was; then docker-machine's generic
//! driver takes it in.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use skep_testkit::home::{Home, eventually, finish, say};
use skep_testkit::host::can_run_machines;
use skep_testkit::traces::Traces;

const SKEP: &str = env!("CARGO_BIN_EXE_skep");
const TAP: &str = "skt-plain";
const BOOT: Duration = Duration::from_secs(240);

/// What is to be the same on a host that was a node and is none any more.
const LOOK: &str = "hostname; cat /proc/sys/net/ipv4/ip_forward; getent group docker; \
    dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' | grep -v ^rc; ls /sys/class/net; \
    ls -d /etc/docker /var/lib/docker /var/lib/containerd /var/lib/skep /run/docker.sock \
        /etc/systemd/system/docker.service.d; \
    sudo nft list table inet filter; cat /etc/nftables.conf; ls /etc/skep; \
    systemctl list-unit-files --no-legend 'docker*' 'containerd*'; ss -Hltn | awk '{print $4}' | sort";

/// A machine with systemd and an ssh server, made by plain-host.sh.
struct PlainHost {
    dir: PathBuf,
    image: PathBuf,
    bridge: String,
    address: String,
    process: Option<Child>,
}

impl PlainHost {
    /// Makes one in the network of a cluster.
    fn new(home: &Home, cluster: &str) -> Self {
        let status = home.status(cluster);
        let bridge = status["bridge"].as_str().unwrap().to_owned();
        let subnet = status["subnet"].as_str().unwrap();
        let (network, prefix) = subnet.rsplit_once(".0/").unwrap();
        let (address, gateway) = (format!("{network}.200"), format!("{network}.1"));
        let dir = home.path().join("plain");
        std::fs::create_dir(&dir).unwrap();
        let base = base_of(&home.cluster(cluster).join("machines/node0/disk.qcow2"));
        let host = Self { dir, image: base, bridge, address, process: None };
        host.make_key();
        let resolver = std::fs::read_to_string("/etc/resolv.conf").unwrap();
        let resolver = resolver.lines().find_map(|line| line.strip_prefix("nameserver "));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plain-host.sh");
        let made = finish(
            Command::new(script)
                .arg(host.dir.join("disk.img"))
                .arg(&host.image)
                .args([&format!("{}/{prefix}", host.address), &gateway])
                .arg(resolver.unwrap_or(&gateway).trim())
                .arg(host.key().with_extension("pub")),
        );
        assert_eq!(made.code, 0, "{}{}", made.stdout, made.stderr);
        host
    }

    fn key(&self) -> PathBuf {
        self.dir.join("key")
    }

    fn make_key(&self) {
        let key = self.key();
        let mut keygen = Command::new("ssh-keygen");
        assert_eq!(finish(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key)).code, 0);
    }

    /// Switches it on and waits until it lets us in.
    fn boot(&mut self) {
        run("ip", &["tuntap", "add", TAP, "mode", "tap"]);
        run("ip", &["link", "set", TAP, "master", &self.bridge, "up"]);
        let kernel = "console=ttyS0 quiet mitigations=off init_on_alloc=0 audit=0 tsc=reliable";
        let processor = "max,erms=off,fsrm=off,la57=off,mpx=off,pku=off,smap=off";
        // What it has written outlives it all the same: this host has it.
        let disk = format!(
            "file={},if=virtio,format=raw,cache=unsafe",
            self.dir.join("disk.img").display()
        );
        let network = format!("tap,id=n,ifname={TAP},script=no,downscript=no");
        let console = format!("file:{}", self.dir.join("console.log").display());
        let process = Command::new("qemu-system-x86_64")
            .args(["-name", "plain-host", "-M", "q35", "-accel", "tcg,thread=multi"])
            .args(["-cpu", processor])
            .args(["-smp", "2", "-m", "1024", "-display", "none", "-nodefaults", "-no-reboot"])
            .arg("-kernel")
            .arg(self.image.join("kernel"))
            .arg("-initrd")
            .arg(self.image.join("initrd"))
            .args(["-append", kernel, "-drive", &disk, "-serial", &console])
            .args(["-netdev", &network, "-device", "virtio-net-pci,netdev=n,mac=52:54:00:73:6b:70"])
            .args(["-device", "virtio-rng-pci"])
            .stdin(Stdio::null())
            .spawn();
        self.process = Some(process.expect("qemu is there"));
        eventually("the plain host lets us in", BOOT, || self.try_ssh("true").then_some(()));
    }

    /// Cuts its power.
    fn cut_power(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = Command::new("ip").args(["link", "delete", TAP]).stderr(Stdio::null()).status();
    }

    fn ssh(&self, command: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"])
            .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"])
            .args(["-o", "ConnectTimeout=5", "-o", "ServerAliveInterval=5", "-i"])
            .arg(self.key())
            .args([&format!("admin@{}", self.address), command])
            .stdin(Stdio::null());
        ssh
    }

    fn try_ssh(&self, command: &str) -> bool {
        self.ssh(command).output().is_ok_and(|it| it.status.success())
    }

    fn run(&self, command: &str) -> String {
        let said = finish(&mut self.ssh(command));
        said.stdout + &said.stderr
    }

    fn add(&self) -> Vec<String> {
        let key = self.key().display().to_string();
        let words =
            ["node", "add", "box", "--label", "kind=host", "--user", "admin", "--key", &key];
        let mut words: Vec<_> = words.iter().map(|it| (*it).to_owned()).collect();
        words.extend(["--address".to_owned(), self.address.clone()]);
        words
    }
}

impl Drop for PlainHost {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let console = std::fs::read(self.dir.join("console.log")).unwrap_or_default();
            say(&format!("plain host's console:\n{}", String::from_utf8_lossy(&console)));
        }
        self.cut_power();
    }
}

fn run(program: &str, args: &[&str]) {
    let said = finish(Command::new(program).args(args));
    assert_eq!(said.code, 0, "{program} {args:?}: {}", said.stderr);
}

/// Returns the directory of the image under a node's disk.
fn base_of(disk: &Path) -> PathBuf {
    let mut info = Command::new("qemu-img");
    let said = finish(info.args(["info", "-U", "--backing-chain", "--output=json"]).arg(disk));
    let chain: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let last = chain.as_array().unwrap().last().unwrap()["filename"].as_str().unwrap();
    Path::new(last).parent().unwrap().to_owned()
}

#[test]
fn a_plain_host_becomes_a_node_and_is_left_as_it_was() {
    if !can_run_machines() {
        return;
    }
    let traces = Traces::look();
    let home = Home::new(SKEP);
    home.run("up mixed -n 1 --no-verify");
    let mut host = PlainHost::new(&home, "mixed");
    host.boot();
    let before = host.run(LOOK);

    what_cannot_be_a_node_is_told_before_anything_is_touched(&home, &host);
    a_power_cut_in_the_middle_is_made_good(&home, &mut host);
    it_is_a_node_like_any_other(&home, &host);
    another_host_key_is_refused(&home, &host);
    home.run("node rm box -y");
    assert_eq!(host.run(LOOK), before, "the host is not as it was");
    assert_eq!(home.each_node("mixed", "name"), ["node0"]);

    docker_machine_takes_it_in(&home, &host);
    host.cut_power();
    home.run("down mixed -y");
    traces.assert_unchanged();
}

fn what_cannot_be_a_node_is_told_before_anything_is_touched(home: &Home, host: &PlainHost) {
    let nobody = host.address.replace(".200", ".201");
    let said = home.try_run(&format!("node add box --address {nobody}"));
    assert_eq!(said.code, 3, "{}", said.stderr);
    assert!(said.stderr.contains("nothing was changed") && said.stderr.contains(&nobody));

    let other = host.dir.join("other");
    let mut keygen = Command::new("ssh-keygen");
    assert_eq!(finish(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&other)).code, 0);
    let at = format!("--address {} --user admin --key {}", host.address, other.display());
    let said = home.try_run(&format!("node add box {at}"));
    assert_eq!(said.code, 3, "{}", said.stderr);
    assert!(said.stderr.contains("cannot log in as admin@"), "{}", said.stderr);
    let said = home.try_run(&format!("node add box --address {} --user nobody", host.address));
    assert_eq!(said.code, 3, "{}", said.stderr);
    assert!(said.stderr.contains("cannot log in as nobody@"), "{}", said.stderr);
    assert_eq!(home.each_node("mixed", "name"), ["node0"]);
}

fn a_power_cut_in_the_middle_is_made_good(home: &Home, host: &mut PlainHost) {
    let mut adding = home.command(host.add());
    let adding = std::thread::spawn(move || finish(&mut adding));
    eventually("packages are unpacked", BOOT, || host.try_ssh("pgrep -x dpkg").then_some(()));
    host.cut_power();
    let said = adding.join().unwrap();
    assert_ne!(said.code, 0, "{}", said.stderr);
    assert!(
        said.stderr.contains("box") && said.stderr.contains("skep up mixed"),
        "{}",
        said.stderr
    );

    host.boot();
    home.run("up mixed");
}

fn it_is_a_node_like_any_other(home: &Home, host: &PlainHost) {
    assert_eq!(home.each_node("mixed", "swarm"), ["ready", "ready"]);
    assert_eq!(home.run("ssh box -- sudo id -un"), "root\n");
    let format = "{{.Spec.Labels.kind}} {{.Description.Hostname}}";
    let id = home.run("docker --node box -- info -f {{.Swarm.NodeID}}");
    let member = home.run_args(["docker", "--", "node", "inspect", "-f", format, id.trim()]);
    assert_eq!(member, "host plain\n");
    assert_eq!(home.run("up mixed --dry-run"), "nothing to do\n");
    let sources = |line: &str| host.run(line).matches(" tcp dport").count();
    let ours = "sudo nft list table inet filter | grep skep:node";
    assert_eq!(sources(ours), 2, "node0 and this host: {}", host.run(ours));
    assert_eq!(sources("grep insert /etc/skep/firewall/node.nft"), 2);
    // Nobody is let in without a certificate.
    let certs = home.cluster("mixed").join("certs");
    let ask = |words: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-sSk", "--max-time", "20"]).args(words).current_dir(&certs);
        finish(curl.arg(format!("https://{}:2376/_ping", host.address)))
    };
    assert_eq!(ask(&["--cert", "cert.pem", "--key", "key.pem"]).stdout, "OK");
    let said = ask(&[]);
    assert!(said.code != 0 && !said.stdout.contains("OK"), "{said:?}");
    let said = home.try_run("node stop box");
    assert!(said.code != 0 && said.stderr.contains("is an existing host"), "{}", said.stderr);
}

fn another_host_key_is_refused(home: &Home, host: &PlainHost) {
    let machine = home.cluster("mixed").join("machines/box");
    let pinned = machine.join("known_hosts");
    // A connection that is kept for the next command was to the host itself.
    eventually("the connection ends", BOOT, || (!machine.join("ssh.sock").exists()).then_some(()));
    let own = std::fs::read_to_string(&pinned).unwrap();
    let other = std::fs::read_to_string(host.key().with_extension("pub")).unwrap();
    std::fs::write(&pinned, format!("{} {other}", host.address)).unwrap();
    let said = home.try_run("node rm box -y");
    assert!(said.code != 0 && said.stderr.contains("host key of"), "{}", said.stderr);
    assert!(said.stderr.contains(pinned.to_str().unwrap()), "{}", said.stderr);
    std::fs::write(&pinned, own).unwrap();
}

fn docker_machine_takes_it_in(home: &Home, host: &PlainHost) {
    let machine = home.path().join("docker-machine");
    std::os::unix::fs::symlink(SKEP, &machine).unwrap();
    let store = home.path().join("store");
    let call = |words: &[&str]| {
        let mut command = Command::new(&machine);
        home.set_env(&mut command);
        finish(command.args(words).env("MACHINE_STORAGE_PATH", &store).stdin(Stdio::null()))
    };
    assert!(!host.run("sudo nft list table inet filter").contains("skep:node"));

    let key = host.key().display().to_string();
    let words = ["create", "-d", "generic", "--generic-ip-address", &host.address];
    let login = ["--generic-ssh-user", "admin", "--generic-ssh-key", &key];
    let engine = ["--engine-label", "a=b c", "--engine-env", "X=it's one", "box"];
    let said = call(&[&words[..], &login, &engine].concat());
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
    for line in [
        "(box) Importing SSH key...",
        "Provisioning with debian...",
        "its firewall (nftables) is on, and is opened for this host.",
        "skep firewall show --for node --backend nftables -o script --source SUBNET",
        "Docker is up and running!",
    ] {
        assert!(said.stdout.contains(line), "{line}:\n{}", said.stdout);
    }
    assert_eq!(host.run("hostname"), "box\n");
    let labels = call(&["ssh", "box", "sudo docker info -f '{{json .Labels}}'"]).stdout;
    // The engine has them in no order.
    let mut labels: Vec<String> = serde_json::from_str(&labels).unwrap();
    labels.sort();
    assert_eq!(labels, ["a=b c", "provider=generic"]);
    let environment =
        call(&["ssh", "box", "sudo cat /proc/$(pidof dockerd)/environ | tr '\\0' '\\n'"]);
    assert!(environment.stdout.contains("X=it's one\n"), "{}", environment.stdout);
    let listed = call(&["ls", "--format", "{{.Name}} {{.State}} {{.URL}} {{.Error}}"]).stdout;
    assert_eq!(listed, format!("box Running tcp://{}:2376 \n", host.address));

    // skep's own commands know it too.
    let skep = |line: &str| {
        let mut command = home.command(line.split_whitespace());
        finish(command.env("MACHINE_STORAGE_PATH", &store))
    };
    assert_eq!(skep("ssh box hostname").stdout, "box\n");
    let listed: serde_json::Value = serde_json::from_str(&skep("ls --all -o json").stdout).unwrap();
    assert_eq!(listed["machines"][0]["name"], "box");
    assert_eq!(listed["machines"][0]["state"], "running");
    assert!(skep("env box").stdout.contains(&format!("DOCKER_HOST=\"tcp://{}:2376", host.address)));

    let said = call(&["regenerate-certs", "-f", "box"]);
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
    assert_eq!(call(&["config", "box"]).code, 0, "its new certificate does not fit");
    assert_eq!(skep("node rm box -y").code, 0);
    assert!(!store.join("machines/box").exists());
    assert!(host.try_ssh("pidof dockerd"), "docker-machine leaves hosts as they are");
}
