//! What is read of files that may be damaged, and of guests that may be hostile.
//!
//! Both the test `hostile` of the ordinary suite and libFuzzer's programs are made of these.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use skep_docker::engine::{Engine, Engines, TlsEngines};
use skep_docker::oci::Source;
use skep_driver::qemu::{Qemu, qmp::Qmp};
use skep_driver::shell::AgentShell;
use skep_store::dm::MachineStore;
use skep_store::pki;
use skep_store::{ClusterDir, Entry, Store};
use skep_sys::shell::NodeShell;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig, ServerConnection, StreamOwned};

/// Something that reads what is not to be trusted.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Reads bytes; tells whether they are what they should be.
    pub read: fn(&[u8]) -> bool,
    /// What is read there in real use; libFuzzer finds its own.
    #[allow(dead_code)]
    pub real: &'static [&'static str],
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "cluster-file",
        read: cluster_file,
        real: &[include_str!("../crates/skep/src/file/tests/full.yaml"), "name: demo\n"],
    },
    Target { name: "cluster-record", read: cluster_record, real: &[CLUSTER] },
    Target { name: "machines-record", read: machines_record, real: &[CLUSTER] },
    Target { name: "node-record", read: node_record, real: &[NODE] },
    Target { name: "machine-record", read: machine_record, real: &[NODE] },
    Target { name: "template", read: template, real: &[TEMPLATE] },
    Target { name: "image-index", read: image_index, real: &[INDEX] },
    Target { name: "agent", read: agent, real: &[AGENT] },
    Target { name: "monitor", read: monitor, real: &[MONITOR] },
    Target { name: "engine-nodes", read: |bytes| engine("/nodes", bytes), real: &[MEMBERS] },
    Target { name: "engine-services", read: |bytes| engine("/services", bytes), real: &[SERVICES] },
    Target { name: "engine-tasks", read: |bytes| engine("/tasks", bytes), real: &[TASKS] },
    Target { name: "engine-info", read: |bytes| engine("/info", bytes), real: &[INFO] },
];

const CLUSTER: &str = r#"{"format": 1, "name": "demo",
  "network": {"subnet": "10.193.0.0/24", "bridge": "skep-demo"},
  "image": {"suite": "trixie", "packages": ["tcpdump"], "sources": []},
  "nodes": [{"name": "node0", "role": "manager", "cpus": 1, "memory": "1GiB", "disk": "20GiB",
    "labels": {"disk": "fast"}}],
  "hostnames": [{"name": "shop.example.org", "node": "node0"}],
  "images": [{"source": "a.tar", "images": [{"id": "sha256:0", "names": ["a:1"]}]}]}"#;

/// Docker Engine API 1.45, NodeList.
const MEMBERS: &str = r#"[{"ID": "24ifsmvkjbyhk", "Version": {"Index": 19},
  "CreatedAt": "2026-11-24T09:00:00.1Z", "UpdatedAt": "2026-11-24T09:00:01.2Z",
  "Spec": {"Labels": {"disk": "fast"}, "Role": "manager", "Availability": "active"},
  "Description": {"Hostname": "node0", "Platform": {"Architecture": "x86_64", "OS": "linux"},
    "Resources": {"NanoCPUs": 1000000000, "MemoryBytes": 1016979456},
    "Engine": {"EngineVersion": "26.1.5"}},
  "Status": {"State": "ready", "Addr": "10.193.0.2"},
  "ManagerStatus": {"Leader": true, "Reachability": "reachable", "Addr": "10.193.0.2:2377"}}]"#;

/// ServiceList.
const SERVICES: &str = r#"[{"ID": "9mnpnzenvg8p8", "Version": {"Index": 30},
  "CreatedAt": "2026-11-24T09:00:00.1Z", "UpdatedAt": "2026-11-24T09:00:01.2Z",
  "Spec": {"Name": "web_front", "Labels": {"com.docker.stack.namespace": "web"},
    "TaskTemplate": {"ContainerSpec": {"Image": "front:1"},
      "Placement": {"Constraints": ["node.labels.disk==fast"]}},
    "Mode": {"Replicated": {"Replicas": 2}},
    "EndpointSpec": {"Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080}]}},
  "UpdateStatus": {"State": "completed", "Message": "update completed"}}]"#;

