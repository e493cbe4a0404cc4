//! `skep stack ls` and `skep stack ps`.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use skep_core::services::{Service, Standing, Task, View, judge};
use skep_docker::stack::Swarm;

use crate::cli::{ClusterOption, Output, StackList, StackTasks};
use crate::context::Context;
use crate::error::{CliError, Context as _};
use crate::out;
use crate::render::table::table;
use crate::render::write_document;

/// The number of the JSON outputs' format.
const FORMAT: u32 = 1;

/// Returns the names of the stacks that have services.
pub(super) async fn known(swarm: Swarm<'_>) -> Result<BTreeSet<String>, CliError> {
    let view = view(swarm).await?;
    Ok(view.services.into_iter().filter_map(|service| service.stack).collect())
}

async fn view(swarm: Swarm<'_>) -> Result<View, CliError> {
    let manager = swarm.manager().await.context("cannot list the services")?;
    manager.view().await.context("cannot list the services")
}

/// Returns what belongs to a stack.
///
/// # Errors
///
/// If there is no such stack, or no manager says.
pub(super) async fn view_of(
    context: &Context,
    cluster: &ClusterOption,
    name: &str,
) -> Result<View, CliError> {
    let dir = context.existing(cluster.cluster.as_ref())?;
    let run = context.run(None);
    let all = view(run.swarm(&dir)).await?;
    let view = all.of_stack(name);
    if view.services.is_empty() {
        let cluster = dir.name();
        return Err(
            CliError::usage(format!("cluster {cluster} has no stack {name}")).hint("skep stack ls")
        );
    }
    Ok(view)
}

pub(super) async fn stacks(context: &Context, args: StackList) -> Result<u8, CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let run = context.run(None);
    let view = view(run.swarm(&dir)).await?;
    let rows = stack_rows(&view);
    match args.output {
        Output::Json | Output::Yaml => write_document(args.output, &stacks_document(&rows)),
        Output::Table => {
            let cells: Vec<_> = rows
                .iter()
                .map(|(name, services, converged)| {
                    vec![name.clone(), services.to_string(), converged.to_string()]
                })
                .collect();
            out!("{}", table(&["STACK", "SERVICES", "CONVERGED"], &cells));
        }
    }
    Ok(0)
}

pub(super) async fn tasks(context: &Context, args: StackTasks) -> Result<u8, CliError> {
    let view = view_of(context, &args.cluster, &args.name).await?;
    let rows = task_rows(&view);
    match args.output {
        Output::Json | Output::Yaml => {
            write_document(args.output, &tasks_document(&view, &args.name, &rows));
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

/// Returns each stack with the number of its services, and of those that have converged.
fn stack_rows(view: &View) -> Vec<(String, usize, usize)> {
    let names: BTreeSet<_> =
        view.services.iter().filter_map(|service| service.stack.as_deref()).collect();
    let rows = names.into_iter().map(|name| {
        let services = judge(&view.of_stack(name));
        let converged = services.iter().filter(|it| it.standing == Standing::Converged).count();
        (name.to_owned(), services.len(), converged)
    });
    rows.collect()
}

fn stacks_document(rows: &[(String, usize, usize)]) -> Value {
    let stack = |(name, services, converged): &(String, usize, usize)| json!({"name": name, "services": services, "converged": converged});
    json!({"format": FORMAT, "stacks": rows.iter().map(stack).collect::<Vec<_>>()})
}

/// Returns the tasks of a stack by name, and in each place the newest first.
fn task_rows(view: &View) -> Vec<(&Service, &Task)> {
    let tasks = |service| view.tasks_of(service).map(move |task| (service, task));
    let mut rows: Vec<_> = view.services.iter().flat_map(tasks).collect();
    rows.sort_by_key(|(service, task)| {
        (view.name_of(service, task), std::cmp::Reverse(task.created.clone()))
    });
    rows
}

fn tasks_document(view: &View, stack: &str, rows: &[(&Service, &Task)]) -> Value {
    let tasks: Vec<_> = rows.iter().map(|(service, task)| document(view, service, task)).collect();
    json!({"format": FORMAT, "stack": stack, "tasks": tasks})
}

fn node_of(view: &View, task: &Task) -> String {
    task.node.as_deref().and_then(|id| view.hostname(id)).unwrap_or_default().to_owned()
}

pub(super) fn ports(service: &Service) -> Vec<String> {
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

#[cfg(test)]
pub(super) mod tests {
    use skep_core::model::Role;
    use skep_core::services::{Mode, Port, Resources, SwarmNode, TaskState};
    use skep_testkit::schema::assert_described;

    use super::*;

    pub fn view() -> View {
        let nothing = Resources::default();
        let port = |published| Port { published, target: 80, protocol: "tcp".into(), host: false };
        let service = Service {
            id: "s1".into(),
            name: "shop_web".into(),
            stack: Some("shop".into()),
            image: "nginx:latest".into(),
            mode: Mode::Replicated(1),
            constraints: Vec::new(),
            reserved: nothing,
            ports: vec![port(8080), port(0)],
            local_data: false,
            update: None,
        };
        let task = |id: &str, state, node: Option<&str>, exit_code| Task {
            id: id.into(),
            service: "s1".into(),
            slot: Some(1),
            node: node.map(Into::into),
            state,
            desired: TaskState::Running,
            current: true,
            created: format!("2026-01-01T00:00:0{}Z", &id[1..]),
            changed: "2026-01-01T00:00:09Z".into(),
            image: "nginx:latest".into(),
            message: "started".into(),
            error: String::new(),
            container: None,
            exit_code,
        };
        let node = SwarmNode {
            id: "n1".into(),
            hostname: "node1".into(),
            role: Role::Worker,
            ready: true,
            availability: "active".into(),
            labels: [].into(),
            engine_labels: [].into(),
            os: "linux".into(),
            architecture: "x86_64".into(),
            resources: nothing,
        };
        let failed = task("t1", TaskState::Failed, Some("n1"), Some(137));
        let tasks = vec![
            failed,
            task("t2", TaskState::Running, Some("n1"), None),
            task("t3", TaskState::Pending, None, None),
        ];
        View { services: vec![service], tasks, nodes: vec![node] }
    }

    #[test]
    fn stacks_fit_their_schema() {
        let document = stacks_document(&stack_rows(&view()));
        let document = assert_described("stack-ls", &document.to_string());
        assert_eq!(document["stacks"][0]["services"], 1);
        assert_described("stack-ls", &stacks_document(&[]).to_string());
    }

    #[test]
    fn tasks_fit_their_schema_the_newest_first() {
        let view = view();
        let document = tasks_document(&view, "shop", &task_rows(&view));
        let document = assert_described("stack-ps", &document.to_string());
        let ids: Vec<_> =
            document["tasks"].as_array().unwrap().iter().map(|it| &it["id"]).collect();
        assert_eq!(ids, ["t3", "t2", "t1"]);
        assert_eq!(document["tasks"][1]["ports"], json!(["8080->80/tcp"]));
    }
}
