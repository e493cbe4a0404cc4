//! An engine, through bollard. The sources of facts are the Docker Engine API's reference, v1.41
//! to v1.45.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::errors::Error as ApiError;
use bollard::models::{
    LocalNodeState, Node, NodeSpec, NodeSpecAvailabilityEnum, NodeSpecRoleEnum, NodeState,
    Reachability, SwarmInitRequest, SwarmJoinRequest, SystemInfo, TaskState,
};
use bollard::query_parameters::{
    DeleteNodeOptionsBuilder, ImportImageOptions, LeaveSwarmOptionsBuilder, ListNodesOptions,
    ListTasksOptionsBuilder, UpdateNodeOptionsBuilder,
};
use bollard::{BollardRequest, Docker};
use bytes::Bytes;
use futures_util::TryStreamExt;
use http_body_util::{BodyExt, Limited};
use hyper::Request;
use skep_core::model::Role;
use skep_core::observed::{EngineState, Member, ObservedSwarm};
use skep_core::services::View;
use skep_sys::FileError;
use tokio::time::Instant;
use tokio_util::io::ReaderStream;

use super::tls::{Answer, Connection};
use super::{
    Container, Engine, EngineEvent, EngineImage, Error, EventsWanted, LogsWanted, PORT, PROBE,
    Part, Place, ProbeAt, ProbeService, Remains, SWARM_PORT, ServiceLine, Stream, Upload, endless,
    images, inside, probe, services,
};

/// How soon the engine is asked again about what goes on in it.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// How often an update is tried again whose ground has changed meanwhile.
const UPDATE_TRIES: u32 = 8;

pub(super) struct ApiEngine {
    connection: Arc<Connection>,
    address: Ipv4Addr,
    patience: Duration,
}

impl ApiEngine {
    pub(super) fn new(connection: Arc<Connection>, address: Ipv4Addr, patience: Duration) -> Self {
        Self { connection, address, patience }
    }

    /// Returns the API in a version that both sides know.
    pub(super) async fn agree(&self) -> Result<Docker, ApiError> {
        let docker = &self.connection.docker;
        let agree = async || match docker.ping().await {
            Ok(_) => Ok(docker.clone()),
            // Only an older engine is asked for its version: to answer, it runs programs.
            Err(ApiError::DockerResponseServerError { status_code: 400, .. }) => {
                docker.clone().negotiate_version().await
            }
            Err(error) => Err(error),
        };
        self.connection.agreed.get_or_try_init(agree).await.cloned()
    }

    /// Asks for the engine's greeting, in whose header it tells its part in a swarm.
    async fn greeting(&self) -> Result<Option<String>, Error> {
        let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| Error::Unreachable {
            address: self.address,
            source,
        };
        let request = Request::get(format!("https://{}:{PORT}/_ping", self.address))
            .body(bollard::body_full(Bytes::new()))
            .map_err(|error| Error::Garbled(Box::new(error)))?;
        let answer = (self.connection.send)(request).await;
        let answer = answer.map_err(|error| unreachable(Box::new(error)))?;
        if !answer.status().is_success() {
            let message = "it does not greet".to_owned();
            return Err(Error::Refused { status: answer.status().as_u16(), message });
        }
        let part = answer.headers().get("Swarm").and_then(|value| value.to_str().ok());
        let part = part.map(str::to_owned);
        // Read to its end, or the connection could not be used again.
        let rest = Limited::new(answer.into_body(), 4 << 10).collect().await;
        rest.map_err(unreachable)?;
        Ok(part)
    }

