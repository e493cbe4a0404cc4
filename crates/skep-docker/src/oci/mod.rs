//! Container images on the host: where they come from, what is in them, and their archives as a
//! stream that engines take.
//!
//! ```text
//! reference ── docker save, podman save ─┐
//! archive file, gzip or zstd or plain ───┼─ archive ──> pieces, one tar stream
//! standard input ────────────────────────┘     │
//! OCI layout (a directory) ── layout ──────────┴─ index ──> contents: IDs, names, layers
//! ```
//!
//! An engine reads Docker's form of an archive, whose manifest.json says what is in it. What has
//! only OCI's index.json is given a manifest.json on its way. Nothing is ever held whole, in memory
//! or on the disk.

mod archive;
mod bench_image;
mod index;
mod layout;
mod stores;

use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use bytes::Bytes;
use skep_core::model::ImageSet;
use thiserror::Error;

pub use bench_image::write_bench_image;
pub use index::{Contents, Image, Layer, familiar};

use skep_sys::{CmdError, standard_input};

/// Why there are no images.
#[derive(Debug, Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {source_name}")]
    Read {
        /// The source.
        source_name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is read is no archive of images.
    #[error("{source_name} is not an archive of container images: {why}")]
    NotImages {
        /// The source.
        source_name: String,
        /// Why not.
        why: String,
    },
    /// No store of this host has such an image.
    #[error("no such image on this host: {reference}; {tried}")]
    NoSuchImage {
        /// The reference.
        reference: String,
        /// What each store said.
        tried: String,
    },
    /// A store's program failed.
    #[error(transparent)]
    Cmd(#[from] CmdError),
}

/// Where images come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A reference in the host's own store of images.
    Reference(String),
    /// A file, or a directory with an OCI layout.
    Path(PathBuf),
    /// The standard input.
    Stdin,
}

/// A part of an archive on its way to engines.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The file of the archive that it belongs to.
    pub file: std::sync::Arc<str>,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Takes pieces; an error ends the stream.
pub type Put<'a> = &'a mut dyn FnMut(Piece) -> std::io::Result<()>;

impl Source {
    /// Reads a source as a user writes it: `-` is the standard input; what begins with a slash, or
    /// with dots and a slash, or ends like an archive is a path; all else is a reference.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let is_named = ["/", "./", "../"].iter().any(|start| text.starts_with(start));
        let endings = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".oci"];
        let is_archive = endings.iter().any(|ending| text.ends_with(ending));
        if text == "-" {
            Self::Stdin
        } else if is_named || is_archive {
            Self::Path(text.into())
        } else {
            Self::Reference(text.to_owned())
        }
    }

    /// Looks at what is in the source without reading more than that takes; none of what can be read
    /// only once.
    ///
    /// # Errors
    ///
    /// If it is not there, or has no images.
    pub async fn contents(&self) -> Result<Option<Contents>, Error> {
        match self {
            Self::Stdin => Ok(None),
            Self::Reference(reference) => stores::contents(reference).await.map(Some),
            Self::Path(_) => {
                let source = self.clone();
                let looked = tokio::task::spawn_blocking(move || source.look());
                looked.await.expect("the look does not panic").map(Some)
            }
        }
    }

    /// Looks at what is in the source and returns it as a set of images.
    ///
    /// # Errors
    ///
    /// As [`Self::contents`].
    pub async fn set(&self) -> Result<ImageSet, Error> {
        let images = self.contents().await?.map(|contents| contents.ids()).unwrap_or_default();
        let source = match self {
            Self::Stdin => "-".to_owned(),
            other => other.to_string(),
        };
        Ok(ImageSet { source, images })
    }

    fn look(&self) -> Result<Contents, Error> {
        match self {
            Self::Path(path) if path.is_dir() => layout::contents(path),
            Self::Path(path) => archive::contents(&self.to_string(), archive::open(path)?),
            Self::Stdin | Self::Reference(_) => unreachable!("it is read only once"),
        }
    }

    /// Streams the source as an archive that engines take, and returns what was in it.
    ///
    /// Blocks until all is read, so it wants a thread of its own.
    ///
    /// # Errors
    ///
    /// If it cannot be read or has no images, or if `put` fails.
    pub fn stream(&self, put: Put<'_>) -> Result<Contents, Error> {
        let name = self.to_string();
        match self {
            Self::Path(path) if path.is_dir() => layout::stream(path, put),
            Self::Path(path) => archive::stream(&name, archive::open(path)?, put),
            Self::Stdin => {
                let input = standard_input().map_err(|source| read_error(&name, source))?;
                archive::stream(&name, Box::new(input), put)
            }
            Self::Reference(reference) => archive::stream(&name, stores::open(reference)?, put),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reference(reference) => f.write_str(reference),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Stdin => f.write_str("the standard input"),
        }
    }
}

/// Something that is read from its beginning to its end.
type Input = Box<dyn Read + Send>;

fn read_error(source_name: impl fmt::Display, source: std::io::Error) -> Error {
    Error::Read { source_name: source_name.to_string(), source }
}

fn not_images(source_name: impl fmt::Display, why: impl fmt::Display) -> Error {
    Error::NotImages { source_name: source_name.to_string(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_from_paths() {
        let reference = |text: &str| Source::Reference(text.into());
        for text in ["nginx", "nginx:latest", "docker.io/library/nginx:1", "localhost:5000/a/b"] {
            assert_eq!(Source::parse(text), reference(text));
        }
        for text in ["./app", "../app", "/app", "app.tar", "build/app.tar.gz"] {
            assert_eq!(Source::parse(text), Source::Path(text.into()), "{text}");
        }
        assert_eq!(Source::parse("-"), Source::Stdin);
    }
}