/// TaskList.
const TASKS: &str = r#"[{"ID": "0kzzo1i0y4jz6", "Version": {"Index": 71}, "Slot": 1,
  "CreatedAt": "2026-11-24T09:00:00.1Z", "UpdatedAt": "2026-11-24T09:00:01.2Z",
  "Spec": {"ContainerSpec": {"Image": "front:1"}}, "ServiceID": "9mnpnzenvg8p8",
  "NodeID": "24ifsmvkjbyhk", "DesiredState": "running",
  "Status": {"Timestamp": "2026-11-24T09:00:01.3Z", "State": "failed", "Message": "started",
    "Err": "task: non-zero exit (1)", "ContainerStatus": {"ContainerID": "e5d62702a1b48d01",
      "PID": 0, "ExitCode": 1}}}]"#;

/// SystemInfo.
const INFO: &str = r#"{"ID": "7TRN:IPZB", "ServerVersion": "26.1.5", "Containers": 1,
  "Swarm": {"NodeID": "24ifsmvkjbyhk", "NodeAddr": "10.193.0.2", "LocalNodeState": "active",
    "ControlAvailable": true, "Error": "", "RemoteManagers": null, "Nodes": 1, "Managers": 1}}"#;

const NODE: &str = r#"{"ConfigVersion": 3, "Driver": {"IPAddress": "10.193.0.2",
  "MachineName": "node0", "SSHUser": "docker", "SSHPort": 22, "SSHKeyPath": "/s/id_rsa",
  "StorePath": "/s", "SwarmMaster": false, "SwarmHost": "tcp://0.0.0.0:3376",
  "SwarmDiscovery": "", "CPU": 1, "Memory": 1024, "DiskSize": 20480, "Network": "skep-demo",
  "Index": 0, "MACAddress": "52:53:0a:c1:00:02", "Tap": "skt0ac10002", "Role": "manager",
  "Labels": {"disk": "fast"}}, "DriverName": "qemu",
  "HostOptions": {"Driver": "", "Memory": 0, "Disk": 0, "EngineOptions": {"Labels": ["a=b"]},
  "AuthOptions": {"CertDir": "/s/certs", "CaCertPath": "/s/certs/ca.pem"}}, "Name": "node0"}"#;

const TEMPLATE: &str = r#"{"format": 1, "image": "0123456789abcdef",
  "shape": {"cpus": 1, "memory": "1GiB", "disk": "20GiB"},
  "emulator": {"version": {"major": 10, "minor": 0}, "build": "QEMU", "accelerator": "tcg",
    "processor": null},
  "files": [["ram", {"bytes": 4, "crc32": 1}]]}"#;

const INDEX: &str = r#"{"schemaVersion": 2, "manifests": [{"mediaType":
  "application/vnd.oci.image.manifest.v1+json", "digest":
  "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "size": 7,
  "annotations": {"io.containerd.image.name": "docker.io/library/a:1"}}]}"#;

const AGENT: &str = "{\"return\": {\"pid\": 7}}\n{\"return\": {\"exited\": false}}\n\
    {\"return\": {\"exited\": true, \"exitcode\": 0, \"out-data\": \"aGVsbG8=\"}}\n";

const MONITOR: &str = "{\"QMP\": {\"version\": {}}}\n{\"return\": {}}\n{\"event\": \"STOP\"}\n\
    {\"return\": {\"status\": \"running\", \"running\": true}}\n";

fn cluster_file(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    skep::file::ClusterFile::parse(&text, Path::new("/etc/skep/skep.yaml")).is_ok()
}

fn cluster_record(bytes: &[u8]) -> bool {
    put("clusters/demo/cluster.json", bytes);
    let dir = Store::new(place()).cluster(&"demo".parse().expect("a name"));
    let record = dir.record().ok().flatten();
    if let Some(record) = &record {
        assert_plain(&record.network.bridge);
    }
    record.is_some()
}

