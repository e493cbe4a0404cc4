//! What was measured, as tables and as JSON.

use std::time::Duration;

use serde_json::{Value, json};
use skep_driver::qemu::Usage;

use crate::render::table::table;

/// The number of the JSON output's format.
pub(super) const FORMAT: u32 = 1;

/// All that was measured.
pub(super) struct Report {
    runs: u32,
    environment: Vec<(&'static str, String)>,
    pub series: Vec<Series>,
}

/// Clusters of one kind and size.
pub(super) struct Series {
    nodes: u32,
    pub cold: bool,
    /// From the command's start until all nodes are Ready.
    pub ready: Vec<Duration>,
    /// From the command's start until every node has answered for the probe service.
    pub verified: Vec<Duration>,
    /// By title, in the order in which they first began; one for each run.
    steps: Vec<(String, Vec<Step>)>,
    pub idle: Option<Idle>,
}

/// All steps of one kind in one run.
pub(super) struct Step {
    /// When the first began, since the command's start.
    pub from: Duration,
    /// When the last ended.
    pub to: Duration,
    /// How long each took.
    pub each: Vec<Duration>,
}

/// What idle machines take of the host, one for each node.
pub(super) struct Idle {
    nodes: Vec<IdleNode>,
}

struct IdleNode {
    private_mib: u64,
    proportional_mib: u64,
    /// Hundredths of one processor.
    cpu_percent: f64,
    wakeups_per_s: f64,
}

impl Series {
    pub(super) fn new(nodes: u32, cold: bool) -> Self {
        let (ready, verified, steps) = (Vec::new(), Vec::new(), Vec::new());
        Self { nodes, cold, ready, verified, steps, idle: None }
    }

    pub(super) fn add_step(&mut self, title: &str, step: Step) {
        match self.steps.iter_mut().find(|(known, _)| known == title) {
            Some((_, steps)) => steps.push(step),
            None => self.steps.push((title.to_owned(), vec![step])),
        }
    }

    fn kind(&self) -> &'static str {
        if self.cold { "booted" } else { "forked" }
    }
}

impl Idle {
    pub(super) fn between(before: &[Usage], after: &[Usage], pause: Duration) -> Self {
        let seconds = pause.as_secs_f64();
        let node = |(before, after): (&Usage, &Usage)| IdleNode {
            private_mib: after.private_kib >> 10,
            proportional_mib: after.proportional_kib >> 10,
            cpu_percent: (after.cpu.saturating_sub(before.cpu)).as_secs_f64() / seconds * 100.0,
            wakeups_per_s: float(after.waits_since(before)) / seconds,
        };
        Self { nodes: before.iter().zip(after).map(node).collect() }
    }
}

