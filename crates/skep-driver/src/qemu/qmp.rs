//! The QEMU machine protocol (QMP), as far as it is needed.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use skep_sys::{JsonLines, connect_in, send_descriptor};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::Error;

/// How long the monitor may take for an answer. QEMU's main loop answers, whatever the guest does;
/// it is slow only when the host is.
const ANSWER: Duration = Duration::from_secs(20);

/// A conversation with a machine's monitor.
#[derive(Debug)]
pub struct Qmp {
    lines: JsonLines<UnixStream>,
    /// The same connection, for what has to go beside bytes.
    socket: OwnedFd,
    process: Option<u32>,
}

impl Qmp {
    /// Opens a monitor in a machine's directory.
    ///
    /// # Errors
    ///
    /// If nobody listens, or another client keeps the monitor for too long.
    pub async fn open(dir: &Path, socket: &str) -> Result<Self, Error> {
        let stream = connect_in(dir, socket).await.map_err(Error::Monitor)?;
        let socket = stream.as_fd().try_clone_to_owned().map_err(Error::Monitor)?;
        // The kernel tells 0 of a process outside our PID namespace.
        let process = stream.peer_cred().ok().and_then(|peer| peer.pid()).filter(|pid| *pid > 0);
        let process = process.map(i32::cast_unsigned);
        let mut qmp = Self { lines: JsonLines::new(stream), socket, process };
        let busy = |_| Error::Monitor(std::io::ErrorKind::TimedOut.into());
        timeout(ANSWER, qmp.lines.receive()).await.map_err(busy)??;
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Returns the number of the process whose monitor it is (SO_PEERCRED of unix(7)).
    ///
    /// # Errors
    ///
    /// If the kernel does not tell, as of a process outside our PID namespace.
    pub fn process(&self) -> Result<u32, Error> {
        self.process.ok_or_else(|| Error::Monitor(std::io::ErrorKind::NotFound.into()))
    }

    /// Runs a command and returns its answer; events that come before it are dropped.
    ///
    /// # Errors
    ///
    /// If the monitor refuses, breaks off or does not answer.
    pub async fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        self.lines.send(&json!({"execute": command, "arguments": arguments})).await?;
        self.answer(command).await
    }

    /// Gives QEMU a descriptor, under a name that later commands may use.
    ///
    /// # Errors
    ///
    /// As [`Self::execute`].
    pub async fn give(&mut self, name: &str, descriptor: impl AsFd) -> Result<(), Error> {
        let line = json!({"execute": "getfd", "arguments": {"fdname": name}}).to_string() + "\n";
        send_descriptor(&self.socket, line.as_bytes(), descriptor.as_fd())
            .map_err(Error::Monitor)?;
        self.answer("getfd").await.map(|_| ())
    }

    async fn answer(&mut self, command: &str) -> Result<Value, Error> {
        let answer = async {
            loop {
                let mut answer = self.lines.receive().await?;
                if let Some(error) = answer.get("error") {
                    let reason = error.get("desc").and_then(Value::as_str).unwrap_or_default();
                    let (command, reason) = (command.to_owned(), reason.to_owned());
                    return Err(Error::Refused { command, reason });
                }
                if answer.get("return").is_some() {
                    return Ok(answer["return"].take());
                }
            }
        };
        let late = |_| Error::Monitor(std::io::ErrorKind::TimedOut.into());
        timeout(ANSWER, answer).await.map_err(late)?
    }

    /// Waits for the next event and returns its name and data.
    ///
    /// # Errors
    ///
    /// If the monitor breaks off, as it does when the machine dies.
    pub async fn event(&mut self) -> Result<(String, Value), Error> {
        loop {
            let mut message = self.lines.receive().await?;
            if let Some(name) = message.get("event").and_then(Value::as_str) {
                let name = name.to_owned();
                return Ok((name, message["data"].take()));
            }
        }
    }
}

#[cfg(test)]
pub(super) mod fake {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    /// A monitor that tells a machine's state, for as long as the test runs.
    #[derive(Clone)]
    pub(in crate::qemu) struct FakeMonitor {
        state: Arc<Mutex<&'static str>>,
        /// What the state is when the guest was told to go on.
        after: &'static str,
    }

    impl FakeMonitor {
        /// Returns one that says a state.
        pub fn saying(state: &'static str) -> Self {
            Self { state: Arc::new(Mutex::new(state)), after: state }
        }

        /// Returns one whose machine waits for a saved state, and is in another one once it goes on with it.
        pub fn migrating(after: &'static str) -> Self {
            Self { state: Arc::new(Mutex::new("inmigrate")), after }
        }

        /// Listens on sockets in a directory.
        pub fn serve(&self, dir: &Path, sockets: &[&str]) {
            let handle = std::fs::File::open(dir).unwrap();
            for socket in sockets {
                // The path of a socket is short; that of a directory need not be.
                let path = format!("/proc/self/fd/{}/{socket}", handle.as_raw_fd());
                let (listener, monitor) = (UnixListener::bind(path).unwrap(), self.clone());
                std::thread::spawn(move || {
                    for stream in listener.incoming() {
                        let monitor = monitor.clone();
                        // A client that stays does not keep others from being answered.
                        std::thread::spawn(move || monitor.answer(stream.unwrap()));
                    }
                });
            }
        }

        fn answer(&self, mut stream: UnixStream) {
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut say = |value: Value| writeln!(stream, "{value}").is_ok();
            say(json!({"QMP": {}}));
            for line in lines.map_while(Result::ok) {
                let request: Value = serde_json::from_str(&line).unwrap();
                let mut state = self.state.lock().unwrap();
                let answer = match request["execute"].as_str().unwrap() {
                    "query-status" => json!({"status": *state, "running": *state == "running"}),
                    "query-chardev" => json!([]),
                    "migrate-incoming" => {
                        *state = "paused";
                        json!({})
                    }
                    "cont" => {
                        *state = self.after;
                        json!({})
                    }
                    _ => json!({}),
                };
                say(json!({"return": answer}));
            }
        }
    }
}
