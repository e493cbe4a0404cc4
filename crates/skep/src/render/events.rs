//! What happens while a command works, as JSON lines on standard output: the shape that docs/json.md describes.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use skep_core::event::{Event, StepOutline};
use skep_core::plan::Phase;
use time::OffsetDateTime;

use super::{shown, streams};
use crate::error::CliError;

/// The number of the format.
const FORMAT: u32 = 1;

/// Turns events into objects. Each says which step it is about, so that no reader has to remember the others.
#[derive(Default)]
pub struct EventLines {
    outline: Vec<StepOutline>,
    titles: BTreeMap<usize, String>,
}

impl EventLines {
    /// Returns an event's object, without its time.
    pub fn object(&mut self, event: &Event) -> Value {
        match event {
            Event::PlanStarted { steps } => {
                self.titles.clear();
                self.outline.clone_from(steps);
                let mut phases: BTreeMap<Phase, usize> = BTreeMap::new();
                steps.iter().for_each(|step| *phases.entry(step.phase).or_default() += 1);
                let phases =
                    phases.into_iter().map(|(phase, steps)| (phase.to_string(), json!(steps)));
                json!({"event": "plan", "steps": steps.len(), "phases": phases.collect::<Value>()})
            }
            Event::StepStarted { step, title, .. } => {
                self.titles.insert(*step, title.clone());
                self.step("step-started", *step, json!({}))
            }
            Event::StepProgress { step, text } => {
                self.step("step-progress", *step, json!({"text": text}))
            }
            Event::StepBytes { step, done, total } => {
                self.step("step-bytes", *step, json!({"done": done, "total": total}))
            }
            Event::StepFinished { step, took } => {
                self.step("step-finished", *step, json!({"seconds": seconds(*took)}))
            }
            Event::StepFailed { step, took, error } => {
                let more = json!({"seconds": seconds(*took), "error": error});
                self.step("step-failed", *step, more)
            }
            Event::Service { name, text, done } => {
                json!({"event": "service", "service": name, "text": text, "done": done})
            }
            Event::Detail(text) => json!({"event": "detail", "text": text}),
            Event::Warning(text) => json!({"event": "warning", "text": text}),
            Event::StepWarning { of, text } => {
                json!({"event": "warning", "text": format!("{of}: {text}")})
            }
            Event::Note(text) => json!({"event": "note", "text": text}),
            Event::Notice(text) => json!({"event": "notice", "text": text}),
            Event::PlanFinished => json!({"event": "plan-finished"}),
        }
    }

    fn step(&self, event: &str, step: usize, more: Value) -> Value {
        let outline = self.outline.get(step);
        let mut object = json!({
            "event": event,
            "step": step + 1,
            "phase": outline.map(|it| it.phase.as_str()),
            "node": outline.and_then(|it| it.node.as_ref()),
            "title": self.titles.get(&step),
        });
        if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
            object.extend(more);
        }
        object
    }
}

/// Returns the first object.
#[must_use]
pub fn started(command: &str) -> Value {
    json!({"event": "started", "format": FORMAT, "command": command})
}

/// Returns the last object.
#[must_use]
pub fn ended(result: &Result<u8, CliError>, took: Duration) -> Value {
    let seconds = seconds(took);
    match result {
        Ok(code) => {
            json!({"event": "ended", "ok": *code == 0, "code": code, "seconds": seconds})
        }
        Err(CliError { code, message, hints }) => json!({
            "event": "ended",
            "ok": false,
            "code": code,
            "seconds": seconds,
            "message": message,
            "hints": hints,
        }),
    }
}

/// Writes an object as one line, with the time.
pub fn write(mut object: Value, now: SystemTime) {
    object["time"] = json!(stamp(now.into()));
    streams::write_stdout(shown::document(format!("{object}\n")).as_bytes());
}

/// Returns a time as RFC 3339 has it, in UTC, to the millisecond.
#[must_use]
pub fn stamp(at: OffsetDateTime) -> String {
    let (date, time) = (at.date(), at.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

/// Returns seconds to the millisecond.
fn seconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use skep_core::model::NodeName;
    use skep_testkit::schema::assert_described;

    use super::*;

    #[test]
    fn every_event_is_one_object_that_says_what_it_is_about() {
        let mut lines = EventLines::default();
        let node = Some(NodeName::numbered(1));
        let took = Duration::from_millis(1500);
        let steps = vec![
            StepOutline { phase: Phase::Image, node: None },
            StepOutline { phase: Phase::Machines, node: node.clone() },
        ];
        let events = [
            Event::PlanStarted { steps },
            Event::StepStarted { step: 0, node: None, title: "get image (trixie)".to_owned() },
            Event::StepBytes { step: 0, done: 5, total: None },
            Event::StepStarted { step: 1, node, title: "boot".to_owned() },
            Event::StepProgress { step: 1, text: "half\nway".to_owned() },
            Event::StepFinished { step: 0, took },
            Event::StepFailed { step: 1, took, error: "it \x1b[31mdied".to_owned() },
            Event::Service { name: "s_web".to_owned(), text: "1/1".to_owned(), done: true },
            Event::Detail("Creating network s_default".to_owned()),
            Event::Warning("slow".to_owned()),
            Event::Note("node1 is up again".to_owned()),
            Event::PlanFinished,
            Event::Notice("docker is not installed".to_owned()),
        ];
        let told: Vec<_> = events.iter().map(|event| lines.object(event).to_string()).collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        {"event":"plan","steps":2,"phases":{"image":1,"machines":1}}
        {"event":"step-started","step":1,"phase":"image","node":null,"title":"get image (trixie)"}
        {"event":"step-bytes","step":1,"phase":"image","node":null,"title":"get image (trixie)","done":5,"total":null}
        {"event":"step-started","step":2,"phase":"machines","node":"node1","title":"boot"}
        {"event":"step-progress","step":2,"phase":"machines","node":"node1","title":"boot","text":"half\nway"}
        {"event":"step-finished","step":1,"phase":"image","node":null,"title":"get image (trixie)","seconds":1.5}
        {"event":"step-failed","step":2,"phase":"machines","node":"node1","title":"boot","seconds":1.5,"error":"it \u001b[31mdied"}
        {"event":"service","service":"s_web","text":"1/1","done":true}
        {"event":"detail","text":"Creating network s_default"}
        {"event":"warning","text":"slow"}
        {"event":"note","text":"node1 is up again"}
        {"event":"plan-finished"}
        {"event":"notice","text":"docker is not installed"}
        "#);
        let error = CliError::failed("no swarm").hint("skep up demo");
        let ends = [ended(&Ok(0), took), ended(&Err(error), took)].map(|it| it.to_string());
        insta::assert_snapshot!(ends.join("\n"), @r#"
        {"event":"ended","ok":true,"code":0,"seconds":1.5}
        {"event":"ended","ok":false,"code":1,"seconds":1.5,"message":"no swarm","hints":["skep up demo"]}
        "#);
        let started = [started("up").to_string()];
        for line in started.iter().chain(&told).chain(&ends) {
            let mut object: Value = serde_json::from_str(line).unwrap();
            object["time"] = json!("2026-01-02T03:04:05.678Z");
            assert_described("event", &object.to_string());
        }
    }

    #[test]
    fn times_are_those_of_rfc_3339() {
        let at = OffsetDateTime::from_unix_timestamp(1_000_000_000).unwrap();
        assert_eq!(stamp(at + Duration::from_millis(7)), "2001-09-09T01:46:40.007Z");
    }
}
