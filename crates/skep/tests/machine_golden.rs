//! skep as docker-machine: what scripts read, on stores of its own form. No machine is started here.

use std::fmt::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use skep_core::model::{
    Access, ClusterRecord, ImageSpec, Mac, NetworkRecord, NodeRecord, NodeSpec, Role,
};
use skep_store::Store;
use skep_store::dm::{Config, MachineStore};
use skep_store::pki::machine as certificates;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

/// A store, a home, and a directory of programs with docker-machine in it.
struct Place {
    dir: tempfile::TempDir,
    env: Vec<(String, String)>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("skep-dm.").tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        let skep = Path::new(env!("CARGO_BIN_EXE_skep"));
        symlink(skep, dir.path().join("bin/docker-machine")).unwrap();
        Self { dir, env: Vec::new() }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn store(&self) -> MachineStore {
        MachineStore::new(self.path("store"))
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Runs a line of sh(1) and returns what it printed, with the store's place as ROOT.
    fn say(&self, line: &str) -> String {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]).env_clear().stdin(Stdio::null());
        command.current_dir(self.dir.path());
        command.env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()));
        command.env("MACHINE_STORAGE_PATH", self.path("store"));
        command.envs([("HOME", self.path("home").as_os_str()), ("SHELL", "/bin/bash".as_ref())]);
        command.env("USER", "alice").envs(self.env.iter().map(|(key, value)| (key, value)));
        let output = command.output().unwrap();
        let mut text = format!("$ {line}\n{}", String::from_utf8_lossy(&output.stdout));
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            writeln!(text, "! {line}").unwrap();
        }
        if let Some(code) = output.status.code().filter(|code| *code != 0) {
            writeln!(text, "= {code}").unwrap();
        }
        text.replace(self.dir.path().to_str().unwrap(), "ROOT")
    }

    fn all(&self, lines: &[&str]) -> String {
        lines.iter().map(|line| self.say(line)).collect()
    }

    fn put(&self, name: &str, driver: &str, fields: serde_json::Value) -> Config {
        let mut config = Config::new(&self.path("store"), name, driver);
        config.driver = fields.as_object().unwrap().clone();
        config.driver.insert("MachineName".into(), name.into());
        config.driver.insert("StorePath".into(), self.path("store").to_str().unwrap().into());
        let store = self.store();
        let put = if store.exists(name) { store.save(&config) } else { store.create(&config) };
        put.unwrap();
        config
    }

    fn put_url(&self, name: &str, url: &str) -> Config {
        let address = url.trim_start_matches("tcp://");
        self.put(name, "none", serde_json::json!({"URL": url, "IPAddress": address}))
    }
}

#[test]
fn a_line_is_taken_apart_as_it_always_was() {
    let place = Place::new();
    place.put_url("box", "tcp://127.0.0.1:1");
    insta::assert_snapshot!(place.all(&[
        "docker-machine version",
        "docker-machine frob",
        "docker-machine help frob",
        "docker-machine -D=maybe ls | tail -n 1",
        "docker-machine -s a -storage-path b ls | head -n 1",
        "docker-machine url box --frob | head -n 1",
        "docker-machine url -h | head -n 1",
        "docker-machine --storage-path=nowhere ls",
        "docker-machine -s nowhere url box",
        "docker-machine ls -q=false -f '{{.Name}}' ignored",
        "docker-machine ls --quiet box",
        "docker-machine ls -t x | head -n 1",
        "docker-machine url -- box",
        "MACHINE_PLUGIN_TOKEN=42 docker-machine ls",
        "ln -s docker-machine bin/dm; bin/dm help | head -n 1",
    ]));
}

