//! `skep stack services`.

use clap::Args;
use serde_json::{Value, json};
use skep_core::services::{Mode, Service, Standing, Status, View, judge};

use super::list::{ports, view_of};
use crate::cli::{ClusterOption, Output};
use crate::context::Context;
use crate::error::CliError;
use crate::out;
use crate::render::table::table;
use crate::render::write_document;

/// The number of the JSON output's format.
const FORMAT: u32 = 1;

/// `skep stack services`.
#[derive(Debug, Args)]
pub struct StackServices {
    #[command(flatten)]
    cluster: ClusterOption,
    /// Output format.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    output: Output,
    /// The stack.
    #[arg(value_name = "STACK")]
    name: String,
}

pub(super) async fn run(context: &Context, args: &StackServices) -> Result<u8, CliError> {
    let view = view_of(context, &args.cluster, &args.name).await?;
    let statuses = judge(&view);
    match args.output {
        Output::Table => {
            let header = ["SERVICE", "MODE", "TASKS", "STATE", "IMAGE", "PORTS", "PROBLEM"];
            let rows: Vec<_> =
                rows(&view, &statuses).map(|(service, it)| cells(service, it)).collect();
            out!("{}", table(&header, &rows));
        }
        output => write_document(output, &document(&args.name, &view, &statuses)),
    }
    Ok(0)
}

/// Returns each service with how it is, by name.
fn rows<'a>(
    view: &'a View,
    statuses: &'a [Status],
) -> impl Iterator<Item = (&'a Service, &'a Status)> {
    let mut rows: Vec<_> = view.services.iter().zip(statuses).collect();
    rows.sort_by_key(|(service, _)| &service.name);
    rows.into_iter()
}

fn cells(service: &Service, status: &Status) -> Vec<String> {
    vec![
        service.name.clone(),
        mode(service).to_owned(),
        format!("{}/{}", status.running, status.wanted),
        state(status).to_owned(),
        service.image.clone(),
        ports(service).join(","),
        status.problem.as_ref().map(ToString::to_string).unwrap_or_default(),
    ]
}

fn document(stack: &str, view: &View, statuses: &[Status]) -> Value {
    let service = |(service, status): (&Service, &Status)| {
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
    let services: Vec<_> = rows(view, statuses).map(service).collect();
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
        let document = document("shop", &view, &judge(&view));
        let document = assert_described("stack-services", &document.to_string());
        let names: Vec<_> =
            document["services"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
        assert_eq!(names, ["shop_job", "shop_web"]);
        let web = &document["services"][1];
        assert_eq!((&web["wanted"], &web["ports"]), (&json!(1), &json!(["8080->80/tcp"])));
    }
}
