//! One thing that is done in several ways, in turn, as a table and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::report::{FORMAT, environment_json, middle, spread};
use crate::render::table::table;

/// All that was measured.
pub(super) struct Trials {
    pub kind: &'static str,
    pub runs: u32,
    pub environment: Vec<(&'static str, String)>,
    pub groups: Vec<Group>,
}

/// Ways that were tried on clusters of one size.
pub(super) struct Group {
    nodes: u32,
    /// By name; a time for each run.
    ways: Vec<(&'static str, Vec<Duration>)>,
    /// The most memory that skep had in each run, in KiB.
    peaks: Vec<u64>,
}

/// A way's place in its group.
#[derive(Clone, Copy)]
pub(super) struct Way(pub usize);

impl Group {
    pub(super) fn new(nodes: u32, ways: &[&'static str]) -> Self {
        let ways = ways.iter().map(|way| (*way, Vec::new())).collect();
        Self { nodes, ways, peaks: Vec::new() }
    }

    /// Takes in how long a way took in the run that is at hand.
    pub(super) fn took(&mut self, way: Way, time: Duration) {
        self.ways[way.0].1.push(time);
    }

    /// Takes in the most memory that skep had in the run that is at hand.
    pub(super) fn peak(&mut self, kib: u64) {
        self.peaks.push(kib);
    }

    /// Returns how many times as long as the first way each took in the same run.
    fn times(&self, times: &[Duration]) -> Vec<f64> {
        let first = &self.ways[0].1;
        times.iter().zip(first).map(|(it, first)| it.as_secs_f64() / first.as_secs_f64()).collect()
    }
}

impl Trials {
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        for (key, value) in &self.environment {
            text += &format!("{key}: {value}\n");
        }
        text += &format!("runs of each: {}; seconds: median (least-most)\n\n", self.runs);
        let rows: Vec<_> = self.groups.iter().flat_map(rows).collect();
        text += &table(&["NODES", "WAY", "SECONDS", "TIMES THE FIRST"], &rows);
        for group in self.groups.iter().filter(|group| !group.peaks.is_empty()) {
            let most = group.peaks.iter().max().copied().unwrap_or(0) >> 10;
            text += &format!("\n{} nodes: the most memory of skep: {most} MiB\n", group.nodes);
        }
        text
    }

    pub(super) fn json(&self) -> String {
        let way = |group: &Group, (name, took): &(&str, Vec<Duration>)| {
            let seconds: Vec<_> = took.iter().map(Duration::as_secs_f64).collect();
            json!({"way": name, "seconds": seconds, "times_the_first": group.times(took)})
        };
        let group = |group: &Group| {
            let ways: Vec<_> = group.ways.iter().map(|it| way(group, it)).collect();
            json!({"nodes": group.nodes, "ways": ways, "most_memory_kib": group.peaks})
        };
        let report: Value = json!({
            "format": FORMAT,
            "kind": self.kind,
            "environment": environment_json(&self.environment),
            "runs": self.runs,
            "series": self.groups.iter().map(group).collect::<Vec<_>>(),
        });
        format!("{report:#}\n")
    }
}

fn rows(group: &Group) -> Vec<Vec<String>> {
    let row = |(name, took): &(&str, Vec<Duration>)| {
        vec![
            group.nodes.to_string(),
            (*name).to_owned(),
            spread(took),
            format!("{:.2}", middle(group.times(took))),
        ]
    };
    group.ways.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trials() -> Trials {
        let mut group = Group::new(4, &["skep image load", "docker load, in turn"]);
        for (ours, theirs) in [(10, 30), (20, 40), (10, 35)] {
            group.took(Way(0), Duration::from_secs(ours));
            group.took(Way(1), Duration::from_secs(theirs));
            group.peak(20 << 10);
        }
        let environment = vec![("host", "2 CPUs".to_owned())];
        Trials { kind: "images", runs: 3, environment, groups: vec![group] }
    }

    #[test]
    fn ratios_are_those_of_one_run() {
        insta::assert_snapshot!(trials().table(), @r"
        host: 2 CPUs
        runs of each: 3; seconds: median (least-most)

        NODES   WAY                    SECONDS               TIMES THE FIRST
        4       skep image load        10.00 (10.00-20.00)   1.00
        4       docker load, in turn   35.00 (30.00-40.00)   3.00

        4 nodes: the most memory of skep: 20 MiB
        ");
        let value = skep_testkit::schema::assert_described("bench-ways", &trials().json());
        assert_eq!(value["series"][0]["ways"][1]["times_the_first"], json!([3.0, 2.0, 3.5]));
        assert_eq!(value["series"][0]["most_memory_kib"], json!([20480, 20480, 20480]));
    }
}
