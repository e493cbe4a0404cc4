//! A node's shell through the QEMU guest agent (QEMU Guest Agent Protocol Reference).

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};

use skep_sys::shell::{Error, NodeOutput, NodeShell};
use skep_sys::{JsonLines, connect_in};

/// Where a machine's sockets are in its directory: all that its process can write to, beside its disk.
pub const RUN: &str = "run";

/// The socket's name in the machine's directory.
pub const SOCKET: &str = "run/agent.sock";

/// A byte that is never part of JSON; the agent drops what came before it, and sends one before
/// its answer to `guest-sync-delimited`.
const DELIMITER: u8 = 0xff;

/// How soon, and at most how seldom, a running command is asked whether it has ended. The agent has
/// no way to tell by itself.
const FIRST_POLL: Duration = Duration::from_millis(5);
const LAST_POLL: Duration = Duration::from_millis(250);

/// How often a guest is asked for its time at most, and how quick an answer is taken at once.
const TIME_QUESTIONS: usize = 5;
const QUICK_ANSWER: Duration = Duration::from_millis(10);
// One that took longer is not taken while there is time for others: it can be wrong by half of that.
const SLOW_ANSWER: Duration = Duration::from_millis(60);
const TIME_LIMIT: Duration = Duration::from_secs(4);

/// A node's shell through its guest agent.
#[derive(Debug, Clone)]
pub struct AgentShell {
    dir: PathBuf,
}

impl AgentShell {
    /// Creates the shell of the machine that has that directory.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Waits until the agent answers. It must have opened its port before: bytes written earlier
    /// pile up in the host.
    ///
    /// # Errors
    ///
    /// If it does not answer within `limit`.
    pub async fn sync(&self, limit: Duration) -> Result<(), Error> {
        let late = || Error::Timeout { what: "the guest agent's greeting".into(), limit };
        timeout(limit, Agent::open(self)).await.map_err(|_| late())?.map(|_| ())
    }
}

#[async_trait]
impl NodeShell for AgentShell {
    async fn run(&self, argv: &[&str], stdin: &[u8], limit: Duration) -> Result<NodeOutput, Error> {
        let deadline = Instant::now() + limit;
        let late = |_| Error::Timeout { what: argv.join(" "), limit };
        timeout_at(deadline, async {
            let mut agent = Agent::open(self).await?;
            agent.exec(argv, stdin).await
        })
        .await
        .map_err(late)?
    }

    async fn clock_behind(&self, limit: Duration) -> Result<i64, Error> {
        let late = |_| Error::Timeout { what: "the question for the time".into(), limit };
        timeout(limit, async {
            let mut agent = Agent::open(self).await?;
            agent.clock_behind().await
        })
        .await
        .map_err(late)?
    }
}

/// One conversation with an agent.
struct Agent {
    lines: JsonLines<UnixStream>,
}

impl Agent {
    async fn open(shell: &AgentShell) -> Result<Self, Error> {
        let stream = connect_in(&shell.dir, SOCKET).await.map_err(Error::Unreachable)?;
        let mut agent = Self { lines: JsonLines::new(stream) };
        agent.sync().await?;
        Ok(agent)
    }

    /// Drops whatever an earlier conversation left in either direction.
    async fn sync(&mut self) -> Result<(), Error> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = u64::from(std::process::id()) << 20 | NEXT.fetch_add(1, Ordering::Relaxed);
        let mut request = vec![DELIMITER];
        let sync = json!({"execute": "guest-sync-delimited", "arguments": {"id": id}});
        request.extend(sync.to_string().into_bytes());
        request.push(b'\n');
        self.lines.send_raw(&request).await?;
        loop {
            self.lines.skip_past(DELIMITER).await?;
            if self.lines.receive().await?.get("return").and_then(Value::as_u64) == Some(id) {
                return Ok(());
            }
        }
    }

    async fn exec(&mut self, argv: &[&str], stdin: &[u8]) -> Result<NodeOutput, Error> {
        let (program, args) = argv.split_first().expect("a command has a program");
        let mut arguments = json!({"path": program, "arg": args, "capture-output": true});
        if !stdin.is_empty() {
            arguments["input-data"] = BASE64.encode(stdin).into();
        }
        let started = self.call("guest-exec", arguments).await?;
        let pid = started.get("pid").and_then(Value::as_i64).unwrap_or(-1);
        let mut pause = FIRST_POLL;
        loop {
            let status = self.call("guest-exec-status", json!({"pid": pid})).await?;
            if status.get("exited").and_then(Value::as_bool) == Some(true) {
                return Ok(output(&status));
            }
            // wait: the agent does not announce a command's end; the caller's limit bounds this.
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LAST_POLL);
        }
    }

    /// Asks for the guest's time until an answer was quick, or for some seconds: it can be wrong by half the
    /// time that it took. The quickest counts.
    async fn clock_behind(&mut self) -> Result<i64, Error> {
        let mut best = (Duration::MAX, 0);
        let begun = Instant::now();
        for asked in 1.. {
            let (before, start) = (SystemTime::now(), Instant::now());
            let answer = self.call("guest-get-time", json!({})).await?;
            let took = start.elapsed();
            let host = before + took / 2;
            let host = host.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
            let guest = answer.as_i64().unwrap_or_default();
            if took < best.0 {
                let behind = i128::try_from(host).unwrap_or(i128::MAX) - i128::from(guest);
                best = (took, i64::try_from(behind).unwrap_or(i64::MAX));
            }
            let is_enough = asked >= TIME_QUESTIONS && best.0 < SLOW_ANSWER;
            if best.0 < QUICK_ANSWER || is_enough || begun.elapsed() > TIME_LIMIT {
                break;
            }
        }
        Ok(best.1)
    }

    async fn call(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        self.lines.send(&json!({"execute": command, "arguments": arguments})).await?;
        let mut answer = self.lines.receive().await?;
        if let Some(error) = answer.get("error") {
            let reason = error.get("desc").and_then(Value::as_str).unwrap_or("no reason given");
            return Err(Error::Refused { command: command.into(), reason: reason.into() });
        }
        // Not by index, which panics where a guest answers what is no object.
        Ok(answer.get_mut("return").map(Value::take).unwrap_or_default())
    }
}

