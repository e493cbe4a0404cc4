//! Commands for container images on the nodes.

use clap::{Args, Subcommand};

use super::{Accel, ClusterOption, ClusterWord};

/// `skep image`.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Load container images from this host into the engines of all nodes.
    Load(ImageLoad),
    /// Create templates that contain the images of the cluster file, for future nodes.
    Bake(ImageBake),
    /// List the images and the nodes that have them.
    #[command(alias = "list")]
    Ls(crate::commands::ImageList),
}

/// `skep image load`.
#[derive(Debug, Args)]
#[command(after_help = "\
A source is an image name in this host's docker or podman, an archive (docker or OCI; gzip or zstd
or uncompressed), an OCI layout directory such as ./app, or - for an archive on standard input.
Layers that a node has already are not sent again.

Examples:
  skep image load nginx:latest ./build/app.tar
  ssh build-host docker save app | skep image load - -c test --node worker")]
pub struct ImageLoad {
    #[command(flatten)]
    pub cluster: ClusterOption,
    /// Nodes: names, `manager`, `worker` or `all` [default: all running nodes].
    #[arg(long, value_name = "NODES", value_delimiter = ',')]
    pub node: Vec<String>,
    /// Image name, archive, or `-` for standard input.
    #[arg(required = true, value_name = "SOURCE")]
    pub sources: Vec<String>,
}

/// `skep image bake`.
#[derive(Debug, Args)]
pub struct ImageBake {
    #[command(flatten)]
    pub cluster: ClusterWord,
    /// Accelerator [default: auto-detect].
    #[arg(long, value_name = "KIND", env = "SKEP_ACCEL")]
    pub accel: Option<Accel>,
}
