//! `skep doctor --try-vm`: whether machines work on this host, and how well, tried in one go.
//!
//! ```text
//! boot ─▶ forks, 1 CPU ─▶ forks, 4 CPUs ─▶ overlay ─▶ throughput ─▶ fsync ─▶ stop ─▶ report
//!   each within its limit; one that fails does not stop the next; the cluster is removed at the end, and on Ctrl-C
//! ```
//!
//! The report is to be attached to bug reports: no names of hosts or users, no keys.

mod report;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use skep_core::model::{ClusterName, NodeName};
use skep_core::readiness::{Subject, Verdict};
use skep_driver::Driver as _;
use skep_driver::qemu::{accel, program, template_of};
use skep_ops::observe::Damage;
use skep_print::{errln, out};
use skep_store::Machine;
use skep_sys::write_atomic;

use self::report::{Part, Report};
use super::{bench, down, interrupted, power, status, up};
use crate::cli::{
    Birth, ClusterArg, Doctor, Limits, Output, Ready, Start, Stop, Verification, Waiting, Wanted,
    WorkFormat,
};
use crate::context::Context;
use crate::error::{CliError, Context as _, code};
use crate::render::write_document;

/// The name of the cluster that is made.
const CLUSTER: &str = "try-vm";

/// How often a cluster is verified.
const VERIFICATIONS: u32 = 10;

/// How long the first part may take, which builds the image: it fetches some 100 MiB.
const FIRST: Duration = Duration::from_secs(30 * 60);

/// How long the removal of the cluster may take.
const CLEAN_UP: Duration = Duration::from_secs(300);

/// Runs a container in a node that takes 15 s of its 20 s to stop, and leaves a file then.
const SLOW_CONTAINER: &str = r#"
set -e
dir=/var/tmp/skep-try
rm -rf $dir; mkdir -p $dir/root
cp "$(command -v busybox)" $dir/root/busybox
tar -c -C $dir/root . | docker import - skep-try:1 >/dev/null
docker run -d --name skep-try --stop-timeout 20 --network none -v $dir:/out skep-try:1 /busybox sh -c '
	trap "/busybox sleep 15; : >/out/ended; exit 0" TERM
	: >/out/began
	while :; do /busybox sleep 1; done' >/dev/null
i=0
until [ -e $dir/began ]; do i=$((i + 1)); [ $i -lt 120 ]; sleep 1; done
"#;

/// Takes what comes to a port, and prints how many bytes and nanoseconds that were after the first 64 KiB. The end of its own
/// input would end the connection, so that is a pipe which it holds itself.
const RECEIVE: &str = r#"
pipe=$(mktemp -u /var/tmp/skep-pipe.XXXXXX)
mkfifo "$pipe" && exec 3<>"$pipe" && rm "$pipe" || exit 1
busybox nc -l -p 5999 <&3 | {
	head -c 65536 >/dev/null
	begin=$(date +%s%N)
	bytes=$(wc -c)
	echo "$bytes $(($(date +%s%N) - begin))"
}
"#;

/// How many bytes are sent from node to node: 2048 times 64 KiB, less the first of them.
const SENT: f64 = 2047.0 * 65536.0;

/// Sends 128 MiB to that port of the address that it is given, as soon as somebody listens.
const SEND: &str = r#"
i=0
until dd if=/dev/zero bs=65536 count=2048 2>/dev/null | busybox nc "$1" 5999; do
	i=$((i + 1)); [ $i -lt 100 ] || exit 1
	sleep 0.2
done
"#;

/// Writes 4 KiB 200 times, each time to the disk, and prints how many nanoseconds that took.
const SYNC: &str = r#"
begin=$(date +%s%N)
dd if=/dev/zero of=/var/tmp/skep-sync bs=4096 count=200 oflag=dsync 2>/dev/null && end=$(date +%s%N)
rm -f /var/tmp/skep-sync
echo $((end - begin))
"#;

