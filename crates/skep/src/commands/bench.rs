//! `skep bench`: how long a swarm takes to form on this host, what it takes of it, and how long images
//! and stacks take to get to its nodes.

mod deploy;
mod images;
mod report;
mod trials;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use skep_core::model::ClusterName;
use skep_driver::qemu::{Qemu, Usage, template_of, usage};
use skep_print::{errln, out};
use skep_sys::{make_private_dir, value_of};

use self::report::{Idle, Report, Series, Step};
use self::trials::Trials;
use super::{down, up};
use crate::cli::{
    Accel, Birth, ClusterArg, DryRun, Limits, Output, Ready, Up, Verification, Waiting, Wanted,
    values,
};
use crate::context::Context;
use crate::error::{CliError, Context as _};

/// The name of the clusters that are measured; `skep down` takes away what an interrupted run left.
const CLUSTER: &str = "bench";

/// `skep bench`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Each run of `up` creates a cluster and removes it again, alternating between the kinds so that other
load affects all of them. `images` loads a random image on all nodes, with skep and with docker
alone; `deploy` does the same with a small stack. Results are median, minimum and maximum.

Examples:
  skep bench
  skep bench --nodes 1,2,4,8 --runs 5 --no-cold -o json
  skep bench images --nodes 4")]
pub struct Bench {
    /// What to measure.
    #[arg(value_enum, default_value_t)]
    what: What,
    /// Numbers of nodes [default: 2; with images 4].
    #[arg(long, value_name = "N,N...", value_delimiter = ',', value_parser = values::count)]
    nodes: Vec<u32>,
    /// Number of runs.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = values::some)]
    runs: u32,
    /// With `images`: size of the image in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = values::count)]
    mib: u32,
    /// With `up`: skip clusters whose nodes boot (instead of being forked).
    #[arg(long)]
    no_cold: bool,
    /// With `up`: skip the verification of the routing mesh.
    #[arg(long)]
    no_verify: bool,
    /// With `up`: seconds to leave the last cluster of each kind idle before measuring its memory,
    /// and then to measure its CPU use.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = values::count)]
    idle: u32,
    /// Accelerator [default: auto-detect].
    #[arg(long, value_name = "KIND", env = "SKEP_ACCEL")]
    accel: Option<Accel>,
    /// Output format.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    output: Output,
}

/// What to measure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum What {
    /// Creating a swarm.
    #[default]
    Up,
    /// Loading an image on all nodes.
    Images,
    /// Deploying a stack.
    Deploy,
}

pub(super) async fn run(context: &Context, args: Bench) -> Result<(), CliError> {
    let name: ClusterName = CLUSTER.parse().expect("it is a name");
    if context.session.store.cluster(&name).exists() {
        let message = format!("there is a cluster {name}, of an interrupted run or of yours");
        return Err(CliError::usage(message).hint(format!("skep down {name}")));
    }
    let bench = Measuring { context, args: &args, name };
    bench.say("making sure that image and template are there");
    bench.up(1, false, false).await?;
    let environment = environment(context, &bench.machine(0));
    bench.down().await?;
    // JSON is YAML too.
    let as_table = args.output == Output::Table;
    let text = match args.what {
        What::Up => {
            let mut report = Report::new(args.runs, environment);
            for nodes in bench.sizes(2) {
                report.series.extend(bench.measure(nodes).await?);
            }
            if as_table { report.table() } else { report.json() }
        }
        What::Images | What::Deploy => {
            let images = args.what == What::Images;
            let kind = if images { "images" } else { "deploy" };
            let mut trials = Trials { kind, runs: args.runs, environment, groups: Vec::new() };
            for nodes in bench.sizes(if images { 4 } else { 2 }) {
                trials.groups.push(match images {
                    true => bench.measure_images(nodes).await?,
                    false => bench.measure_deploys(nodes).await?,
                });
            }
            if as_table { trials.table() } else { trials.json() }
        }
    };
    out!("{text}");
    Ok(())
}

struct Measuring<'a> {
    context: &'a Context,
    args: &'a Bench,
    name: ClusterName,
}

