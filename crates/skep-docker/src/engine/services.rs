//! A swarm's services, tasks and nodes, turned from the API's words into
//! [`View`](skep_core::services::View)'s.

use bollard::container::LogOutput;
use bollard::models::{
    EndpointPortConfigPublishModeEnum, Limit, Mount, MountType, Node, NodeSpecRoleEnum, NodeState,
    ObjectVersion, ResourceObject, Service as ApiService, ServiceSpecMode, ServiceUpdateStatus,
    ServiceUpdateStatusStateEnum, Task as ApiTask, TaskSpec, TaskSpecLogDriver,
    TaskSpecRestartPolicy, TaskSpecRestartPolicyConditionEnum, TaskState as ApiState,
};
use bollard::query_parameters::{
    InspectContainerOptions, ListConfigsOptions, ListContainersOptionsBuilder,
    ListNetworksOptionsBuilder, ListNodesOptions, ListSecretsOptions, ListServicesOptions,
    ListTasksOptions, LogsOptionsBuilder,
};
use futures_util::TryStreamExt;
use skep_core::model::Role;
use skep_core::services::{
    Mode, Port, Resources, Restart, Service, SwarmNode, Task, TaskState, Update, UpdateState, View,
};
use std::collections::HashMap;

use super::api::ApiEngine;
use super::{Container, Error, Remains};

/// The label by which the docker command knows what belongs to a stack.
pub(super) const STACK: &str = "com.docker.stack.namespace";

/// How much of a line of a log is kept.
const LINE: usize = 400;

pub(super) async fn view(engine: &ApiEngine) -> Result<View, Error> {
    let services = engine.call("list services", |docker| async move {
        docker.list_services(None::<ListServicesOptions>).await
    });
    let services = services.await?;
    let tasks = engine.call("list tasks", |docker| async move {
        docker.list_tasks(None::<ListTasksOptions>).await
    });
    let tasks = tasks.await?;
    let nodes = engine.call("list the nodes", |docker| async move {
        docker.list_nodes(None::<ListNodesOptions>).await
    });
    Ok(view_of(services, tasks, nodes.await?))
}

fn view_of(services: Vec<ApiService>, tasks: Vec<ApiTask>, nodes: Vec<Node>) -> View {
    let tasks = tasks.into_iter().filter_map(|task| {
        let service = services.iter().find(|service| service.id == task.service_id)?;
        read_task(task, service)
    });
    let tasks = tasks.collect();
    View {
        tasks,
        services: services.into_iter().filter_map(read_service).collect(),
        nodes: nodes.into_iter().filter_map(read_node).collect(),
    }
}

fn read_service(service: ApiService) -> Option<Service> {
    let spec = service.spec?;
    let template = spec.task_template.unwrap_or_default();
    let container = template.container_spec.unwrap_or_default();
    let ports = service.endpoint.and_then(|endpoint| endpoint.ports).unwrap_or_default();
    let mounts = container.mounts.unwrap_or_default();
    let placement = template.placement.unwrap_or_default();
    let resources = template.resources.unwrap_or_default();
    let is_local =
        |kind: Option<MountType>| matches!(kind, Some(MountType::BIND | MountType::VOLUME));
    Some(Service {
        id: service.id?,
        name: spec.name.unwrap_or_default(),
        stack: spec.labels.and_then(|mut labels| labels.remove(STACK)),
        pinned: container.image.as_ref().is_some_and(|image| image.contains('@')),
        image: without_digest(&container.image.unwrap_or_default()),
        mode: read_mode(spec.mode),
        constraints: placement.constraints.unwrap_or_default(),
        reserved: read_resources(resources.reservations),
        limits: read_limits(resources.limits),
        max_per_node: u64::try_from(placement.max_replicas.unwrap_or(0)).unwrap_or(0),
        restart: read_restart(template.restart_policy),
        drivers: read_drivers(&mounts, template.log_driver),
        ports: ports
            .into_iter()
            .map(|port| Port {
                published: number(port.published_port),
                target: number(port.target_port),
                protocol: port.protocol.map(|it| it.to_string()).unwrap_or_default(),
                host: port.publish_mode == Some(EndpointPortConfigPublishModeEnum::HOST),
            })
            .collect(),
        local_data: mounts.iter().any(|mount| is_local(mount.typ)),
        update: service.update_status.and_then(read_update),
    })
}

