//! `skep ls`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skep_core::model::Role;
use skep_core::observed::MachineState;
use skep_driver::AnyDriver;
use skep_driver::Driver as _;
use skep_store::{ClusterDir, Machine};

use crate::cli::{List, Output};
use crate::context::Context;
use crate::error::{CliError, Context as _};
use crate::machine::by_name::{self, Listed};
use crate::machine::machines::Machines;
use crate::machine::vm::Vms;
use crate::out;
use crate::render::table::table;
use crate::render::write_document;

/// How long a machine may take to tell its state.
const LIMIT: Duration = Duration::from_secs(1);

/// One cluster of the list. Only what is on this host is asked, so a node that hangs is no matter.
struct Row {
    name: String,
    managers: usize,
    workers: usize,
    running: usize,
    subnet: String,
    error: String,
}

pub(super) async fn run(context: &Context, args: List) -> Result<(), CliError> {
    let clusters = context.session.store.clusters().context("cannot list clusters")?;
    let driver = context.driver(None);
    let mut rows = Vec::new();
    for dir in &clusters {
        rows.push(look(dir, &driver).await);
    }
    let mut machines = Vec::new();
    if args.all {
        let vms: Arc<dyn Vms> = Arc::new(Machines::new(Ok(context.silent())));
        for root in stores(context) {
            machines.extend(by_name::list(&root, &vms).await);
        }
    }
    match args.output {
        Output::Json | Output::Yaml => {
            let clusters: Vec<_> = rows.iter().map(Row::json).collect();
            let mut all = json!({"format": 1, "clusters": clusters});
            if args.all {
                all["machines"] = machines.iter().map(Listed::json).collect();
            }
            write_document(args.output, &all);
        }
        Output::Table => {
            let header = ["CLUSTER", "STATE", "MANAGERS", "WORKERS", "SUBNET", "ERROR"];
            let cells: Vec<_> = rows.iter().map(Row::cells).collect();
            out!("{}", table(&header, &cells));
            if args.all {
                let cells: Vec<_> = machines.iter().map(Listed::cells).collect();
                out!("\n{}", table(&by_name::HEADER, &cells));
            }
        }
    }
    Ok(())
}

/// Returns docker-machine's stores: the usual one, and all that have machines of ours.
fn stores(context: &Context) -> Vec<PathBuf> {
    let mut stores = vec![PathBuf::from(by_name::store_path())];
    let noted = context.session.registry().list().into_iter().map(|store| store.path().to_owned());
    stores.extend(noted.filter(|path| *path != stores[0]).collect::<Vec<_>>());
    stores
}

async fn look(dir: &ClusterDir, driver: &AnyDriver) -> Row {
    let mut row = Row {
        name: dir.name().to_string(),
        managers: 0,
        workers: 0,
        running: 0,
        subnet: String::new(),
        error: String::new(),
    };
    match dir.record() {
        Ok(Some(record)) => row.subnet = record.network.subnet.to_string(),
        Ok(None) => row.error = "creation was interrupted".to_owned(),
        Err(error) => row.error = skep_sys::chain(&error),
    }
    for (name, record) in dir.nodes().unwrap_or_default() {
        match record {
            Ok(record) => {
                match record.spec.role {
                    Role::Manager => row.managers += 1,
                    Role::Worker => row.workers += 1,
                }
                let machine = Machine { dir: dir.machine_dir(record.name()), record };
                let state = tokio::time::timeout(LIMIT, driver.state(&machine)).await;
                let stopped = state.is_ok_and(|state| state == MachineState::Stopped);
                row.running += usize::from(!stopped);
            }
            Err(error) if row.error.is_empty() => {
                row.error = format!("{name}: {}", skep_sys::chain(&error));
            }
            Err(_) => {}
        }
    }
    row
}

impl Row {
    fn state(&self) -> &'static str {
        match (self.running, self.managers + self.workers) {
            _ if !self.error.is_empty() => "broken",
            (0, _) => "stopped",
            (running, all) if running == all => "running",
            _ => "partly",
        }
    }

    fn cells(&self) -> Vec<String> {
        let state = match self.state() {
            "partly" => format!("{}/{} running", self.running, self.managers + self.workers),
            state => state.to_owned(),
        };
        vec![
            self.name.clone(),
            state,
            self.managers.to_string(),
            self.workers.to_string(),
            self.subnet.clone(),
            self.error.clone(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "state": self.state(),
            "managers": self.managers,
            "workers": self.workers,
            "running": self.running,
            "subnet": self.subnet,
            "error": self.error,
        })
    }
}
