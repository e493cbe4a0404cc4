//! The probe service: a web server that says on which node it is, and whom it finds by its own name.

use std::collections::HashMap;

use bollard::models::{
    EndpointPortConfig, EndpointPortConfigProtocolEnum, EndpointPortConfigPublishModeEnum,
    EndpointSpec, NetworkAttachmentConfig, NetworkCreateRequest, Service, ServiceSpec,
    ServiceSpecMode, ServiceSpecModeReplicated, Task, TaskSpec, TaskSpecContainerSpec,
    TaskSpecPlacement, TaskState,
};
use bollard::query_parameters::{
    InspectServiceOptions, ListNetworksOptionsBuilder, ListServicesOptionsBuilder,
    ListTasksOptionsBuilder, UpdateServiceOptionsBuilder,
};

use super::api::ApiEngine;
use super::{Error, Place, ProbeAt, ProbeService};

/// What a task runs: the page that tells who answers is a program, as that is known when it is asked. The
/// embedded DNS server of a container is always at the same address.
const SERVE: &str = r#"
/bin/busybox mkdir -p /www/cgi-bin
echo "$NODE" >/www/index.html
/bin/busybox cat >/www/cgi-bin/peers <<'END'
#!/bin/busybox sh
/bin/busybox printf 'Content-Type: text/plain\r\n\r\n'
echo "here $NODE"
/bin/busybox nslookup -type=a "tasks.$NAME" 127.0.0.11 |
    /bin/busybox sed -n '/^Name/,$ s/^Address[ 0-9]*:[ \t]*\([0-9.]*\).*/\1/p' |
    while read -r address; do
        # Not wget: that of a static busybox may crash when it looks up which port http has.
        echo "$address $(/bin/busybox printf 'GET / HTTP/1.0\r\n\r\n' |
            /bin/busybox nc -w 5 "$address" 80 2>/dev/null | /bin/busybox sed '1,/^.$/d')"
    done
END
/bin/busybox chmod 755 /www/cgi-bin/peers
exec /bin/busybox httpd -f -p 80 -h /www
"#;

/// The page by which a task tells what it sees of the others.
pub(super) const PEERS: &str = "/cgi-bin/peers";

pub(super) async fn create(
    engine: &ApiEngine,
    name: &str,
    image: &str,
    at: ProbeAt<'_>,
) -> Result<(), Error> {
    if at == ProbeAt::Pair {
        let network = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("overlay".to_owned()),
            labels: Some(HashMap::from([("skep.probe".to_owned(), "true".to_owned())])),
            ..NetworkCreateRequest::default()
        };
        let made = engine
            .call("create a network", |docker| async move { docker.create_network(network).await });
        made.await?;
    }
    let created = engine.call("create a service", |docker| async move {
        docker.create_service(spec(name, image, at), None).await
    });
    created.await.map(|_| ())
}

/// Gives a service a second task, once its first one's node has joined the network: a task is prepared then.
///
/// Engines that join a network in the same moment learn of each other, but not always of what the other has told
/// by then, until they compare all they know, every 30 s (libnetwork's `networkdb`, bulk synchronisation).
pub(super) async fn widen(engine: &ApiEngine, name: &str) -> Result<(), Error> {
    let wait = engine.wait_for("prepare a task");
    while !is_prepared(engine, name).await? {
        wait.pause().await?;
    }
    let service = service(engine, name).await?;
    let version = service.version.and_then(|version| version.index).unwrap_or_default();
    let mut spec = service.spec.unwrap_or_default();
    spec.mode = Some(replicated(2));
    let options = UpdateServiceOptionsBuilder::default()
        .version(i32::try_from(version).unwrap_or_default())
        .build();
    let updated = engine.call("update a service", |docker| async move {
        docker.update_service(name, spec, options, None).await
    });
    updated.await.map(|_| ())
}

async fn is_prepared(engine: &ApiEngine, service: &str) -> Result<bool, Error> {
    let states = [TaskState::STARTING, TaskState::RUNNING];
    let of = |task: Task| task.status.and_then(|status| status.state);
    let tasks = tasks_of(engine, service).await?;
    Ok(tasks.into_iter().any(|task| of(task).is_some_and(|state| states.contains(&state))))
}

/// Returns where in its swarm an engine is.
pub(super) async fn place(engine: &ApiEngine) -> Result<Place, Error> {
    let info = engine.call("report its state", |docker| async move { docker.info().await }).await?;
    let member = info.swarm.and_then(|swarm| swarm.node_id).unwrap_or_default();
    Ok(Place { member, architecture: info.architecture.unwrap_or_default() })
}

/// Returns a service once its port is published: the swarm chooses that a moment later.
pub(super) async fn published(engine: &ApiEngine, name: &str) -> Result<ProbeService, Error> {
    let wait = engine.wait_for("publish a port");
    loop {
        let service = service(engine, name).await?;
        let template = service.spec.and_then(|spec| spec.task_template);
        let networks = template.and_then(|template| template.networks);
        let pair = networks.is_some_and(|networks| !networks.is_empty());
        let ports = service.endpoint.and_then(|endpoint| endpoint.ports);
        let port = ports.into_iter().flatten().find_map(|port| port.published_port);
        let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        if let (Some(port), Some(id)) = (port, service.id) {
            return Ok(ProbeService { id, port, pair });
        }
        wait.pause().await?;
    }
}

async fn service(engine: &ApiEngine, name: &str) -> Result<Service, Error> {
    let told = engine.call("inspect a service", |docker| async move {
        docker.inspect_service(name, None::<InspectServiceOptions>).await
    });
    told.await
}