fn number(port: Option<i64>) -> u32 {
    port.and_then(|port| u32::try_from(port).ok()).unwrap_or(0)
}

fn read_mode(mode: Option<ServiceSpecMode>) -> Mode {
    let count = |count: Option<i64>| u64::try_from(count.unwrap_or(1)).unwrap_or(0);
    let mode = mode.unwrap_or_default();
    match (mode.replicated, mode.replicated_job) {
        (Some(replicated), _) => Mode::Replicated(count(replicated.replicas)),
        (None, Some(job)) => Mode::Job(count(job.total_completions.or(job.max_concurrent))),
        (None, None) if mode.global_job.is_some() => Mode::GlobalJob,
        (None, None) if mode.global.is_some() => Mode::Global,
        (None, None) => Mode::Replicated(1),
    }
}

fn read_resources(resources: Option<ResourceObject>) -> Resources {
    let resources = resources.unwrap_or_default();
    Resources {
        nano_cpus: resources.nano_cpus.unwrap_or(0),
        memory: resources.memory_bytes.unwrap_or(0),
    }
}

fn read_limits(limits: Option<Limit>) -> Resources {
    let limits = limits.unwrap_or_default();
    Resources { nano_cpus: limits.nano_cpus.unwrap_or(0), memory: limits.memory_bytes.unwrap_or(0) }
}

fn read_restart(policy: Option<TaskSpecRestartPolicy>) -> Restart {
    match policy.and_then(|policy| policy.condition) {
        Some(TaskSpecRestartPolicyConditionEnum::NONE) => Restart::None,
        Some(TaskSpecRestartPolicyConditionEnum::ON_FAILURE) => Restart::OnFailure,
        _ => Restart::Any,
    }
}

/// Returns the drivers that are not part of every engine.
fn read_drivers(mounts: &[Mount], log: Option<TaskSpecLogDriver>) -> Vec<String> {
    const LOGS: [&str; 9] = [
        "none",
        "local",
        "json-file",
        "syslog",
        "journald",
        "gelf",
        "fluentd",
        "awslogs",
        "splunk",
    ];
    let volumes = mounts.iter().filter_map(|mount| {
        let driver = mount.volume_options.as_ref()?.driver_config.as_ref()?.name.as_deref()?;
        (!driver.is_empty() && driver != "local")
            .then(|| format!("volume driver {}", plain(driver)))
    });
    let log = log.and_then(|log| log.name).filter(|name| !LOGS.contains(&name.as_str()));
    let log =
        log.filter(|name| !name.is_empty()).map(|name| format!("log driver {}", plain(&name)));
    volumes.chain(log).collect()
}

fn read_update(status: ServiceUpdateStatus) -> Option<Update> {
    use ServiceUpdateStatusStateEnum as State;
    let state = match status.state? {
        State::EMPTY => return None,
        State::UPDATING => UpdateState::Updating,
        State::PAUSED => UpdateState::Paused,
        State::COMPLETED => UpdateState::Completed,
        State::ROLLBACK_STARTED => UpdateState::RollingBack,
        State::ROLLBACK_PAUSED => UpdateState::RollbackPaused,
        State::ROLLBACK_COMPLETED => UpdateState::RolledBack,
    };
    Some(Update { state, message: plain(&status.message.unwrap_or_default()) })
}