    /// Makes a call within the engine's patience.
    pub(super) async fn call<T, F>(
        &self,
        what: &'static str,
        call: impl FnOnce(Docker) -> F + Send,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, ApiError>> + Send,
    {
        let bounded = async {
            let docker = self.agree().await?;
            call(docker).await
        };
        match tokio::time::timeout(self.patience, bounded).await {
            Ok(result) => result.map_err(|error| self.error(error)),
            Err(_) => Err(self.timeout(what)),
        }
    }

    pub(super) fn address(&self) -> Ipv4Addr {
        self.address
    }

    pub(super) fn send_endless(&self, request: BollardRequest) -> Answer {
        (self.connection.send_endless)(request)
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    pub(super) fn timeout(&self, what: &'static str) -> Error {
        Error::Timeout { address: self.address, what, limit: self.patience }
    }

    pub(super) fn error(&self, error: ApiError) -> Error {
        match error {
            ApiError::DockerResponseServerError { status_code, message } => {
                Error::Refused { status: status_code, message }
            }
            // In the midst of an answer that had begun well.
            ApiError::DockerStreamError { error } => Error::Refused { status: 200, message: error },
            ApiError::HyperLegacyError { .. }
            | ApiError::HyperResponseError { .. }
            | ApiError::RequestTimeoutError
            | ApiError::IOError { .. } => {
                Error::Unreachable { address: self.address, source: Box::new(error) }
            }
            other => Error::Garbled(Box::new(other)),
        }
    }

    /// Begins to wait for what the engine does not announce.
    pub(super) fn wait_for(&self, what: &'static str) -> Wait<'_> {
        Wait { engine: self, what, since: Instant::now() }
    }

    async fn is_member(&self) -> Result<bool, Error> {
        Ok(matches!(self.part().await?, Part::Worker | Part::Manager))
    }

    /// Changes a node's specification, again if somebody else changed it at the same time.
    async fn update_node(
        &self,
        id: &str,
        change: impl Fn(&mut NodeSpec) + Send + Sync,
    ) -> Result<(), Error> {
        let mut tries = 0;
        loop {
            let node =
                self.call("inspect a node", |docker| async move { docker.inspect_node(id).await });
            let node = node.await?;
            let mut spec = node.spec.unwrap_or_default();
            let before = spec.clone();
            change(&mut spec);
            if spec == before {
                return Ok(());
            }
            let version = node.version.and_then(|version| version.index).unwrap_or(0);
            let options =
                UpdateNodeOptionsBuilder::default().version(version.cast_signed()).build();
            let update = self.call("update a node", |docker| async move {
                docker.update_node(id, spec, options).await
            });
            match update.await {
                Err(Error::Refused { message, .. })
                    if message.contains("out of sequence") && tries < UPDATE_TRIES =>
                {
                    tries += 1;
                }
                result => return result,
            }
        }
    }
}

/// Something that is asked for again and again, within the engine's patience.
pub(super) struct Wait<'a> {
    engine: &'a ApiEngine,
    what: &'static str,
    since: Instant,
}

impl Wait<'_> {
    /// Lets a moment pass.
    pub(super) async fn pause(&self) -> Result<(), Error> {
        if self.since.elapsed() > self.engine.patience {
            return Err(self.engine.timeout(self.what));
        }
        // wait: the engine announces neither a join nor the end of a task to a call like these.
        tokio::time::sleep(ASK_AGAIN).await;
        Ok(())
    }
}

#[async_trait]
impl Engine for ApiEngine {
    async fn part(&self) -> Result<Part, Error> {
        let greeting = match tokio::time::timeout(self.patience, self.greeting()).await {
            Ok(greeting) => greeting?,
            Err(_) => return Err(self.timeout("greet")),
        };
        match greeting.as_deref() {
            Some("inactive") => Ok(Part::None),
            Some("active/manager") => Ok(Part::Manager),
            Some("active/worker") => Ok(Part::Worker),
            Some(other) => Ok(Part::Unsettled(other.to_owned())),
            // Engines before Docker 23 do not tell.
            None => Ok(match self.state().await? {
                EngineState::Inactive { .. } => Part::None,
                EngineState::Member { control: true, .. } => Part::Manager,
                EngineState::Member { .. } => Part::Worker,
                EngineState::Unreachable(reason) => Part::Unsettled(reason),
                EngineState::Off => Part::Unsettled("off".to_owned()),
            }),
        }
    }

    async fn state(&self) -> Result<EngineState, Error> {
        let info =
            self.call("report its state", |docker| async move { docker.info().await }).await?;
        Ok(engine_state(info))
    }

    async fn init_swarm(&self, advertise: Ipv4Addr) -> Result<(), Error> {
        if self.is_member().await? {
            return Ok(());
        }
        let request = inside::init_request(advertise);
        let init =
            self.call("form a swarm", |docker| async move { docker.init_swarm(request).await });
        match init.await {
            // The call may end before the swarm that it formed is ready.
            Err(Error::Refused { .. }) if self.is_member().await? => Ok(()),
            result => result.map(|_| ()),
        }
    }

    async fn recover_swarm(&self, advertise: Ipv4Addr) -> Result<(), Error> {
        let request =
            SwarmInitRequest { force_new_cluster: Some(true), ..inside::init_request(advertise) };
        let init = self
            .call("re-create the swarm", |docker| async move { docker.init_swarm(request).await });
        init.await.map(|_| ())
    }