fn replicated(replicas: i64) -> ServiceSpecMode {
    let replicated = Some(ServiceSpecModeReplicated { replicas: Some(replicas) });
    ServiceSpecMode { replicated, ..ServiceSpecMode::default() }
}

/// Tells whether a probe service is there, or its network.
pub(super) async fn exists(engine: &ApiEngine, name: &str) -> Result<bool, Error> {
    let (service, network) =
        tokio::join!(service_exists(engine, name), network_exists(engine, name));
    Ok(service? || network?)
}

async fn network_exists(engine: &ApiEngine, name: &str) -> Result<bool, Error> {
    let filters = HashMap::from([("name", vec![name])]);
    let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
    let networks = engine
        .call("list networks", |docker| async move { docker.list_networks(Some(options)).await });
    Ok(networks.await?.iter().any(|network| network.name.as_deref() == Some(name)))
}

async fn service_exists(engine: &ApiEngine, name: &str) -> Result<bool, Error> {
    let filters = HashMap::from([("name", vec![name])]);
    let options = ListServicesOptionsBuilder::default().filters(&filters).build();
    let services = engine
        .call("list services", |docker| async move { docker.list_services(Some(options)).await });
    let is_it = |spec: &ServiceSpec| spec.name.as_deref() == Some(name);
    Ok(services.await?.iter().any(|service| service.spec.as_ref().is_some_and(is_it)))
}

fn spec(name: &str, image: &str, at: ProbeAt<'_>) -> ServiceSpec {
    let pair = at == ProbeAt::Pair;
    let placement = match at {
        ProbeAt::Anywhere => None,
        ProbeAt::Member(member) => Some(TaskSpecPlacement {
            constraints: Some(vec![format!("node.id=={member}")]),
            ..TaskSpecPlacement::default()
        }),
        ProbeAt::Pair => {
            Some(TaskSpecPlacement { max_replicas: Some(1), ..TaskSpecPlacement::default() })
        }
    };
    let networks = pair.then(|| {
        let target = Some(name.to_owned());
        vec![NetworkAttachmentConfig { target, ..NetworkAttachmentConfig::default() }]
    });
    // One alone has nobody to find, and is what its image says.
    let command = ["/bin/busybox", "sh", "-c", SERVE].map(str::to_owned).to_vec();
    let command = Some(command).filter(|_| pair);
    // The swarm fills in what stands in braces, for each task.
    let env = vec![format!("NAME={name}"), "NODE={{.Node.Hostname}}".to_owned()];
    ServiceSpec {
        name: Some(name.to_owned()),
        labels: Some(HashMap::from([("skep.probe".to_owned(), "true".to_owned())])),
        mode: Some(replicated(1)),
        task_template: Some(TaskSpec {
            container_spec: Some(TaskSpecContainerSpec {
                image: Some(image.to_owned()),
                command,
                env: Some(env),
                ..TaskSpecContainerSpec::default()
            }),
            networks,
            placement,
            ..TaskSpec::default()
        }),
        endpoint_spec: Some(EndpointSpec {
            ports: Some(vec![EndpointPortConfig {
                protocol: Some(EndpointPortConfigProtocolEnum::TCP),
                target_port: Some(80),
                publish_mode: Some(EndpointPortConfigPublishModeEnum::INGRESS),
                ..EndpointPortConfig::default()
            }]),
            ..EndpointSpec::default()
        }),
        ..ServiceSpec::default()
    }
}

pub(super) async fn remove(engine: &ApiEngine, name: &str) -> Result<(), Error> {
    let service = engine.call("inspect a service", |docker| async move {
        docker.inspect_service(name, None::<InspectServiceOptions>).await
    });
    let id = match service.await {
        Err(Error::Refused { status: 404, .. }) => return remove_network(engine, name).await,
        service => service?.id.unwrap_or_default(),
    };
    let service = id.as_str();
    let deleted = engine
        .call("remove a service", |docker| async move { docker.delete_service(service).await });
    match deleted.await {
        Ok(()) | Err(Error::Refused { status: 404, .. }) => {}
        Err(error) => return Err(error),
    }
    let wait = engine.wait_for("remove a service");
    while tasks(engine, &id).await? > 0 {
        wait.pause().await?;
    }
    remove_network(engine, name).await
}

async fn remove_network(engine: &ApiEngine, name: &str) -> Result<(), Error> {
    let wait = engine.wait_for("remove a network");
    while network_exists(engine, name).await? {
        let removed = engine
            .call("remove a network", |docker| async move { docker.remove_network(name).await });
        match removed.await {
            // For a moment it counts as used by a service that is gone.
            Ok(()) | Err(Error::Refused { .. }) => wait.pause().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn tasks(engine: &ApiEngine, service: &str) -> Result<usize, Error> {
    match tasks_of(engine, service).await {
        // An engine that no longer knows the service has no tasks of it either.
        Err(Error::Refused { status: 404, .. }) => Ok(0),
        tasks => Ok(tasks?.len()),
    }
}

async fn tasks_of(engine: &ApiEngine, service: &str) -> Result<Vec<Task>, Error> {
    let filters = HashMap::from([("service", vec![service])]);
    let options = ListTasksOptionsBuilder::default().filters(&filters).build();
    engine.call("list tasks", |docker| async move { docker.list_tasks(Some(options)).await }).await
}

pub(super) async fn problem(engine: &ApiEngine, service: &str) -> Option<String> {
    let mut tasks = tasks_of(engine, service).await.ok()?;
    tasks.sort_by(|a, b| a.created_at.cmp(&b.created_at));
    let status = tasks.pop()?.status?;
    let state = status.state.map(|state| state.to_string()).unwrap_or_default();
    match status.err.or(status.message) {
        Some(words) => Some(format!("{state}, {words}")),
        None => Some(state),
    }
}
