//! Machines of skep's own clusters, each of whose directories is a store of docker-machine's form: they
//! can be looked at and logged in to; skep's own commands change them.

use std::path::Path;

use skep_store::dm::Config;
use skep_store::{Machine, Store};

/// What is said of a machine that is to be changed.
pub const BELONGS: &str =
    "this store is a cluster of skep, which `skep node` and `skep down` change";

/// Returns the machine of a cluster that a record is of.
#[must_use]
pub fn machine(config: &Config) -> Option<Machine> {
    let store = config.driver.get("StorePath")?.as_str()?;
    let cluster = Path::new(store);
    let name = cluster.file_name()?.to_str()?.parse().ok()?;
    let cluster_of = Store::new(cluster.ancestors().nth(2)?.to_owned()).cluster(&name);
    let node = config.name.parse().ok()?;
    let dir = cluster_of.machine_dir(&node);
    let is_that = cluster_of.path() == cluster && cluster_of.record().is_ok_and(|it| it.is_some());
    is_that.then(|| cluster_of.node(&node).ok()).flatten().map(|record| Machine { record, dir })
}
