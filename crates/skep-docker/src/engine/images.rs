//! Container images of an engine: which it has, and loading others.

use std::collections::BTreeSet;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bollard::query_parameters::{ImportImageOptions, ListImagesOptionsBuilder};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use skep_core::model::EngineImages;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

use super::Error;
use super::api::ApiEngine;

/// The store of images whose layers can be left out of an archive if it has them. An engine with
/// another one, such as containerd's, wants the whole archive.
const STORE: &str = "overlay2";

/// How many bytes an engine has to take and unpack, at least, in the time for which it may be silent.
const SLOWEST: u64 = 2 << 20;

/// An image that an engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineImage {
    /// Its ID.
    pub id: String,
    /// Its names with tags.
    pub names: BTreeSet<String>,
    /// What it takes on the engine's disk, in bytes; layers may be shared.
    pub bytes: u64,
    /// Whether a registry knows it, as far as the engine can tell.
    pub pulled: bool,
}

/// An archive on its way to an engine. The sender's end closes the archive, an error breaks it off.
pub struct Upload {
    /// Its parts.
    pub parts: mpsc::Receiver<io::Result<Bytes>>,
    /// How long the engine may take nothing and say nothing; the source may take as long as it likes.
    pub silence: Duration,
}

/// Returns what engines have, for plans.
#[must_use]
pub fn names_by_id(images: Vec<EngineImage>) -> EngineImages {
    EngineImages(images.into_iter().map(|image| (image.id, image.names)).collect())
}

pub(super) async fn list(engine: &ApiEngine) -> Result<Vec<EngineImage>, Error> {
    let options = ListImagesOptionsBuilder::default().all(false).build();
    let images = engine
        .call("list its images", |docker| async move { docker.list_images(Some(options)).await })
        .await?;
    let image = |image: bollard::models::ImageSummary| EngineImage {
        id: image.id,
        names: image.repo_tags.into_iter().filter(|name| !name.contains("<none>")).collect(),
        bytes: u64::try_from(image.size).unwrap_or(0),
        pulled: !image.repo_digests.is_empty(),
    };
    Ok(images.into_iter().map(image).collect())
}

pub(super) async fn layers(engine: &ApiEngine, id: &str) -> Result<Vec<String>, Error> {
    let inspect =
        engine.call("inspect an image", |docker| async move { docker.inspect_image(id).await });
    let image = match inspect.await {
        // It went since it was listed.
        Err(Error::Refused { status: 404, .. }) => return Ok(Vec::new()),
        image => image?,
    };
    match image.graph_driver {
        Some(driver) if driver.name == STORE => {
            Ok(image.root_fs.and_then(|it| it.layers).unwrap_or_default())
        }
        _ => Ok(Vec::new()),
    }
}

/// Sends an archive and waits until the engine has unpacked it; `told` gets what it has unpacked of
/// the layer that it is at, in bytes.
pub(super) async fn load(
    engine: &ApiEngine,
    upload: Upload,
    told: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), Error> {
    let docker = match timeout(engine.patience(), engine.agree()).await {
        Ok(docker) => docker.map_err(|error| engine.error(error))?,
        Err(_) => return Err(engine.timeout("greet")),
    };
    let (body, sent) = mpsc::channel(1);
    let sent = stream::unfold(sent, |mut sent| async move { Some((sent.recv().await?, sent)) });
    let options = ImportImageOptions::default();
    let mut answers = pin!(docker.import_image_stream(options, sent.boxed(), None));
    let (missing, taken) = (AtomicBool::new(false), Notify::new());
    let mut parts = upload.parts;
    let bytes = AtomicU64::new(0);
    // Parts are handed on here, so that their sender is let go when this function ends: a connection to an
    // engine that is gone keeps what it was to send for a long time.
    let mut hand_on = pin!(async {
        loop {
            missing.store(true, Ordering::Relaxed);
            let part = parts.recv().await;
            missing.store(false, Ordering::Relaxed);
            let Some(part) = part else { break };
            let length = part.as_ref().map_or(0, Bytes::len) as u64;
            if body.send(part).await.is_err() {
                // The engine wants no more: it has an answer.
                break;
            }
            bytes.fetch_add(length, Ordering::Relaxed);
            taken.notify_one();
        }
        drop(body);
        std::future::pending::<()>().await;
    });
    let mut used = Duration::ZERO;
    loop {
        let allowed = allowed(upload.silence, bytes.load(Ordering::Relaxed));
        let Some(left) = allowed.checked_sub(used).filter(|left| !left.is_zero()) else {
            return Err(Error::Slow { mib: bytes.load(Ordering::Relaxed) >> 20, limit: allowed });
        };
        let begun = Instant::now();
        let answer = tokio::select! {
            answer = answers.try_next() => Some(answer),
            () = &mut hand_on => None,
            () = taken.notified() => None,
            // wait: for as long as nothing may happen.
            () = tokio::time::sleep(upload.silence.min(left)) => {
                if !missing.load(Ordering::Relaxed) && left > upload.silence {
                    return Err(Error::Silent { limit: upload.silence });
                }
                None
            }
        };
        // What the source takes is not the engine's time.
        if !missing.load(Ordering::Relaxed) {
            used += begun.elapsed();
        }
        let Some(answer) = answer else { continue };
        match answer.map_err(|error| broken_off(engine.error(error)))? {
            None => return Ok(()),
            Some(line) => {
                let detail = line.progress_detail.and_then(|detail| detail.current);
                told(detail.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0));
            }
        }
    }
}

/// Returns how much time of its own an engine may take for so many bytes: one that takes a little now and then, or
/// says something that means nothing, is never silent and would be waited for without an end.
fn allowed(silence: Duration, bytes: u64) -> Duration {
    let parts = u32::try_from(bytes / SLOWEST).unwrap_or(u32::MAX);
    silence.saturating_mul(parts.saturating_add(4))
}

/// Tells of an engine that answered before that it is away now.
fn broken_off(error: Error) -> Error {
    match error {
        Error::Unreachable { address, source } => Error::BrokenOff { address, source },
        other => other,
    }
}
