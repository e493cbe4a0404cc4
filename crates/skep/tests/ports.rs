//! Published ports of a cluster on a bridge: a process of the cluster's user listens on them, so a port that is taken is
//! refused, a later service fails to bind, and the bridge never accepts loopback addresses. No machine is started here.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use skep_core::model::{NetworkRecord, Publication};
use skep_net::forwarder::PublishedPorts;

const SKEP: &str = env!("CARGO_BIN_EXE_skep");
/// An address of the loopback stands in for a node.
const NODE: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 3);

fn network(bridge: &str) -> NetworkRecord {
    NetworkRecord { subnet: "127.77.0.0/24".parse().unwrap(), bridge: bridge.into() }
}

/// Answers everybody with a text, on a port that the loopback's own address has free.
fn serve(at: Ipv4Addr, port: u16, text: &'static str) -> u16 {
    let listener = TcpListener::bind((at, port)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        listener.incoming().for_each(|stream| drop(stream.unwrap().write_all(text.as_bytes())));
    });
    port
}

fn said(port: u16) -> String {
    let mut text = String::new();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Returns the numbers of processes whose command line has some words.
fn processes_with(words: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let has = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(words)
    };
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(has).collect()
}

#[tokio::test]
async fn a_published_port_is_a_listener() {
    let store = tempfile::tempdir().unwrap();
    let ports = PublishedPorts::of_store(store.path(), SKEP.into());
    let network = network("skep-ports");
    let port = serve(NODE, 0, "first");
    serve(OTHER, port, "second");
    let to = |to| Publication { ports: vec![port], to };
    assert_eq!(ports.published(&network), None);

    // Twice, as by an `up` that is done again.
    for _ in 0..2 {
        ports.publish(&network, Some(&to(NODE))).await.unwrap();
        assert_eq!(ports.published(&network), Some(to(NODE).label()));
    }
    assert_eq!(said(port), "first");
    let bound = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap_err();
    assert_eq!(bound.kind(), ErrorKind::AddrInUse, "a later service is told");
    ports.publish(&network, Some(&to(OTHER))).await.unwrap();
    // The process may not have read that yet.
    while said(port) != "second" {
        // wait: a process that changes announces nothing
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }

    let marks = store.path().to_str().unwrap();
    let [process] = processes_with(marks)[..] else { panic!("one process") };
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    assert_eq!(fields[3], process.to_string(), "it leads a session, without our terminal");
    assert_eq!(fields[4], "0", "it has no terminal");

    // Who ends it by hand sees that, and an `up` mends it.
    Command::new("kill").args(["-KILL", &process.to_string()]).status().unwrap();
    while !processes_with(marks).is_empty() {
        // wait: a process that changes announces nothing
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(ports.published(&network), None, "nobody listens");
    ports.publish(&network, Some(&to(OTHER))).await.unwrap();
    assert_eq!(said(port), "second");

    ports.publish(&network, None).await.unwrap();
    assert_eq!(processes_with(marks), Vec::<u32>::new(), "nothing is left");
    assert!(!store.path().join("ports").exists());
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_and_nothing_changes() {
    let store = tempfile::tempdir().unwrap();
    let ports = PublishedPorts::of_store(store.path(), SKEP.into());
    let (one, two) = (network("skep-one"), network("skep-two"));
    let port = serve(NODE, 0, "node");
    let holder = serve(Ipv4Addr::LOCALHOST, 0, "host");
    ports.publish(&one, Some(&Publication { ports: vec![port], to: NODE })).await.unwrap();

    let wanted = Publication { ports: vec![port, holder], to: NODE };
    let refused = ports.publish(&two, Some(&wanted)).await.unwrap_err().to_string();
    assert!(refused.contains(&format!("port {holder} of 127.0.0.1")), "{refused}");
    assert_eq!(ports.published(&two), None);
    assert!(ports.published(&one).is_some());
    assert_eq!(said(holder), "host");
    assert_eq!(said(port), "node");
    ports.forget("skep-one").await.unwrap();
    ports.forget("skep-two").await.unwrap();
    ports.forget("skep-two").await.unwrap();
    assert_eq!(processes_with(store.path().to_str().unwrap()), Vec::<u32>::new());
}

#[tokio::test]
async fn a_forwarder_outlives_who_started_it_and_ends_with_its_store() {
    let store = tempfile::tempdir().unwrap();
    let port = serve(NODE, 0, "node");
    let marks = store.path().to_str().unwrap().to_owned();
    // This test again, in a group of its own that is killed whole.
    if let Ok(given) = std::env::var("SKEP_TEST_PUBLISH") {
        let (store, port) = given.split_once(' ').unwrap();
        let ports = PublishedPorts::of_store(Path::new(store), SKEP.into());
        let publication = Publication { ports: vec![port.parse().unwrap()], to: NODE };
        ports.publish(&network("skep-own"), Some(&publication)).await.unwrap();
        println!("\npublished");
        // wait: until it is killed
        std::thread::sleep(std::time::Duration::from_secs(600));
    }
    let mut caller = Command::new(std::env::current_exe().unwrap());
    let name = "a_forwarder_outlives_who_started_it_and_ends_with_its_store";
    caller.args(["--exact", name, "--nocapture"]);
    caller.env("SKEP_TEST_PUBLISH", format!("{marks} {port}")).process_group(0);
    let mut caller = caller.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = caller.stdout.take().unwrap();
    let mut text = String::new();
    while !text.contains("published") {
        let mut byte = [0];
        assert_eq!(output.read(&mut byte).unwrap(), 1, "the caller died: {text}");
        text.push(char::from(byte[0]));
    }
    let group = format!("-{}", caller.id());
    Command::new("kill").args(["-KILL", "--", &group]).status().unwrap();
    caller.wait().unwrap();
    // It holds none of the caller's descriptors: the pipe ends with the caller.
    assert_eq!(output.read_to_string(&mut text).map(|_| ()).ok(), Some(()));
    assert_eq!(said(port), "node");

    // Of two such, one is asked for a connection, and the other is left alone.
    let other = tempfile::tempdir().unwrap();
    let idle = PublishedPorts::of_store(other.path(), SKEP.into());
    let publication = Publication { ports: vec![serve(NODE, 0, "idle")], to: NODE };
    idle.publish(&network("skep-idle"), Some(&publication)).await.unwrap();
    std::fs::remove_dir_all(other.path().join("ports")).unwrap();

    std::fs::remove_dir_all(store.path().join("ports")).unwrap();
    // Whoever connects next finds nothing, and the port is free.
    let mut nothing = String::new();
    let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .and_then(|mut stream| stream.read_to_string(&mut nothing));
    assert_eq!(nothing, "");
    for marks in [marks.as_str(), other.path().to_str().unwrap()] {
        while !processes_with(marks).is_empty() {
            // wait: a process that changes announces nothing
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}
