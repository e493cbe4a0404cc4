//! Container images on their way from this host to engines: read once, sent to all at the same time.
//!
//! ```text
//!            ┌─ lane ── engine of node0
//! source ────┼─ lane ── engine of node1       each piece is in memory once, however many take it
//! (a thread) └─ lane ── engine of node2
//! ```
//!
//! Lanes are short and the source waits for the slowest, so little is in memory at any time. An upload
//! of which the engine takes nothing for too long ends itself, as does one whose machine ends, and the
//! others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use skep_core::event::Event;
use skep_core::model::{ImageSet, NodeName};
use skep_docker::engine::{Engine, Upload, names_by_id};
use skep_docker::oci::{self, Contents, Piece, Source};
use skep_store::Machine;
use tokio::sync::mpsc;

use super::{Error, StepContext};

/// How many pieces may wait in a lane, and between the source and the lanes.
const WAITING: usize = 16;

/// How long an engine on hardware virtualization may take nothing and say nothing.
const SILENCE: Duration = Duration::from_secs(10);

/// How often it is seen whether a machine still runs: a connection to one that ended says nothing.
const ALIVE: Duration = Duration::from_millis(500);

/// How often it is told how far things are.
const TELL: Duration = Duration::from_millis(200);

/// How many of an engine's images are looked into for layers that it has.
const LOOKED_INTO: usize = 100;

/// One node's way.
struct Lane {
    parts: mpsc::Sender<io::Result<Bytes>>,
    /// Files that the engine has no need of.
    spare: BTreeSet<String>,
}

/// The other end of a lane.
struct Receiver {
    machine: Machine,
    engine: Box<dyn Engine>,
    upload: Upload,
}

/// How far things are, for all nodes together.
#[derive(Default)]
struct Far {
    sent: AtomicU64,
    total: Option<u64>,
}

impl StepContext<'_> {
    /// Puts images into the engines of some nodes.
    pub(super) async fn load_images(
        &self,
        index: usize,
        set: &ImageSet,
        nodes: &[NodeName],
    ) -> Result<(), Error> {
        let source = Source::parse(&set.source);
        let contents = source.contents().await?;
        let wanted = contents.as_ref().map(Contents::ids).unwrap_or_default();
        let wanted = ImageSet { source: set.source.clone(), images: wanted };
        let looks = nodes
            .iter()
            .map(async |node| (node, self.ready_lane(node, &wanted, contents.as_ref()).await));
        let (mut lanes, mut receivers) = (Vec::new(), Vec::new());
        let mut failed = BTreeMap::new();
        for (node, prepared) in join_all(looks).await {
            match prepared {
                Ok(Some((lane, receiver))) => {
                    lanes.push(lane);
                    receivers.push(receiver);
                }
                Ok(None) => self.progress(index, format!("{node} has it")),
                Err(error) => drop(failed.insert(node.clone(), error)),
            }
        }
        if !lanes.is_empty() {
            self.transfer(index, source, contents.as_ref(), lanes, receivers, &mut failed).await?;
        }
        match failed.is_empty() {
            true => Ok(()),
            false => Err(Error::Images(failed.into_iter().collect())),
        }
    }

    /// Looks at what an engine has; none if it has all that is wanted.
    async fn ready_lane(
        &self,
        node: &NodeName,
        wanted: &ImageSet,
        contents: Option<&Contents>,
    ) -> Result<Option<(Lane, Receiver)>, Error> {
        let machine = self.machine(node)?;
        self.while_alive(&machine, self.look_into(node, wanted, contents)).await
    }

    /// Does something with a machine's engine for as long as the machine runs.
    async fn while_alive<T>(
        &self,
        machine: &Machine,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let ended = async {
            loop {
                if let Err(error) = self.driver.check_alive(machine) {
                    return error;
                }
                // wait: the end of a process that is no child of ours is not announced.
                tokio::time::sleep(ALIVE).await;
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            error = ended => Err(error.into()),
        }
    }

    async fn look_into(
        &self,
        node: &NodeName,
        wanted: &ImageSet,
        contents: Option<&Contents>,
    ) -> Result<Option<(Lane, Receiver)>, Error> {
        let engine = self.engine(node)?;
        let there = engine.images().await?;
        let mut spare = BTreeSet::new();
        if let Some(contents) = contents {
            let mut chains = Vec::new();
            for image in there.iter().take(LOOKED_INTO) {
                chains.push(engine.layers(&image.id).await?);
            }
            spare = contents.spare_files(&chains);
        }
        if names_by_id(there).has_all(wanted) {
            return Ok(None);
        }
        let machine = self.machine(node)?;
        let silence = self.settings.timeout.unwrap_or(SILENCE * self.driver.slowness(&machine));
        let (parts, received) = mpsc::channel(WAITING);
        let upload = Upload { parts: received, silence };
        let lane = Lane { parts, spare };
        Ok(Some((lane, Receiver { machine, engine, upload })))
    }

    async fn transfer(
        &self,
        index: usize,
        source: Source,
        contents: Option<&Contents>,
        lanes: Vec<Lane>,
        receivers: Vec<Receiver>,
        failed: &mut BTreeMap<NodeName, Error>,
    ) -> Result<(), Error> {
        let far = Far { sent: AtomicU64::new(0), total: total(contents, &lanes) };
        let began = Instant::now();
        let tell = || {
            let done = far.sent.load(Ordering::Relaxed);
            (self.events)(Event::StepBytes { step: index, done, total: far.total });
        };
        let told = |node: &NodeName, result: &Result<(), Error>| match result {
            Ok(()) => {
                let took = began.elapsed().as_secs_f64();
                self.progress(index, format!("{node} has it after {took:.1} s"));
            }
            Err(error) => {
                self.progress(index, format!("{node} FAILED: {}", skep_sys::chain(error)));
            }
        };
        let received = join_all(receivers.into_iter().map(async |receiver| {
            let Receiver { machine, engine, upload } = receiver;
            let load = async { Ok(engine.load(upload, &|_| ()).await?) };
            let result = self.while_alive(&machine, load).await;
            told(machine.record.name(), &result);
            (machine.record.name().clone(), result)
        }));
        let all = async { tokio::join!(fan_out(pieces(source), lanes, &far), received) };
        tokio::pin!(all);
        // wait: for the next time to tell.
        let mut ticks = tokio::time::interval(TELL);
        let (read, received) = loop {
            tokio::select! {
                done = &mut all => break done,
                _ = ticks.tick() => tell(),
            }
        };
        tell();
        // What broke off the source broke all nodes off.
        read?;
        for (node, result) in received {
            if let Err(error) = result {
                failed.insert(node, error);
            }
        }
        Ok(())
    }
}

