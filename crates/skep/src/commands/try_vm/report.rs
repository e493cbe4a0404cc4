//! What came of the parts, as a table and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use crate::redact::Redactor;
use crate::render::table::table;

/// The number of the JSON output's format.
const FORMAT: u32 = 1;

/// All that was tried.
pub(super) struct Report {
    /// What the numbers depend on.
    pub environment: Vec<(&'static str, String)>,
    pub parts: Vec<Part>,
}

/// One thing that was tried.
pub(super) struct Part {
    name: &'static str,
    pub ok: bool,
    took: Duration,
    /// What was measured, if it passed.
    numbers: Value,
    /// Why it failed.
    said: String,
}

impl Part {
    pub(super) fn passed(name: &'static str, took: Duration, numbers: Value) -> Self {
        Self { name, ok: true, took, numbers, said: String::new() }
    }

    pub(super) fn failed(name: &'static str, took: Duration, said: &str) -> Self {
        Self { name, ok: false, took, numbers: Value::Null, said: said.to_owned() }
    }

    /// Returns what was measured, or why it failed, in a line.
    fn text(&self) -> String {
        let Some(numbers) = self.numbers.as_object() else {
            return self.said.lines().collect::<Vec<_>>().join("; ");
        };
        let numbers = numbers.iter().map(|(name, number)| format!("{name} {number}"));
        numbers.collect::<Vec<_>>().join(", ")
    }
}

impl Report {
    pub(super) fn passed(&self) -> bool {
        self.parts.iter().all(|part| part.ok)
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.environment {
            text.push_str(&format!("{name:<12} {}\n", anonymous(value)));
        }
        let row = |part: &Part| {
            let result = if part.ok { "ok" } else { "FAILED" };
            let took = format!("{:.1} s", part.took.as_secs_f64());
            vec![part.name.to_owned(), result.to_owned(), took, anonymous(&part.text())]
        };
        let rows: Vec<_> = self.parts.iter().map(row).collect();
        text + "\n" + &table(&["PART", "RESULT", "TOOK", "MEASURED"], &rows)
    }

    pub(super) fn document(&self) -> Value {
        let environment: serde_json::Map<_, _> = self
            .environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), anonymous(value).into()))
            .collect();
        let part = |part: &Part| {
            json!({
                "part": part.name,
                "ok": part.ok,
                "took_s": (part.took.as_secs_f64() * 10.0).round() / 10.0,
                "measured": part.numbers,
                "error": if part.ok { Value::Null } else { anonymous(&part.said).into() },
            })
        };
        let parts: Vec<_> = self.parts.iter().map(part).collect();
        json!({"format": FORMAT, "passed": self.passed(), "environment": environment, "parts": parts})
    }
}

/// Returns a text without secrets, and without the names of this host and its user.
fn anonymous(text: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let home = std::env::var("HOME").unwrap_or_default();
    let user = std::env::var("USER").unwrap_or_default();
    without(
        &Redactor::of(None).clean(text),
        &[(&home, "~"), (host.trim(), "HOST"), (&user, "USER")],
    )
}

/// Replaces names where they stand as words. Such as `root` and `localhost` tell nothing, and one letter is none.
fn without(text: &str, names: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (name, instead) in names {
        if name.len() < 2 || ["root", "localhost", "/root"].contains(name) {
            continue;
        }
        let mut rest = std::mem::take(&mut text);
        while let Some(at) = rest.find(name) {
            let (before, after) = (&rest[..at], &rest[at + name.len()..]);
            let word = |c: char| c.is_ascii_alphanumeric();
            let whole = !before.ends_with(word) && !after.starts_with(word);
            text.push_str(before);
            text.push_str(if whole { instead } else { name });
            rest = after.to_owned();
        }
        text.push_str(&rest);
    }
    text
}

#[cfg(test)]
mod tests {
    use skep_testkit::schema::assert_described;

    use super::*;

    fn report() -> Report {
        let environment = vec![("kernel", "6.1.0".to_owned()), ("accelerator", "kvm".to_owned())];
        let forks = json!({"forks": 20, "median_s": 1.25, "least_s": 1.0, "most_s": 2.5});
        let parts = vec![
            Part::passed("forks, 1 CPU", Duration::from_millis(2540), forks),
            Part::failed("stop", Duration::from_secs(3), "error: it was cut off\n  try: this"),
        ];
        Report { environment, parts }
    }

    #[test]
    fn a_part_that_failed_is_named_and_fails_the_whole() {
        let report = report();
        assert!(!report.passed());
        let table = report.table();
        let (passed, failed) = ("forks, 1 CPU   ok       2.5 s", "stop           FAILED   3.0 s");
        assert!(table.contains(passed) && table.contains(failed), "{table}");
        assert!(table.contains("error: it was cut off;   try: this\n"), "{table}");
        let document = assert_described("doctor-try-vm", &report.document().to_string());
        assert_eq!(document["passed"], false);
        assert_eq!(document["environment"]["accelerator"], "kvm");
        assert_eq!(document["parts"][0]["measured"]["median_s"], 1.25);
        assert_eq!(document["parts"][1]["error"], "error: it was cut off\n  try: this");
    }

    #[test]
    fn names_of_host_and_user_are_left_out() {
        let names = [("/srv/ann", "~"), ("box", "HOST"), ("ann", "USER"), ("root", "USER")];
        assert_eq!(
            without("/srv/ann/.cache on box: ann cannot; annex, inbox and root can", &names),
            "~/.cache on HOST: USER cannot; annex, inbox and root can"
        );
        assert_eq!(without("x", &[("", "~"), ("x", "y")]), "x");
    }
}
