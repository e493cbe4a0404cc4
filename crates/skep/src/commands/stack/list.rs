//! `skep stack ls` and `skep stack ps`.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Value, json};
use skep_core::services::{Service, Standing, Task, View, judge};
use skep_docker::stack::Swarm;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::{ClusterOption, ClusterWord};
use crate::context::Context;
use crate::error::{CliError, Context as _};
use crate::listing::{Column, Listing, Row};

/// The number of the JSON outputs' format.
const FORMAT: u32 = 1;

/// `skep stack ls`.
#[derive(Debug, Args)]
pub struct StackList {
    #[command(flatten)]
    cluster: ClusterWord,
    #[command(flatten)]
    listing: Listing<Stack>,
}

/// `skep stack ps`.
#[derive(Debug, Args)]
pub struct StackTasks {
    #[command(flatten)]
    cluster: ClusterOption,
    #[command(flatten)]
    listing: Listing<TaskRow>,
    /// The stack.
    #[arg(value_name = "STACK")]
    name: String,
}

/// A stack, the number of its services, how many of them have converged, and of how many tasks how many run.
#[derive(Debug)]
struct Stack {
    name: String,
    services: usize,
    converged: usize,
    running: u64,
    wanted: u64,
}

impl Row for Stack {
    const NAME: &'static str = "Name";
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("STACK", "Name", |it| it.name.clone()),
        Column::new("SERVICES", "Services", |it| it.services.to_string()),
        Column::new("CONVERGED", "Converged", |it| it.converged.to_string()),
        Column::wide("TASKS", "Replicas", |it| format!("{}/{}", it.running, it.wanted)),
    ];
}

/// A task of a stack.
#[derive(Debug)]
struct TaskRow {
    task: Task,
    name: String,
    service: String,
    node: String,
    ports: Vec<String>,
    /// Docker's words for its state, and for how long it has had it.
    since: String,
}

impl Row for TaskRow {
    const NAME: &'static str = "Name";
    const ID: &'static str = "ID";
    const COLUMNS: &'static [Column<Self>] = &[
        Column::wide("ID", "ID", |it| it.task.id.clone()),
        Column::new("TASK", "Name", |it| it.name.clone()),
        Column::new("NODE", "Node", |it| it.node.clone()),
        Column::new("STATE", "State", |it| it.task.state.as_str().to_owned()),
        Column::new("WANTED", "Wanted", |it| it.task.desired.as_str().to_owned()),
        Column::only_named("CURRENT STATE", "CurrentState", |it| it.since.clone()),
        Column::only_named("DESIRED STATE", "DesiredState", |it| capital(it.task.desired.as_str())),
        Column::wide("CHANGED", "Changed", |it| it.task.changed.clone()),
        Column::new("IMAGE", "Image", |it| it.task.image.clone()),
        Column::new("PORTS", "Ports", |it| match it.task.is_wanted() {
            true => it.ports.join(","),
            false => String::new(),
        }),
        Column::only_named("SERVICE", "Service", |it| it.service.clone()),
        Column::wide("CONTAINER", "Container", |it| {
            it.task.container.iter().flat_map(|id| id.chars()).take(12).collect()
        }),
        Column::wide("EXIT CODE", "ExitCode", |it| {
            it.task.exit_code.map(|code| code.to_string()).unwrap_or_default()
        }),
        Column::new("ERROR", "Error", |it| it.task.error.clone()),
    ];
}

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
    let printer = args.listing.printer()?;
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let run = context.run(None);
    let rows = stack_rows(&view(run.swarm(&dir)).await?);
    printer.print(&rows, || stacks_document(&rows))?;
    Ok(0)
}

pub(super) async fn tasks(context: &Context, args: StackTasks) -> Result<u8, CliError> {
    let printer = args.listing.printer()?;
    let view = view_of(context, &args.cluster, &args.name).await?;
    let rows = task_rows(&view, OffsetDateTime::now_utc());
    printer.print(&rows, || tasks_document(&args.name, &rows))?;
    Ok(0)
}

fn stack_rows(view: &View) -> Vec<Stack> {
    let names: BTreeSet<_> =
        view.services.iter().filter_map(|service| service.stack.as_deref()).collect();
    let rows = names.into_iter().map(|name| {
        let services = judge(&view.of_stack(name));
        Stack {
            name: name.to_owned(),
            services: services.len(),
            converged: services.iter().filter(|it| it.standing == Standing::Converged).count(),
            running: services.iter().map(|it| it.running).sum(),
            wanted: services.iter().map(|it| it.wanted).sum(),
        }
    });
    rows.collect()
}

fn stacks_document(rows: &[Stack]) -> Value {
    let stack =
        |it: &Stack| json!({"name": it.name, "services": it.services, "converged": it.converged});
    json!({"format": FORMAT, "stacks": rows.iter().map(stack).collect::<Vec<_>>()})
}