#[test]
fn machines_without_a_driver_are_made_looked_at_and_removed() {
    let place = Place::new();
    let text = place.all(&[
        "docker-machine create -d none --url tcp://127.0.0.1:1 --engine-label a=b one",
        "docker-machine create --url=tcp://127.0.0.1:2 --driver=none --tls-san x.example two",
        "docker-machine create -d none --url u two",
        "docker-machine create -d none --url u a_b",
        "docker-machine create -d none --url u a b c",
        "docker-machine create -d none x",
        "docker-machine create -d none --url :1 x",
        "docker-machine create -d none --url u --swarm-discovery nowhere x",
        "docker-machine create -d none --url u --engine-opt 2>&1 | tail -n 1",
        "docker-machine create -d xhyve --help",
        "docker-machine ls --filter label=a=B --filter name=^o",
        "docker-machine ls -f 'table {{.Name}}\\t{{.State}}\\t{{.Error}}'",
        "docker-machine ls -f '{{.Name}} {{len .EngineOptions.Labels}} {{.SwarmOptions.Host}}'",
        "docker-machine inspect one",
        "docker-machine inspect -f '{{index .HostOptions.AuthOptions.ServerCertSANs 0}}' two",
        "docker-machine inspect -f '{{.Driver.URL}} {{json .Driver.SSHPort}} {{.No.Such}}' two",
        "docker-machine inspect -f '{{.Name.First}}' two",
        "docker-machine ip two one",
        "docker-machine ip two nobody one nobody-else",
        "docker-machine status two",
        "docker-machine stop one two",
        "docker-machine start one",
        "docker-machine restart one",
        "docker-machine provision one",
        "docker-machine upgrade one",
        "docker-machine ssh one uptime",
        "yes | docker-machine regenerate-certs one",
        "echo no | docker-machine regenerate-certs one",
        "echo y y | docker-machine rm one",
        "echo yes | docker-machine rm one nobody",
        "docker-machine rm -f nobody two",
        "docker-machine rm -f .. ''",
        "docker-machine ls -q; find store | sort",
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn one_damaged_machine_hides_no_other() {
    let place = Place::new();
    place.put_url("box10", "tcp://127.0.0.1:1");
    place.put_url("Box9", "tcp://127.0.0.1:1");
    place.put("lost", "bogus", serde_json::json!({}));
    place.put("real", "virtualbox", serde_json::json!({"VBoxManager": {}}));
    for (name, text) in [("cut", "{"), ("later", "{\"ConfigVersion\": 9}"), ("list", "[]")] {
        std::fs::create_dir(place.store().machine_dir(name)).unwrap();
        std::fs::write(place.store().machine_dir(name).join("config.json"), text).unwrap();
    }
    std::fs::create_dir(place.store().machine_dir(".hidden")).unwrap();
    insta::assert_snapshot!(place.all(&[
        "docker-machine ls",
        "docker-machine ls -q",
        "docker-machine ls -q --filter state=error",
        "docker-machine ls -t 0 --filter driver=none",
        "docker-machine inspect cut",
        "docker-machine inspect -f '{{json .Driver}}' lost",
        "docker-machine stop lost cut",
        "docker-machine stop lost",
        "docker-machine url lost",
        "docker-machine rm -y lost cut",
        "docker-machine rm -f lost cut",
    ]));
}

#[test]
fn ssh_and_its_kin_get_their_options_in_order() {
    let place = Place::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let key = place.path("key");
    std::fs::write(&key, "").unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let key = key.to_str().unwrap();
    let fields = |key: &str| {
        serde_json::json!({"IPAddress": "127.0.0.1", "SSHUser": "me", "SSHPort": port,
            "SSHKeyPath": key, "EnginePort": 2376})
    };
    place.put("keyed", "generic", fields(key));
    place.put("bare", "generic", fields(""));
    place.put("keyless", "generic", fields("/nonexistent"));
    for program in ["ssh", "scp", "rsync", "sshfs", "fusermount"] {
        place.program(program, &format!("echo \"{program}:\" \"$@\"; exit ${{CODE:-0}}"));
    }
    let text = place.all(&[
        "docker-machine ssh keyed 'docker swarm init' --advertise-addr 1.2.3.4",
        "docker-machine ssh bare -t -- ls",
        "docker-machine ssh keyless",
        "CODE=3 docker-machine ssh keyed false",
        "docker-machine scp -r keyed:/a root@bare:b",
        "docker-machine scp a localhost:b",
        "docker-machine scp -d keyed:/a .",
        "docker-machine scp -d -q -r . keyed:/a",
        "CODE=1 docker-machine scp -q a keyed:",
        "docker-machine scp a nobody:b",
        "docker-machine scp a",
        "docker-machine mount keyed:/a /mnt",
        "docker-machine mount bare:/a",
        "docker-machine mount -u keyed:/a",
        "docker-machine mount /a",
        "docker-machine url keyed; docker-machine status keyed; docker-machine ip keyed",
        "docker-machine start keyed; docker-machine stop keyed; docker-machine kill keyed",
        "chmod 644 key; docker-machine ssh keyed",
        "rm bin/rsync; PATH=bin docker-machine scp -d a b",
    ]);
    insta::assert_snapshot!(text.replace(&port.to_string(), "PORT"));
}

#[test]
fn a_pinned_host_key_counts_for_every_program_and_no_login_is_an_option() {
    let place = Place::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let fields = |user: &str| serde_json::json!({"IPAddress": "127.0.0.1", "SSHUser": user, "SSHPort": port, "EnginePort": 2376});
    for (name, user) in [("pinned", "me"), ("other", "me"), ("bad", "-oProxyCommand=false")] {
        place.put(name, "generic", fields(user));
    }
    std::fs::write(place.path("store/machines/pinned/known_hosts"), "a key").unwrap();
    for program in ["ssh", "scp", "rsync", "sshfs"] {
        place.program(program, &format!("echo \"{program}:\" \"$@\""));
    }
    let text = place.all(&[
        "docker-machine ssh pinned true",
        "docker-machine scp pinned:/a .",
        "docker-machine scp -d . pinned:/a",
        "docker-machine scp pinned:/a other:/b",
        "docker-machine mount pinned:/a /mnt",
        "docker-machine ssh bad true",
        "docker-machine scp bad:/a .",
        "docker-machine scp -r -- . -oProxyCommand=x@pinned:/a",
        "docker-machine mount bad:/a /mnt",
    ]);
    insta::assert_snapshot!(text.replace(&port.to_string(), "PORT"));
}

#[test]
fn virtual_machines_have_their_options_and_are_refused_with_the_reason() {
    let place = Place::new();
    insta::assert_snapshot!(place.all(&[
        "docker-machine create -d kvm --help | grep kvm-",
        "docker-machine create --help | grep virtualbox-",
        "docker-machine create -d qemu --help | grep qemu-",
        "docker-machine create -d kvm --kvm-memory 200 node0",
        "docker-machine create --virtualbox-disk-size=2000 node0",
        "docker-machine create -d kvm --kvm-memory 99999999 node0 2>&1 | sed 's/has .* MiB/has N MiB/'",
        "docker-machine create -d kvm2 --kvm-cpu-count 0 node0",
        "docker-machine create --virtualbox-hostonly-cidr 192.168.99.1 node0",
        "docker-machine create -d kvm a..b",
        "docker-machine create -d qemu --qemu-memory lots node0 2>&1 | tail -n 1",
        "docker-machine ls",
    ]));
}

/// A cluster's directory is a store too, but its machines are not docker-machine's to change.
#[tokio::test]
async fn nodes_of_a_cluster_are_seen_and_left_alone() {
    let place = Place::new();
    let network =
        NetworkRecord { subnet: "10.5.0.0/24".parse().unwrap(), bridge: "skep-demo".into() };
    let spec = NodeSpec::machine("node0".parse().unwrap(), Role::Manager);
    let record = ClusterRecord {
        name: "demo".parse().unwrap(),
        network: network.clone(),
        image: ImageSpec::default(),
        nodes: vec![spec.clone()],
        hostnames: Vec::new(),
        images: Vec::new(),
        access: Access::default(),
        peers: Vec::new(),
        registry: None,
        trusted: None,
    };
    let address = network.node_address(0);
    let mac = Mac::for_address(address);
    let node = NodeRecord { spec, index: 0, address, mac, tap: "skt0a050002".into() };
    let cluster = Store::new(place.path("skep")).lock(&record.name, |_| ()).await.unwrap();
    cluster.write_cluster(&record).unwrap();
    cluster.write_node(&network.bridge, &node).unwrap();
    cluster.release();
    let place = place.env("MACHINE_STORAGE_PATH", "skep/clusters/demo");
    insta::assert_snapshot!(place.all(&[
        "docker-machine ls",
        "docker-machine ip node0; docker-machine status node0; docker-machine url node0",
        "docker-machine inspect -f '{{.Driver.SSHUser}} {{.Driver.Memory}}' node0",
        "docker-machine ssh node0",
        "docker-machine env node0",
        "docker-machine start node0",
        "docker-machine rm -f node0",
        "docker-machine create -d none --url u box",
        "ls skep/clusters/demo/machines",
    ]));
}

#[test]
fn env_speaks_to_each_shell() {
    let place = Place::new().env("NO_PROXY", "localhost");
    let shells = ["bash", "fish", "tcsh", "cmd", "powershell", "emacs", "unheard-of"];
    let mut text: String = shells
        .iter()
        .map(|shell| place.say(&format!("docker-machine env -u --no-proxy --shell {shell}")))
        .collect();
    text += &place.say("SHELL= docker-machine env -u");
    text += &place.say("docker-machine env -u box");
    insta::assert_snapshot!(text);
}

/// The whole way to an engine: our certificates, our client, and what is printed for docker.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_behind_tls_is_found_and_told() {
    let place = Place::new();
    let config = place.put_url("box", "tcp://127.0.0.1:1");
    let auth = &config.host_options.auth_options;
    certificates::bootstrap(auth, "alice", &mut |_| ()).await.unwrap();
    certificates::make_server(auth, "alice", "box", "127.0.0.1", false).await.unwrap();
    let port = serve(&config).await;
    let url = format!("tcp://127.0.0.1:{port}");
    place.put_url("box", &url);
    let place = place.env("DOCKER_HOST", &url);
    let lines = [
        "docker-machine ls",
        "docker-machine active",
        "docker-machine config box",
        "docker-machine env box",
        "docker-machine env --no-proxy --shell fish box",
        "docker-machine version box",
        "eval $(docker-machine env box) && echo $DOCKER_MACHINE_NAME $DOCKER_HOST",
    ];
    let mut text = place.all(&lines);
    // An authority of the same name that did not sign the engine's certificate.
    std::fs::remove_dir_all(place.store().certs_dir()).unwrap();
    certificates::bootstrap(auth, "alice", &mut |_| ()).await.unwrap();
    text += &place.all(&["docker-machine env box", "docker-machine version box"]);
    insta::assert_snapshot!(text.replace(&port.to_string(), "PORT"));
}

/// Starts what answers for an engine's version, to clients that the authority knows.
async fn serve(config: &Config) -> u16 {
    let auth = &config.host_options.auth_options;
    let provider = Arc::new(crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&auth.ca_cert_path).unwrap()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
    let own = CertificateDer::from_pem_file(&auth.server_cert_path).unwrap();
    let key = PrivateKeyDer::from_pem_file(&auth.server_key_path).unwrap();
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(vec![own], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut request = [0; 512];
                if stream.read(&mut request).await.is_ok_and(|count| count > 0) {
                    let body = r#"{"Version": "27.5.1", "ApiVersion": "1.47"}"#;
                    let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                    let _ = stream.shutdown().await;
                }
            });
        }
    });
    port
}