fn machines_record(bytes: &[u8]) -> bool {
    let path = put("store/skep.json", bytes);
    ClusterDir::of_machines(path.parent().expect("it has one"))
        .record()
        .is_ok_and(|record| record.is_some())
}

fn node_record(bytes: &[u8]) -> bool {
    put("clusters/demo/machines/node0/config.json", bytes);
    let dir = Store::new(place()).cluster(&"demo".parse().expect("a name"));
    let record = dir.node(&"node0".parse().expect("a name"));
    if let Ok(record) = &record {
        assert_plain(&record.tap);
        assert_eq!(record.name().as_str(), "node0", "it is another one's record");
    }
    record.is_ok()
}

fn machine_record(bytes: &[u8]) -> bool {
    let path = put("store/machines/node0/config.json", bytes);
    let root = path.ancestors().nth(3).expect("it is deep enough");
    let loaded = MachineStore::new(root).load("node0").is_ok();
    drop(ClusterDir::of_machines(root).nodes());
    loaded
}

fn template(bytes: &[u8]) -> bool {
    let path = put("templates/0123456789abcdef/template.json", bytes);
    let dir = path.parent().expect("it has one").to_owned();
    let manifest = Qemu::template(&Entry { id: "0123456789abcdef".into(), bytes: 0, dir });
    drop(manifest.as_ref().map(|manifest| manifest.baked()));
    manifest.is_some()
}

fn image_index(bytes: &[u8]) -> bool {
    let path = put("layout/index.json", bytes);
    let dir = path.parent().expect("it has one");
    put("layout/oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#);
    drop(runtime().block_on(Source::Path(dir.to_owned()).set()));
    // The blobs are not there, so it is never whole.
    true
}

/// Answers a guest agent's client as a guest may.
fn agent(bytes: &[u8]) -> bool {
    let answers = bytes.to_vec();
    let served = serve("agent.sock", move |mut stream| {
        let mut line = Vec::new();
        BufReader::new(stream.try_clone()?).read_until(b'\n', &mut line)?;
        let id = line.rsplit(|byte| *byte == b':').next().unwrap_or_default();
        let id: String = id.iter().filter(|it| it.is_ascii_digit()).map(|it| *it as char).collect();
        stream.write_all(&[0xff])?;
        stream.write_all(format!("{{\"return\": {id}}}\n").as_bytes())?;
        stream.write_all(&answers)
    });
    let shell = AgentShell::new(place().join("sockets"));
    let limit = Duration::from_millis(300);
    let ran = runtime().block_on(shell.run(&["/bin/true"], b"", limit));
    served.join().expect("it does not panic");
    ran.is_ok()
}

/// Answers a monitor's client as a QEMU that a guest has taken over may.
fn monitor(bytes: &[u8]) -> bool {
    let answers = bytes.to_vec();
    let served = serve("qmp.sock", move |mut stream| stream.write_all(&answers));
    let asked = runtime().block_on(async {
        let mut qmp = Qmp::open(&place().join("sockets"), "qmp.sock").await?;
        qmp.execute("query-status", serde_json::json!({})).await
    });
    served.join().expect("it does not panic");
    asked.is_ok()
}

/// What an engine answers: to this path those bytes, and to others what a real one says.
type Answer = Arc<Mutex<(&'static str, Vec<u8>)>>;

/// Answers an engine's client over TLS as one that a guest has replaced may.
fn engine(path: &'static str, bytes: &[u8]) -> bool {
    static ENGINE: OnceLock<(Box<dyn Engine>, Answer)> = OnceLock::new();
    let (engine, answer) = ENGINE.get_or_init(|| {
        // An address of the loopback that no other process is likely to have taken.
        let [a, b, ..] = std::process::id().to_le_bytes();
        let address = Ipv4Addr::new(127, 77, a, b.max(1));
        let (store, node) = (place().join("engine"), "node0".parse().expect("a name"));
        std::fs::create_dir_all(store.join("machines/node0")).expect("a directory");
        let credentials = pki::ensure_authority(&store, "user").expect("a certificate");
        pki::ensure_server(&store, &node, address, "user", &[]).expect("a certificate");
        let answer = Answer::default();
        serve_engine(&store.join("machines/node0"), address, Arc::clone(&answer));
        let patience = Duration::from_secs(2);
        let engine =
            TlsEngines::new(Arc::new(skep_sys::HostDialer)).engine(address, &credentials, patience);
        (engine.expect("credentials"), answer)
    });
    *answer.lock().expect("it does not panic") = (path, bytes.to_vec());
    runtime().block_on(async {
        let state = engine.state().await.is_ok();
        let view = engine.view().await.is_ok();
        state && view && engine.members().await.is_ok()
    })
}

/// Lets threads answer all requests to the engine's port of an address.
fn serve_engine(keys: &Path, address: Ipv4Addr, answer: Answer) {
    let chain = CertificateDer::pem_file_iter(keys.join("server.pem")).expect("certificates");
    let chain: Vec<_> = chain.map(|it| it.expect("a certificate")).collect();
    let key = PrivateKeyDer::from_pem_file(keys.join("server-key.pem")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they fit");
    let config = Arc::new(config);
    let listener = TcpListener::bind((address, skep_docker::engine::PORT)).expect("a free port");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, answer) = (Arc::clone(&config), Arc::clone(&answer));
            std::thread::spawn(move || {
                let session = ServerConnection::new(config).expect("it fits");
                let mut stream = BufReader::new(StreamOwned::new(session, stream));
                while answer_one(&mut stream, &answer).is_ok() {}
            });
        }
    });
}

