//! Progress on standard error: a line per phase, or per step for those who ask for that. Lines are live on a terminal
//! that can move its cursor; elsewhere they are plain, and each says what has ended.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use skep_core::event::Event;
use skep_core::plan::Phase;
use skep_print::errln;

use super::board::{Board, Change, Finished, Marks, bytes, seconds};
use super::events::{self, EventLines};
use super::shown::{one_line, shown};
use super::timings::{Timing, Timings};
use crate::cli::Detail;

/// The columns of a live line before the phase: the sign that turns, and the time.
const MARGIN: usize = 12;

/// The columns of a terminal that does not say how many it has.
const COLUMNS: usize = 80;

/// Renders events on standard error.
pub struct Progress {
    detail: Detail,
    live: Option<Live>,
    prints_events: bool,
    state: Mutex<State>,
}

/// A terminal whose lines can change.
struct Live {
    bars: MultiProgress,
    marks: Marks,
}

#[derive(Default)]
struct State {
    board: Board,
    events: EventLines,
    timings: Timings,
    phases: BTreeMap<Phase, ProgressBar>,
    steps: BTreeMap<usize, Running>,
    services: BTreeMap<String, ProgressBar>,
}

struct Running {
    name: String,
    bar: Option<ProgressBar>,
    /// How many quarters of its bytes were told.
    quarters: u64,
}

impl Running {
    /// Tells whether another quarter of the bytes is done; plain lines are for no more than that.
    fn is_worth_a_line(&mut self, done: u64, total: Option<u64>) -> bool {
        let quarters = total.map_or(0, |total| (done * 4).checked_div(total).unwrap_or(0));
        std::mem::replace(&mut self.quarters, quarters) < quarters
    }
}

/// Tells whether lines can change where standard error goes.
#[must_use]
pub fn can_redraw(is_terminal: bool, term: Option<&str>, no_color: Option<&str>) -> bool {
    let moves_cursor = term.is_some_and(|term| !term.is_empty() && term != "dumb");
    is_terminal && moves_cursor && no_color.is_none_or(str::is_empty)
}

/// Tells whether a locale's letters are Unicode; the first variable that is set counts.
fn is_unicode(locale: [Option<String>; 3]) -> bool {
    let locale = locale.into_iter().flatten().find(|value| !value.is_empty());
    locale.is_some_and(|value| {
        let value = value.to_ascii_lowercase();
        value.contains("utf-8") || value.contains("utf8")
    })
}

