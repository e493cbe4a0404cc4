//! `skep stack services`.

use clap::Args;
use serde_json::{Value, json};
use skep_core::services::{Mode, Service, Standing, Status, View, judge};

use super::list::{ports, view_of};
use crate::cli::ClusterOption;
use crate::context::Context;
use crate::error::CliError;
use crate::listing::{Column, Listing, Row};

/// The number of the JSON output's format.
const FORMAT: u32 = 1;

/// `skep stack services`.
#[derive(Debug, Args)]
pub struct StackServices {
    #[command(flatten)]
    cluster: ClusterOption,
    #[command(flatten)]
    listing: Listing<ServiceRow>,
    /// The stack.
    #[arg(value_name = "STACK")]
    name: String,
}

/// A service, and how it is.
#[derive(Debug)]
struct ServiceRow {
    service: Service,
    status: Status,
}

impl Row for ServiceRow {
    const NAME: &'static str = "Name";
    const ID: &'static str = "ID";
    const COLUMNS: &'static [Column<Self>] = &[
        Column::wide("ID", "ID", |it| it.service.id.clone()),
        Column::new("SERVICE", "Name", |it| it.service.name.clone()),
        Column::new("MODE", "Mode", |it| mode(&it.service).to_owned()),
        Column::new("TASKS", "Replicas", |it| {
            format!("{}/{}", it.status.running, it.status.wanted)
        }),
        Column::new("STATE", "State", |it| state(&it.status).to_owned()),
        Column::wide("NODES", "Nodes", |it| {
            it.status.nodes.iter().map(String::as_str).collect::<Vec<_>>().join(",")
        }),
        Column::new("IMAGE", "Image", |it| it.service.image.clone()),
        Column::new("PORTS", "Ports", |it| ports(&it.service).join(",")),
        Column::new("PROBLEM", "Problem", |it| {
            it.status.problem.as_ref().map(ToString::to_string).unwrap_or_default()
        }),
    ];
}

pub(super) async fn run(context: &Context, args: &StackServices) -> Result<u8, CliError> {
    let printer = args.listing.printer()?;
    let rows = rows(view_of(context, &args.cluster, &args.name).await?);
    printer.print(&rows, || document(&args.name, &rows))?;
    Ok(0)
}

/// Returns each service with how it is, by name.
fn rows(view: View) -> Vec<ServiceRow> {
    let statuses = judge(&view);
    let pairs = view.services.into_iter().zip(statuses);
    let mut rows: Vec<_> = pairs.map(|(service, status)| ServiceRow { service, status }).collect();
    rows.sort_by(|a, b| a.service.name.cmp(&b.service.name));
    rows
}

fn document(stack: &str, rows: &[ServiceRow]) -> Value {
    let service = |ServiceRow { service, status }: &ServiceRow| {
        json!({
            "name": service.name,
            "id": service.id,
            "mode": mode(service),
            "running": status.running,
            "wanted": status.wanted,
            "state": state(status),
            "nodes": status.nodes,
            "image": service.image,
            "ports": ports(service),
            "problem": status.problem.as_ref().map(ToString::to_string),
        })
    };
    let services: Vec<_> = rows.iter().map(service).collect();
    json!({"format": FORMAT, "stack": stack, "services": services})
}

/// Returns docker's word for how many tasks a service is to have.
fn mode(service: &Service) -> &'static str {
    match service.mode {
        Mode::Replicated(_) => "replicated",
        Mode::Global => "global",
        Mode::Job(_) => "replicated-job",
        Mode::GlobalJob => "global-job",
    }
}

fn state(status: &Status) -> &'static str {
    match status.standing {
        Standing::Converged => "converged",
        Standing::Working => "converging",
        Standing::Stuck => "stuck",
    }
}

#[cfg(test)]
mod tests {
    use skep_testkit::schema::assert_described;

    use super::*;
    use crate::commands::stack::list::tests::view;

    #[test]
    fn services_fit_their_schema() {
        let mut view = view();
        view.services.push(Service {
            id: "s2".into(),
            name: "shop_job".into(),
            mode: Mode::Job(0),
            ..view.services[0].clone()
        });
        let document = document("shop", &rows(view));
        let document = assert_described("stack-services", &document.to_string());
        let names: Vec<_> =
            document["services"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
        assert_eq!(names, ["shop_job", "shop_web"]);
        let web = &document["services"][1];
        assert_eq!((&web["wanted"], &web["ports"]), (&json!(1), &json!(["8080->80/tcp"])));
    }
}