/// Returns the tasks of a stack by name, and in each place the newest first.
fn task_rows(view: &View, now: OffsetDateTime) -> Vec<TaskRow> {
    let row = |service: &Service, task: &Task| TaskRow {
        task: task.clone(),
        name: view.name_of(service, task),
        service: service.name.clone(),
        node: node_of(view, task),
        ports: ports(service),
        since: since(task, now),
    };
    let tasks = |service| view.tasks_of(service).map(move |task| row(service, task));
    let mut rows: Vec<_> = view.services.iter().flat_map(tasks).collect();
    rows.sort_by_key(|it| (it.name.clone(), std::cmp::Reverse(it.task.created.clone())));
    rows
}

/// Returns what docker calls a task's current state, such as `Running 5 minutes ago`.
fn since(task: &Task, now: OffsetDateTime) -> String {
    let state = capital(task.state.as_str());
    match OffsetDateTime::parse(&task.changed, &Rfc3339) {
        Ok(changed) => format!("{state} {} ago", ago((now - changed).whole_seconds())),
        Err(_) => state,
    }
}

/// Returns a time as docker tells it to people.
fn ago(seconds: i64) -> String {
    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;
    match seconds {
        ..1 => "less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "about a minute".to_owned(),
        120..HOUR => format!("{} minutes", seconds / 60),
        HOUR..7200 => "about an hour".to_owned(),
        7200..172_800 => format!("{} hours", seconds / HOUR),
        172_800..1_209_600 => format!("{} days", seconds / DAY),
        1_209_600..5_184_000 => format!("{} weeks", seconds / DAY / 7),
        5_184_000..63_072_000 => format!("{} months", seconds / DAY / 30),
        _ => format!("{} years", seconds / DAY / 365),
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn tasks_document(stack: &str, rows: &[TaskRow]) -> Value {
    let tasks: Vec<_> = rows.iter().map(document).collect();
    json!({"format": FORMAT, "stack": stack, "tasks": tasks})
}

fn node_of(view: &View, task: &Task) -> String {
    task.node.as_deref().and_then(|id| view.hostname(id)).unwrap_or_default().to_owned()
}

pub(super) fn ports(service: &Service) -> Vec<String> {
    let ports = service.ports.iter().filter(|port| port.published != 0);
    ports.map(|port| format!("{}->{}/{}", port.published, port.target, port.protocol)).collect()
}

fn document(row: &TaskRow) -> Value {
    let task = &row.task;
    json!({
        "name": row.name,
        "id": task.id,
        "service": row.service,
        "node": row.node,
        "state": task.state,
        "wanted": task.desired,
        "current": task.current,
        "image": task.image,
        "ports": row.ports,
        "created": task.created,
        "changed": task.changed,
        "exit_code": task.exit_code,
        "message": task.message,
        "error": task.error,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use skep_core::fixtures;
    use skep_core::services::{Port, TaskState};
    use skep_testkit::schema::assert_described;

    use super::*;

    pub fn view() -> View {
        let port = |published| Port { published, target: 80, protocol: "tcp".into(), host: false };
        let service = Service {
            stack: Some("shop".into()),
            image: "nginx:latest".into(),
            ports: vec![port(8080), port(0)],
            ..fixtures::service("s1", "shop_web")
        };
        let task = |id: &str, state, node: Option<&str>, exit_code| Task {
            node: node.map(Into::into),
            created: format!("2026-01-01T00:00:0{}Z", &id[1..]),
            changed: "2026-01-01T00:00:09Z".into(),
            image: "nginx:latest".into(),
            message: "started".into(),
            exit_code,
            ..fixtures::task(id, "s1", state)
        };
        let node = fixtures::swarm_node("n1", "node1");
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
        let now = OffsetDateTime::parse("2026-01-01T00:05:10Z", &Rfc3339).unwrap();
        let rows = task_rows(&view(), now);
        let document = tasks_document("shop", &rows);
        let document = assert_described("stack-ps", &document.to_string());
        let ids: Vec<_> =
            document["tasks"].as_array().unwrap().iter().map(|it| &it["id"]).collect();
        assert_eq!(ids, ["t3", "t2", "t1"]);
        assert_eq!(document["tasks"][1]["ports"], json!(["8080->80/tcp"]));
        assert_eq!(rows[1].since, "Running 5 minutes ago");
        assert_eq!(rows[2].since, "Failed 5 minutes ago");
    }

    #[test]
    fn times_are_as_docker_tells_them() {
        let times = [0, 1, 59, 60, 119, 3599, 3600, 7200, 172_799, 172_800, 1_209_600, 63_072_000];
        let told = [
            "less than a second",
            "1 second",
            "59 seconds",
            "about a minute",
            "about a minute",
            "59 minutes",
            "about an hour",
            "2 hours",
            "47 hours",
            "2 days",
            "2 weeks",
            "2 years",
        ];
        assert_eq!(times.map(ago), told);
    }
}
