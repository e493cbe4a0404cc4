//! The probe service.

use std::collections::HashMap;

use bollard::models::{
    EndpointPortConfig, EndpointPortConfigProtocolEnum, EndpointPortConfigPublishModeEnum,
    EndpointSpec, ServiceSpec, ServiceSpecMode, ServiceSpecModeReplicated, TaskSpec,
    TaskSpecContainerSpec,
};
use bollard::query_parameters::{
    InspectServiceOptions, ListServicesOptionsBuilder, ListTasksOptionsBuilder,
};

use super::api::ApiEngine;
use super::{Error, ProbeService};

pub(super) async fn create(engine: &ApiEngine, name: &str, image: &str) -> Result<(), Error> {
    let created = engine.call("create a service", |docker| async move {
        docker.create_service(spec(name, image), None).await
    });
    created.await.map(|_| ())
}

/// Returns a service once its port is published: the swarm chooses that a moment later.
pub(super) async fn published(engine: &ApiEngine, name: &str) -> Result<ProbeService, Error> {
    let wait = engine.wait_for("publish a port");
    loop {
        let service = engine.call("tell of a service", |docker| async move {
            docker.inspect_service(name, None::<InspectServiceOptions>).await
        });
        let service = service.await?;
        let ports = service.endpoint.and_then(|endpoint| endpoint.ports);
        let port = ports.into_iter().flatten().find_map(|port| port.published_port);
        let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        if let (Some(port), Some(id)) = (port, service.id) {
            return Ok(ProbeService { id, port });
        }
        wait.pause().await?;
    }
}

/// Tells whether a probe service is there.
pub(super) async fn exists(engine: &ApiEngine, name: &str) -> Result<bool, Error> {
    let filters = HashMap::from([("name", vec![name])]);
    let options = ListServicesOptionsBuilder::default().filters(&filters).build();
    let services = engine
        .call("list services", |docker| async move { docker.list_services(Some(options)).await });
    let is_it = |spec: &ServiceSpec| spec.name.as_deref() == Some(name);
    Ok(services.await?.iter().any(|service| service.spec.as_ref().is_some_and(is_it)))
}

fn spec(name: &str, image: &str) -> ServiceSpec {
    ServiceSpec {
        name: Some(name.to_owned()),
        labels: Some(HashMap::from([("skep.probe".to_owned(), "true".to_owned())])),
        mode: Some(ServiceSpecMode {
            replicated: Some(ServiceSpecModeReplicated { replicas: Some(1) }),
            ..ServiceSpecMode::default()
        }),
        task_template: Some(TaskSpec {
            container_spec: Some(TaskSpecContainerSpec {
                image: Some(image.to_owned()),
                ..TaskSpecContainerSpec::default()
            }),
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
    let service = engine.call("look for a service", |docker| async move {
        docker.inspect_service(name, None::<InspectServiceOptions>).await
    });
    let id = match service.await {
        Err(Error::Refused { status: 404, .. }) => return Ok(()),
        service => service?.id.unwrap_or_default(),
    };
    let service = id.as_str();
    let deleted = engine
        .call("remove a service", |docker| async move { docker.delete_service(service).await });
    match deleted.await {
        Ok(()) | Err(Error::Refused { status: 404, .. }) => {}
        Err(error) => return Err(error),
    }
    let wait = engine.wait_for("end a service");
    while tasks(engine, &id).await? > 0 {
        wait.pause().await?;
    }
    Ok(())
}

async fn tasks(engine: &ApiEngine, service: &str) -> Result<usize, Error> {
    let filters = HashMap::from([("service", vec![service])]);
    let options = ListTasksOptionsBuilder::default().filters(&filters).build();
    let tasks =
        engine.call("list tasks", |docker| async move { docker.list_tasks(Some(options)).await });
    match tasks.await {
        // An engine that no longer knows the service has no tasks of it either.
        Err(Error::Refused { status: 404, .. }) => Ok(0),
        tasks => Ok(tasks?.len()),
    }
}

pub(super) async fn problem(engine: &ApiEngine, service: &str) -> Option<String> {
    let filters = HashMap::from([("service", vec![service])]);
    let options = ListTasksOptionsBuilder::default().filters(&filters).build();
    let tasks =
        engine.call("list tasks", |docker| async move { docker.list_tasks(Some(options)).await });
    let mut tasks = tasks.await.ok()?;
    tasks.sort_by(|a, b| a.created_at.cmp(&b.created_at));
    let status = tasks.pop()?.status?;
    let state = status.state.map(|state| state.to_string()).unwrap_or_default();
    match status.err.or(status.message) {
        Some(words) => Some(format!("{state}, {words}")),
        None => Some(state),
    }
}
