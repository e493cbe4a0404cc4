//! What is going on, by phases: the state behind the lines of progress. Nothing here prints or asks for the time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use skep_core::event::{Event, StepOutline};
use skep_core::plan::Phase;

use super::shown::one_line;

/// The columns that a phase's name takes.
const NAME: usize = 17;

/// The most letters of a node's or service's name in a line that it shares with others.
const SHARED: usize = 20;

/// A phase that ended before and ends again within this time found nothing left to do.
const AGAIN: Duration = Duration::from_millis(500);

/// The phases that work, and how far each is.
#[derive(Default)]
pub struct Board {
    ended: BTreeSet<Phase>,
    outline: Vec<StepOutline>,
    titles: BTreeMap<usize, String>,
    lines: BTreeMap<Phase, Line>,
}

/// What an event changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The phase whose line is another one now.
    pub touched: Option<Phase>,
    /// The phase that has no live line any more.
    pub over: Option<Phase>,
    /// What has ended and is worth a line that stays.
    pub finished: Option<Finished>,
}

/// A phase that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Which.
    pub phase: Phase,
    /// How long it took, from its first step's start to its last one's end.
    pub took: Duration,
    /// Whether nothing in it failed.
    pub is_ok: bool,
    /// How many nodes or services are done.
    pub done: usize,
    /// How many it was for; none if it concerned the cluster as a whole.
    pub of: usize,
}

/// The signs for what is done, has failed, and is under way.
#[derive(Debug, Clone, Copy)]
pub struct Marks {
    /// Done.
    pub done: &'static str,
    /// Failed.
    pub failed: &'static str,
    /// Not done yet.
    pub open: &'static str,
}

impl Marks {
    /// For terminals that show Unicode.
    pub const UNICODE: Self = Self { done: "✓", failed: "✗", open: "…" };
    /// For the others.
    pub const ASCII: Self = Self { done: "+", failed: "!", open: ".." };
}

struct Line {
    began: Instant,
    /// Steps that have not ended.
    left: usize,
    failed: bool,
    /// The nodes or services, in the order of the plan.
    items: Vec<(String, Item)>,
    /// What is done for the cluster as a whole, or how far a step is.
    text: String,
}

#[derive(Default)]
struct Item {
    left: usize,
    doing: Option<String>,
    failed: bool,
}

impl Item {
    fn is_done(&self) -> bool {
        self.left == 0 && !self.failed
    }
}

impl Board {
    /// Takes in what happened at a time.
    pub fn event(&mut self, event: &Event, now: Instant) -> Change {
        match event {
            Event::PlanStarted { steps } => {
                self.titles.clear();
                self.lines.clear();
                self.outline.clone_from(steps);
                Change::default()
            }
            Event::StepStarted { step, title, .. } => {
                self.titles.insert(*step, one_line(title));
                self.update(*step, now, |line, node, title| match node {
                    Some(node) => line.item(node).doing = Some(title.to_owned()),
                    None => title.clone_into(&mut line.text),
                })
            }
            Event::StepProgress { step, text } => {
                let text = one_line(text);
                self.update(*step, now, |line, node, title| match node {
                    Some(node) => line.item(node).doing = Some(format!("{title}, {text}")),
                    None => line.text = format!("{title}: {text}"),
                })
            }
            Event::StepBytes { step, done, total } => {
                let text = bytes(*done, *total);
                self.update(*step, now, |line, _, title| line.text = format!("{title}: {text}"))
            }
            Event::StepFinished { step, .. } => self.step_ended(*step, now, false),
            Event::StepFailed { step, .. } => self.step_ended(*step, now, true),
            Event::Service { name, text, done } => {
                let line = self.line(Phase::Stacks, now);
                let item = line.item(&one_line(name));
                item.left = usize::from(!done);
                item.doing = (!done).then(|| one_line(text));
                Change { touched: Some(Phase::Stacks), ..Change::default() }
            }
            Event::Detail(_)
            | Event::Warning(_)
            | Event::StepWarning { .. }
            | Event::Note(_)
            | Event::Notice(_)
            | Event::PlanFinished => Change::default(),
        }
    }