impl Progress {
    /// Creates a renderer; `redraws` tells whether lines can change.
    #[must_use]
    pub fn new(detail: Detail, redraws: bool) -> Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(crate::environment::text_variable);
        let marks = if is_unicode(locale) { Marks::UNICODE } else { Marks::ASCII };
        let live = (redraws && detail != Detail::Quiet)
            .then(|| Live { bars: MultiProgress::new(), marks });
        Self { detail, live, prints_events: false, state: Mutex::default() }
    }

    /// Creates a renderer that prints events as JSON lines on standard output, and nothing else.
    #[must_use]
    pub fn as_events() -> Self {
        Self { prints_events: true, ..Self::new(Detail::Quiet, false) }
    }

    /// Renders one event.
    pub fn event(&self, event: Event) {
        if event == Event::PlanFinished && !self.prints_events {
            return self.clear();
        }
        let now = Instant::now();
        let mut state = self.state.lock().expect("no renderer panics");
        state.timings.event(&event, now);
        if self.prints_events {
            let object = state.events.object(&event);
            return events::write(object, SystemTime::now());
        }
        match &event {
            Event::Warning(text) => return self.above(&format!("warning: {text}")),
            Event::StepWarning { of, text } => {
                return self.above(&format!("warning: {of}: {text}"));
            }
            Event::Notice(text) => return self.above(text),
            Event::Note(text) => return self.line(text),
            _ => {}
        }
        match self.detail {
            Detail::Quiet => {}
            Detail::Phases => {
                let change = state.board.event(&event, now);
                self.failed_step(&mut state, event);
                self.changed(&mut state, change);
            }
            Detail::Steps => self.step(&mut state, event),
        }
    }

    /// Takes the live lines away, as after an interruption.
    pub fn clear(&self) {
        let mut state = self.state.lock().expect("no renderer panics");
        for finished in state.board.end(Instant::now()) {
            self.finished(&finished);
        }
        let phases = std::mem::take(&mut state.phases).into_values();
        let services = std::mem::take(&mut state.services).into_values();
        let steps = std::mem::take(&mut state.steps).into_values();
        let steps = steps.filter_map(|running| running.bar);
        phases.chain(services).chain(steps).for_each(|bar| bar.finish_and_clear());
    }

    /// Returns the kinds of steps that took long enough to be worth a word.
    #[must_use]
    pub fn summary(&self) -> String {
        self.state.lock().expect("no renderer panics").timings.summary()
    }

    /// Returns when each kind of step began and ended, in the order in which they began.
    #[must_use]
    pub fn timings(&self) -> Vec<(String, Timing)> {
        self.state.lock().expect("no renderer panics").timings.kinds().to_vec()
    }

    /// Says which step failed: its phase's line has no room for the reason.
    fn failed_step(&self, state: &mut State, event: Event) {
        match event {
            Event::PlanStarted { .. } => state.steps.clear(),
            Event::StepStarted { step, node, title } => {
                let name = step_name(node.as_ref().map(|it| it.as_str()), &title);
                state.steps.insert(step, Running { name, bar: None, quarters: 0 });
            }
            Event::StepFailed { step, took, error } => {
                let Some(running) = state.steps.remove(&step) else { return };
                self.line(&failed(&running.name, took, &error));
            }
            _ => {}
        }
    }

    fn changed(&self, state: &mut State, change: Change) {
        if let Some(bar) = change.over.and_then(|phase| state.phases.remove(&phase)) {
            bar.finish_and_clear();
        }
        if let Some(finished) = change.finished {
            self.finished(&finished);
        }
        let touched = change.touched.filter(|phase| phase.has_line());
        if let (Some(live), Some(phase)) = (&self.live, touched) {
            let room = columns().saturating_sub(MARGIN);
            let text = state.board.text(phase, room, live.marks);
            let bar = state.phases.entry(phase).or_insert_with(|| spinner(&live.bars));
            bar.set_message(text);
        }
    }

    fn finished(&self, finished: &Finished) {
        self.line(&match &self.live {
            Some(live) => finished.marked(live.marks),
            None => finished.plain(),
        });
    }

    /// Renders every step.
    fn step(&self, state: &mut State, event: Event) {
        match event {
            Event::PlanStarted { .. } => state.steps.clear(),
            Event::StepStarted { step, node, title } => {
                let name = step_name(node.as_ref().map(|it| it.as_str()), &title);
                let bar = self.live.as_ref().map(|live| spinner(&live.bars));
                if let Some(bar) = &bar {
                    bar.set_message(name.clone());
                }
                state.steps.insert(step, Running { name, bar, quarters: 0 });
            }
            Event::StepProgress { step, text } => {
                let Some(running) = state.steps.get(&step) else { return };
                let text = format!("{}: {}", running.name, one_line(&text));
                match &running.bar {
                    Some(bar) => bar.set_message(text),
                    None => self.line(&text),
                }
            }
            Event::StepBytes { step, done, total } => {
                let Some(running) = state.steps.get_mut(&step) else { return };
                let text = format!("{}: {}", running.name, bytes(done, total));
                let is_worth_a_line = running.is_worth_a_line(done, total);
                match &running.bar {
                    Some(bar) => bar.set_message(text),
                    None if is_worth_a_line => self.line(&text),
                    None => {}
                }
            }
            Event::StepFinished { step, took } => {
                self.step_ended(state, step, |name| format!("{name}: done in {}", seconds(took)));
            }
            Event::StepFailed { step, took, error } => {
                self.step_ended(state, step, |name| failed(name, took, &error));
            }
            Event::Service { name, text, done } => {
                self.service(state, &one_line(&name), &one_line(&text), done);
            }
            Event::Detail(text) => self.line(&text),
            Event::Warning(_)
            | Event::StepWarning { .. }
            | Event::Note(_)
            | Event::Notice(_)
            | Event::PlanFinished => {}
        }
    }

    fn step_ended(&self, state: &mut State, step: usize, text: impl FnOnce(&str) -> String) {
        let Some(running) = state.steps.remove(&step) else { return };
        if let Some(bar) = running.bar {
            bar.finish_and_clear();
        }
        self.line(&text(&running.name));
    }

    /// Keeps a live line for each service, with a mark once it is there.
    fn service(&self, state: &mut State, name: &str, text: &str, done: bool) {
        let mark = if done { "ok " } else { "" };
        let text = format!("{name}: {mark}{text}");
        let Some(live) = &self.live else { return self.line(&text) };
        let bar = state.services.entry(name.to_owned()).or_insert_with(|| spinner(&live.bars));
        bar.set_message(text);
    }

    fn line(&self, text: &str) {
        if self.detail != Detail::Quiet {
            self.above(text);
        }
    }

    /// Prints a line that stays, above those that change.
    fn above(&self, text: &str) {
        match &self.live {
            Some(live) => drop(live.bars.println(shown(text))),
            None => errln!("{text}"),
        }
    }
}

fn step_name(node: Option<&str>, title: &str) -> String {
    one_line(&format!("{}: {title}", node.unwrap_or("cluster")))
}

fn failed(name: &str, took: Duration, error: &str) -> String {
    format!("{name}: FAILED after {}: {error}", seconds(took))
}

/// Returns how wide the terminal is.
fn columns() -> usize {
    console::Term::stderr().size_checked().map_or(COLUMNS, |(_, columns)| columns.into())
}

fn spinner(bars: &MultiProgress) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {took}  {wide_msg}");
    let style = style.expect("the template is well-formed").tick_chars("|/-\\ ");
    let style = style.with_key("took", |state: &ProgressState, to: &mut dyn std::fmt::Write| {
        let _ = write!(to, "{:>8}", seconds(state.elapsed()));
    });
    let bar = bars.add(ProgressBar::new_spinner().with_style(style));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_change_only_on_a_terminal_that_can() {
        assert!(can_redraw(true, Some("xterm"), None));
        assert!(can_redraw(true, Some("xterm"), Some("")));
        for (is_terminal, term, no_color) in [
            (false, Some("xterm"), None),
            (true, None, None),
            (true, Some(""), None),
            (true, Some("dumb"), None),
            (true, Some("xterm"), Some("1")),
        ] {
            assert!(!can_redraw(is_terminal, term, no_color), "{term:?} {no_color:?}");
        }
    }

    #[test]
    fn the_first_locale_that_is_set_tells_the_letters() {
        let locale = |values: [&str; 3]| is_unicode(values.map(|it| Some(it.to_owned())));
        assert!(locale(["", "", "C.UTF-8"]) && locale(["en_US.utf8", "C", "C"]));
        assert!(!locale(["C", "en_US.UTF-8", ""]) && !locale(["", "", ""]));
        assert!(!is_unicode([None, None, None]));
    }
}
