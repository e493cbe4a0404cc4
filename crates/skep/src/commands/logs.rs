//! `skep logs`.

use skep_driver::qemu::console;
use skep_store::Machine;

use crate::cli::{Logs, Service};
use crate::context::Context;
use crate::error::{CliError, Context as _};
use crate::render::{write_exact, write_raw};

pub(super) async fn run(context: &Context, args: Logs) -> Result<(), CliError> {
    let name = args.node.cluster.clone().or(args.cluster.cluster);
    let cluster = context.existing(name.as_ref())?;
    let record = context.node(&cluster, &args.node.node)?;
    let machine = Machine { dir: cluster.machine_dir(record.name()), record };
    let text = match args.service {
        None => console(&machine).context("there is no console log")?,
        Some(service) => {
            let run = context.run(None);
            let log = run.service_log(&machine, service_name(service)).await;
            log.map_err(|error| {
                CliError::from(error).hint(format!("skep logs {}", args.node.node))
            })?
        }
    };
    match args.raw {
        true => write_raw(&text),
        false => write_exact(&text),
    }
    Ok(())
}

fn service_name(service: Service) -> &'static str {
    match service {
        Service::Agent => "agent",
        Service::Containerd => "containerd",
        Service::Docker => "docker",
        Service::Mirror => "mirror",
        Service::Registry => "registry",
        Service::Sshd => "sshd",
        Service::Tls => "tls",
    }
}
