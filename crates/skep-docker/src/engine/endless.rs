//! Answers that have no end: logs and events that are followed.
//!
//! They take a connection without the bound on a whole answer. In its place each line has one, and what has not been taken
//! yet stays in the engine. Sources of facts: Docker Engine API v1.44, `ServiceLogs`, `SystemEvents` and
//! `ContainerAttach` (for the frames).

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _, try_unfold};
use http_body_util::{BodyExt as _, Limited};
use hyper::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::api::ApiEngine;
use super::{Error, PORT};

/// The most bytes of a line of a log. The engine cuts lines after 16 KiB, and puts labels before them.
const LOG_LINE: usize = 1 << 20;

/// The most bytes of an event.
const EVENT: usize = 1 << 20;

/// How much of a refusal is read.
const REFUSAL: usize = 16 << 10;

/// A stream of what an engine says.
pub type Stream<T> = BoxStream<'static, Result<T, Error>>;

/// What of the log of a service is wanted.
#[derive(Debug, Clone, Default)]
pub struct LogsWanted {
    /// Only lines from then on, in nanoseconds since 1970.
    pub since: Option<i128>,
    /// How many lines of the past of each task; all if none.
    pub tail: Option<usize>,
    /// Whether the stream goes on with what is written from now on.
    pub follow: bool,
}

/// A line that a task's container wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceLine {
    /// When (RFC 3339, nanoseconds).
    pub time: String,
    /// The ID of the task; empty if the engine does not say.
    pub task: String,
    /// The ID of the member that it ran on; empty if the engine does not say.
    pub node: String,
    /// Whether it was written to standard error.
    pub is_error: bool,
    /// What was written, without the end of the line.
    pub text: Vec<u8>,
}

/// Which events are wanted.
#[derive(Debug, Clone, Default)]
pub struct EventsWanted {
    /// Docker's types, such as `container`.
    pub types: Vec<&'static str>,
    /// Also those from then on that the engine remembers, in nanoseconds since 1970. It remembers 256.
    pub since: Option<i128>,
    /// Up to when, in nanoseconds since 1970; then the stream ends.
    pub until: Option<i128>,
}

/// Something that happened in an engine or in its swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineEvent {
    /// When, in nanoseconds since 1970.
    pub time: i128,
    /// Docker's type, such as `container`.
    pub kind: String,
    /// What happened, such as `start`.
    pub action: String,
    /// The ID of what it happened to.
    pub id: String,
    /// What else the engine says of it.
    pub attributes: BTreeMap<String, String>,
}

/// Begins to read the log of a service.
pub(super) async fn service_logs(
    engine: &ApiEngine,
    service: &str,
    wanted: &LogsWanted,
) -> Result<Stream<ServiceLine>, Error> {
    let tail = wanted.tail.map_or("all".to_owned(), |lines| lines.to_string());
    let (service, follow) = (encoded(service), u8::from(wanted.follow));
    let mut path = format!(
        "/services/{service}/logs?stdout=1&stderr=1&timestamps=1&details=1&tail={tail}&follow={follow}"
    );
    if let Some(since) = wanted.since {
        let _ = write!(path, "&since={}", seconds(since));
    }
    Ok(parsed(open(engine, &path, "return a log").await?, LogParser::default()))
}

/// Begins to read events.
pub(super) async fn events(
    engine: &ApiEngine,
    wanted: &EventsWanted,
) -> Result<Stream<EngineEvent>, Error> {
    let filters = json!({"type": wanted.types}).to_string();
    let mut path = format!("/events?filters={}", encoded(&filters));
    for (key, at) in [("since", wanted.since), ("until", wanted.until)] {
        if let Some(at) = at {
            let _ = write!(path, "&{key}={}", seconds(at));
        }
    }
    Ok(parsed(open(engine, &path, "report events").await?, EventParser::default()))
}

/// Returns a time as the API takes it.
fn seconds(nanoseconds: i128) -> String {
    let at = nanoseconds.max(0);
    format!("{}.{:09}", at / 1_000_000_000, at % 1_000_000_000)
}

fn encoded(text: &str) -> String {
    let escape = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// Sends a request on a connection without a bound; returns the body once the engine has agreed.
async fn open(engine: &ApiEngine, path: &str, what: &'static str) -> Result<Incoming, Error> {
    let address = engine.address();
    let unreachable =
        |source: Box<dyn std::error::Error + Send + Sync>| Error::Unreachable { address, source };
    let request = Request::get(format!("https://{address}:{PORT}{path}"))
        .body(bollard::body_full(Bytes::new()))
        .map_err(|error| Error::Garbled(Box::new(error)))?;
    let exchange = async {
        let answer = engine.send_endless(request).await;
        let answer = answer.map_err(|error| unreachable(Box::new(error)))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer.into_body());
        }
        let body =
            Limited::new(answer.into_body(), REFUSAL).collect().await.map_err(unreachable)?;
        let told: Option<Value> = serde_json::from_slice(&body.to_bytes()).ok();
        let message = told.as_ref().and_then(|it| it.get("message")).and_then(Value::as_str);
        let message = message.unwrap_or("it gives no reason").to_owned();
        Err(Error::Refused { status: status.as_u16(), message })
    };
    match timeout(engine.patience(), exchange).await {
        Ok(result) => result,
        Err(_) => Err(engine.timeout(what)),
    }
}