pub(super) async fn run(context: &Context, args: &Doctor) -> Result<u8, CliError> {
    let name: ClusterName = CLUSTER.parse().expect("it is a name");
    if context.session.store.cluster(&name).exists() {
        let message = format!("there is a cluster {name}, of an interrupted run or of yours");
        return Err(CliError::usage(message).hint(format!("skep down {name}")));
    }
    let trying = Trying { context, args, name };
    let tried = tokio::select! {
        report = trying.all() => Some(report),
        () = interrupted() => None,
    };
    let cleaned = trying.clean_up().await;
    let Some(mut report) = tried else {
        let message = "interrupted; the cluster was removed".to_owned();
        let interrupted = CliError { code: code::INTERRUPTED, message, hints: Vec::new() };
        return Err(cleaned.err().unwrap_or(interrupted));
    };
    if let Err(error) = &cleaned {
        report.parts.push(Part::failed("clean-up", Duration::ZERO, &error.to_string()));
    }
    let document = report.document();
    if let Some(file) = &args.json {
        let text = format!("{document:#}\n");
        write_atomic(file, 0o644, text.as_bytes()).context("the report was not written")?;
    }
    match args.output {
        Output::Table => out!("{}", report.table()),
        output => write_document(output, &document),
    }
    Ok(if report.passed() { 0 } else { code::FAILED })
}

struct Trying<'a> {
    context: &'a Context,
    args: &'a Doctor,
    name: ClusterName,
}

