//! What the containers of services write, from a manager of their swarm.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use skep_core::services::View;
use skep_docker::engine::{self, Engine, LogsWanted, ServiceLine};
use skep_docker::stack::{self, Swarm};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// How soon a manager is asked again that broke off, or a view for a task that is new.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a silent connection is believed to be one: a machine that loses its power ends none, nor does a service that is removed.
/// Asking again for what came after the last line loses nothing.
const SILENCE: Duration = Duration::from_secs(10);

/// How many services are read at the same time.
const AT_ONCE: usize = 4;

/// The most bytes of lines that are put in order.
const MOST: usize = 64 << 20;

/// How many tasks are known at most: an engine may tell of as many as it likes.
const TASKS: usize = 10_000;

/// By how much lines of one node may be late.
const LATE: i128 = 2_000_000_000;

/// What of the services' logs is read.
#[derive(Debug, Clone, Default)]
pub struct ServiceLogOptions {
    /// Only lines from then on.
    pub since: Option<OffsetDateTime>,
    /// How many lines of the past of each task; all if none.
    pub tail: Option<usize>,
    /// Go on with what is written from now on, until the caller drops the future or the services are removed.
    pub follow: bool,
}

/// What a reader of services' logs is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceLogEvent {
    /// A line that a container wrote. Not to be trusted.
    Line(TaskLine),
    /// Something about the log that its reader should know.
    Note(String),
}

/// A line that a container wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskLine {
    /// The task's name, such as `shop_web.1`; its ID if it is not known any more.
    pub task: String,
    /// The node's name; its ID if it is not known.
    pub node: String,
    /// The line, with its time and IDs.
    pub line: ServiceLine,
}

/// Receives the lines.
pub type ServiceLogSink<'a> = &'a (dyn Fn(ServiceLogEvent) + Send + Sync);

/// Reads the logs of the services with these IDs. Lines of the past are told in the order of their times; if the logs are
/// followed, as they come, and if a manager ends, another one is asked.
///
/// # Errors
///
/// If no manager answers, or nothing can be read.
pub async fn read_services(
    swarm: Swarm<'_>,
    services: &[String],
    options: &ServiceLogOptions,
    told: ServiceLogSink<'_>,
) -> Result<(), stack::Error> {
    let names = Mutex::new(Names::default());
    let since = options.since.map(OffsetDateTime::unix_timestamp_nanos);
    let wanted = LogsWanted { since, tail: options.tail, follow: options.follow };
    if options.follow {
        let follower = |id| Follower { swarm, id, names: &names, told, seen: HashMap::new() };
        let all = services.iter().map(|id| follower(id).follow(wanted.clone()));
        futures_util::future::join_all(all).await;
        return Ok(());
    }
    let manager = swarm.manager().await?;
    let read = stream::iter(services)
        .map(|id| async { read_all(&*manager, swarm.patience, id, &wanted).await });
    let mut read = read.buffer_unordered(AT_ONCE);
    let (mut all, mut failed) = (InOrder::default(), None);
    while let Some((lines, error)) = read.next().await {
        lines.into_iter().for_each(|line| all.push(line));
        failed = failed.or(error);
    }
    drop(read);
    match failed {
        Some(error) if all.lines.is_empty() => return Err(error.into()),
        Some(error) => {
            told(ServiceLogEvent::Note(format!("lines are missing: {}", skep_sys::chain(&error))))
        }
        None => {}
    }
    if all.is_cut {
        let most = MOST >> 20;
        let text = format!("only the newest {most} MiB are printed; --since and --tail print less");
        told(ServiceLogEvent::Note(text));
    }
    let mut names = names.lock().await;
    for line in all.lines.into_values() {
        told(ServiceLogEvent::Line(names.named(&*manager, line).await));
    }
    Ok(())
}

/// Reads what there is of a service's log, and why that may not be all.
async fn read_all(
    manager: &dyn Engine,
    patience: Duration,
    service: &str,
    wanted: &LogsWanted,
) -> (Vec<ServiceLine>, Option<engine::Error>) {
    let (mut lines, mut bytes) = (Vec::new(), 0);
    let mut stream = match manager.service_logs(service, wanted).await {
        Ok(stream) => stream,
        Err(error) => return (lines, Some(error)),
    };
    loop {
        match timeout(patience, stream.next()).await {
            Ok(Some(Ok(line))) => {
                bytes += line.text.len();
                lines.push(line);
                // The engine tells the lines of each task from the oldest to the newest.
                if bytes > MOST {
                    let half = lines.len() / 2;
                    bytes = lines.drain(..half).fold(bytes, |bytes, line| bytes - line.text.len());
                }
            }
            Ok(Some(Err(error))) => return (lines, Some(error)),
            Ok(None) => return (lines, None),
            Err(_) => {
                let error = format!("the log does not go on within {} s", patience.as_secs());
                return (lines, Some(engine::Error::Garbled(error.into())));
            }
        }
    }
}