fn output(status: &Value) -> NodeOutput {
    let data = |key: &str| {
        status
            .get(key)
            .and_then(Value::as_str)
            .and_then(|text| BASE64.decode(text).ok())
            .unwrap_or_default()
    };
    let number = |key: &str| status.get(key).and_then(Value::as_i64);
    let code = number("exitcode").or_else(|| number("signal").map(|signal| 128 + signal));
    NodeOutput {
        code: code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1),
        stdout: data("out-data"),
        stderr: data("err-data"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use tokio::net::UnixListener;

    const LIMIT: Duration = Duration::from_secs(5);

    /// An agent that first lets out what an earlier conversation left, and runs every command at
    /// the second time it is asked for the command's status.
    async fn fake_agent(listener: UnixListener) {
        let (stream, _) = listener.accept().await.unwrap();
        let mut lines = JsonLines::new(stream);
        lines.send_raw(b"{\"return\": {\"stale\": true}}\n").await.unwrap();
        lines.skip_past(DELIMITER).await.unwrap();
        let sync = lines.receive().await.unwrap();
        let id = sync["arguments"]["id"].clone();
        lines.send_raw(&[DELIMITER]).await.unwrap();
        lines.send(&json!({"return": id})).await.unwrap();

        let exec = lines.receive().await.unwrap();
        assert_eq!(exec["arguments"]["path"], "/bin/cat");
        let input = exec["arguments"]["input-data"].clone();
        lines.send(&json!({"return": {"pid": 7}})).await.unwrap();
        lines.receive().await.unwrap();
        lines.send(&json!({"return": {"exited": false}})).await.unwrap();
        lines.receive().await.unwrap();
        let done = json!({"exited": true, "exitcode": 3, "out-data": input});
        lines.send(&json!({"return": done})).await.unwrap();
    }

    fn listen(dir: &std::path::Path) -> UnixListener {
        let _ = std::fs::create_dir(dir.join(RUN));
        let handle = std::fs::File::open(dir).unwrap();
        UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", handle.as_raw_fd())).unwrap()
    }

    #[tokio::test]
    async fn a_commands_output_and_code_come_back_past_stale_answers() {
        let dir = tempfile::tempdir().unwrap();
        let agent = tokio::spawn(fake_agent(listen(dir.path())));
        let shell = AgentShell::new(dir.path().to_owned());
        let output = shell.run(&["/bin/cat"], b"hello", LIMIT).await.unwrap();
        assert_eq!((output.code, output.stdout), (3, b"hello".to_vec()));
        agent.await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_that_is_no_object_is_no_answer() {
        for answer in ["7", "null", "[]", "\"return\""] {
            let dir = tempfile::tempdir().unwrap();
            let listener = listen(dir.path());
            let agent = tokio::spawn(async move {
                let mut lines = JsonLines::new(listener.accept().await.unwrap().0);
                lines.skip_past(DELIMITER).await.unwrap();
                let id = lines.receive().await.unwrap()["arguments"]["id"].clone();
                lines.send_raw(&[DELIMITER]).await.unwrap();
                lines.send(&json!({"return": id})).await.unwrap();
                lines.send_raw(format!("{answer}\n").repeat(2).as_bytes()).await.unwrap();
                // Whoever waits for more gets no more.
                while lines.receive().await.is_ok() {}
            });
            let shell = AgentShell::new(dir.path().to_owned());
            let limit = Duration::from_millis(200);
            let error = shell.run(&["/bin/true"], b"", limit).await.unwrap_err();
            assert!(matches!(error, Error::Timeout { .. }), "{answer}: {error}");
            agent.await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_agent_that_says_nothing_is_not_waited_for_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let _listener = listen(dir.path());
        let shell = AgentShell::new(dir.path().to_owned());
        let error = shell.run(&["/bin/true"], b"", Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_machine_that_does_not_run_is_unreachable() {
        let dir = tempfile::tempdir().unwrap();
        let shell = AgentShell::new(dir.path().to_owned());
        let error = shell.run(&["/bin/true"], b"", LIMIT).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable(_)), "{error}");
    }
}
