//! Engines and the swarm, through the Docker Engine API over mutual TLS.
//!
//! Every call is bounded by the patience that the engine was opened with, connecting included. What
//! an engine says is parsed and never executed.

mod api;
mod connector;
mod endless;
mod fetch;
mod http;
mod images;
pub mod inside;
mod probe;
mod registry;
pub mod remote;
mod response_limit;
mod services;
mod tls;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use skep_core::model::Role;
use skep_core::observed::{EngineState, Member, ObservedSwarm};
use skep_core::services::View;
use thiserror::Error;

pub use endless::{EngineEvent, EventsWanted, LogsWanted, ServiceLine, Stream};
pub use fetch::{fetch_peers, fetch_soon};
pub use images::{EngineImage, Upload, names_by_id};
pub use registry::{REGISTRY_STATE, repositories};
pub use tls::TlsEngines;

use skep_store::pki::Credentials;
use skep_sys::FileError;

/// The port of every engine, as docker-machine has it.
pub use skep_core::model::ENGINE_PORT as PORT;

/// The port on which managers take new members.
pub const SWARM_PORT: u16 = 2377;

/// The name of the service that verifies the routing mesh.
pub const PROBE: &str = "skep-probe";

/// What went wrong with an engine.
#[derive(Debug, Error)]
pub enum Error {
    /// A certificate or key cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A certificate or key cannot be used.
    #[error("the client's certificate cannot be used")]
    Credentials(#[source] rustls::Error),
    /// Nothing answers at the engine's address, or what answers is not trusted.
    #[error("cannot reach the engine at {address}")]
    Unreachable {
        /// The engine's address.
        address: Ipv4Addr,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The cluster's registry does not answer as one.
    #[error("the registry at {at} does not respond")]
    NoRegistry {
        /// Where it should be.
        at: SocketAddrV4,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine refused.
    #[error("the engine refuses: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The engine's own words.
        message: String,
    },
    /// The engine answered what cannot be understood.
    #[error("the response of Docker Engine cannot be parsed")]
    Garbled(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection broke in the midst of an archive of images.
    #[error("the connection to the engine at {address} broke")]
    BrokenOff {
        /// The engine's address.
        address: Ipv4Addr,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It has taken and said nothing for too long while it was given images.
    #[error("Docker Engine not responding for {} s", .limit.as_secs())]
    Silent {
        /// The limit.
        limit: Duration,
    },
    /// It goes on taking or saying something, and comes to no end.
    #[error("Docker Engine did not finish loading {mib} MiB within {} s", .limit.as_secs())]
    Slow {
        /// What it was given, in MiB.
        mib: u64,
        /// The limit.
        limit: Duration,
    },
    /// It took too long.
    #[error("timed out after {} s waiting for the engine at {address} to {what}", .limit.as_secs())]
    Timeout {
        /// The engine's address.
        address: Ipv4Addr,
        /// What it was asked to do.
        what: &'static str,
        /// The limit.
        limit: Duration,
    },
}

impl Error {
    /// Tells whether a certificate was refused, here or by the engine, as clocks that differ have it.
    #[must_use]
    pub fn is_refused_certificate(&self) -> bool {
        use rustls::{AlertDescription as Alert, Error as Tls};
        let told = std::iter::successors(Some(self as &dyn std::error::Error), |it| it.source());
        let mut tls = told.filter_map(|error| {
            let held = error.downcast_ref().and_then(tls::held_by);
            held.or_else(|| error.downcast_ref::<Tls>())
        });
        tls.any(|error| match error {
            Tls::InvalidCertificate(problem) => tls::is_of_time(problem),
            Tls::AlertReceived(alert) => {
                matches!(alert, Alert::BadCertificate | Alert::CertificateExpired)
            }
            _ => false,
        })
    }

    /// Tells whether the disk on which the engine has its images is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Refused { message, .. } if message.contains("no space left on device"))
    }
}

/// A service that only answers, to see whether it can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeService {
    /// Its ID.
    pub id: String,
    /// The port that the swarm published it on.
    pub port: u16,
    /// Whether it is on an overlay network, for two tasks.
    pub pair: bool,
}

/// Where in its swarm an engine is, and on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The ID of its member.
    pub member: String,
    /// The machine's architecture, as `uname -m` tells it.
    pub architecture: String,
}

/// Where a probe service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeAt<'a> {
    /// One task, where the swarm puts it.
    Anywhere,
    /// One task, on a member with this ID.
    Member(&'a str),
    /// Up to two tasks on two nodes, and on an overlay network with the service's name; one at first.
    Pair,
}

/// An engine's part in a swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// It belongs to none.
    None,
    /// It runs tasks.
    Worker,
    /// It takes part in the decisions.
    Manager,
    /// It belongs to one and cannot tell as what, for this reason; that may pass.
    Unsettled(String),
}

/// What is left of a stack on a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Remains {
    /// Containers, those that ended among them.
    pub containers: usize,
    /// Networks.
    pub networks: usize,
}

/// A container of an engine (`docker container inspect`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// The ID of the image that it was made from.
    pub image: String,
    /// Whether it ended for want of memory.
    pub out_of_memory: bool,
    /// The code and output of its last health check, if there was one.
    pub last_check: Option<String>,
}