#[test]
fn paths_with_blanks_reach_the_programs_that_split_words() {
    let place = Place::new();
    std::fs::create_dir(place.path("a b")).unwrap();
    let key = place.path("a b/it's key");
    std::fs::write(&key, "").unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let key = key.to_str().unwrap();
    place.put(
        "box",
        "generic",
        serde_json::json!({"IPAddress": "127.0.0.1", "SSHUser": "me", "SSHPort": 22,
            "SSHKeyPath": key, "EnginePort": 2376}),
    );
    for program in ["scp", "rsync", "sshfs"] {
        place.program(program, "printf '<%s>\\n' \"$@\"");
    }
    // rsync splits its command at blanks, and takes one level of quotes away; ssh(1) takes the next one.
    let said = place.say("docker-machine scp -d box:/a .");
    assert!(said.contains("'IdentityFile=\"ROOT/a b/it''s key\"'>"), "{said}");
    let said = place.say("docker-machine mount box:/a /mnt");
    assert!(said.contains("<IdentityFile=\"ROOT/a b/it's key\">"), "{said}");
}

#[test]
fn a_directory_for_the_alias_is_made() {
    let place = Place::new();
    let said = place.say(&format!("{} install-alias bin/new/dir", env!("CARGO_BIN_EXE_skep")));
    assert!(said.ends_with("\nbin/new/dir/docker-machine\n"), "{said}");
    assert!(
        place.say("bin/new/dir/docker-machine version").contains("docker-machine version 0.16.2")
    );
}

