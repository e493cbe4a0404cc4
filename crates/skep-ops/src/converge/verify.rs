//! The readiness that a user means: a published port answers on every node, and tasks on different nodes find
//! each other.

use std::path::Path;

use futures_util::future::{join_all, try_join_all};
use skep_core::event::Event;
use skep_core::model::NodeName;
use skep_core::plan::Verify;
use skep_docker::engine::{self, Engine, PROBE, ProbeAt, ProbeService};
use skep_driver::image::probe_image;
use skep_sys::FileError;

use super::{Error, StepContext};

impl StepContext<'_> {
    /// Publishes a port with a probe service, whose image is put on the nodes that may run it.
    pub(super) async fn start_probe(
        &self,
        index: usize,
        nodes: &[NodeName],
        verify: Verify,
        through: &[NodeName],
    ) -> Result<(), Error> {
        let machines = self.cluster.dir().nodes()?.into_iter().filter_map(|(_, node)| node.ok());
        let own =
            machines.filter(|node| node.spec.is_vm()).find(|node| nodes.contains(node.name()));
        let Some(own) = own else {
            if verify == Verify::All {
                let text = "the overlay network is not verified: that needs a virtual machine";
                (self.events)(Event::Warning(text.to_owned()));
            }
            return self.start_carried_probe(index, nodes, through).await;
        };
        let image = self.give_image(own.name(), nodes, &|text| self.progress(index, text)).await?;
        let fits = || self.machine(own.name()).is_ok_and(|it| self.driver.verifies_overlay(&it));
        let pair = verify == Verify::All || verify == Verify::Fitting && fits();
        let at = if pair { ProbeAt::Pair } else { ProbeAt::Anywhere };
        self.make_probe(&image, at, through).await
    }

    /// Makes the probe service; managers that are busy are asked again.
    pub(super) async fn make_probe(
        &self,
        image: &str,
        at: ProbeAt<'_>,
        through: &[NodeName],
    ) -> Result<(), Error> {
        self.insist("cannot create the verification service", through.first(), async || {
            Ok(self.manager(through).await?.create_probe(PROBE, image, at).await?)
        })
        .await
    }

    /// Removes the probe service.
    pub(super) async fn end_probe(&self, through: &[NodeName]) -> Result<(), Error> {
        self.insist("cannot remove the verification service", through.first(), async || {
            Ok(self.manager(through).await?.remove_probe(PROBE).await?)
        })
        .await
    }

    /// Lets the probe service have its second task.
    pub(super) async fn widen_probe(&self, through: &[NodeName]) -> Result<(), Error> {
        self.insist(
            "cannot start a second task of the verification service",
            through.first(),
            async || Ok(self.manager(through).await?.widen_probe(PROBE).await?),
        )
        .await
    }

    /// Looks for the probe service.
    pub(super) async fn find_probe(&self, through: &[NodeName]) -> Result<ProbeService, Error> {
        self.insist("cannot find the verification service", through.first(), async || {
            Ok(self.manager(through).await?.probe(PROBE).await?)
        })
        .await
    }

    /// Puts the image of the probe service on nodes, and returns its ID; it is in a machine's image.
    async fn give_image(
        &self,
        machine: &NodeName,
        nodes: &[NodeName],
        told: &(dyn Fn(String) + Sync),
    ) -> Result<String, Error> {
        let image = self.image_under(&self.machine(machine)?)?;
        try_join_all(nodes.iter().map(async |node| {
            let engine = self.engine(node)?;
            if !engine.has_image(&image.manifest.probe_image).await? {
                told(format!("loading its image on {node}"));
                engine.load_image(&image.probe_archive()).await?;
            }
            Ok::<_, Error>(())
        }))
        .await?;
        Ok(image.manifest.probe_image)
    }

    /// Does so for who says nothing of it, with whichever machine's image.
    pub(super) async fn give_probe_image(&self, nodes: &[NodeName]) -> Result<String, Error> {
        let machines = self.cluster.dir().nodes()?.into_iter().filter_map(|(_, node)| node.ok());
        let own = machines.filter(|node| node.spec.is_vm());
        let own = own.max_by_key(|node| nodes.contains(node.name()));
        let own = own.ok_or_else(|| Error::NoRecord("a virtual machine".to_owned()))?;
        self.give_image(own.name(), nodes, &|_| ()).await
    }

    /// Does so with the image that skep carries, on one host: each engine may have another ID for it, and one is
    /// enough for all to be asked through. What no host can run is no service.
    async fn start_carried_probe(
        &self,
        index: usize,
        nodes: &[NodeName],
        through: &[NodeName],
    ) -> Result<(), Error> {
        for node in nodes {
            let engine = self.engine(node)?;
            let place = engine.place().await?;
            if place.architecture != std::env::consts::ARCH {
                continue;
            }
            let image = self.load_carried(index, node, &*engine).await?;
            return self.make_probe(&image, ProbeAt::Member(&place.member), through).await;
        }
        Ok(())
    }

    /// Puts the image on a host unless it is there, and returns the ID that its engine has for it.
    async fn load_carried(
        &self,
        index: usize,
        node: &NodeName,
        engine: &dyn Engine,
    ) -> Result<String, Error> {
        let unwritten = |error| FileError::new("write", Path::new("the probe's image"), error);
        let image = probe_image::carried().map_err(unwritten)?;
        let found = || async {
            let images = engine.images().await?;
            let own = images.into_iter().find(|it| it.names.contains(&image.name));
            Ok::<_, Error>(own.map(|it| it.id))
        };
        if let Some(id) = found().await? {
            return Ok(id);
        }
        self.progress(index, format!("loading its image on {node}"));
        let file = tempfile::NamedTempFile::new().map_err(unwritten)?;
        std::fs::write(file.path(), &image.archive).map_err(unwritten)?;
        engine.load_image(file.path()).await?;
        let lost = || engine::Error::Refused {
            status: 404,
            message: format!("image {} was loaded but is missing", image.name),
        };
        Ok(found().await?.ok_or_else(lost)?)
    }

    /// Fetches the probe service through every node's address, lets it have its second task on one of the
    /// nodes that are `open`, then removes it, whatever came out.
    pub(super) async fn verify_networks(
        &self,
        index: usize,
        nodes: &[NodeName],
        open: &[NodeName],
        through: &[NodeName],
    ) -> Result<(), Error> {
        let probe = match self.find_probe(through).await {
            Err(Error::Engine(engine::Error::Refused { status: 404, .. })) => {
                let text = "not verified: no node of this program's architecture runs tasks";
                (self.events)(Event::Warning(text.to_owned()));
                return Ok(());
            }
            probe => probe?,
        };
        let limit = self.verification_limit(nodes.first());
        let answers = join_all(nodes.iter().map(async |node| {
            self.fetch_through(node, &probe, limit).await?;
            self.progress(index, format!("{node} answers"));
            Ok::<_, Error>(())
        }))
        .await;
        let answers = answers.into_iter().collect::<Result<(), Error>>();
        let seen = match answers {
            Ok(()) if probe.pair => self.verify_overlay(index, &probe, open, through).await,
            answers => answers,
        };
        let problem = match seen.is_err() {
            true => match self.manager(through).await {
                Ok(manager) => manager.service_problem(&probe.id).await,
                Err(_) => None,
            },
            false => None,
        };
        let removed = self.end_probe(through).await;
        match (seen, problem) {
            (Err(Error::Late { what, limit, .. }), Some(last)) => {
                Err(Error::Late { what, limit, last: format!("the probe's task: {last}") })
            }
            (Err(error), _) => Err(error),
            (Ok(()), _) => removed,
        }
    }

    async fn verify_overlay(
        &self,
        index: usize,
        probe: &ProbeService,
        open: &[NodeName],
        through: &[NodeName],
    ) -> Result<(), Error> {
        self.give_probe_image(open).await?;
        self.widen_probe(through).await?;
        self.progress(index, self.see_each_other(&open[0], probe).await?);
        Ok(())
    }
}
