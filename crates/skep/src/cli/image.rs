//! Commands for container images on the nodes.

use clap::{Args, Subcommand};

use super::{Accel, ClusterArg, ClusterOption, Output};

/// `skep image`.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Put container images of this host into the engines of all nodes.
    Load(ImageLoad),
    /// Make templates that have the images of a cluster's file, for its next nodes.
    Bake(ImageBake),
    /// List which node has which image.
    Ls {
        #[command(flatten)]
        cluster: ClusterArg,
        /// How it is printed.
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
}

/// `skep image load`.
#[derive(Debug, Args)]
#[command(after_help = "\
A source is a reference in this host's docker or podman store, an archive (docker's or OCI's, as it
is or compressed with gzip or zstd), the directory of an OCI layout such as ./app, or - for an
archive on the standard input. What a node has is not sent again.

Examples:
  skep image load nginx:latest ./build/app.tar
  ssh build-host docker save app | skep image load - -c test --node worker")]
pub struct ImageLoad {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// The nodes: names, `manager`, `worker` or `all`; all that run if not given.
    #[arg(long, value_name = "NODES", value_delimiter = ',')]
    pub node: Vec<String>,
    /// Where the images are.
    #[arg(required = true, value_name = "SOURCE")]
    pub sources: Vec<String>,
}

/// `skep image bake`.
#[derive(Debug, Args)]
pub struct ImageBake {
    #[command(flatten)]
    pub cluster: ClusterArg,
    /// What executes the guests; tried out if not given.
    #[arg(long, value_name = "KIND", env = "SKEP_ACCEL")]
    pub accel: Option<Accel>,
}
