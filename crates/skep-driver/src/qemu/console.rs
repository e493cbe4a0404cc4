//! A machine's console: what a guest writes there takes a bounded part of the host, however much it is.
//!
//! ```text
//! guest ──▶ a ring in QEMU's memory ──▶ console.log
//!           its last 256 KiB            what a skep took over from the ring: 1 MiB of it at most
//! ```
//!
//! No process of ours runs while no command does, so nobody could shorten a file that QEMU writes. A
//! ring is emptied by whoever looks; it goes with QEMU, and with it what nobody had looked at. So a
//! skep looks while it waits for a guest, while it stops one, and before it ends one.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use skep_sys::{FileError, read_own, socket_in, tail, write_atomic};

use super::Files;
use super::args::{CONSOLE, CONSOLE_MONITOR};

/// The size of the ring, in bytes: a power of two. All that a guest says in a boot has a tenth.
pub(super) const RING: usize = 256 << 10;

/// How much of what was taken over is kept, in bytes.
const KEPT: usize = 1 << 20;

/// The longest answer of the monitor that is read, in bytes: a full ring in Base64, and some room.
const ANSWER: u64 = RING as u64 * 2;

/// How long the monitor may be silent. QEMU's main loop answers whatever the guest does, in a moment.
const PATIENCE: Duration = Duration::from_millis(500);

/// What Linux says last (kernel/panic.c).
const PANIC: &[u8] = b"Kernel panic - not syncing";

/// How soon the ring is looked at again while a guest is waited for.
const AGAIN: Duration = Duration::from_millis(250);

/// Returns how QEMU is told to hold what its guest says.
pub(super) fn chardev() -> String {
    format!("ringbuf,id={CONSOLE},size={RING}")
}

/// Takes over what the console of a machine in this directory has said since the last time. Tells whether the guest's
/// kernel has panicked.
pub(super) fn take_over(dir: &Path) -> bool {
    // Whatever is wrong, there are no words to tell it from: the machine may have ended.
    if let Ok(mut stream) = connect(dir)
        && let Ok(text) = said(&mut stream)
        && !text.is_empty()
    {
        // Nobody else is served by this monitor until the stream is dropped, so nobody else writes.
        return keep(&Files::in_dir(dir).console(), &text).unwrap_or_default();
    }
    false
}

/// Takes over again and again, without an end.
pub(super) async fn listen(dir: &Path) -> std::convert::Infallible {
    loop {
        await_panic(dir).await;
    }
}

/// Takes over again and again until the guest's kernel panics: then nothing more is to be expected of it.
pub(super) async fn await_panic(dir: &Path) {
    loop {
        // wait: a ring does not announce that something was written to it.
        tokio::time::sleep(AGAIN).await;
        let dir = dir.to_owned();
        // A monitor that is silent takes its patience from a thread that nothing else waits for.
        if tokio::task::spawn_blocking(move || take_over(&dir)).await.unwrap_or_default() {
            return;
        }
    }
}

/// Returns all that is kept of the console of the machine in this directory.
///
/// # Errors
///
/// If it has said nothing yet.
pub(super) fn read(dir: &Path) -> Result<Vec<u8>, FileError> {
    take_over(dir);
    read_own(&Files::in_dir(dir).console())
}

/// Returns the last lines of a console, without what a terminal would act on.
pub(super) fn last_lines(dir: &Path) -> String {
    let text = read(dir).unwrap_or_default();
    tail(&text).chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

fn connect(dir: &Path) -> std::io::Result<BufReader<UnixStream>> {
    let (_held, address) = socket_in(dir, CONSOLE_MONITOR)?;
    let stream = UnixStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(stream))
}

/// Empties the ring.
fn said(stream: &mut BufReader<UnixStream>) -> std::io::Result<Vec<u8>> {
    answer(stream, "QMP")?;
    let commands = [
        json!({"execute": "qmp_capabilities"}),
        json!({"execute": "ringbuf-read",
               "arguments": {"device": CONSOLE, "size": RING, "format": "base64"}}),
    ];
    let mut text = Value::Null;
    for command in commands {
        stream.get_mut().write_all(format!("{command}\n").as_bytes())?;
        text = answer(stream, "return")?;
    }
    BASE64.decode(text.as_str().unwrap_or_default()).map_err(std::io::Error::other)
}

/// Reads lines up to one that has this key, and returns its value.
fn answer(stream: &mut BufReader<UnixStream>, key: &str) -> std::io::Result<Value> {
    let mut lines = stream.take(ANSWER);
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let mut document: Value = serde_json::from_slice(&line)?;
        if document.get("error").is_some() {
            return Err(std::io::ErrorKind::Unsupported.into());
        }
        if let Some(value) = document.get_mut(key) {
            return Ok(value.take());
        }
    }
}