/// A host answers for a while after it was told to restart; `restart` waits for the boot after.
#[test]
fn restart_waits_until_a_host_has_gone_and_come_back() {
    let place = Place::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    place.put(
        "box",
        "generic",
        serde_json::json!({"IPAddress": "127.0.0.1", "SSHUser": "me", "SSHPort": port,
            "SSHKeyPath": "", "EnginePort": 2376}),
    );
    // It goes on answering twice, is away once, and has then been started anew.
    place.program(
        "ssh",
        r#"for word; do command=$word; done
        case $command in
        *boot_id) ;;
        *shutdown*) echo told >>calls; exit 255 ;;
        *) echo "$command" >>calls; exit 0 ;;
        esac
        [ -e calls ] || { echo boot-1; exit; }
        echo looked >>calls
        case $(grep -c looked calls) in
        1 | 2) echo boot-1 ;;
        3) exit 255 ;;
        *) echo boot-2 ;;
        esac"#,
    );
    let said = place.say("docker-machine restart box");
    let calls = std::fs::read_to_string(place.path("calls")).unwrap();
    assert!(calls.starts_with("told\nlooked\nlooked\nlooked\nlooked\n"), "{calls}\n{said}");
    assert!(said.contains("Restarted machines may have new IP addresses"), "{said}");
}