/// Where engines are had from.
pub trait Engines: Send + Sync {
    /// Opens the engine at an address; nothing is sent yet. `patience` bounds each call.
    ///
    /// # Errors
    ///
    /// If the credentials cannot be read.
    fn engine(
        &self,
        address: Ipv4Addr,
        credentials: &Credentials,
        patience: Duration,
    ) -> Result<Box<dyn Engine>, Error>;
}

/// One engine.
///
/// All calls fail if the engine cannot be reached, refuses, or does not answer in time.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Returns the engine's part in a swarm: the cheapest question that there is.
    async fn part(&self) -> Result<Part, Error>;

    /// Returns the engine's version and its place in a swarm. The engine runs programs to answer
    /// this, which takes long under emulation.
    async fn state(&self) -> Result<EngineState, Error>;

    /// Forms a swarm; being a member already is fine.
    async fn init_swarm(&self, advertise: Ipv4Addr) -> Result<(), Error>;

    /// Forms the swarm anew from what this manager knows of it, with it as the only manager.
    async fn recover_swarm(&self, advertise: Ipv4Addr) -> Result<(), Error>;

    /// Returns the secret that lets another engine join in that role.
    async fn join_token(&self, role: Role) -> Result<String, Error>;

    /// Asks the engine to join a swarm, unless it is in one or joining already. It answers when it has joined, with an
    /// error, or after 20 s with one that says that it goes on; [`Engine::part`] tells how far it is.
    async fn join_swarm(
        &self,
        advertise: Ipv4Addr,
        managers: &[Ipv4Addr],
        token: &str,
    ) -> Result<(), Error>;

    /// Leaves the swarm; being in none is fine.
    async fn leave_swarm(&self, force: bool) -> Result<(), Error>;

    /// Returns the swarm's members; managers only.
    async fn members(&self) -> Result<Vec<Member>, Error>;

    /// Returns the swarm and its members; managers only.
    async fn swarm(&self) -> Result<ObservedSwarm, Error>;

    /// Sets a member's role and labels.
    async fn configure_member(
        &self,
        id: &str,
        role: Role,
        set: &BTreeMap<String, String>,
        unset: &[String],
    ) -> Result<(), Error>;

    /// Sets a member's availability: `active`, `pause` or `drain`.
    async fn set_availability(&self, id: &str, availability: &str) -> Result<(), Error>;

    /// Removes a member's entry; one that is gone is fine.
    async fn forget_member(&self, id: &str, force: bool) -> Result<(), Error>;

    /// Returns how many tasks run on a member.
    async fn running_tasks(&self, id: &str) -> Result<usize, Error>;

    /// Tells whether the engine has an image of that ID.
    async fn has_image(&self, id: &str) -> Result<bool, Error>;

    /// Loads the images of an archive, as `docker load` does.
    async fn load_image(&self, archive: &Path) -> Result<(), Error>;

    /// Returns the images that the engine has.
    async fn images(&self) -> Result<Vec<EngineImage>, Error>;

    /// Returns the digests of an image's layers, the lowest first, if the engine would find them again
    /// in an archive; none if it would not, or the image is not there.
    async fn layers(&self, id: &str) -> Result<Vec<String>, Error>;

    /// Loads the images of an archive that is being sent, and waits until they are unpacked. `told`
    /// gets how much of the layer that is unpacked is done, in bytes. Not bounded by the engine's
    /// patience, but by the upload's silence.
    async fn load(&self, upload: Upload, told: &(dyn Fn(u64) + Send + Sync)) -> Result<(), Error>;

    /// Creates a service that publishes its port 80 on a port that the swarm chooses; one of the same
    /// name is removed first.
    async fn create_probe(&self, name: &str, image: &str, at: ProbeAt<'_>) -> Result<(), Error>;

    /// Gives such a service its second task, once the first one's node has the network.
    async fn widen_probe(&self, name: &str) -> Result<(), Error>;

    /// Returns where in its swarm the engine is.
    async fn place(&self) -> Result<Place, Error>;

    /// Waits until the swarm has chosen the port of such a service, and returns the service.
    async fn probe(&self, name: &str) -> Result<ProbeService, Error>;

    /// Removes such a service, waits until its tasks are gone, and removes its network; what is not there
    /// is fine.
    async fn remove_probe(&self, name: &str) -> Result<(), Error>;

    /// Returns what a service's newest task says of itself.
    async fn service_problem(&self, id: &str) -> Option<String>;

    /// Returns all services, tasks and nodes; managers only.
    async fn view(&self) -> Result<View, Error>;

    /// Returns the last lines that a task's container wrote; managers only.
    async fn task_log(&self, task: &str, lines: usize) -> Result<Vec<String>, Error>;

    /// Begins to read the log of a service; managers only. The stream itself is not bounded by the engine's patience.
    async fn service_logs(
        &self,
        service: &str,
        wanted: &LogsWanted,
    ) -> Result<Stream<ServiceLine>, Error>;

    /// Begins to read events of the engine, and, if it is a manager, of its swarm. The stream itself is not bounded by the
    /// engine's patience.
    async fn events(&self, wanted: &EventsWanted) -> Result<Stream<EngineEvent>, Error>;

    /// Returns what is known of a container of this engine.
    async fn container(&self, id: &str) -> Result<Container, Error>;

    /// Returns what a stack has beside its services: networks, secrets and configs; managers only.
    async fn shared_by(&self, stack: &str) -> Result<Vec<String>, Error>;

    /// Returns what this engine has of a stack.
    async fn remains(&self, stack: &str) -> Result<Remains, Error>;
}
