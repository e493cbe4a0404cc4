//! The readiness that a user means: a published port answers on every node.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use skep_core::model::NodeName;

use super::{Error, World};
use crate::engine::{PROBE, fetch_soon};

impl World<'_> {
    /// Publishes a port with a probe service, whose image is put on the nodes that may run it.
    pub(super) async fn start_probe(
        &self,
        index: usize,
        nodes: &[NodeName],
        through: &[NodeName],
    ) -> Result<(), Error> {
        let machines = self.cluster.dir().nodes()?.into_iter().filter_map(|(_, node)| node.ok());
        let own = machines
            .filter(|node| node.spec.host.is_none())
            .find(|node| nodes.contains(node.name()));
        let own = own.ok_or_else(|| Error::NoRecord("a virtual machine".to_owned()))?;
        let image = self.image_under(&self.machine(own.name())?)?;
        try_join_all(nodes.iter().map(async |node| {
            let engine = self.engine(node)?;
            if !engine.has_image(&image.manifest.probe_image).await? {
                self.progress(index, format!("loading its image on {node}"));
                engine.load_image(&image.probe_archive()).await?;
            }
            Ok::<_, Error>(())
        }))
        .await?;
        let manager = self.manager(through).await?;
        Ok(manager.create_probe(PROBE, &image.manifest.probe_image).await?)
    }

    /// Fetches the probe service through every node's address, then removes it, whatever came out.
    pub(super) async fn verify_ingress(
        &self,
        index: usize,
        nodes: &[NodeName],
        through: &[NodeName],
    ) -> Result<(), Error> {
        let manager = self.manager(through).await?;
        let probe = manager.probe(PROBE).await?;
        let limit = self.limit(nodes.first(), Duration::from_secs(20));
        let answers = join_all(nodes.iter().map(async |node| {
            let address = self.record(node)?.address;
            let late = |error: std::io::Error| Error::Late {
                what: format!("port {} did not answer through {node} ({address})", probe.port),
                limit,
                last: error.to_string(),
            };
            fetch_soon(address, probe.port, limit).await.map_err(late)?;
            self.progress(index, format!("{node} answers"));
            Ok::<_, Error>(())
        }))
        .await;
        let problem = match answers.iter().any(Result::is_err) {
            true => manager.service_problem(&probe.id).await,
            false => None,
        };
        manager.remove_probe(PROBE).await?;
        match (answers.into_iter().collect::<Result<(), Error>>(), problem) {
            (Err(Error::Late { what, limit, .. }), Some(last)) => {
                Err(Error::Late { what, limit, last: format!("the probe's task: {last}") })
            }
            (result, _) => result,
        }
    }
}