/// Answers one request that has no body.
fn answer_one(
    stream: &mut BufReader<StreamOwned<ServerConnection, TcpStream>>,
    answer: &Answer,
) -> std::io::Result<()> {
    let (mut first, mut line) = (String::new(), String::new());
    stream.read_line(&mut first)?;
    while line != "\r\n" {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let (path, bytes) = answer.lock().expect("it does not panic").clone();
    let real = [("/nodes", MEMBERS), ("/services", SERVICES), ("/tasks", TASKS), ("/info", INFO)];
    let real = real.into_iter().find(|(path, _)| first.contains(path));
    let body = if first.contains(path) { bytes } else { real.map_or("OK", |it| it.1).into() };
    let head = "HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\nContent-Type: application/json\r\n";
    let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
    stream.get_mut().write_all(&[head.as_bytes(), &body].concat())?;
    stream.get_mut().flush()
}

/// Serves one client of a socket, and closes it.
fn serve(
    name: &str,
    answer: impl FnOnce(std::os::unix::net::UnixStream) -> std::io::Result<()> + Send + 'static,
) -> std::thread::JoinHandle<()> {
    let dir = place().join("sockets");
    std::fs::create_dir_all(&dir).expect("a directory");
    let _ = std::fs::remove_file(dir.join(name));
    let handle = std::fs::File::open(&dir).expect("a directory");
    let path = format!("/proc/self/fd/{}/{name}", handle.as_raw_fd());
    let listener = UnixListener::bind(path).expect("a socket");
    std::thread::spawn(move || {
        let Ok((stream, _)) = listener.accept() else { return };
        let mut rest = stream.try_clone().expect("descriptors");
        // Whoever is not content may be gone; whoever is may still have something to say.
        let _ = answer(stream);
        let _ = rest.shutdown(std::net::Shutdown::Write);
        let _ = std::io::copy(&mut rest, &mut std::io::sink());
    })
}

/// Fails if that would mean something in a path, a rule, a shell or a list of options.
fn assert_plain(name: &str) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    assert!(!name.is_empty() && name.bytes().all(plain) && !name.starts_with('-'), "{name:?}");
}

fn put(name: &str, bytes: &[u8]) -> PathBuf {
    let path = place().join(name);
    std::fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
    std::fs::write(&path, bytes).expect("room for it");
    path
}

/// Returns a directory of this process.
fn place() -> PathBuf {
    static PLACE: OnceLock<tempfile::TempDir> = OnceLock::new();
    PLACE.get_or_init(|| tempfile::tempdir().expect("a directory")).path().to_owned()
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("memory and descriptors")
    })
}
