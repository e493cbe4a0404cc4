//! Ports of the host's loopback that lead to nodes in the namespace.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use super::network::connect;
use super::places::Places;
use super::processes::Processes;

/// The word by which skep is told to do that.
pub const FORWARD: &str = "--forward";

/// Listens as is noted in a directory, and again as is noted then at each SIGHUP; says what does not go.
///
/// # Errors
///
/// If it cannot be told of changes.
pub async fn forward(dir: &Path, say: fn(String)) -> std::io::Result<()> {
    let mut changes = signal(SignalKind::hangup())?;
    let places = Places::new(dir);
    let processes = Processes::new(dir, std::env::current_exe()?);
    let mut open: BTreeMap<(SocketAddrV4, SocketAddrV4), JoinHandle<()>> = BTreeMap::new();
    loop {
        let wanted: Vec<_> =
            places.all().iter().flat_map(|it| it.ways().collect::<Vec<_>>()).collect();
        open.retain(|way, listener| {
            let stays = wanted.contains(way) && !listener.is_finished();
            if !stays {
                listener.abort();
            }
            stays
        });
        for (at, to) in wanted {
            if open.contains_key(&(at, to)) {
                continue;
            }
            match TcpListener::bind(at).await {
                Ok(listener) => {
                    let listening = tokio::spawn(listen(listener, to, processes.clone(), say));
                    open.insert((at, to), listening);
                }
                Err(error) => say(format!("{at}: {error}")),
            }
        }
        changes.recv().await;
    }
}

async fn listen(listener: TcpListener, to: SocketAddrV4, processes: Processes, say: fn(String)) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(carry(stream, to, processes.clone()))),
            Err(error) => {
                say(format!("{to}: {error}"));
                // wait: until there are descriptors again, of which nobody tells.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Carries what comes to a node, and what it answers, until both are done.
async fn carry(mut near: TcpStream, to: SocketAddrV4, processes: Processes) {
    // Who gets no answer sees the connection end.
    let Ok(mut far) = connect(&processes, to).await else { return };
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
}
