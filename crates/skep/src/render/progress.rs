//! Progress: a live line for each running step on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::errln;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use skep_core::event::Event;

use super::shown::{one_line, shown};

/// Renders events on standard error.
pub struct Progress {
    quiet: bool,
    live: Option<MultiProgress>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    steps: BTreeMap<usize, Running>,
    services: BTreeMap<String, ProgressBar>,
    phases: BTreeMap<String, Phase>,
    order: Vec<String>,
}

struct Running {
    name: String,
    title: String,
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

/// All steps of one kind: they run side by side, so from the first's start to the last's end.
#[derive(Debug, Clone)]
pub struct Phase {
    /// When the first began.
    pub from: Instant,
    /// When the last ended.
    pub to: Instant,
    /// How long each took.
    pub each: Vec<Duration>,
}

impl Progress {
    /// Creates a renderer.
    #[must_use]
    pub fn new(quiet: bool, terminal: bool) -> Self {
        let live = (terminal && !quiet).then(MultiProgress::new);
        Self { quiet, live, state: Mutex::default() }
    }

    /// Renders one event.
    pub fn event(&self, event: Event) {
        let mut state = self.state.lock().expect("no renderer panics");
        match event {
            Event::PlanStarted { .. } => state.steps.clear(),
            Event::StepStarted { step, node, title } => {
                let place = node.map(|node| node.to_string()).unwrap_or_else(|| "cluster".into());
                let name = one_line(&format!("{place}: {title}"));
                let bar = self.live.as_ref().map(|live| spinner(live, &name));
                state.begin(&title);
                state.steps.insert(step, Running { name, title, bar, quarters: 0 });
            }
            Event::StepProgress { step, text } => {
                let Some(running) = state.steps.get(&step) else { return };
                let text = one_line(&text);
                match &running.bar {
                    Some(bar) => bar.set_message(format!("{}: {text}", running.name)),
                    None => self.line(&format!("{}: {text}", running.name)),
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
                self.end(&mut state, step, took, &format!("done in {}", seconds(took)));
            }
            Event::StepFailed { step, took, error } => {
                let text = format!("FAILED after {}: {error}", seconds(took));
                self.end(&mut state, step, took, &text);
            }
            Event::Service { name, text, done } => {
                self.service(&mut state, &one_line(&name), &one_line(&text), done);
            }
            Event::Warning(text) => self.above(&format!("warning: {text}")),
            Event::Note(text) => self.line(&text),
        }
    }

    /// Keeps a live line for each service, with a mark once it is there.
    fn service(&self, state: &mut State, name: &str, text: &str, done: bool) {
        let mark = if done { "ok " } else { "" };
        let Some(live) = &self.live else { return self.line(&format!("{name}: {mark}{text}")) };
        let bar = state.services.entry(name.to_owned()).or_insert_with(|| spinner(live, name));
        bar.set_message(format!("{name}: {mark}{text}"));
    }

    /// Takes the live lines away, as after an interruption.
    pub fn clear(&self) {
        let mut state = self.state.lock().expect("no renderer panics");
        for bar in std::mem::take(&mut state.services).into_values() {
            bar.finish_and_clear();
        }
        for running in std::mem::take(&mut state.steps).into_values() {
            if let Some(bar) = running.bar {
                bar.finish_and_clear();
            }
        }
    }

    /// Returns how long each kind of step took, the cluster's longest ones.
    #[must_use]
    pub fn summary(&self) -> String {
        let state = self.state.lock().expect("no renderer panics");
        let long = state.order.iter().filter_map(|title| {
            let phase = &state.phases[title];
            let took = phase.to - phase.from;
            (took >= Duration::from_millis(100)).then(|| format!("{title} {}", seconds(took)))
        });
        long.collect::<Vec<_>>().join(", ")
    }

    /// Returns when each kind of step began and ended, in the order in which they began.
    #[must_use]
    pub fn phases(&self) -> Vec<(String, Phase)> {
        let state = self.state.lock().expect("no renderer panics");
        state.order.iter().map(|title| (title.clone(), state.phases[title].clone())).collect()
    }

    fn end(&self, state: &mut State, step: usize, took: Duration, text: &str) {
        let Some(running) = state.steps.remove(&step) else { return };
        if let Some(phase) = state.phases.get_mut(&running.title) {
            phase.to = Instant::now();
            phase.each.push(took);
        }
        if let Some(bar) = running.bar {
            bar.finish_and_clear();
        }
        self.line(&format!("{}: {text}", running.name));
    }

    fn line(&self, text: &str) {
        if !self.quiet {
            self.above(text);
        }
    }

    fn above(&self, text: &str) {
        match &self.live {
            Some(live) => drop(live.println(shown(text))),
            None => errln!("{text}"),
        }
    }
}

impl State {
    fn begin(&mut self, title: &str) {
        if !self.phases.contains_key(title) {
            let now = Instant::now();
            let phase = Phase { from: now, to: now, each: Vec::new() };
            self.phases.insert(title.to_owned(), phase);
            self.order.push(title.to_owned());
        }
    }
}

fn spinner(live: &MultiProgress, message: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}");
    let style = style.expect("the template is well-formed").tick_chars("|/-\\ ");
    let bar =
        live.add(ProgressBar::new_spinner().with_style(style).with_message(message.to_owned()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn bytes(done: u64, total: Option<u64>) -> String {
    match total {
        Some(total) => format!("{} of {} MiB", done >> 20, total >> 20),
        None => format!("{} MiB", done >> 20),
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}