impl Trying<'_> {
    async fn all(&self) -> Report {
        let mut parts = vec![self.part("boot", FIRST, self.boot()).await];
        let factor = self.slowness().await;
        let mut environment = bench::environment(self.context, &self.dir(0));
        environment.extend(self.how_executed().await);
        // What a run leaves is not for the next.
        let _ = self.down().await;
        let forks = self.args.forks;
        let limit = |seconds: u32| Duration::from_secs(seconds.into()) * factor;
        for cpus in [1, 4] {
            let title = if cpus == 1 { "forks, 1 CPU" } else { "forks, 4 CPUs" };
            let work = self.forks(cpus);
            parts.push(self.part(title, limit(120 + 15 * forks), work).await);
        }
        let work = self.overlay();
        parts.push(self.part("overlay", limit(120 + 60 * VERIFICATIONS), work).await);
        parts.push(self.part("throughput", limit(120), self.throughput()).await);
        parts.push(self.part("fsync", limit(120), self.sync()).await);
        parts.push(self.part("stop", limit(240), self.stop()).await);
        Report { environment, parts }
    }

    /// Makes one of the parts within its limit. What it leaves half made is removed.
    async fn part(
        &self,
        name: &'static str,
        limit: Duration,
        work: impl Future<Output = Result<Value, CliError>>,
    ) -> Part {
        if !self.context.is_quiet() {
            errln!("trying: {name}");
        }
        let began = Instant::now();
        let part = match tokio::time::timeout(limit, work).await {
            Ok(Ok(numbers)) => Part::passed(name, began.elapsed(), numbers),
            Ok(Err(error)) => Part::failed(name, began.elapsed(), &error.to_string()),
            Err(_) => {
                let said = format!("not done within {} s", limit.as_secs());
                Part::failed(name, began.elapsed(), &said)
            }
        };
        if !part.ok {
            let _ = self.down().await;
        }
        part
    }

    async fn boot(&self) -> Result<Value, CliError> {
        let began = Instant::now();
        self.up(1, None, true).await?;
        Ok(json!({"with_image_s": seconds(began.elapsed())}))
    }

    /// Makes a node so often as a copy of a template.
    async fn forks(&self, cpus: u32) -> Result<Value, CliError> {
        // The template is made before what is measured.
        self.up(1, Some(cpus), false).await?;
        self.down().await?;
        let (mut times, mut copies) = (Vec::new(), 0);
        for _ in 0..self.args.forks {
            let began = Instant::now();
            self.up(1, Some(cpus), false).await?;
            times.push(seconds(began.elapsed()));
            // One that could not be forked was booted: its disk stands on the image.
            copies += u32::from(template_of(&self.dir(0)).is_some());
            self.down().await?;
        }
        let forks = self.args.forks;
        if copies < forks {
            return Err(CliError::failed(format!(
                "{} of {forks} nodes were booted, as they could not be forked",
                forks - copies
            )));
        }
        times.sort_by(f64::total_cmp);
        let (least, most) = (times[0], times[times.len() - 1]);
        let median = times[times.len() / 2];
        Ok(json!({"forks": forks, "median_s": median, "least_s": least, "most_s": most}))
    }

    async fn overlay(&self) -> Result<Value, CliError> {
        self.up(2, None, false).await?;
        let dir = self.context.session.store.cluster(&self.name);
        let run = self.context.run_on(self.args.accel);
        let (mut times, mut wrong) = (Vec::new(), Vec::new());
        for _ in 0..VERIFICATIONS {
            let seen = run.observe(&dir, Damage::Refuse).await?;
            let began = Instant::now();
            let checks = status::verify(&run, &dir, &seen).await?;
            times.push(seconds(began.elapsed()));
            wrong.extend(checks.iter().filter(|it| it.verdict == Verdict::Failed).map(|it| {
                let node = it.node.as_ref().map_or("all", NodeName::as_str);
                format!("{} of {node}: {}", it.subject.as_str(), it.text)
            }));
            if !checks.iter().any(|it| it.subject == Subject::Overlay) {
                wrong.push("the overlay network was not looked at".to_owned());
            }
        }
        if let Some(first) = wrong.first() {
            let (count, text) =
                (wrong.len(), format!("of {VERIFICATIONS} verifications; first: {first}"));
            return Err(CliError::failed(format!("{count} checks failed {text}")));
        }
        times.sort_by(f64::total_cmp);
        Ok(json!({"verified": times.len(), "median_s": times[times.len() / 2]}))
    }

    async fn throughput(&self) -> Result<Value, CliError> {
        self.up(2, None, false).await?;
        let (from, to) = (self.machine(0)?, self.machine(1)?);
        let address = to.record.address.to_string();
        let driver = self.context.driver(self.args.accel);
        let limit = Duration::from_secs(60) * driver.slowness(&from);
        let (sender, receiver) = (driver.shell(&from), driver.shell(&to));
        let send = ["/bin/sh", "-c", SEND, "sh", &address];
        let (sent, received) = tokio::join!(
            sender.succeed("the sending", &send, b"", limit),
            receiver.succeed("the receiving", &["/bin/sh", "-c", RECEIVE], b"", limit),
        );
        sent.context("nothing was sent from node to node")?;
        let received = received.context("nothing arrived from node to node")?;
        let text = String::from_utf8_lossy(&received.stdout).into_owned();
        let mut numbers = text.split_whitespace().filter_map(|it| it.parse::<f64>().ok());
        match (numbers.next(), numbers.next()) {
            (Some(bytes), Some(nanoseconds)) if bytes >= SENT && nanoseconds > 0.0 => {
                let rate = bytes / f64::from(1 << 20) / (nanoseconds / 1e9);
                Ok(json!({"mib_per_s": rounded(rate)}))
            }
            _ => Err(CliError::failed(format!(
                "node1 received {} of {SENT} bytes",
                text.split_whitespace().next().unwrap_or("none")
            ))),
        }
    }

    async fn sync(&self) -> Result<Value, CliError> {
        self.up(2, None, false).await?;
        let said = self.in_node("the writes", SYNC).await?;
        let nanoseconds: f64 = said.trim().parse().map_err(|_| CliError::failed(said.clone()))?;
        Ok(json!({"ms_each": rounded(nanoseconds / 200.0 / 1e6)}))
    }

    /// Stops a cluster with a container that takes 15 s of its grace of 20 s.
    async fn stop(&self) -> Result<Value, CliError> {
        self.up(2, None, false).await?;
        self.in_node("the container", SLOW_CONTAINER).await?;
        let cluster = || ClusterArg { cluster: Some(self.name.clone()) };
        let stop = || Stop { cluster: cluster(), output: WorkFormat::Text };
        let Waiting { limits, ready, .. } = self.waiting(false);
        let began = Instant::now();
        power::stop(&self.context.silent(), stop()).await?;
        let took = seconds(began.elapsed());
        power::start(&self.context.silent(), Start { stop: stop(), limits, ready }).await?;
        let look = "if [ -e /var/tmp/skep-try/ended ]; then echo yes; else echo no; fi";
        if self.in_node("a look at what is left", look).await?.trim() != "yes" {
            let message = format!(
                "the container was cut off: its node stopped after {took} s, and the container takes 15 s of its 20 s"
            );
            return Err(CliError::failed(message));
        }
        Ok(json!({"stopped_after_s": took}))
    }

    /// Runs a script as root in the first node, and returns what it prints.
    async fn in_node(&self, what: &str, script: &str) -> Result<String, CliError> {
        let machine = self.machine(0)?;
        let driver = self.context.driver(self.args.accel);
        let limit = Duration::from_secs(60) * driver.slowness(&machine);
        let argv = ["/bin/sh", "-c", script];
        let said =
            driver.shell(&machine).succeed(what, &argv, b"", limit).await.context("node0")?;
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    }

    async fn up(&self, nodes: u32, cpus: Option<u32>, cold: bool) -> Result<(), CliError> {
        let wanted = Wanted { num_node: Some(nodes), cpus, ..Wanted::default() };
        let args = bench::up_args(&self.name, wanted, self.waiting(cold));
        up::bring_up(&self.context.silent(), args).await.map(drop)
    }

    fn waiting(&self, cold: bool) -> Waiting {
        Waiting {
            limits: Limits { timeout: None, accel: self.args.accel },
            ready: Ready { verify: Verification::None, ..Ready::default() },
            birth: Birth { cold, unique_engine_ids: false },
        }
    }

    async fn down(&self) -> Result<(), CliError> {
        if !self.context.session.store.cluster(&self.name).exists() {
            return Ok(());
        }
        let cluster = ClusterArg { cluster: Some(self.name.clone()) };
        down::run(&self.context.silent(), down::Down::unasked(cluster)).await
    }

    /// Removes the cluster, unless whoever waits for it has had enough of that.
    async fn clean_up(&self) -> Result<(), CliError> {
        let left = |why: &str| {
            let message = format!("cluster {} is left: {why}", self.name);
            Err(CliError::failed(message).hint(format!("skep down {}", self.name)))
        };
        tokio::select! {
            ended = tokio::time::timeout(CLEAN_UP, self.down()) => match ended {
                Ok(ended) => ended,
                Err(_) => left(&format!("its removal was not done within {} s", CLEAN_UP.as_secs())),
            },
            () = interrupted() => left("its removal was interrupted"),
        }
    }

    fn dir(&self, index: u32) -> PathBuf {
        self.context.session.store.cluster(&self.name).path().join(format!("machines/node{index}"))
    }

    fn machine(&self, index: u32) -> Result<Machine, CliError> {
        let cluster = self.context.session.store.cluster(&self.name);
        let wanted = format!("node{index}");
        for (name, record) in cluster.nodes().context("cannot list nodes")? {
            if name.as_str() == wanted {
                let record = record.context(&*name)?;
                return Ok(Machine { dir: cluster.machine_dir(record.name()), record });
            }
        }
        Err(CliError::failed(format!("there is no {wanted}")))
    }

    async fn slowness(&self) -> u32 {
        let driver = self.context.driver(self.args.accel);
        self.machine(0).map_or(1, |machine| driver.slowness(&machine))
    }

    /// Returns what executes guests here and why, and which program that is.
    async fn how_executed(&self) -> Vec<(&'static str, String)> {
        let record = self.context.session.store.cluster(&self.name).record().ok().flatten();
        let image = record.and_then(|it| self.context.session.cache.find(&it.image).ok().flatten());
        let installed = program::QemuVersion::installed().await;
        let (Some(image), Ok((version, build))) = (image, installed) else { return Vec::new() };
        let (used, why) = match self.args.accel {
            Some(chosen) => (format!("{chosen:?}").to_lowercase(), "it was asked for".to_owned()),
            None => {
                let (kernel, initrd) = (image.kernel(), image.initrd());
                let cache = self.context.session.cache.root();
                let found = accel::choose(cache, version, &kernel, &initrd, || ()).await;
                let tried = match found.slowness {
                    1 => "a guest was seen to run under it".to_owned(),
                    factor => format!(
                        "a guest was seen to run under it, slowly: time limits are {factor} times as long"
                    ),
                };
                let why = if found.reason.is_empty() { tried } else { found.reason };
                (found.accelerator.as_str().to_owned(), why)
            }
        };
        vec![("qemu", build), ("accelerator", used), ("because", why)]
    }
}

fn seconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64())
}

fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
