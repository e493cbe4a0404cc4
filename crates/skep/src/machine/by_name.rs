//! skep's own commands on machines of a docker-machine store: where a name is a machine's and nothing of
//! skep's, docker-machine's command of the same meaning is run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skep_core::model::{NodeFilter, NodeName};
use skep_machine::call::{load_each, store_path};
use skep_machine::driver::Machine;
use skep_machine::row::{Row as MachineRow, look};
use skep_machine::say::Say;
use skep_machine::vm::Vms;
use skep_store::dm::MachineStore;

use crate::cli::{Cli, Command, NodeCommand, Start};
use crate::context::Context;
use crate::listing::{Column, Row};

/// How long a machine may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Returns docker-machine's command line for a command that names machines of its store; none if it is one
/// for skep itself.
#[must_use]
pub fn line_for(cli: &Cli, context: &Context) -> Option<Vec<String>> {
    let store = MachineStore::new(store_path());
    let mut words: Vec<String> = vec![skep_machine::NAME.to_owned()];
    let mut add = |more: &[&str]| words.extend(more.iter().map(|it| (*it).to_owned()));
    let are_machines = |names: &[NodeName]| {
        let is_node = |name| is_node(context, name);
        !names.is_empty() && names.iter().all(|name| store.exists(name.as_str()) && !is_node(name))
    };
    let is_machine = |name: &str| {
        let cluster = name.parse().map(|name| context.session.store.cluster(&name));
        store.exists(name) && cluster.is_ok_and(|cluster| !cluster.exists())
    };
    match &cli.command {
        Command::Ssh(args) => {
            let named = args.cluster.cluster.is_some() || args.node.cluster.is_some();
            if named || !are_machines(std::slice::from_ref(&args.node.node)) {
                return None;
            }
            add(&["ssh", args.node.node.as_str()]);
            words.extend(args.command.iter().cloned());
        }
        Command::Env(args) if args.node.is_none() && !args.unset => {
            let name = args.cluster.cluster.as_ref()?.as_str();
            if !is_machine(name) {
                return None;
            }
            add(&["env", "--shell", args.shell.as_deref().unwrap_or("sh"), name]);
        }
        Command::Start(Start { stop: args, .. }) | Command::Stop(args) => {
            let name = args.cluster.cluster.as_ref()?.as_str();
            if !is_machine(name) {
                return None;
            }
            let starts = matches!(cli.command, Command::Start(_));
            add(&[if starts { "start" } else { "stop" }, name]);
        }
        Command::Node(command) => {
            let (verb, cluster, names) = match command {
                NodeCommand::Rm(args) => ("rm", &args.cluster, named(&args.names)?),
                NodeCommand::Start(args) => {
                    ("start", &args.nodes.cluster, named(&args.nodes.names)?)
                }
                NodeCommand::Stop(args) => ("stop", &args.cluster, named(&args.names)?),
                NodeCommand::Kill(args) => ("kill", &args.cluster, named(&args.names)?),
                NodeCommand::Restart(args) if !args.rolling => {
                    ("restart", &args.start.nodes.cluster, named(&args.start.nodes.names)?)
                }
                _ => return None,
            };
            if cluster.cluster.is_some() || !are_machines(&names) {
                return None;
            }
            add(&[verb]);
            if let NodeCommand::Rm(args) = command {
                add(if args.yes { &["-y"] } else { &[] });
                add(if args.force { &["-f"] } else { &[] });
            }
            words.extend(names.iter().map(ToString::to_string));
        }
        _ => return None,
    }
    Some(words)
}

/// Returns the names of nodes that are all named.
fn named(nodes: &[NodeFilter]) -> Option<Vec<NodeName>> {
    let name = |filter: &NodeFilter| match filter {
        NodeFilter::Named(name) => Some(name.clone()),
        _ => None,
    };
    nodes.iter().map(name).collect()
}

fn is_node(context: &Context, name: &NodeName) -> bool {
    let clusters = context.session.store.clusters().unwrap_or_default();
    clusters.iter().any(|cluster| cluster.machine_dir(name).exists())
}

/// A machine of a docker-machine store as it is listed beside clusters.
#[derive(Debug)]
pub struct Listed {
    store: String,
    row: MachineRow,
}

impl Row for Listed {
    const NAME: &'static str = "Name";
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("MACHINE", "Name", |it| it.row.name.clone()),
        Column::new("DRIVER", "DriverName", |it| it.row.driver.clone()),
        Column::new("STATE", "State", |it| it.row.state.word().to_lowercase()),
        Column::new("URL", "URL", |it| it.row.url.clone()),
        Column::new("DOCKER", "DockerVersion", |it| it.row.version.clone()),
        Column::new("STORE", "Store", |it| it.store.clone()),
        Column::new("ERROR", "Error", |it| it.row.error.clone()),
    ];
}

/// Lists the machines of a store, all asked at once.
pub async fn list(root: &Path, vms: &Arc<dyn Vms>) -> Vec<Listed> {
    let store = MachineStore::new(root);
    let say = Say::new(false);
    let load = |name: &str| Ok(Machine::new(store.load(name)?, Arc::clone(vms), say.clone()));
    let (machines, broken) = load_each(&store, load).unwrap_or_default();
    let mut rows: Vec<_> = broken.iter().map(|(name, why)| MachineRow::broken(name, why)).collect();
    rows.extend(look(&machines, LIMIT, true).await);
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let store = root.display().to_string();
    rows.into_iter().map(|row| Listed { store: store.clone(), row }).collect()
}

impl Listed {
    /// Returns it for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let MachineRow { name, driver, state, url, version, error, .. } = &self.row;
        json!({
            "name": name,
            "driver": driver,
            "state": state.word().to_lowercase(),
            "url": url,
            "engine": version,
            "store": self.store,
            "error": error,
        })
    }
}