    /// Ends all phases, as when a plan was carried out or given up; returns those of which an end can be told.
    pub fn end(&mut self, now: Instant) -> Vec<Finished> {
        let lines = std::mem::take(&mut self.lines).into_iter();
        let ended = lines.filter(|(phase, line)| match phase {
            // Services have no last step: they are there, or it was given up.
            Phase::Stacks => line.items.iter().all(|(_, item)| item.is_done()),
            _ => line.failed,
        });
        ended.map(|(phase, line)| line.finished(phase, now)).collect()
    }

    /// Returns a phase's line without its time, for so many columns.
    #[must_use]
    pub fn text(&self, phase: Phase, width: usize, marks: Marks) -> String {
        let Some(line) = self.lines.get(&phase) else { return phase.to_string() };
        let room = width.saturating_sub(NAME + 1);
        format!("{phase:<NAME$} {}", line.text(room, marks)).trim_end().to_owned()
    }

    fn update(
        &mut self,
        step: usize,
        now: Instant,
        change: impl FnOnce(&mut Line, Option<&str>, &str),
    ) -> Change {
        let Some(outline) = self.outline.get(step).cloned() else { return Change::default() };
        let title = self.titles.get(&step).cloned().unwrap_or_default();
        change(self.line(outline.phase, now), outline.node.as_ref().map(|it| it.as_str()), &title);
        Change { touched: Some(outline.phase), ..Change::default() }
    }

    fn step_ended(&mut self, step: usize, now: Instant, failed: bool) -> Change {
        let change = self.update(step, now, |line, node, _| {
            line.left = line.left.saturating_sub(1);
            line.failed |= failed;
            match node {
                Some(node) => line.item(node).ended(failed),
                None => line.text.clear(),
            }
        });
        let Some(phase) = change.touched else { return change };
        if self.lines.get(&phase).is_none_or(|line| line.left > 0) {
            return change;
        }
        let finished = self.lines.remove(&phase).map(|line| line.finished(phase, now));
        // Each round of an `up` looks at everything again.
        let is_first = self.ended.insert(phase);
        let is_news = |it: &Finished| is_first || !it.is_ok || it.took >= AGAIN;
        let finished = finished.filter(|it| phase.has_line() && is_news(it));
        Change { touched: None, over: Some(phase), finished }
    }

    /// Returns a phase's line, which begins now if it is not there.
    fn line(&mut self, phase: Phase, now: Instant) -> &mut Line {
        let outline = &self.outline;
        self.lines.entry(phase).or_insert_with(|| Line::new(phase, outline, now))
    }
}

impl Line {
    fn new(phase: Phase, outline: &[StepOutline], now: Instant) -> Self {
        let mut line =
            Self { began: now, left: 0, failed: false, items: Vec::new(), text: String::new() };
        for step in outline.iter().filter(|step| step.phase == phase) {
            line.left += 1;
            if let Some(node) = &step.node {
                line.item(node.as_str()).left += 1;
            }
        }
        line
    }

    fn item(&mut self, name: &str) -> &mut Item {
        let at = self.items.iter().position(|(it, _)| it == name).unwrap_or_else(|| {
            self.items.push((name.to_owned(), Item::default()));
            self.items.len() - 1
        });
        &mut self.items[at].1
    }

    fn done(&self) -> usize {
        self.items.iter().filter(|(_, item)| item.is_done()).count()
    }

    fn finished(&self, phase: Phase, now: Instant) -> Finished {
        Finished {
            phase,
            took: now.saturating_duration_since(self.began),
            is_ok: !self.failed,
            done: self.done(),
            of: self.items.len(),
        }
    }

    /// Returns as much as fits: what each node does, else only which are done, else how many.
    fn text(&self, room: usize, marks: Marks) -> String {
        if self.items.is_empty() {
            return self.text.clone();
        }
        let count = format!("{} of {}", self.done(), self.items.len());
        let ways = [self.list(marks, true, "  "), self.list(marks, false, " "), count];
        let ways = ways.map(|nodes| match self.text.is_empty() {
            true => nodes,
            false => format!("{nodes}  {}", self.text),
        });
        let fits = |text: &&String| console::measure_text_width(text) <= room;
        ways.iter().find(fits).unwrap_or(&ways[2]).clone()
    }