    async fn join_token(&self, role: Role) -> Result<String, Error> {
        let swarm =
            self.call("inspect its swarm", |docker| async move { docker.inspect_swarm().await });
        let tokens = swarm.await?.join_tokens.unwrap_or_default();
        let token = match role {
            Role::Manager => tokens.manager,
            Role::Worker => tokens.worker,
        };
        token.ok_or_else(|| Error::Garbled("there is no join token in it".into()))
    }

    async fn join_swarm(
        &self,
        advertise: Ipv4Addr,
        managers: &[Ipv4Addr],
        token: &str,
    ) -> Result<(), Error> {
        if self.part().await? != Part::None {
            return Ok(());
        }
        let managers = managers.iter().map(|address| format!("{address}:{SWARM_PORT}"));
        let request = SwarmJoinRequest {
            listen_addr: Some(format!("0.0.0.0:{SWARM_PORT}")),
            advertise_addr: Some(advertise.to_string()),
            data_path_addr: None,
            remote_addrs: Some(managers.collect()),
            join_token: Some(token.to_owned()),
        };
        let join =
            self.call("join the swarm", |docker| async move { docker.join_swarm(request).await });
        join.await
    }

    async fn leave_swarm(&self, force: bool) -> Result<(), Error> {
        let options = LeaveSwarmOptionsBuilder::default().force(force).build();
        let leave = self.call("leave the swarm", |docker| async move {
            docker.leave_swarm(Some(options)).await
        });
        match leave.await {
            Err(Error::Refused { status: 503, .. }) => Ok(()),
            result => result,
        }
    }

    async fn members(&self) -> Result<Vec<Member>, Error> {
        let nodes = self.call("list the nodes", |docker| async move {
            docker.list_nodes(None::<ListNodesOptions>).await
        });
        Ok(nodes.await?.into_iter().filter_map(member).collect())
    }

    async fn swarm(&self) -> Result<ObservedSwarm, Error> {
        let id = self
            .call("inspect its swarm", |docker| async move { docker.inspect_swarm().await })
            .await?;
        let members = self.members().await?;
        let probed = probe::exists(self, PROBE).await?;
        Ok(ObservedSwarm { id: id.id.unwrap_or_default(), members, probed })
    }

    async fn configure_member(
        &self,
        id: &str,
        role: Role,
        set: &BTreeMap<String, String>,
        unset: &[String],
    ) -> Result<(), Error> {
        self.update_node(id, |spec| {
            spec.role = Some(match role {
                Role::Manager => NodeSpecRoleEnum::MANAGER,
                Role::Worker => NodeSpecRoleEnum::WORKER,
            });
            let labels = spec.labels.get_or_insert_default();
            labels.retain(|key, _| !unset.contains(key));
            labels.extend(set.iter().map(|(key, value)| (key.clone(), value.clone())));
        })
        .await
    }

    async fn set_availability(&self, id: &str, availability: &str) -> Result<(), Error> {
        let wanted = match availability {
            "active" => NodeSpecAvailabilityEnum::ACTIVE,
            "pause" => NodeSpecAvailabilityEnum::PAUSE,
            "drain" => NodeSpecAvailabilityEnum::DRAIN,
            other => unreachable!("`{other}` is no availability"),
        };
        self.update_node(id, |spec| spec.availability = Some(wanted)).await
    }

    async fn forget_member(&self, id: &str, force: bool) -> Result<(), Error> {
        let options = DeleteNodeOptionsBuilder::default().force(force).build();
        let delete = self.call("remove a node", |docker| async move {
            docker.delete_node(id, Some(options)).await
        });
        match delete.await {
            Err(Error::Refused { status: 404, .. }) => Ok(()),
            result => result,
        }
    }

    async fn running_tasks(&self, id: &str) -> Result<usize, Error> {
        let filters = HashMap::from([("node", vec![id])]);
        let options = ListTasksOptionsBuilder::default().filters(&filters).build();
        let tasks =
            self.call("list tasks", |docker| async move { docker.list_tasks(Some(options)).await });
        let running = |state: Option<TaskState>| state == Some(TaskState::RUNNING);
        let states = tasks.await?.into_iter().filter_map(|task| task.status);
        Ok(states.filter(|status| running(status.state)).count())
    }

