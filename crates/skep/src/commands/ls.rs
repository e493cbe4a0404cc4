//! `skep ls`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use skep_core::model::Role;
use skep_core::observed::MachineState;
use skep_driver::AnyDriver;
use skep_driver::Driver as _;
use skep_machine::vm::Vms;
use skep_store::{ClusterDir, Machine};

use crate::context::Context;
use crate::error::{CliError, Context as _};
use crate::listing::{Column, Listing, Row};
use crate::machine::{self, Listed, Machines};

/// How long a machine may take to tell its state.
const LIMIT: Duration = Duration::from_secs(1);

/// `skep ls`.
#[derive(Debug, Args)]
pub struct List {
    /// Also list machines in docker-machine stores.
    #[arg(long, short, conflicts_with = "format")]
    all: bool,
    #[command(flatten)]
    listing: Listing<Cluster>,
}

/// One cluster of the list. Only what is on this host is asked, so a node that hangs is no matter.
#[derive(Debug)]
struct Cluster {
    name: String,
    managers: usize,
    workers: usize,
    running: usize,
    subnet: String,
    bridge: String,
    suite: String,
    directory: PathBuf,
    error: String,
}

impl Row for Cluster {
    const NAME: &'static str = "Name";
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("CLUSTER", "Name", |it| it.name.clone()),
        Column::new("STATE", "State", |it| match it.state() {
            "partly" => format!("{}/{} running", it.running, it.managers + it.workers),
            state => state.to_owned(),
        }),
        Column::new("MANAGERS", "Managers", |it| it.managers.to_string()),
        Column::new("WORKERS", "Workers", |it| it.workers.to_string()),
        Column::wide("RUNNING", "Running", |it| it.running.to_string()),
        Column::new("SUBNET", "Subnet", |it| it.subnet.clone()),
        Column::wide("BRIDGE", "Bridge", |it| it.bridge.clone()),
        Column::wide("SUITE", "Suite", |it| it.suite.clone()),
        Column::wide("DIRECTORY", "Directory", |it| it.directory.display().to_string()),
        Column::new("ERROR", "Error", |it| it.error.clone()),
    ];
}

pub(super) async fn run(context: &Context, args: List) -> Result<(), CliError> {
    let printer = args.listing.printer()?;
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
            machines.extend(machine::list(&root, &vms).await);
        }
    }
    printer.print(&rows, || {
        let clusters: Vec<_> = rows.iter().map(Cluster::json).collect();
        let mut all = json!({"format": 1, "clusters": clusters});
        if args.all {
            all["machines"] = machines.iter().map(Listed::json).collect();
        }
        all
    })?;
    if args.all { printer.print_also(&machines) } else { Ok(()) }
}

/// Returns docker-machine's stores: the usual one, and all that have machines of ours.
fn stores(context: &Context) -> Vec<PathBuf> {
    let mut stores = vec![PathBuf::from(skep_machine::call::store_path())];
    let noted = context.session.registry().list().into_iter().map(|store| store.path().to_owned());
    stores.extend(noted.filter(|path| *path != stores[0]).collect::<Vec<_>>());
    stores
}

async fn look(dir: &ClusterDir, driver: &AnyDriver) -> Cluster {
    let mut row = Cluster {
        name: dir.name().to_string(),
        managers: 0,
        workers: 0,
        running: 0,
        subnet: String::new(),
        bridge: String::new(),
        suite: String::new(),
        directory: dir.path().to_owned(),
        error: String::new(),
    };
    match dir.record() {
        Ok(Some(record)) => {
            row.subnet = record.network.subnet.to_string();
            row.bridge = record.network.bridge;
            row.suite = record.image.suite;
        }
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

impl Cluster {
    fn state(&self) -> &'static str {
        match (self.running, self.managers + self.workers) {
            _ if !self.error.is_empty() => "broken",
            (0, _) => "stopped",
            (running, all) if running == all => "running",
            _ => "partly",
        }
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