/// Adds to what is kept, whose oldest part goes if it is too much. Tells whether a panic is in what was added, or begins
/// just before it.
fn keep(file: &Path, text: &[u8]) -> Result<bool, FileError> {
    let mut all = read_own(file).unwrap_or_default();
    if text.len() == RING {
        all.extend_from_slice(b"\n[skep: more was said here than is kept]\n");
    }
    all.extend_from_slice(text);
    let new = all.len().saturating_sub(text.len() + PANIC.len() - 1);
    let panicked = all[new..].windows(PANIC.len()).any(|words| words == PANIC);
    all.drain(..all.len().saturating_sub(KEPT));
    write_atomic(file, 0o600, &all)?;
    Ok(panicked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu::args::{MONITOR, SECOND_MONITOR};
    use crate::qemu::qmp::fake::FakeMonitor;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixListener;

    /// Answers once as a monitor whose ring has this text; none says nothing at all.
    fn monitor(dir: &Path, text: Option<Vec<u8>>) -> std::thread::JoinHandle<()> {
        let handle = std::fs::File::open(dir).unwrap();
        let path = format!("/proc/self/fd/{}/{CONSOLE_MONITOR}", handle.as_raw_fd());
        let _ = std::fs::create_dir(dir.join(crate::shell::RUN));
        let _ = std::fs::remove_file(dir.join(CONSOLE_MONITOR));
        let listener = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let Some(text) = text else { return drop(lines.next()) };
            let full = json!({"event": "STOP"});
            stream.write_all(b"{\"QMP\": {}}\n").unwrap();
            lines.next().unwrap().unwrap();
            stream.write_all(format!("{full}\n{{\"return\": {{}}}}\n").as_bytes()).unwrap();
            assert!(lines.next().unwrap().unwrap().contains("ringbuf-read"));
            let answer = json!({"return": BASE64.encode(text)});
            let _ = stream.write_all(format!("{answer}\n").as_bytes());
        })
    }

    #[test]
    fn what_is_said_is_taken_over_and_its_end_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["one\n", "two\x1b[31m\n"] {
            let monitor = monitor(dir.path(), Some(text.into()));
            take_over(dir.path());
            monitor.join().unwrap();
        }
        // The machine is gone; its words are not.
        assert_eq!(read(dir.path()).unwrap(), b"one\ntwo\x1b[31m\n");
        assert_eq!(last_lines(dir.path()), "one\ntwo[31m");
    }

    #[test]
    fn a_panic_is_noticed_once_though_it_comes_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let said =
            ["[ 0.1] Kernel pan", "ic - not syncing: VFS: Unable to mount root fs\n", "more\n"];
        let panicked = said.map(|text| {
            let monitor = monitor(dir.path(), Some(text.into()));
            let panicked = take_over(dir.path());
            monitor.join().unwrap();
            panicked
        });
        assert_eq!(panicked, [false, true, false]);
    }

    #[tokio::test]
    async fn a_guest_whose_kernel_panics_is_waited_for_no_longer() {
        let dir = tempfile::tempdir().unwrap();
        let words = "Kernel panic - not syncing: No working init found.\n";
        let monitor = monitor(dir.path(), Some(words.into()));
        FakeMonitor::saying("running").serve(dir.path(), &[MONITOR, SECOND_MONITOR]);
        let limit = Duration::from_secs(600);
        let error = crate::qemu::launch::await_guest(dir.path(), limit).await.unwrap_err();
        assert!(matches!(&error, crate::Error::Panicked(said) if said.contains("No working init")));
        monitor.join().unwrap();
    }

    #[test]
    fn a_flood_takes_a_bounded_part_of_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..6 {
            let monitor = monitor(dir.path(), Some(vec![b'x'; RING]));
            take_over(dir.path());
            monitor.join().unwrap();
        }
        let kept = read(dir.path()).unwrap();
        assert_eq!(kept.len(), KEPT);
        assert!(String::from_utf8_lossy(&kept).contains("more was said here than is kept"));
    }

    #[tokio::test]
    async fn a_silent_monitor_holds_up_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let silent = monitor(dir.path(), None);
        let others = async {
            let mut longest = Duration::ZERO;
            while !silent.is_finished() {
                let began = std::time::Instant::now();
                tokio::time::sleep(Duration::from_millis(5)).await; // wait: other work of this thread
                longest = longest.max(began.elapsed());
            }
            longest
        };
        let longest = tokio::select! {
            longest = others => longest,
            never = listen(dir.path()) => match never {}
        };
        // The whole of the patience is what a wait on this thread takes.
        assert!(longest < PATIENCE * 4 / 5, "{longest:?}");
        silent.join().unwrap();
    }

    #[test]
    fn a_monitor_that_floods_or_is_silent_ends_the_wait() {
        let dir = tempfile::tempdir().unwrap();
        let flooding = monitor(dir.path(), Some(vec![b'x'; 4 * RING]));
        take_over(dir.path());
        flooding.join().unwrap();
        assert!(read(dir.path()).is_err(), "what is no answer is not kept");
        let silent = monitor(dir.path(), None);
        let began = std::time::Instant::now();
        take_over(dir.path());
        assert!(began.elapsed() < PATIENCE * 4);
        silent.join().unwrap();
    }
}