    fn list(&self, marks: Marks, with_steps: bool, between: &str) -> String {
        let items = self.items.iter().map(|(name, item)| {
            let name = cut(name);
            match &item.doing {
                _ if item.failed => format!("{name} {}", marks.failed),
                _ if item.left == 0 => format!("{name} {}", marks.done),
                Some(doing) if with_steps => format!("{name}: {doing}"),
                _ => format!("{name} {}", marks.open),
            }
        });
        items.collect::<Vec<_>>().join(between)
    }
}

impl Item {
    fn ended(&mut self, failed: bool) {
        self.left = self.left.saturating_sub(1);
        self.failed |= failed;
        self.doing = None;
    }
}

impl Finished {
    /// Returns what ended, for how many, without its time.
    #[must_use]
    pub fn text(&self) -> String {
        let kind = if self.phase == Phase::Stacks { "service" } else { "node" };
        let plural = if self.of == 1 { "" } else { "s" };
        match (self.of, self.is_ok) {
            (0, _) => String::new(),
            (of, true) => format!("{of} {kind}{plural}"),
            (of, false) => format!("{} of {of} {kind}{plural}", self.done),
        }
    }

    /// Returns the line that stays on a terminal.
    #[must_use]
    pub fn marked(&self, marks: Marks) -> String {
        let mark = if self.is_ok { marks.done } else { marks.failed };
        let (took, phase) = (seconds(self.took), self.phase);
        format!("{mark} {took:>8}  {phase:<NAME$} {}", self.text()).trim_end().to_owned()
    }

    /// Returns the line for a file or a pipe.
    #[must_use]
    pub fn plain(&self) -> String {
        let end = if self.is_ok { "done in" } else { "failed after" };
        let (what, took) = (self.text(), seconds(self.took));
        let between = if what.is_empty() { "" } else { ", " };
        format!("{}: {what}{between}{end} {took}", self.phase)
    }
}

/// Returns how much of something was sent.
#[must_use]
pub fn bytes(done: u64, total: Option<u64>) -> String {
    match total {
        Some(total) => format!("{} of {} MiB", done >> 20, total >> 20),
        None => format!("{} MiB", done >> 20),
    }
}

/// Returns a duration as progress shows it.
#[must_use]
pub fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