    async fn has_image(&self, id: &str) -> Result<bool, Error> {
        let inspect =
            self.call("inspect an image", |docker| async move { docker.inspect_image(id).await });
        match inspect.await {
            Ok(_) => Ok(true),
            Err(Error::Refused { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn load_image(&self, archive: &Path) -> Result<(), Error> {
        let file = tokio::fs::File::open(archive)
            .await
            .map_err(|source| FileError::new("read", archive, source))?;
        self.call("load an image", |docker| async move {
            let options = ImportImageOptions { quiet: true, ..ImportImageOptions::default() };
            let stream = ReaderStream::with_capacity(file, 256 << 10);
            let mut answers = docker.import_image_stream(options, stream, None);
            while answers.try_next().await?.is_some() {}
            Ok(())
        })
        .await
    }

    async fn images(&self) -> Result<Vec<EngineImage>, Error> {
        images::list(self).await
    }

    async fn layers(&self, id: &str) -> Result<Vec<String>, Error> {
        images::layers(self, id).await
    }

    async fn load(&self, upload: Upload, told: &(dyn Fn(u64) + Send + Sync)) -> Result<(), Error> {
        images::load(self, upload, told).await
    }

    async fn create_probe(&self, name: &str, image: &str, at: ProbeAt<'_>) -> Result<(), Error> {
        self.remove_probe(name).await?;
        probe::create(self, name, image, at).await
    }

    async fn widen_probe(&self, name: &str) -> Result<(), Error> {
        probe::widen(self, name).await
    }

    async fn place(&self) -> Result<Place, Error> {
        probe::place(self).await
    }

    async fn probe(&self, name: &str) -> Result<ProbeService, Error> {
        probe::published(self, name).await
    }

    async fn remove_probe(&self, name: &str) -> Result<(), Error> {
        probe::remove(self, name).await
    }

    async fn service_problem(&self, id: &str) -> Option<String> {
        probe::problem(self, id).await
    }

    async fn view(&self) -> Result<View, Error> {
        services::view(self).await
    }

    async fn task_log(&self, task: &str, lines: usize) -> Result<Vec<String>, Error> {
        services::task_log(self, task, lines).await
    }

    async fn container(&self, id: &str) -> Result<Container, Error> {
        services::container(self, id).await
    }

    async fn service_logs(
        &self,
        service: &str,
        wanted: &LogsWanted,
    ) -> Result<Stream<ServiceLine>, Error> {
        endless::service_logs(self, service, wanted).await
    }

    async fn events(&self, wanted: &EventsWanted) -> Result<Stream<EngineEvent>, Error> {
        endless::events(self, wanted).await
    }

    async fn shared_by(&self, stack: &str) -> Result<Vec<String>, Error> {
        services::shared_by(self, stack).await
    }

    async fn remains(&self, stack: &str) -> Result<Remains, Error> {
        services::on_node(self, stack).await
    }
}

fn engine_state(info: SystemInfo) -> EngineState {
    let version = info.server_version.unwrap_or_default();
    let swarm = info.swarm.unwrap_or_default();
    match (swarm.local_node_state, swarm.node_id) {
        (Some(LocalNodeState::ACTIVE), Some(id)) if !id.is_empty() => {
            let control = swarm.control_available.unwrap_or(false);
            EngineState::Member { version, id, control }
        }
        (Some(LocalNodeState::PENDING | LocalNodeState::ERROR | LocalNodeState::LOCKED), _) => {
            let error = swarm.error.filter(|error| !error.is_empty());
            EngineState::Unreachable(error.unwrap_or_else(|| "its swarm is not ready".to_owned()))
        }
        _ => EngineState::Inactive { version },
    }
}

fn member(node: Node) -> Option<Member> {
    let spec = node.spec.unwrap_or_default();
    let status = node.status.unwrap_or_default();
    let manager = node.manager_status;
    Some(Member {
        id: node.id?,
        hostname: node.description.and_then(|it| it.hostname).unwrap_or_default(),
        role: match spec.role {
            Some(NodeSpecRoleEnum::MANAGER) => Role::Manager,
            _ => Role::Worker,
        },
        ready: status.state == Some(NodeState::READY),
        availability: spec.availability.map(|it| it.to_string()).unwrap_or_default(),
        leader: manager.as_ref().and_then(|it| it.leader).unwrap_or(false),
        reachable: manager.is_some_and(|it| it.reachability == Some(Reachability::REACHABLE)),
        labels: spec.labels.unwrap_or_default().into_iter().collect(),
    })
}
