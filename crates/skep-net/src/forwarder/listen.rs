//! What the process does: listen and copy.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_sys::Dialer;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use super::places::Places;

/// How often to look whether the directory is still there.
const LOOK: Duration = Duration::from_secs(5);

/// Listens as a directory says, and reads the directory again at each SIGHUP; ends when it is gone. What comes in goes to
/// nodes through `dialer`; `say` gets what cannot be done.
///
/// # Errors
///
/// If it cannot be told of changes.
pub async fn forward(dir: &Path, dialer: Dialer, say: fn(String)) -> std::io::Result<()> {
    let mut changes = signal(SignalKind::hangup())?;
    let places = Places::new(dir);
    let mut open: BTreeMap<(SocketAddrV4, SocketAddrV4), JoinHandle<()>> = BTreeMap::new();
    let mut wanted: Vec<(SocketAddrV4, SocketAddrV4)> = Vec::new();
    loop {
        match places.all() {
            Ok(all) => wanted = all.iter().flat_map(|it| it.ways().collect::<Vec<_>>()).collect(),
            // What it listens on stays.
            Err(error) => say(skep_sys::chain(&error)),
        }
        let unwanted: Vec<_> = open
            .iter()
            .filter(|(way, listener)| !wanted.contains(way) || listener.is_finished())
            .map(|(way, _)| *way)
            .collect();
        for way in unwanted {
            if let Some(listener) = open.remove(&way) {
                listener.abort();
                // Its port is free only when it has ended; the next one may want the same.
                let _ = listener.await;
            }
        }
        for &(at, to) in &wanted {
            if open.contains_key(&(at, to)) {
                continue;
            }
            match TcpListener::bind(at).await {
                Ok(listener) => {
                    let dir = dir.to_owned();
                    open.insert(
                        (at, to),
                        tokio::spawn(listen(listener, to, dialer.clone(), dir, say)),
                    );
                }
                Err(error) => say(format!("{at}: {error}")),
            }
        }
        let gone = async {
            while dir.is_dir() {
                // wait: who removes a store by hand tells nobody, and ends no process.
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            _ = changes.recv() => {}
            () = gone => return Ok(()),
        }
    }
}

async fn listen(
    listener: TcpListener,
    to: SocketAddrV4,
    dialer: Dialer,
    dir: PathBuf,
    say: fn(String),
) {
    loop {
        match listener.accept().await {
            // The store was removed a moment ago.
            Ok(_) if !dir.is_dir() => std::process::exit(0),
            Ok((stream, _)) => drop(tokio::spawn(carry(stream, to, dialer.clone()))),
            Err(error) => {
                say(format!("{to}: {error}"));
                // wait: until there are descriptors again, of which nobody tells.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Carries what comes to a node, and what it answers, until both are done.
async fn carry(mut near: TcpStream, to: SocketAddrV4, dialer: Dialer) {
    // Who gets no answer sees the connection end.
    let Ok(mut far) = dialer.dial(to).await else { return };
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
}