impl Measuring<'_> {
    /// Measures clusters of that many nodes.
    async fn measure(&self, nodes: u32) -> Result<Vec<Series>, CliError> {
        let mut kinds = vec![Series::new(nodes, false)];
        if !self.args.no_cold {
            kinds.push(Series::new(nodes, true));
        }
        for run in 1..=self.args.runs {
            for series in &mut kinds {
                let what = if series.cold { "booted" } else { "forked" };
                self.say(&format!("{nodes} nodes, {what}, run {run} of {}", self.args.runs));
                let began = Instant::now();
                let done = self.up(nodes, series.cold, false).await?;
                series.ready.push(began.elapsed());
                for (title, timing) in done.progress.timings() {
                    let (from, to) = (timing.from - began, timing.to - began);
                    series.add_step(&title, Step { from, to, each: timing.each });
                }
                if run == self.args.runs {
                    series.idle = Some(self.look_at_idle(nodes).await);
                }
                self.down().await?;
                if !self.args.no_verify {
                    let began = Instant::now();
                    self.up(nodes, series.cold, true).await?;
                    series.verified.push(began.elapsed());
                    self.down().await?;
                }
            }
        }
        Ok(kinds)
    }

    /// Returns the numbers of nodes, or one that goes for all who did not say.
    fn sizes(&self, usual: u32) -> Vec<u32> {
        if self.args.nodes.is_empty() { vec![usual] } else { self.args.nodes.clone() }
    }

    /// Makes a directory for what is to be sent. It goes with the cluster, also after an interruption.
    fn work_dir(&self) -> Result<PathBuf, CliError> {
        let dir = self.context.session.store.cluster(&self.name).path().join("bench");
        make_private_dir(&dir).context("no room for what is to be sent")?;
        Ok(dir)
    }

    async fn up(&self, nodes: u32, cold: bool, verify: bool) -> Result<up::Done, CliError> {
        let wanted = Wanted { num_node: Some(nodes), ..Wanted::default() };
        let verify = if verify { Verification::Mesh } else { Verification::None };
        let waiting = Waiting {
            limits: Limits { timeout: None, accel: self.args.accel },
            ready: Ready { verify, ..Ready::default() },
            birth: Birth { cold, unique_engine_ids: false },
        };
        let args = up_args(&self.name, wanted, waiting);
        Ok(up::bring_up(&self.quiet(), args).await?.expect("it is no dry run"))
    }

    async fn down(&self) -> Result<(), CliError> {
        let cluster = ClusterArg { cluster: Some(self.name.clone()) };
        down::run(&self.quiet(), down::Down::unasked(cluster)).await
    }

    fn quiet(&self) -> Context {
        self.context.silent()
    }

    fn say(&self, text: &str) {
        if !self.context.is_quiet() {
            errln!("{text}");
        }
    }

    fn machine(&self, index: u32) -> PathBuf {
        self.context.session.store.cluster(&self.name).path().join(format!("machines/node{index}"))
    }

    /// Looks at machines that have nothing to do.
    async fn look_at_idle(&self, nodes: u32) -> Idle {
        let pause = Duration::from_secs(self.args.idle.into());
        let dirs: Vec<_> = (0..nodes).map(|index| self.machine(index)).collect();
        // wait: for what the nodes still do once they are Ready; then for a stretch to be measured.
        tokio::time::sleep(pause).await;
        let look = || dirs.iter().filter_map(|dir| usage(dir)).collect::<Vec<Usage>>();
        let (before, began) = (look(), Instant::now());
        tokio::time::sleep(pause).await; // wait: the stretch
        Idle::between(&before, &look(), began.elapsed())
    }
}

/// Returns what the numbers depend on, a line each; `machine` is the directory of one of the nodes.
pub(super) fn environment(context: &Context, machine: &Path) -> Vec<(&'static str, String)> {
    let emulator = template_of(machine).and_then(|id| {
        let entries = Qemu::templates(context.session.cache.root()).list().ok()?;
        let manifest = Qemu::template(entries.iter().find(|entry| entry.id == id)?)?;
        Some(format!("{}, {}", manifest.emulator.accelerator.as_str(), manifest.emulator.build))
    });
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, key: &str| value_of(text, key).map(str::to_owned).unwrap_or_default();
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let memory_kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let release = read("/etc/os-release");
    let release = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let mut lines = vec![
        ("date", time::OffsetDateTime::now_utc().date().to_string()),
        ("skep", env!("CARGO_PKG_VERSION").to_owned()),
        (
            "host",
            format!(
                "{cpus} CPUs ({}), {} MiB",
                field(&read("/proc/cpuinfo"), "model name"),
                memory_kib >> 10
            ),
        ),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("distribution", release.unwrap_or_default().trim_matches('"').to_owned()),
    ];
    lines.extend(emulator.map(|emulator| ("guests", emulator)));
    lines
}

/// Returns what brings a cluster of that name up as it is wanted.
pub(super) fn up_args(name: &ClusterName, wanted: Wanted, waiting: Waiting) -> Up {
    let cluster = ClusterArg { cluster: Some(name.clone()) };
    Up {
        cluster,
        file: None,
        wanted,
        net: None,
        waiting,
        dry_run: DryRun::default(),
        no_rollback: false,
    }
}