/// Turns the bytes of an answer into what they say.
trait Parser: Send + 'static {
    type Item: Send + 'static;

    /// Takes bytes, and adds what they complete to `out`.
    fn feed(&mut self, bytes: &[u8], out: &mut VecDeque<Self::Item>) -> Result<(), Error>;

    /// Adds what is left at the end.
    fn finish(&mut self, _out: &mut VecDeque<Self::Item>) {}
}

/// An answer that is read: its body until that has ended, and what was read and not yet taken.
type Reading<P> = (Option<Incoming>, P, VecDeque<<P as Parser>::Item>);

fn parsed<P: Parser>(body: Incoming, parser: P) -> Stream<P::Item> {
    let next = |(mut body, mut parser, mut ready): Reading<P>| async move {
        loop {
            if let Some(item) = ready.pop_front() {
                return Ok(Some((item, (body, parser, ready))));
            }
            let Some(open) = &mut body else { return Ok(None) };
            match open.frame().await {
                Some(Ok(frame)) => {
                    parser.feed(&frame.into_data().unwrap_or_default(), &mut ready)?;
                }
                Some(Err(error)) => return Err(Error::Garbled(Box::new(error))),
                None => {
                    body = None;
                    parser.finish(&mut ready);
                }
            }
        }
    };
    try_unfold((Some(body), parser, VecDeque::new()), next).boxed()
}

fn garbled(what: &str) -> Error {
    Error::Garbled(what.into())
}

/// The log of a service. It comes in frames, each with a line: what it was written to (1 standard output, 2 standard error, 3 the
/// engine's own error), three zeros, the length in four bytes, and the line. A service with a terminal has plain lines.
#[derive(Default)]
struct LogParser {
    buffer: Vec<u8>,
    has_frames: Option<bool>,
}

impl Parser for LogParser {
    type Item = ServiceLine;

    fn feed(&mut self, bytes: &[u8], out: &mut VecDeque<ServiceLine>) -> Result<(), Error> {
        self.buffer.extend_from_slice(bytes);
        // A plain line begins with its time.
        let Some(first) = self.buffer.first() else { return Ok(()) };
        let has_frames = *self.has_frames.get_or_insert(*first <= 3);
        let mut done = 0;
        while let Some((used, kind, line)) = match has_frames {
            true => frame(&self.buffer[done..])?,
            false => plain_line(&self.buffer[done..])?,
        } {
            match kind {
                3 => {
                    let message = String::from_utf8_lossy(line).trim().to_owned();
                    return Err(Error::Refused { status: 200, message });
                }
                kind => out.push_back(service_line(line, kind == 2)),
            }
            done += used;
        }
        self.buffer.drain(..done);
        Ok(())
    }

    fn finish(&mut self, out: &mut VecDeque<ServiceLine>) {
        if self.has_frames == Some(false) && !self.buffer.is_empty() {
            out.push_back(service_line(&self.buffer, false));
        }
    }
}

/// A line: how long it is with what is around it, what it was written to, and its text.
type RawLine<'a> = (usize, u8, &'a [u8]);

fn frame(buffer: &[u8]) -> Result<Option<RawLine<'_>>, Error> {
    let Some((head, rest)) = buffer.split_first_chunk::<8>() else { return Ok(None) };
    let [kind @ 0..=3, 0, 0, 0, length @ ..] = *head else {
        return Err(garbled("a frame of the log has no head"));
    };
    let length = u32::from_be_bytes(length) as usize;
    if length > LOG_LINE {
        return Err(garbled("a line of the log is too long"));
    }
    Ok(rest.get(..length).map(|line| (head.len() + length, kind, line)))
}

fn plain_line(buffer: &[u8]) -> Result<Option<RawLine<'_>>, Error> {
    match buffer.iter().position(|byte| *byte == b'\n') {
        Some(end) => Ok(Some((end + 1, 1, &buffer[..end]))),
        None if buffer.len() > LOG_LINE => Err(garbled("a line of the log is too long")),
        None => Ok(None),
    }
}