/// Lines by their times, the oldest of which go if they are too many.
#[derive(Default)]
struct InOrder {
    lines: BTreeMap<(String, usize), ServiceLine>,
    bytes: usize,
    count: usize,
    is_cut: bool,
}

impl InOrder {
    fn push(&mut self, line: ServiceLine) {
        self.bytes += line.text.len();
        self.count += 1;
        self.lines.insert((line.time.clone(), self.count), line);
        while self.bytes > MOST
            && let Some((_, oldest)) = self.lines.pop_first()
        {
            self.is_cut = true;
            self.bytes -= oldest.text.len();
        }
    }
}

/// The names of tasks and nodes by their IDs.
#[derive(Default)]
struct Names {
    tasks: HashMap<String, (String, String)>,
    asked: Option<Instant>,
}

impl Names {
    fn take(&mut self, view: &View) {
        self.asked = Some(Instant::now());
        for (service, task) in
            view.services.iter().flat_map(|it| view.tasks_of(it).map(move |task| (it, task)))
        {
            if self.tasks.len() >= TASKS {
                self.tasks.clear();
            }
            let node = task.node.clone().unwrap_or_default();
            let node = view.hostname(&node).map_or(node.clone(), str::to_owned);
            self.tasks.insert(task.id.clone(), (view.name_of(service, task), node));
        }
    }

    /// Says whose line it is; asks if the task is a new one.
    async fn named(&mut self, manager: &dyn Engine, line: ServiceLine) -> TaskLine {
        let is_stale = self.asked.is_none_or(|asked| asked.elapsed() >= AGAIN);
        if !self.tasks.contains_key(&line.task) && is_stale {
            match manager.view().await {
                Ok(view) => self.take(&view),
                Err(_) => self.asked = Some(Instant::now()),
            }
        }
        let (task, node) = match self.tasks.get(&line.task) {
            Some(names) => names.clone(),
            None => (line.task.clone(), line.node.clone()),
        };
        TaskLine { task, node, line }
    }
}

/// Follows the log of one service.
struct Follower<'a> {
    swarm: Swarm<'a>,
    id: &'a str,
    names: &'a Mutex<Names>,
    told: ServiceLogSink<'a>,
    /// The time of the last line of each task.
    seen: HashMap<String, String>,
}

impl Follower<'_> {
    async fn follow(mut self, mut wanted: LogsWanted) {
        let mut was_told = false;
        loop {
            let mut opened = None;
            match self.follow_one_manager(&wanted, &mut opened, &mut was_told).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    // A repeated failure is reported once.
                    if opened.is_some_and(|at: Instant| at.elapsed() > SILENCE) {
                        was_told = false;
                    }
                    if !std::mem::replace(&mut was_told, true) {
                        let text = format!("{}; trying again", skep_sys::chain(&error));
                        (self.told)(ServiceLogEvent::Note(text));
                    }
                }
            }
            if let Some(last) = self.seen.values().max().and_then(|at| nanoseconds(at)) {
                wanted = LogsWanted { since: Some(last - LATE), tail: None, follow: true };
            }
            // wait: nothing announces that a manager is there again.
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Follows until the manager is silent for a while, or the service is gone, and tells whether the service is there. An error is
    /// that of the manager.
    async fn follow_one_manager(
        &mut self,
        wanted: &LogsWanted,
        opened: &mut Option<Instant>,
        was_told: &mut bool,
    ) -> Result<bool, stack::Error> {
        let manager = self.swarm.manager().await?;
        let view = manager.view().await?;
        if !view.services.iter().any(|service| service.id == self.id) {
            return Ok(false);
        }
        self.names.lock().await.take(&view);
        let mut lines = manager.service_logs(self.id, wanted).await?;
        *opened = Some(Instant::now());
        // Lines from before the connection broke are left out.
        let before = self.seen.clone();
        loop {
            let Ok(line) = timeout(SILENCE, lines.next()).await else { return Ok(true) };
            let Some(line) = line.transpose()? else { break };
            *was_told = false;
            if before.get(&line.task).is_some_and(|last| line.time <= *last) {
                continue;
            }
            if self.seen.len() >= TASKS {
                self.seen.clear();
            }
            self.seen.insert(line.task.clone(), line.time.clone());
            let line = self.names.lock().await.named(&*manager, line).await;
            (self.told)(ServiceLogEvent::Line(line));
        }
        Err(engine::Error::Garbled("the manager ended the log".into()).into())
    }
}

fn nanoseconds(time: &str) -> Option<i128> {
    OffsetDateTime::parse(time, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp_nanos)
}