/// Returns how many bytes all nodes are sent together, if the sizes are known.
fn total(contents: Option<&Contents>, lanes: &[Lane]) -> Option<u64> {
    let files = contents?.files();
    if files.values().any(|size| *size == 0) {
        return None;
    }
    let of = |lane: &Lane| -> u64 {
        files.iter().filter(|(file, _)| !lane.spare.contains(**file)).map(|(_, size)| *size).sum()
    };
    Some(lanes.iter().map(of).sum())
}

/// Reads a source in a thread of its own. It may be a pipe in which nothing comes, which must not keep
/// an interrupted command from ending, so nobody waits for the thread.
fn pieces(source: Source) -> mpsc::Receiver<Result<Piece, oci::Error>> {
    let (pieces, received) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let mut put = |piece| pieces.blocking_send(Ok(piece)).map_err(|_| gone());
        if let Err(error) = source.stream(&mut put) {
            // If nobody listens any more, nobody needs the reason.
            let _ = pieces.blocking_send(Err(error));
        }
    });
    received
}

/// Backends each piece to all lanes that need it.
async fn fan_out(
    mut pieces: mpsc::Receiver<Result<Piece, oci::Error>>,
    mut lanes: Vec<Lane>,
    far: &Far,
) -> Result<(), oci::Error> {
    while let Some(piece) = pieces.recv().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                let text = skep_sys::chain(&error);
                for lane in lanes {
                    // One that has ended has a reason of its own.
                    let _ = lane.parts.send(Err(io::Error::other(text.clone()))).await;
                }
                return Err(error);
            }
        };
        let bytes = &piece.bytes;
        let handed = join_all(lanes.into_iter().map(async |lane| {
            if lane.spare.contains(&*piece.file) {
                return Some(lane);
            }
            // An engine that takes nothing ends the upload itself, and says why.
            lane.parts.send(Ok(bytes.clone())).await.ok()?;
            far.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            Some(lane)
        }));
        lanes = handed.await.into_iter().flatten().collect();
        if lanes.is_empty() {
            return Ok(());
        }
    }
    Ok(())
}
