//! `skep stack ls` and `skep stack ps`.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use skep_core::services::{Service, Standing, Task, View, judge};
use skep_host::stack::Swarm;

use super::patience;
use crate::cli::{Output, StackList, StackTasks};
use crate::context::Context;
use crate::error::{CliError, Context as _};
use crate::out;
use crate::render::table::table;
use crate::render::write_document;

/// Returns the names of the stacks that have services.
pub(super) async fn known(swarm: Swarm<'_>) -> Result<BTreeSet<String>, CliError> {
    let view = view(swarm).await?;
    Ok(view.services.into_iter().filter_map(|service| service.stack).collect())
}

async fn view(swarm: Swarm<'_>) -> Result<View, CliError> {
    let manager = swarm.manager().await.context("cannot look at the services")?;
    manager.view().await.context("cannot look at the services")
}

pub(super) async fn stacks(context: &Context, args: StackList) -> Result<u8, CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let machinery = context.machinery(None);
    let view = view(machinery.swarm(&dir, patience(context, &dir))).await?;
    let names: BTreeSet<_> =
        view.services.iter().filter_map(|service| service.stack.as_deref()).collect();
    let rows = names.into_iter().map(|name| {
        let services = judge(&view.of_stack(name));
        let converged = services.iter().filter(|it| it.standing == Standing::Converged).count();
        (name, services.len(), converged)
    });
    let rows: Vec<_> = rows.collect();
    match args.output {
        Output::Json | Output::Yaml => {
            let stacks: Vec<_> = rows
                .iter()
                .map(|(name, services, converged)| {
                    json!({"name": name, "services": services, "converged": converged})
                })
                .collect();
            write_document(args.output, &json!({"format": 1, "stacks": stacks}));
        }
        Output::Table => {
            let cells: Vec<_> = rows
                .iter()
                .map(|(name, services, converged)| {
                    vec![(*name).to_owned(), services.to_string(), converged.to_string()]
                })
                .collect();
            out!("{}", table(&["STACK", "SERVICES", "CONVERGED"], &cells));
        }
    }
    Ok(0)
}

pub(super) async fn tasks(context: &Context, args: StackTasks) -> Result<u8, CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let machinery = context.machinery(None);
    let all = view(machinery.swarm(&dir, patience(context, &dir))).await?;
    let view = all.of_stack(&args.name);
    if view.services.is_empty() {
        let (cluster, name) = (dir.name(), &args.name);
        return Err(
            CliError::usage(format!("cluster {cluster} has no stack {name}")).hint("skep stack ls")
        );
    }
    let mut rows: Vec<_> = view
        .services
        .iter()
        .flat_map(|service| view.tasks_of(service).map(move |task| (service, task)))
        .collect();
    // By name, and in each place the newest first.
    rows.sort_by_key(|(service, task)| {
        (view.name_of(service, task), std::cmp::Reverse(task.created.clone()))
    });
    match args.output {
        Output::Json | Output::Yaml => {
            let tasks: Vec<_> =
                rows.iter().map(|(service, task)| document(&view, service, task)).collect();
            write_document(args.output, &json!({"format": 1, "stack": args.name, "tasks": tasks}));
        }
        Output::Table => {
            let header = ["TASK", "NODE", "STATE", "WANTED", "IMAGE", "PORTS", "ERROR"];
            let cells: Vec<_> =
                rows.iter().map(|(service, task)| cells(&view, service, task)).collect();
            out!("{}", table(&header, &cells));
        }
    }
    Ok(0)
}

fn node_of(view: &View, task: &Task) -> String {
    task.node.as_deref().and_then(|id| view.hostname(id)).unwrap_or_default().to_owned()
}

fn ports(service: &Service) -> Vec<String> {
    let ports = service.ports.iter().filter(|port| port.published != 0);
    ports.map(|port| format!("{}->{}/{}", port.published, port.target, port.protocol)).collect()
}

fn cells(view: &View, service: &Service, task: &Task) -> Vec<String> {
    vec![
        view.name_of(service, task),
        node_of(view, task),
        task.state.as_str().to_owned(),
        task.desired.as_str().to_owned(),
        task.image.clone(),
        if task.is_wanted() { ports(service).join(",") } else { String::new() },
        task.error.clone(),
    ]
}

fn document(view: &View, service: &Service, task: &Task) -> Value {
    json!({
        "name": view.name_of(service, task),
        "id": task.id,
        "service": service.name,
        "node": node_of(view, task),
        "state": task.state,
        "wanted": task.desired,
        "current": task.current,
        "image": task.image,
        "ports": ports(service),
        "created": task.created,
        "changed": task.changed,
        "exit_code": task.exit_code,
        "message": task.message,
        "error": task.error,
    })
}