/// Takes a line apart: its time, its labels, and what was written.
fn service_line(line: &[u8], is_error: bool) -> ServiceLine {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let mut next = || parts.next().unwrap_or_default();
    let (time, labels, text) = (next(), next(), next());
    let labels = String::from_utf8_lossy(labels).into_owned();
    let label = |key: &str| {
        let mut labels = labels.split(',').filter_map(|label| label.split_once('='));
        labels.find(|(name, _)| *name == key).map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    ServiceLine {
        time: String::from_utf8_lossy(time).into_owned(),
        task: label("com.docker.swarm.task.id"),
        node: label("com.docker.swarm.node.id"),
        is_error,
        text: text.to_vec(),
    }
}

/// Events: one JSON object per line.
#[derive(Default)]
struct EventParser {
    buffer: Vec<u8>,
}

impl Parser for EventParser {
    type Item = EngineEvent;

    fn feed(&mut self, bytes: &[u8], out: &mut VecDeque<EngineEvent>) -> Result<(), Error> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.buffer.extend_from_slice(piece);
            if self.buffer.len() > EVENT {
                return Err(garbled("an event is too long"));
            }
            if piece.ends_with(b"\n") {
                let value: Value = serde_json::from_slice(&self.buffer)
                    .map_err(|error| Error::Garbled(Box::new(error)))?;
                out.extend(event(&value));
                self.buffer.clear();
            }
        }
        Ok(())
    }
}

fn event(value: &Value) -> Option<EngineEvent> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let actor = value.get("Actor")?;
    let attributes = actor.get("Attributes").and_then(Value::as_object);
    let attributes = attributes.into_iter().flatten();
    Some(EngineEvent {
        time: value.get("timeNano")?.as_i64()?.into(),
        kind: text(value, "Type")?,
        action: text(value, "Action")?,
        id: text(actor, "ID").unwrap_or_default(),
        attributes: attributes
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: &str =
        "com.docker.swarm.node.id=n1,com.docker.swarm.service.id=s1,com.docker.swarm.task.id=t1";

    fn framed(kind: u8, text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[kind, 0, 0, 0][..], &length, text.as_bytes()].concat()
    }

    fn lines(bytes: &[u8], at_once: usize) -> Result<Vec<ServiceLine>, Error> {
        let (mut parser, mut out) = (LogParser::default(), VecDeque::new());
        for piece in bytes.chunks(at_once) {
            parser.feed(piece, &mut out)?;
        }
        parser.finish(&mut out);
        Ok(out.into())
    }

    #[test]
    fn lines_of_both_outputs_and_of_terminals_are_read_however_they_come() {
        let time = "2026-01-02T03:04:05.000000006Z";
        let frames = [
            framed(1, &format!("{time} {LABELS} to  all\n")),
            framed(2, &format!("{time} {LABELS} \n")),
        ];
        let plain = format!("{time} {LABELS} to  all\r\n{time} {LABELS} ").into_bytes();
        for at_once in [1, 3, 1000] {
            let read = lines(&frames.concat(), at_once).unwrap();
            let line = &read[0];
            assert_eq!((&*line.time, &*line.task, &*line.node), (time, "t1", "n1"));
            assert_eq!((&*line.text, line.is_error), (&b"to  all"[..], false));
            assert_eq!((&*read[1].text, read[1].is_error, read.len()), (&b""[..], true, 2));
            let terminal = lines(&plain, at_once).unwrap();
            assert_eq!((&terminal[0], &*terminal[1].text, terminal.len()), (line, &b""[..], 2));
        }
    }

    #[test]
    fn what_the_engine_says_of_its_own_ends_the_log() {
        let error = lines(&framed(3, "node n2 is not available\n"), 7).unwrap_err();
        assert_eq!(error.to_string(), "the engine refuses: node n2 is not available");
    }

    #[test]
    fn a_hostile_log_takes_a_bounded_part_of_the_memory() {
        let long = [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert!(lines(&long, 8).is_err());
        assert!(lines(&[1, 2, 3, 4, 5, 6, 7, 8], 8).is_err());
        assert!(lines(&vec![b'x'; 2 * LOG_LINE], 1 << 16).is_err());
        let mut parser = EventParser::default();
        assert!(parser.feed(&vec![b'{'; 2 * EVENT], &mut VecDeque::new()).is_err());
        assert!(parser.feed(b"nonsense\n", &mut VecDeque::new()).is_err());
    }

    #[test]
    fn events_are_read_however_they_come() {
        let text = concat!(
            r#"{"Type":"container","Action":"die","Actor":{"ID":"c1","Attributes":{"name":"web","exitCode":"7"}},"#,
            r#""scope":"local","time":5,"timeNano":5000000007}"#,
            "\n{\"odd\":1}\n"
        );
        for at_once in [1, 1000] {
            let (mut parser, mut out) = (EventParser::default(), VecDeque::new());
            text.as_bytes().chunks(at_once).for_each(|it| parser.feed(it, &mut out).unwrap());
            let only = out.pop_front().unwrap();
            assert_eq!((&*only.kind, &*only.action, &*only.id), ("container", "die", "c1"));
            assert_eq!((only.time, &*only.attributes["exitCode"]), (5_000_000_007, "7"));
            assert!(out.is_empty());
        }
    }

    #[test]
    fn times_and_filters_are_what_the_api_takes() {
        assert_eq!(seconds(1_500_000_007), "1.500000007");
        assert_eq!(encoded("a{\"1"), "a%7B%221");
    }
}