fn read_task(task: ApiTask, service: &ApiService) -> Option<Task> {
    let current = is_current(&task, service);
    let status = task.status.unwrap_or_default();
    let container = status.container_status.unwrap_or_default();
    let image = task.spec.and_then(|spec| spec.container_spec?.image).unwrap_or_default();
    Some(Task {
        id: task.id?,
        service: task.service_id?,
        slot: task.slot.filter(|slot| *slot > 0),
        node: task.node_id.filter(|node| !node.is_empty()),
        state: read_state(status.state?),
        desired: read_state(task.desired_state?),
        current,
        created: task.created_at.unwrap_or_default(),
        changed: status.timestamp.unwrap_or_default(),
        message: plain(&status.message.unwrap_or_default()),
        error: plain(&status.err.unwrap_or_default()),
        container: container.container_id.filter(|id| !id.is_empty()),
        exit_code: container.exit_code,
        image: without_digest(&image),
    })
}

/// Tells whether a task is what its service asks for now. The API does not tell the version of a
/// task's specification, so the specifications are compared; the swarm keeps a task if nothing but its
/// placement changed and its node still fits.
fn is_current(task: &ApiTask, service: &ApiService) -> bool {
    let index = |version: &Option<ObjectVersion>| version.as_ref().and_then(|it| it.index);
    let iteration = service.job_status.as_ref().and_then(|status| index(&status.job_iteration));
    if iteration.is_some() {
        return index(&task.job_iteration).unwrap_or(0) == iteration.unwrap_or(0);
    }
    // The runtime is not told of a task.
    let compared = |spec: Option<&TaskSpec>| {
        spec.map(|spec| TaskSpec { placement: None, runtime: None, ..spec.clone() })
    };
    let wanted = service.spec.as_ref().and_then(|spec| spec.task_template.as_ref());
    compared(task.spec.as_ref()) == compared(wanted)
}

const fn read_state(state: ApiState) -> TaskState {
    match state {
        ApiState::NEW => TaskState::New,
        ApiState::ALLOCATED => TaskState::Allocated,
        ApiState::PENDING => TaskState::Pending,
        ApiState::ASSIGNED => TaskState::Assigned,
        ApiState::ACCEPTED => TaskState::Accepted,
        ApiState::PREPARING => TaskState::Preparing,
        ApiState::READY => TaskState::Ready,
        ApiState::STARTING => TaskState::Starting,
        ApiState::RUNNING => TaskState::Running,
        ApiState::COMPLETE => TaskState::Complete,
        ApiState::SHUTDOWN => TaskState::Shutdown,
        ApiState::FAILED => TaskState::Failed,
        ApiState::REJECTED => TaskState::Rejected,
        ApiState::REMOVE => TaskState::Remove,
        ApiState::ORPHANED => TaskState::Orphaned,
    }
}

fn read_node(node: Node) -> Option<SwarmNode> {
    let spec = node.spec.unwrap_or_default();
    let description = node.description.unwrap_or_default();
    let platform = description.platform.unwrap_or_default();
    let engine_labels = description.engine.and_then(|engine| engine.labels);
    Some(SwarmNode {
        id: node.id?,
        hostname: plain(&description.hostname.unwrap_or_default()),
        role: match spec.role {
            Some(NodeSpecRoleEnum::MANAGER) => Role::Manager,
            _ => Role::Worker,
        },
        ready: node.status.and_then(|status| status.state) == Some(NodeState::READY),
        availability: spec.availability.map(|it| it.to_string()).unwrap_or_default(),
        labels: spec.labels.unwrap_or_default().into_iter().collect(),
        engine_labels: engine_labels.unwrap_or_default().into_iter().collect(),
        os: platform.os.unwrap_or_default(),
        architecture: platform.architecture.unwrap_or_default(),
        resources: read_resources(description.resources),
    })
}

/// Returns an image as its user named it; one that is named by its ID alone, as docker shortens it.
fn without_digest(image: &str) -> String {
    match image.strip_prefix("sha256:") {
        Some(id) => plain(&id.chars().take(12).collect::<String>()),
        None => plain(image.split_once('@').map_or(image, |(name, _)| name)),
    }
}

