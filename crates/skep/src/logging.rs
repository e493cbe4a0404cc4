//! The log for debugging: what skep ran, how long that took and how it ended.
//!
//! ```text
//! steps, external commands ──▶ redact ──▶ $SKEP_HOME/logs/CLUSTER.log   once a command changes a cluster
//!                                     └─▶ standard error                with --debug or SKEP_LOG
//! ```
//!
//! What happened before the cluster was known is kept in memory and comes first. A log is for others to read, so secrets
//! are taken out of each event before it is written anywhere.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use skep_sys::{BoundedLog, COMMANDS};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{MakeWriter, layer, time};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, registry};

use crate::error::CliError;
use crate::redact::Redactor;

/// The variable that says what is logged on standard error, such as `debug` or `skep::command=debug,hyper=trace`.
pub const VARIABLE: &str = "SKEP_LOG";

/// How much is kept in memory until the cluster is known, in bytes.
const EARLY: usize = 256 << 10;

/// Where events go that are written to a file.
enum Sink {
    /// Nowhere: this process does not log.
    Off,
    /// Nowhere yet: they are kept.
    Memory(Vec<u8>),
    /// Into the log of a cluster.
    File(BoundedLog),
}

static PRINTS: AtomicBool = AtomicBool::new(false);

static SINK: LazyLock<Mutex<Sink>> = LazyLock::new(|| Mutex::new(Sink::Off));

fn sink() -> MutexGuard<'static, Sink> {
    SINK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to log. With `debug`, external commands are also printed on standard error.
///
/// # Errors
///
/// If `SKEP_LOG` is no filter.
pub fn begin(debug: bool) -> Result<(), CliError> {
    let asked = crate::environment::text_variable(VARIABLE);
    let asked = asked.map(|text| {
        text.parse::<EnvFilter>().map_err(|error| {
            CliError::usage(format!("{VARIABLE}={text}: {error}"))
                .hint(format!("{VARIABLE}=debug"))
                .hint(format!("{VARIABLE}={COMMANDS}=debug,skep=info"))
        })
    });
    let to_file = Targets::new().with_target("skep", LevelFilter::DEBUG);
    let file = layer().with_ansi(false).with_target(false).with_writer(ToFile).with_filter(to_file);
    let remarks = || layer().with_ansi(false).with_writer(ToRemarks);
    let remarks = match (asked.transpose()?, debug) {
        (Some(filter), _) => Some(remarks().with_filter(filter).boxed()),
        (None, true) => {
            let commands = Targets::new().with_target(COMMANDS, LevelFilter::DEBUG);
            let plain = remarks().with_target(false).with_level(false);
            Some(plain.with_timer(time::uptime()).with_filter(commands).boxed())
        }
        (None, false) => None,
    };
    PRINTS.store(remarks.is_some(), Ordering::Relaxed);
    let subscriber = registry().with(file).with(remarks);
    *sink() = Sink::Memory(Vec::new());
    // Another one is there in a test that runs several commands in one process.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// Logs into a file from here on, with what was kept until now. Without room for it nothing is logged.
pub fn write_to(path: &Path) {
    let mut sink = sink();
    let early = match &mut *sink {
        Sink::Off => return,
        Sink::File(log) if log.path() == path => return,
        Sink::File(_) => Vec::new(),
        Sink::Memory(early) => std::mem::take(early),
    };
    *sink = match BoundedLog::open(path) {
        Ok(mut log) => {
            let _ = log.write(&early);
            Sink::File(log)
        }
        Err(_) => Sink::Off,
    };
}

/// Tells whether events are printed on standard error.
#[must_use]
pub fn prints() -> bool {
    PRINTS.load(Ordering::Relaxed)
}

/// Returns the file that is logged into.
#[must_use]
pub fn path() -> Option<PathBuf> {
    match &*sink() {
        Sink::File(log) => Some(log.path().to_owned()),
        Sink::Memory(_) | Sink::Off => None,
    }
}

/// Removes a cluster's log, and logs nothing more of it.
pub fn remove(path: &Path) {
    let mut sink = sink();
    if matches!(&*sink, Sink::File(log) if log.path() == path) {
        *sink = Sink::Off;
    }
    let _ = BoundedLog::remove(path);
}

fn clean(event: &[u8]) -> String {
    static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| Redactor::of(None));
    REDACTOR.clean(&String::from_utf8_lossy(event))
}

struct ToFile;

impl io::Write for ToFile {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = clean(event);
        match &mut *sink() {
            Sink::Memory(early) if early.len() + text.len() <= EARLY => {
                early.extend(text.as_bytes());
            }
            // That a log has no room is no reason for a command to fail.
            Sink::File(log) => drop(log.write(text.as_bytes())),
            Sink::Memory(_) | Sink::Off => {}
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for ToFile {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

struct ToRemarks;

impl io::Write for ToRemarks {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        skep_print::err!("{}", clean(event));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for ToRemarks {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_sys::Cmd;

    #[tokio::test]
    async fn each_external_command_is_logged_with_its_end_and_without_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/demo.log");
        begin(false).unwrap();
        let secret = "hunter2hunter2";
        let words = ["--password", secret, &format!("https://me:{secret}@registry.example/")];
        Cmd::new("true").args(words).env("TOKEN", secret).stdin(secret).run().await.unwrap();
        assert!(!path.exists(), "no cluster is known yet");
        write_to(&path);
        let script = format!("echo DB_PASSWORD={secret} >&2; echo SWMTKN-1-{secret} >&2; exit 3");
        Cmd::new("sh").args(["-c", &script]).run().await.unwrap_err();
        Cmd::new("no-such-program").run().await.unwrap_err();
        let hangs = Cmd::new("sleep").arg("600");
        let limit = std::time::Duration::from_millis(50);
        tokio::time::timeout(limit, hangs.run()).await.unwrap_err();

        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 8, "the start and the end of each: {text}");
        for (line, wanted) in [
            (0, "run true --password [redacted] https://me:[redacted]@registry.example/"),
            (1, "exit status: 0 after 0."),
            (3, "exit status: 3: DB_PASSWORD=[redacted]"),
            (5, "no-such-program is not installed after 0."),
            (7, "given up after 0."),
        ] {
            assert!(lines[line].contains(wanted), "line {line} lacks {wanted}: {text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
        remove(&path);
        assert!(!dir.path().join("logs").exists() && super::path().is_none());
    }
}
