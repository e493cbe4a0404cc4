//! Stacks: the docker command deploys them, and here they are watched until they are what was asked
//! for, or gone.

mod gone;
mod watch;

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use skep_core::model::{NodeName, NodeRecord, Role};
use skep_store::ClusterDir;
use skep_store::pki::Credentials;
use thiserror::Error;

pub use gone::await_gone;
pub use watch::{Ending, Report, glance, report, watch};

use crate::engine::{self, Engine, Engines, Part};

/// Why nothing can be said of a stack.
#[derive(Debug, Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] skep_store::Error),
    /// An engine.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// No manager could be asked.
    #[error("no manager responds ({0})")]
    NoManager(String),
}

/// A cluster's engines.
#[derive(Clone, Copy)]
pub struct Swarm<'a> {
    /// The cluster.
    pub dir: &'a ClusterDir,
    /// Where engines are had from.
    pub engines: &'a dyn Engines,
    /// How long one call may take.
    pub patience: Duration,
}

impl Swarm<'_> {
    /// Returns the first manager that answers as one. All are asked at the same time: one that is gone
    /// keeps nobody waiting.
    ///
    /// # Errors
    ///
    /// If none does; with what each said.
    pub async fn manager(&self) -> Result<Box<dyn Engine>, Error> {
        let records = self.records()?;
        let managers = records.iter().filter(|record| record.spec.role == Role::Manager);
        let mut asked: FuturesUnordered<_> = managers
            .map(async |record| {
                let engine = self.engine(record)?;
                let name = record.name();
                Ok::<_, Error>(match engine.part().await {
                    Ok(Part::Manager) => Ok(engine),
                    Ok(_) => Err((record.index, format!("{name} is not a manager"))),
                    Err(error) => {
                        Err((record.index, format!("{name}: {}", skep_sys::chain(&error))))
                    }
                })
            })
            .collect();
        let mut reasons = Vec::new();
        while let Some(answer) = asked.next().await {
            match answer? {
                Ok(engine) => return Ok(engine),
                Err(reason) => reasons.push(reason),
            }
        }
        reasons.sort();
        let reasons: Vec<_> = reasons.into_iter().map(|(_, reason)| reason).collect();
        Err(Error::NoManager(reasons.join("; ")))
    }

    /// Returns the engine of a node.
    ///
    /// # Errors
    ///
    /// If it has no record or no certificate.
    pub fn node(&self, name: &NodeName) -> Result<Box<dyn Engine>, Error> {
        self.engine(&self.dir.node(name)?)
    }

    /// Returns the nodes in the order of their numbers; one whose record is damaged is left out.
    fn records(&self) -> Result<Vec<NodeRecord>, Error> {
        let nodes = self.dir.nodes()?.into_iter();
        let mut records: Vec<_> = nodes.filter_map(|(_, record)| record.ok()).collect();
        records.sort_by_key(|record| record.index);
        Ok(records)
    }

    fn engine(&self, record: &NodeRecord) -> Result<Box<dyn Engine>, Error> {
        let credentials = Credentials::of_node(self.dir, record.name());
        Ok(self.engines.engine(record.address, &credentials, self.patience)?)
    }
}