/// Returns what a guest sent as one line that no terminal takes for orders.
fn plain(text: &str) -> String {
    let line = text.trim().chars().take(LINE);
    line.map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

pub(super) async fn task_log(
    engine: &ApiEngine,
    task: &str,
    lines: usize,
) -> Result<Vec<String>, Error> {
    let tail = lines.to_string();
    let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&tail).build();
    let log = engine.call("return a log", |docker| async move {
        let mut text = Vec::new();
        let mut stream = docker.task_logs(task, Some(options));
        while let Some(output) = stream.try_next().await? {
            if let LogOutput::StdOut { message } | LogOutput::StdErr { message } = output {
                text.extend_from_slice(&message);
            }
            if text.len() > lines * LINE {
                break;
            }
        }
        Ok(text)
    });
    let text = log.await?;
    let all: Vec<_> = String::from_utf8_lossy(&text).lines().map(plain).collect();
    Ok(all[all.len().saturating_sub(lines)..].to_vec())
}

pub(super) async fn container(engine: &ApiEngine, id: &str) -> Result<Container, Error> {
    let inspect = engine.call("inspect a container", |docker| async move {
        docker.inspect_container(id, None::<InspectContainerOptions>).await
    });
    let found = inspect.await?;
    let state = found.state.unwrap_or_default();
    let start = found.config.and_then(|config| config.healthcheck?.start_period).unwrap_or(0);
    let checks = state.health.and_then(|health| health.log).unwrap_or_default();
    let last_check = checks.into_iter().next_back().map(|last| {
        let mut text = format!("exit code {}", last.exit_code.unwrap_or(0));
        let output = plain(&last.output.unwrap_or_default());
        if !output.is_empty() {
            text.push_str(&format!(": {output}"));
        }
        if start > 0 {
            text.push_str(&format!(" (its start_period is {} s)", start / 1_000_000_000));
        }
        text
    });
    let out_of_memory = state.oom_killed.unwrap_or(false);
    Ok(Container { image: found.image.unwrap_or_default(), out_of_memory, last_check })
}

pub(super) async fn shared_by(engine: &ApiEngine, stack: &str) -> Result<Vec<String>, Error> {
    let label = [format!("{STACK}={stack}")];
    let filters = HashMap::from([("label", label.iter().map(String::as_str).collect::<Vec<_>>())]);
    let networks = ListNetworksOptionsBuilder::default().filters(&filters).build();
    let networks = engine
        .call("list networks", |docker| async move { docker.list_networks(Some(networks)).await });
    let networks = networks.await?.into_iter().filter_map(|it| it.name);
    let mut all: Vec<_> = networks.map(|name| format!("network {}", plain(&name))).collect();
    let of_it = |labels: Option<HashMap<String, String>>| {
        labels.is_some_and(|labels| labels.get(STACK).is_some_and(|it| it == stack))
    };
    let secrets = engine.call("list secrets", |docker| async move {
        docker.list_secrets(None::<ListSecretsOptions>).await
    });
    let secrets = secrets.await?.into_iter().filter_map(|it| it.spec);
    let secrets = secrets.filter(|spec| of_it(spec.labels.clone())).filter_map(|spec| spec.name);
    all.extend(secrets.map(|name| format!("secret {}", plain(&name))));
    let configs = engine.call("list configs", |docker| async move {
        docker.list_configs(None::<ListConfigsOptions>).await
    });
    let configs = configs.await?.into_iter().filter_map(|it| it.spec);
    let configs = configs.filter(|spec| of_it(spec.labels.clone())).filter_map(|spec| spec.name);
    all.extend(configs.map(|name| format!("config {}", plain(&name))));
    all.sort();
    Ok(all)
}

pub(super) async fn on_node(engine: &ApiEngine, stack: &str) -> Result<Remains, Error> {
    let label = [format!("{STACK}={stack}")];
    let filters = HashMap::from([("label", label.iter().map(String::as_str).collect::<Vec<_>>())]);
    let containers = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let containers = engine.call("list containers", |docker| async move {
        docker.list_containers(Some(containers)).await
    });
    let networks = ListNetworksOptionsBuilder::default().filters(&filters).build();
    let networks = engine
        .call("list networks", |docker| async move { docker.list_networks(Some(networks)).await });
    Ok(Remains { containers: containers.await?.len(), networks: networks.await?.len() })
}

#[cfg(test)]
mod tests;
