//! Whether nodes reach each other, proven by packets that are counted where they arrive.
//!
//! Each node counts what comes from each other before its firewall and after it, and what it sends itself;
//! then each sends one packet of each kind to each other. So no listener is needed, a packet that is lost was seen
//! last by somebody, and what the swarm itself sends is not taken for ours. Afterwards the counters are removed;
//! should skep be killed, they remove themselves.

mod judge;

use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::future::join_all;
use skep_sys::chain;
use skep_sys::shell::{Error, NodeShell};

pub use judge::{Path, Verdict};

use crate::host_firewall::{SHELL, TCP_PORTS, UDP_PORTS};
use judge::Seen;

const BEGIN: &str = include_str!("begin.sh");
const SEND: &str = include_str!("send.sh");
const END: &str = include_str!("end.sh");

/// How many bytes a datagram of ours has, by which it is known.
const SIZE: usize = 33;

/// A node that is asked.
pub struct Peer<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where the others reach it.
    pub address: Ipv4Addr,
    /// A shell there.
    pub shell: &'a dyn NodeShell,
    /// How long each part may take there.
    pub limit: Duration,
}

/// What is known of the ways between nodes.
#[derive(Debug, Default)]
pub struct Report {
    /// Each way, in each direction.
    pub paths: Vec<Path>,
    /// Nodes that could not be asked, each with the reason.
    pub silent: Vec<(String, String)>,
}

impl Report {
    /// Tells whether every packet has come through.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let open = |path: &Path| matches!(path.verdict, Verdict::Open | Verdict::Unknown);
        self.silent.is_empty() && self.paths.iter().all(open)
    }
}

/// Sends packets from each node to each other.
pub async fn check(peers: &[Peer<'_>]) -> Report {
    let mut report = Report::default();
    let begun = join_all(peers.iter().map(|peer| run(peer, peers, BEGIN))).await;
    let mut counting = Vec::new();
    for (peer, result) in peers.iter().zip(begun) {
        match result {
            Ok(_) => counting.push(peer),
            Err(error) => report.silent.push((peer.name.to_owned(), chain(&error))),
        }
    }
    let sent = join_all(counting.iter().map(|peer| run(peer, peers, SEND))).await;
    let ended = join_all(counting.iter().map(|peer| run(peer, peers, END))).await;
    let mut seen = Vec::new();
    for ((peer, sent), ended) in counting.into_iter().zip(sent).zip(ended) {
        match sent.and_then(|sent| Ok(sent + "\n" + &ended?)) {
            // Without counters all would look as if it had never left.
            Ok(text) if peers.len() > 1 && !text.contains("\ncount ") => {
                let reason = "its counters were taken away while it was asked".to_owned();
                report.silent.push((peer.name.to_owned(), reason));
            }
            Ok(text) => seen.push(Seen::parse(peer.name, peer.address, &text)),
            Err(error) => report.silent.push((peer.name.to_owned(), chain(&error))),
        }
    }
    report.paths = judge::judge(&seen);
    report
}

async fn run(peer: &Peer<'_>, peers: &[Peer<'_>], script: &str) -> Result<String, Error> {
    let script = render(peer, peers, script);
    let output = peer
        .shell
        .succeed("the test of its network", &SHELL, script.as_bytes(), peer.limit)
        .await?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn render(peer: &Peer<'_>, peers: &[Peer<'_>], script: &str) -> String {
    let words = |words: Vec<String>| words.join(" ");
    let others = peers.iter().filter(|other| other.address != peer.address);
    let others = words(others.map(|other| other.address.to_string()).collect());
    let tcp = words(TCP_PORTS.iter().map(u16::to_string).collect());
    let udp = words(UDP_PORTS.iter().map(u16::to_string).collect());
    format!("set -eu\npeers='{others}'\ntcp='{tcp}'\nudp='{udp}'\nsize={SIZE}\n{script}")
}