impl Report {
    pub(super) fn new(runs: u32, environment: Vec<(&'static str, String)>) -> Self {
        Self { runs, environment, series: Vec::new() }
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        for (key, value) in &self.environment {
            text += &format!("{key}: {value}\n");
        }
        text += &format!("runs of each: {}; seconds: median (least-most)\n\n", self.runs);
        let rows: Vec<_> = self.series.iter().map(|series| self.row(series)).collect();
        text += &table(&["NODES", "KIND", "READY", "VERIFIED", "READY, TIMES FORKED"], &rows);
        for series in &self.series {
            text += &format!("\n{} nodes, {}: medians of when\n", series.nodes, series.kind());
            text += &steps_table(series);
        }
        let idle: Vec<_> = self.series.iter().flat_map(idle_rows).collect();
        if !idle.is_empty() {
            let header = ["NODES", "KIND", "NODE", "PRIVATE", "PROPORTIONAL", "CPU", "WAKE-UPS/S"];
            text += &format!("\nidle\n{}", table(&header, &idle));
        }
        text
    }

    fn row(&self, series: &Series) -> Vec<String> {
        let same = |other: &&Series| other.nodes == series.nodes && !other.cold;
        let forked = self.series.iter().find(same).map(|forked| median(&forked.ready));
        let times = forked.filter(|_| series.cold).map(|forked| median(&series.ready) / forked);
        vec![
            series.nodes.to_string(),
            series.kind().to_owned(),
            spread(&series.ready),
            if series.verified.is_empty() { "-".to_owned() } else { spread(&series.verified) },
            times.map_or_else(|| "-".to_owned(), |times| format!("{times:.1}")),
        ]
    }

    pub(super) fn json(&self) -> String {
        let series: Vec<_> = self.series.iter().map(series_json).collect();
        let report = json!({
            "format": FORMAT,
            "environment": environment_json(&self.environment),
            "runs": self.runs,
            "series": series,
        });
        format!("{report:#}\n")
    }
}

pub(super) fn environment_json(environment: &[(&'static str, String)]) -> Value {
    let pair = |(key, value): &(&str, String)| ((*key).to_owned(), Value::from(value.as_str()));
    Value::Object(environment.iter().map(pair).collect())
}

fn series_json(series: &Series) -> Value {
    let seconds = |times: &[Duration]| times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>();
    let step = |(title, steps): &(String, Vec<Step>)| {
        let (from, to, each) = medians(steps);
        json!({"title": title, "from_s": from, "to_s": to, "each_s": each})
    };
    let node = |node: &IdleNode| {
        json!({
            "private_mib": node.private_mib,
            "proportional_mib": node.proportional_mib,
            "cpu_percent": node.cpu_percent,
            "wakeups_per_s": node.wakeups_per_s,
        })
    };
    json!({
        "nodes": series.nodes,
        "kind": series.kind(),
        "ready_s": seconds(&series.ready),
        "verified_s": seconds(&series.verified),
        "steps": series.steps.iter().map(step).collect::<Vec<_>>(),
        "idle": series.idle.iter().flat_map(|idle| &idle.nodes).map(node).collect::<Vec<_>>(),
    })
}

fn steps_table(series: &Series) -> String {
    let rows: Vec<_> = series
        .steps
        .iter()
        .map(|(title, steps)| {
            let (from, to, each) = medians(steps);
            let cell = |seconds: f64| format!("{seconds:.2}");
            vec![title.clone(), cell(from), cell(to), cell(each)]
        })
        .collect();
    table(&["STEP", "THE FIRST BEGINS", "THE LAST ENDS", "EACH TAKES"], &rows)
}

/// The first manager, and of the others the median and the most.
fn idle_rows(series: &Series) -> Vec<Vec<String>> {
    let Some(idle) = &series.idle else { return Vec::new() };
    let row = |who: &str, node: &IdleNode| {
        vec![
            series.nodes.to_string(),
            series.kind().to_owned(),
            who.to_owned(),
            format!("{} MiB", node.private_mib),
            format!("{} MiB", node.proportional_mib),
            format!("{:.1} %", node.cpu_percent),
            format!("{:.0}", node.wakeups_per_s),
        ]
    };
    let Some((first, others)) = idle.nodes.split_first() else { return Vec::new() };
    let mut rows = vec![row("node0", first)];
    let mut others: Vec<_> = others.iter().collect();
    others.sort_by_key(|node| node.private_mib);
    if let [.., most] = others[..] {
        rows.push(row("others, median", others[others.len() / 2]));
        rows.push(row("others, most", most));
    }
    rows
}

/// Returns the medians of when such steps began and ended, and of how long each took.
fn medians(steps: &[Step]) -> (f64, f64, f64) {
    let of = |times: Vec<Duration>| median(&times);
    let from = of(steps.iter().map(|step| step.from).collect());
    let to = of(steps.iter().map(|step| step.to).collect());
    (from, to, of(steps.iter().flat_map(|step| step.each.clone()).collect()))
}

/// Returns the median in seconds.
fn median(times: &[Duration]) -> f64 {
    middle(times.iter().map(Duration::as_secs_f64).collect())
}

/// Returns the median; of an even number, the mean of the two in the middle.
pub(super) fn middle(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match (numbers.len(), numbers.len() / 2) {
        (0, _) => f64::NAN,
        (length, middle) if length % 2 == 1 => numbers[middle],
        (_, middle) => f64::midpoint(numbers[middle - 1], numbers[middle]),
    }
}

pub(super) fn spread(times: &[Duration]) -> String {
    let seconds = |time: Option<&Duration>| time.map_or(f64::NAN, Duration::as_secs_f64);
    let (least, most) = (seconds(times.iter().min()), seconds(times.iter().max()));
    format!("{:.2} ({least:.2}-{most:.2})", median(times))
}

#[allow(clippy::cast_precision_loss)]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(times: &[u64]) -> Vec<Duration> {
        times.iter().map(|time| Duration::from_millis(*time)).collect()
    }

    fn report() -> Report {
        let environment = vec![("host", "2 CPUs".to_owned())];
        let mut report = Report::new(3, environment);
        for cold in [false, true] {
            let mut series = Series::new(2, cold);
            let slower = if cold { 5 } else { 1 };
            series.ready = seconds(&[4100 * slower, 4000 * slower, 4400 * slower]);
            series.verified = seconds(&[9000 * slower]);
            for run in 0..3 {
                let each = seconds(&[200, 300 + run]);
                let step =
                    |from: u64, to: u64| (Duration::from_millis(from), Duration::from_millis(to));
                let (from, to) = step(100, 500 + run);
                series.add_step("fork template", Step { from, to, each });
            }
            let usage = |kib: u64, cpu: u64, waits: u64| Usage {
                private_kib: kib << 10,
                proportional_kib: kib << 11,
                cpu: Duration::from_millis(cpu),
                waits: [(1, waits)].into(),
            };
            let before = [usage(100, 0, 0), usage(90, 0, 0), usage(95, 0, 0)];
            let after = [usage(110, 500, 1000), usage(90, 250, 500), usage(96, 100, 10)];
            series.idle = Some(Idle::between(&before, &after, Duration::from_secs(10)));
            report.series.push(series);
        }
        report
    }

    #[test]
    fn tables() {
        insta::assert_snapshot!(report().table());
    }

    #[test]
    fn json_has_every_number() {
        let value = skep_testkit::schema::assert_described("bench", &report().json());
        assert_eq!(value["series"][0]["ready_s"], json!([4.1, 4.0, 4.4]));
        assert_eq!(value["series"][1]["steps"][0]["from_s"], 0.1);
        assert_eq!(value["series"][0]["idle"][0]["cpu_percent"], 5.0);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&seconds(&[1000, 4000, 2000, 3000])), 2.5);
        assert!(median(&[]).is_nan());
    }
}
