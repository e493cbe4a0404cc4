//! Logs of nodes: what their consoles and services have said, and what they say from now on.
//!
//! No process of ours stays in a guest: a log that is followed is read from where it was read before, about once a second.
//! So following continues after a restart of the node.

mod lines;
mod services;
mod source;

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use skep_core::model::NodeName;
use skep_core::observed::MachineState;
use skep_driver::Driver;
use skep_store::Machine;
use time::OffsetDateTime;

use crate::{Error, Run};
use lines::Lines;
pub use services::{ServiceLogEvent, ServiceLogOptions, ServiceLogSink, TaskLine, read_services};
pub use source::READ_LOG_NAME;
use source::{Piece, Source};

/// How soon a log that is followed is read again: a guest runs a program for each look.
const AGAIN: Duration = Duration::from_secs(1);

/// How many nodes are read at the same time.
const AT_ONCE: usize = 4;

/// Which log of a node is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOf {
    /// What its machine prints on its console. Its lines have no times.
    Console,
    /// What a service logs, such as `docker`.
    Service(String),
}

/// What of a log is read.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Which log.
    pub of: LogOf,
    /// Leave out lines from before this time, which is compared to the second. A line without a time goes with the one
    /// before it.
    pub since: Option<OffsetDateTime>,
    /// How many of the last lines of the past to read; all that are kept if none.
    pub tail: Option<usize>,
    /// Go on with what is said from now on, until the caller drops the future or the node is removed.
    pub follow: bool,
}

/// What a reader of logs is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    /// A line, with its end if it has one. Not to be trusted: it is what a guest wrote.
    Line {
        /// The node.
        node: NodeName,
        /// The bytes, which need not be UTF-8.
        text: Vec<u8>,
    },
    /// Something about the log that its reader should know, such as that the node has stopped.
    Note {
        /// The node.
        node: NodeName,
        /// In words.
        text: String,
    },
}

/// Receives the lines.
pub type LogSink<'a> = &'a (dyn Fn(LogEvent) + Send + Sync);

impl Run<'_> {
    /// Reads the logs of nodes: one node after the other, or, if they are followed, all at the same time. Returns what failed;
    /// the other nodes' logs are read all the same.
    pub async fn logs(
        &self,
        machines: &[Machine],
        options: &LogOptions,
        told: LogSink<'_>,
    ) -> Vec<Error> {
        read_logs(&self.driver, machines, options, told).await
    }
}

/// Reads logs through a driver of machines, as [`Run::logs`] does.
pub async fn read_logs(
    driver: &dyn Driver,
    machines: &[Machine],
    options: &LogOptions,
    told: LogSink<'_>,
) -> Vec<Error> {
    if options.follow {
        let all = machines.iter().map(|machine| read_log(driver, machine, options, told));
        let all = futures_util::future::join_all(all).await;
        return all.into_iter().filter_map(Result::err).collect();
    }
    let all = machines.iter().map(async |machine| {
        let read = std::sync::Mutex::new(Vec::new());
        let keep = |event| read.lock().expect("nobody panics with it").push(event);
        let result = read_log(driver, machine, options, &keep).await;
        (read.into_inner().expect("nobody panics with it"), result)
    });
    let mut failed = Vec::new();
    let mut all = stream::iter(all).buffered(AT_ONCE);
    while let Some((read, result)) = all.next().await {
        read.into_iter().for_each(told);
        failed.extend(result.err());
    }
    failed
}

/// Reads the log of one node.
async fn read_log(
    driver: &dyn Driver,
    machine: &Machine,
    options: &LogOptions,
    told: LogSink<'_>,
) -> Result<(), Error> {
    let node = machine.record.name();
    let note = |text: String| told(LogEvent::Note { node: node.clone(), text });
    let say = |text| told(LogEvent::Line { node: node.clone(), text });
    let mut source = Source::new(options);
    let mut lines = Lines::since(options.since);
    let mut past = options.tail.map(|_| VecDeque::new());
    let mut away = false;
    loop {
        match source.read(driver, machine).await {
            Ok(Piece { bytes, more, lost }) => {
                if std::mem::take(&mut away) {
                    note("it responds again".to_owned());
                }
                if lost {
                    note("lines are missing here: more was written than is kept".to_owned());
                }
                lines.push(&bytes, &mut |line| keep(&mut past, options.tail, line, &say));
                if more {
                    continue;
                }
                if !options.follow {
                    lines.finish(&mut |line| keep(&mut past, options.tail, line, &say));
                }
                past.take().into_iter().flatten().for_each(say);
                if !options.follow {
                    return Ok(());
                }
            }
            Err(error) if !options.follow || error_is_final(&error) => return Err(error),
            Err(error) => {
                if !std::mem::replace(&mut away, true) {
                    note(format!("{}; waiting for it", reason(&error)));
                }
            }
        }
        if source.is_of_console() {
            let stopped = driver.state(machine).await != MachineState::Running;
            if stopped && !std::mem::replace(&mut away, true) {
                note(format!("{}; waiting for it", reason(&Error::NotRunning(node.clone()))));
            }
            // What a console says last is there already; it says more only in its next life.
            while stopped && machine.dir.exists() && !is_running(driver, machine).await {
                // wait: no process of ours is told that a machine starts.
                tokio::time::sleep(AGAIN).await;
            }
        }
        if !machine.dir.exists() {
            note("it was removed".to_owned());
            return Ok(());
        }
        // wait: neither a ring in QEMU nor a file in a guest announces what is added.
        tokio::time::sleep(AGAIN).await;
    }
}

async fn is_running(driver: &dyn Driver, machine: &Machine) -> bool {
    driver.state(machine).await == MachineState::Running
}

/// Tells whether waiting does not help: the log will never be there.
fn error_is_final(error: &Error) -> bool {
    matches!(error, Error::NoLog { .. } | Error::NoConsole(_))
}

/// Returns why a log cannot be read, without the node's name.
fn reason(error: &Error) -> String {
    match error {
        Error::NotRunning(_) => "it is not running".to_owned(),
        Error::Shell { source, .. } => skep_sys::chain(source),
        other => skep_sys::chain(other),
    }
}

/// Hands a line on, or keeps it while the past is read of which only the end is wanted.
fn keep(
    past: &mut Option<VecDeque<Vec<u8>>>,
    tail: Option<usize>,
    line: Vec<u8>,
    say: &dyn Fn(Vec<u8>),
) {
    match past {
        None => say(line),
        Some(past) => {
            past.push_back(line);
            while past.len() > tail.unwrap_or(usize::MAX) {
                past.pop_front();
            }
        }
    }
}