/// Returns a name that leaves room for others.
fn cut(name: &str) -> String {
    match name.chars().count() > SHARED {
        true => name.chars().take(SHARED - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use skep_core::model::{Access, ClusterSpec, HostnameSpec, NodeName};
    use skep_core::plan::{Birth, UpOptions, Verify, plan_reservation, plan_up};
    use skep_ops::converge::OnFailure;
    use skep_testkit::fakes::FakeHost;

    use super::*;

    fn ten_nodes() -> ClusterSpec {
        let mut spec = ClusterSpec::of_machines("demo".parse().unwrap(), 3, 7);
        for (index, node) in spec.nodes.iter_mut().enumerate() {
            node.labels = [("place".to_owned(), format!("p{index}"))].into();
        }
        let demo = HostnameSpec { name: "demo.example".parse().unwrap(), node: None, follow: true };
        ClusterSpec {
            access: Access { ports: vec![8080], ..Access::default() },
            hostnames: vec![demo],
            ..spec
        }
    }

    #[tokio::test]
    async fn an_up_of_ten_nodes_has_at_most_twelve_lines() {
        let (host, spec) = (FakeHost::new(), ten_nodes());
        let said = Mutex::new((Board::default(), Vec::new(), 0));
        let now = Instant::now();
        let events = |event: Event| {
            let (board, lines, live) = &mut *said.lock().unwrap();
            let change = board.event(&event, now);
            lines.extend(change.finished.map(|it| it.plain()));
            *live =
                (*live).max(lines.len() + board.lines.keys().filter(|it| it.has_line()).count());
        };
        let options = UpOptions {
            birth: Birth::Fork { restart_engine: true },
            wait: true,
            verify: Verify::Nothing,
        };
        let plan = plan_reservation(&spec, &host.observe("demo").await.unwrap()).unwrap();
        host.execute("demo", &plan, OnFailure::Stop, &events).await.unwrap();
        loop {
            let plan = plan_up(&spec, &host.observe("demo").await.unwrap(), options).unwrap();
            host.execute("demo", &plan, OnFailure::Stop, &events).await.unwrap();
            assert_eq!(said.lock().unwrap().0.end(now), []);
            if !plan.look_again {
                break;
            }
        }
        let (_, lines, live) = said.into_inner().unwrap();
        insta::assert_snapshot!(lines.join("\n"), @r"
        network: done in 0.0 s
        image: done in 0.0 s
        access: done in 0.0 s
        certificates: 10 nodes, done in 0.0 s
        machines: 10 nodes, done in 0.0 s
        swarm: 10 nodes, done in 0.0 s
        ");
        // The command itself adds two at the end.
        assert!(live + 2 <= 12 && lines.len() + 2 <= 12, "{live}: {lines:#?}");
    }

    fn outline(phase: Phase, node: Option<usize>) -> StepOutline {
        StepOutline { phase, node: node.map(NodeName::numbered) }
    }

    fn started(step: usize, node: Option<usize>, title: &str) -> Event {
        Event::StepStarted { step, node: node.map(NodeName::numbered), title: title.to_owned() }
    }

    #[test]
    fn a_line_says_as_much_as_fits() {
        let now = Instant::now();
        let mut board = Board::default();
        let steps = (0..3).map(|node| outline(Phase::Machines, Some(node)));
        let steps = steps.chain([outline(Phase::Machines, Some(0))]).collect();
        board.event(&Event::PlanStarted { steps }, now);
        board.event(&started(0, Some(0), "start machine"), now);
        board.event(&started(1, Some(1), "boot"), now);
        board.event(&Event::StepFinished { step: 1, took: Duration::ZERO }, now);
        let text = |width| board.text(Phase::Machines, width, Marks::UNICODE);
        insta::assert_snapshot!([text(80), text(50), text(30), text(5)].join("\n"), @r"
        machines          node0: start machine  node1 ✓  node2 …
        machines          node0 … node1 ✓ node2 …
        machines          1 of 3
        machines          1 of 3
        ");
    }

    #[test]
    fn a_phase_ends_with_its_last_step_and_says_what_failed() {
        let now = Instant::now();
        let later = now + Duration::from_millis(2500);
        let took = Duration::ZERO;
        let mut board = Board::default();
        let steps = vec![
            outline(Phase::Machines, Some(0)),
            outline(Phase::Machines, Some(1)),
            outline(Phase::Swarm, Some(1)),
            outline(Phase::Swarm, Some(0)),
        ];
        board.event(&Event::PlanStarted { steps }, now);
        for step in 0..2 {
            board.event(&started(step, Some(step), "boot"), now);
        }
        let change = board.event(&Event::StepFinished { step: 0, took }, later);
        assert_eq!(change, Change { touched: Some(Phase::Machines), ..Change::default() });
        let failed = Event::StepFailed { step: 1, took, error: "no".to_owned() };
        let finished = board.event(&failed, later).finished.unwrap();
        assert_eq!(finished.plain(), "machines: 1 of 2 nodes, failed after 2.5 s");
        assert_eq!(finished.marked(Marks::UNICODE), "✗    2.5 s  machines          1 of 2 nodes");
        // What was given up in the midst is not told to be done.
        board.event(&started(3, Some(0), "join swarm as worker"), later);
        assert_eq!(board.end(later), []);
    }

    #[test]
    fn services_are_one_phase() {
        let now = Instant::now();
        let mut board = Board::default();
        let service = |name: &str, done| Event::Service {
            name: name.to_owned(),
            text: "0/1 starting".to_owned(),
            done,
        };
        board.event(&service("s_web", false), now);
        board.event(&service("s_a-service-with-a-very-long-name", true), now);
        let text = board.text(Phase::Stacks, 80, Marks::ASCII);
        insta::assert_snapshot!(text, @"stacks            s_web: 0/1 starting  s_a-service-with-a-… +");
        board.event(&service("s_web", true), now);
        assert_eq!(
            board.end(now).iter().map(Finished::plain).collect::<Vec<_>>(),
            ["stacks: 2 services, done in 0.0 s"]
        );
    }
}
