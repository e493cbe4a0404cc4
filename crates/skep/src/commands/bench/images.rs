//! How long an image takes to get to all nodes, and what a user would do without skep.

use std::path::Path;
use std::time::{Duration, Instant};

use skep_core::model::NodeName;
use skep_docker::oci::write_bench_image;
use skep_sys::{Cmd, forget_peak_memory, peak_memory_kib};

use super::Measuring;
use super::trials::{Group, Way};
use crate::cli::{ClusterOption, ImageCommand, ImageLoad};
use crate::commands::image;
use crate::error::{CliError, Context as _};

/// The image's name.
const IMAGE: &str = "skep-bench:noise";

/// Who loads an image.
#[derive(Clone, Copy)]
enum Loader {
    /// skep, on all nodes at once.
    Skep,
    /// Somebody who does one node after the other.
    InTurn(By, Way),
}

/// How one node gets an image without skep.
#[derive(Clone, Copy)]
enum By {
    /// By the docker command here.
    Docker,
    /// By that of the node.
    Ssh,
}

/// How long the docker command may take with one node.
const LOADING: Duration = Duration::from_secs(600);

impl Measuring<'_> {
    /// Measures how an image gets to that many nodes.
    pub(super) async fn measure_images(&self, nodes: u32) -> Result<Group, CliError> {
        let mib = self.args.mib as usize;
        self.say(&format!("making {nodes} nodes, and an image of {mib} MiB"));
        self.up(nodes, false, false).await?;
        let archive = self.work_dir()?.join("noise.tar");
        write_bench_image(&archive, IMAGE, mib).context("cannot make an image")?;
        let mut group = Group::new(
            nodes,
            &[
                "skep image load",
                "docker load, one node after the other",
                "skep image load again",
                "docker load over ssh, one node after the other",
            ],
        );
        for run in 1..=self.args.runs {
            self.say(&format!("{nodes} nodes, run {run} of {}", self.args.runs));
            // None of them always comes after the other.
            let by_docker = Loader::InTurn(By::Docker, Way(1));
            let by_ssh = Loader::InTurn(By::Ssh, Way(3));
            let mut order = [Loader::Skep, by_docker, by_ssh];
            order.rotate_left(run as usize % 3);
            for loader in order {
                match loader {
                    Loader::Skep => self.load_by_skep(&archive, &mut group).await?,
                    Loader::InTurn(by, way) => {
                        group.took(way, self.load_in_turn(by, &archive, nodes).await?);
                    }
                }
                self.forget_image(nodes).await?;
            }
        }
        self.down().await?;
        Ok(group)
    }

    async fn load_by_skep(&self, archive: &Path, group: &mut Group) -> Result<(), CliError> {
        let peak = forget_peak_memory().is_ok();
        for way in [Way(0), Way(2)] {
            let began = Instant::now();
            let load = ImageLoad {
                cluster: ClusterOption { cluster: Some(self.name.clone()) },
                node: Vec::new(),
                sources: vec![archive.to_string_lossy().into_owned()],
            };
            image::run(&self.quiet(), ImageCommand::Load(load)).await?;
            group.took(way, began.elapsed());
        }
        if let (true, Some(kib)) = (peak, peak_memory_kib()) {
            group.peak(kib);
        }
        Ok(())
    }

    /// Loads it on one node after the other; returns how long that took.
    async fn load_in_turn(&self, by: By, archive: &Path, nodes: u32) -> Result<Duration, CliError> {
        let began = Instant::now();
        for index in 0..nodes {
            match by {
                By::Docker => self.load_by_docker(index, archive).await?,
                By::Ssh => self.load_over_ssh(index, archive).await?,
            }
        }
        Ok(began.elapsed())
    }

    async fn load_by_docker(&self, index: u32, archive: &Path) -> Result<(), CliError> {
        let load = ["load", "--quiet", "--input"].map(Into::into);
        let args = load.into_iter().chain([archive.as_os_str().to_owned()]);
        self.docker(index, args).await.map(drop)
    }

    async fn load_over_ssh(&self, index: u32, archive: &Path) -> Result<(), CliError> {
        let skep = std::env::current_exe().context("skep")?;
        let node = format!("{}/{}", self.name, NodeName::numbered(index as usize));
        let file = std::fs::File::open(archive).context("the image")?;
        let words = ["ssh", &node, "--", "docker", "load", "--quiet"];
        let load = Cmd::new(skep).args(words).input(file.into()).timeout(LOADING);
        load.run().await.context("docker load over ssh").map(drop)
    }

    /// Lets all nodes have the image no more.
    async fn forget_image(&self, nodes: u32) -> Result<(), CliError> {
        for index in 0..nodes {
            self.docker(index, ["rmi", "--force", IMAGE].map(Into::into)).await?;
        }
        Ok(())
    }

    /// Runs the docker command with a node's engine.
    pub(super) async fn docker(
        &self,
        index: u32,
        args: impl IntoIterator<Item = std::ffi::OsString>,
    ) -> Result<String, CliError> {
        let dir = self.context.session.store.cluster(&self.name);
        let node = dir.node(&NodeName::numbered(index as usize));
        let node = node.context("bench")?;
        let cmd =
            Cmd::new(self.context.session.docker_program(Some(&dir))?).args(args).timeout(LOADING);
        let environment = self.context.session.docker_environment(&dir, &node).into_iter();
        let cmd = environment.fold(cmd, |cmd, (key, value)| cmd.env(key, value));
        Ok(cmd.run().await.context("docker")?.text())
    }
}
