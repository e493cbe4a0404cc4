//! Guest images: distribution packages made into a kernel, an initial RAM disk and a root disk.
//!
//! An image is addressed by the hash of all that goes into it, built once under a lock, and appears
//! in the cache under its address only when it is whole. None of its files is ever changed after.
//!
//! ```text
//! CACHE/images/ID.lock          held while the image is built
//! CACHE/images/.building-ID/    a build under way, or what is left of one that was cut off
//! CACHE/images/ID/              kernel, initrd, root.img, busybox, docker, probe.tar, manifest.json
//! CACHE/images/ID/verified      which files were found to be what they were made as, and when
//! ```

mod build;
mod cache;
mod packages;
pub mod probe_image;
mod recipe;
mod verified;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use skep_core::model::ImageSpec;
use thiserror::Error;

pub use cache::{Cache, CachedImage};
#[cfg(test)]
pub(crate) use recipe::guest_file;
pub use recipe::image_id;

use skep_sys::{Checksum, CmdError, FileError, LockError};

/// What is wrong with an image or its making.
#[derive(Debug, Error)]
pub enum Error {
    /// A program of the build failed.
    #[error("cannot build the image")]
    Build(#[source] CmdError),
    /// A program of the build is missing.
    #[error("{0} is needed to build the image and is not installed")]
    Missing(String),
    /// A suite does not have what the image is made from.
    #[error("{suite} has no package {}{}", .missing.join(", "), found_in(.elsewhere))]
    Lacks {
        /// The suite.
        suite: String,
        /// The packages.
        missing: Vec<String>,
        /// The suites that have all of them.
        elsewhere: Vec<String>,
    },
    /// The build needs root, or a namespace in which files can have many owners.
    #[error("building the image needs root or user namespaces")]
    NoOwners(#[source] CmdError),
    /// There is not enough room.
    #[error("{} has {free_mib} MiB free, and building the image takes {needed_mib} MiB", .path.display())]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// How much is free.
        free_mib: u64,
        /// How much is needed.
        needed_mib: u64,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The image under a disk is not there any more.
    #[error("the image {}, the backing file of the disk, is missing or damaged", .0.display())]
    Gone(PathBuf),
    /// The lock could not be had.
    #[error(transparent)]
    Lock(#[from] LockError),
}

fn found_in(suites: &[String]) -> String {
    match suites.is_empty() {
        true => String::new(),
        false => format!("; it is in {}", suites.join(" and ")),
    }
}

/// An image in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The name of its directory: its address, and a number if it is not the first.
    pub id: String,
    /// Its directory.
    pub dir: PathBuf,
    /// What it is made of.
    pub manifest: Manifest,
}

/// What an image is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The number of the manifest's format.
    pub format: u32,
    /// What the image was made from.
    pub spec: ImageSpec,
    /// The ID that Docker gives the probe image.
    pub probe_image: String,
    /// The packages with their versions.
    pub packages: Vec<(String, String)>,
    /// The files with their sizes in bytes, to notice a damaged image.
    pub files: Vec<(String, u64)>,
    /// The files' checksums; none in images that were made before there were any.
    #[serde(default)]
    pub checksums: Vec<(String, Checksum)>,
}

impl Image {
    /// Returns the kernel.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.dir.join("kernel")
    }

    /// Returns the initial RAM disk.
    #[must_use]
    pub fn initrd(&self) -> PathBuf {
        self.dir.join("initrd")
    }

    /// Returns the root disk: raw, and never written to.
    #[must_use]
    pub fn root_disk(&self) -> PathBuf {
        self.dir.join("root.img")
    }

    /// Returns the docker CLI of the guest, for hosts that have none.
    #[must_use]
    pub fn docker_cli(&self) -> PathBuf {
        self.dir.join("docker")
    }

    /// Returns the archive of the probe image, as `docker load` reads it.
    #[must_use]
    pub fn probe_archive(&self) -> PathBuf {
        self.dir.join("probe.tar")
    }
}

/// What is told how far a build is.
pub type Progress<'a> = &'a (dyn for<'text> Fn(&'text str) + Send + Sync);

/// Where images come from.
#[async_trait]
pub trait Images: Send + Sync {
    /// Returns the image, building it if it is not there; `progress` is told how far that is.
    ///
    /// # Errors
    ///
    /// If it cannot be built; nothing is then left that could be taken for an image.
    async fn ensure(&self, spec: &ImageSpec, progress: Progress<'_>) -> Result<Image, Error>;

    /// Returns the image that has this root disk.
    ///
    /// # Errors
    ///
    /// If it is gone or damaged: another one, made from the same words at another time, would not
    /// fit the disks that stand on it.
    fn with_root_disk(&self, root_disk: &Path) -> Result<Image, Error>;
}
