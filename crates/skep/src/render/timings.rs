//! How long each kind of step took.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use skep_core::event::Event;

use super::board::seconds;

/// All steps of one kind: they run side by side, so from the first's start to the last's end.
#[derive(Debug, Clone)]
pub struct Timing {
    /// When the first began.
    pub from: Instant,
    /// When the last ended.
    pub to: Instant,
    /// How long each took.
    pub each: Vec<Duration>,
}

/// How long each kind of step took, in the order in which they began.
#[derive(Default)]
pub struct Timings {
    titles: BTreeMap<usize, String>,
    kinds: Vec<(String, Timing)>,
}

impl Timings {
    /// Takes in what happened at a time.
    pub fn event(&mut self, event: &Event, now: Instant) {
        match event {
            Event::StepStarted { step, title, .. } => {
                self.titles.insert(*step, title.clone());
                if self.kind(title).is_none() {
                    let timing = Timing { from: now, to: now, each: Vec::new() };
                    self.kinds.push((title.clone(), timing));
                }
            }
            Event::StepFinished { step, took } | Event::StepFailed { step, took, .. } => {
                let Some(title) = self.titles.remove(step) else { return };
                if let Some(timing) = self.kind(&title) {
                    timing.to = now;
                    timing.each.push(*took);
                }
            }
            _ => {}
        }
    }

    /// Returns the kinds of steps.
    #[must_use]
    pub fn kinds(&self) -> &[(String, Timing)] {
        &self.kinds
    }

    /// Returns the kinds that took long enough to be worth a word.
    #[must_use]
    pub fn summary(&self) -> String {
        let long = self.kinds.iter().filter_map(|(title, timing)| {
            let took = timing.to - timing.from;
            (took >= Duration::from_millis(100)).then(|| format!("{title} {}", seconds(took)))
        });
        long.collect::<Vec<_>>().join(", ")
    }

    fn kind(&mut self, title: &str) -> Option<&mut Timing> {
        self.kinds.iter_mut().find(|(it, _)| it == title).map(|(_, timing)| timing)
    }
}
