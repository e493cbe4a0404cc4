//! How long a stack takes with `skep stack deploy`, and with docker's own command and a loop that asks
//! until all its tasks run.

use std::path::Path;
use std::time::{Duration, Instant};

use skep_core::services::HOLD;
use skep_sys::write_atomic;

use super::Measuring;
use super::trials::{Group, Way};
use crate::cli::{
    ClusterOption, Converging, DryRun, ImageCommand, ImageLoad, LongCluster, ResolveImage,
    StackCommand, StackDeploy, StackOptions, StackRemove,
};
use crate::commands::{image, stack};
use crate::error::{CliError, Context as _};

/// The stack's name.
const STACK: &str = "bench";

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(300);

/// How often the loop asks.
const ASK: Duration = Duration::from_millis(500);

impl Measuring<'_> {
    /// Measures the deployment of a small stack on that many nodes.
    pub(super) async fn measure_deploys(&self, nodes: u32) -> Result<Group, CliError> {
        self.say(&format!("making {nodes} nodes"));
        self.up(nodes, false, false).await?;
        let file = self.work_dir()?.join("stack.yml");
        let probe = self.load_probe_image().await?;
        write_atomic(&file, 0o600, compose(&probe, nodes).as_bytes())
            .context("cannot write a stack's file")?;
        let mut group = Group::new(
            nodes,
            &[
                "skep stack deploy",
                "docker stack deploy, polled until it is so for 5 s",
                "docker stack deploy, polled until all tasks run",
            ],
        );
        self.say("deploying it once, as a node's first container takes longer");
        self.deploy_by_skep(&file).await?;
        for run in 1..=self.args.runs {
            self.say(&format!("{nodes} nodes, run {run} of {}", self.args.runs));
            // None of them always comes after the other.
            for by_skep in [run % 2 == 1, run % 2 == 0] {
                if by_skep {
                    group.took(Way(0), self.deploy_by_skep(&file).await?);
                } else {
                    let (ran, stayed) = self.deploy_by_docker(&file).await?;
                    group.took(Way(1), stayed);
                    group.took(Way(2), ran);
                    self.remove_stack().await?;
                }
            }
        }
        self.down().await?;
        Ok(group)
    }

    /// Gives all nodes the image of the probe, and returns its ID.
    async fn load_probe_image(&self) -> Result<String, CliError> {
        let dir = self.context.session.store.cluster(&self.name);
        let record = dir.record().context("bench")?;
        let found =
            record.and_then(|record| self.context.session.cache.find(&record.image).ok().flatten());
        let cached = found.ok_or_else(|| CliError::failed("the nodes' image is gone"))?;
        let load = ImageLoad {
            cluster: ClusterOption { cluster: Some(self.name.clone()) },
            node: Vec::new(),
            sources: vec![cached.probe_archive().to_string_lossy().into_owned()],
        };
        image::run(&self.quiet(), ImageCommand::Load(load)).await?;
        Ok(cached.manifest.probe_image.clone())
    }

    fn deployment(&self, file: &Path) -> StackDeploy {
        StackDeploy {
            cluster: LongCluster { cluster: Some(self.name.clone()) },
            compose_file: vec![file.to_owned()],
            how: StackOptions {
                resolve_image: Some(ResolveImage::Never),
                ..StackOptions::default()
            },
            converging: Converging { detach: false, timeout: Some(LIMIT) },
            name: STACK.to_owned(),
        }
    }

    async fn deploy_by_skep(&self, file: &Path) -> Result<Duration, CliError> {
        let began = Instant::now();
        stack::run(&self.quiet(), StackCommand::Deploy(self.deployment(file))).await?;
        let took = began.elapsed();
        self.remove_stack().await?;
        Ok(took)
    }

    async fn remove_stack(&self) -> Result<(), CliError> {
        let remove = StackRemove {
            cluster: ClusterOption { cluster: Some(self.name.clone()) },
            dry_run: DryRun::default(),
            converging: Converging { detach: false, timeout: Some(LIMIT) },
            names: vec![STACK.to_owned()],
        };
        stack::run(&self.quiet(), StackCommand::Rm(remove)).await.map(|_| ())
    }

    /// Returns when all tasks ran, and when they had done so for as long as skep wants it.
    async fn deploy_by_docker(&self, file: &Path) -> Result<(Duration, Duration), CliError> {
        let began = Instant::now();
        let mut deploy: Vec<_> =
            ["stack", "deploy", "--resolve-image", "never", "-c"].map(Into::into).into();
        deploy.extend([file.as_os_str().to_owned(), STACK.into()]);
        self.docker(0, deploy).await?;
        let mut ran = None;
        while began.elapsed() < LIMIT {
            let ask = ["stack", "services", "--format", "{{.Replicas}}", STACK].map(Into::into);
            match (all_run(&self.docker(0, ask).await?), ran) {
                (false, _) => ran = None,
                (true, None) => ran = Some(began.elapsed()),
                (true, Some(ran)) if began.elapsed() >= ran + HOLD => {
                    return Ok((ran, began.elapsed()));
                }
                (true, Some(_)) => {}
            }
            // wait: as a script does between its questions.
            tokio::time::sleep(ASK).await;
        }
        Err(CliError::failed(format!(
            "stack {STACK} did not converge within {} s",
            LIMIT.as_secs()
        )))
    }
}

/// Tells whether each service runs as many tasks as it wants, by docker's words such as `1/2`.
fn all_run(replicas: &str) -> bool {
    let runs = |line: &str| line.split_once('/').is_some_and(|(run, wanted)| run == wanted);
    !replicas.is_empty() && replicas.lines().all(|line| runs(line.trim()))
}

/// Returns a stack of two services: one task on each node behind the routing mesh, and one that is not
/// published.
fn compose(image: &str, nodes: u32) -> String {
    format!(
        "version: \"3.8\"\nservices:\n  web:\n    image: \"{image}\"\n    ports: [\"8099:80\"]\n    \
         stop_grace_period: 1s\n    deploy: {{replicas: {nodes}}}\n  side:\n    image: \"{image}\"\n    \
         stop_grace_period: 1s\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tasks_run_when_each_service_says_so() {
        assert!(all_run("2/2\n1/1\n"));
        assert!(!all_run("2/2\n0/1\n"));
        assert!(!all_run(""));
    }
}
