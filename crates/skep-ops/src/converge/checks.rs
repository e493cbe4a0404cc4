//! What is verified of a cluster that is up: engines over TLS, a published port on every node, names and a way
//! between two nodes on an overlay network, clocks, certificates.

use std::net::SocketAddrV4;
use std::time::Duration;

use futures_util::future::join_all;
use skep_core::event::Event;
use skep_core::model::NodeName;
use skep_core::readiness::{
    Check, Subject, Verdict, Verifiable, judge_certificate, judge_clock, judge_clocks,
    judge_overlay,
};
use skep_docker::engine::{ProbeAt, ProbeService, fetch_peers, fetch_soon};
use skep_store::pki::{self, Credentials};
use skep_sys::chain;
use time::OffsetDateTime;

use super::{Error, StepContext};

/// How soon the tasks on an overlay are asked again whether they see each other.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// After how long what connections to a port said is told, and others are begun.
const FETCH_ROUND: Duration = Duration::from_secs(30);

impl StepContext<'_> {
    /// Verifies a cluster that is up, whatever comes out. A service is made for it and removed again.
    pub async fn verify(&self, what: &Verifiable) -> Vec<Check> {
        let (nodes, networks) =
            tokio::join!(self.check_nodes(&what.nodes), self.check_networks(what));
        let mut checks = [what.known.clone(), nodes, networks].concat();
        checks.sort();
        checks
    }

    /// Returns how long a network may take until it is as it should be. Engines that missed what another one told
    /// of its tasks compare all they know after 30 s (memberlist's push/pull), and the next comparison may be with
    /// one that missed it as well.
    pub(super) fn verification_limit(&self, node: Option<&NodeName>) -> Duration {
        self.limit_from(node, Duration::from_secs(20), Duration::from_secs(90))
    }

    /// Fetches the probe service through a node's address.
    pub(super) async fn fetch_through(
        &self,
        node: &NodeName,
        probe: &ProbeService,
        limit: Duration,
    ) -> Result<(), Error> {
        let address = self.record(node)?.address;
        let (dialer, from) = (self.network.dialer(), SocketAddrV4::new(address, probe.port));
        let what = format!("for port {} to respond on {node} ({address})", probe.port);
        self.poll(&what, limit, async || {
            let answer = fetch_soon(&*dialer, from, limit.min(FETCH_ROUND)).await;
            Ok(answer.map(|_| ()).map_err(|error| error.to_string()))
        })
        .await
    }

    /// Waits until a task of the probe service finds and reaches one on another node; whichever is asked.
    pub(super) async fn see_each_other(
        &self,
        node: &NodeName,
        probe: &ProbeService,
    ) -> Result<String, Error> {
        let limit = self.verification_limit(Some(node));
        let address = self.record(node)?.address;
        let (dialer, from) = (self.network.dialer(), SocketAddrV4::new(address, probe.port));
        let what = "for two nodes to find each other on an overlay network";
        self.poll(what, limit, async || {
            let page = fetch_peers(&*dialer, from, limit).await;
            let seen = page.map_err(|error| error.to_string());
            let seen = seen.and_then(|page| judge_overlay(&page));
            if seen.is_err() {
                // wait: a name that the network does not know yet announces nothing.
                tokio::time::sleep(ASK_AGAIN).await;
            }
            Ok(seen)
        })
        .await
    }

    async fn check_networks(&self, what: &Verifiable) -> Vec<Check> {
        let both = |verdict, text: &str| {
            [Subject::Ingress, Subject::Overlay]
                .map(|it| Check::new(it, None, verdict, text))
                .into()
        };
        if what.through.is_empty() {
            return both(Verdict::Failed, "no manager answers");
        }
        if !what.has_image {
            return both(
                Verdict::Unknown,
                "skipped: the verification service needs a virtual machine, and there is none",
            );
        }
        if what.open.is_empty() {
            return both(Verdict::Unknown, "no node accepts tasks");
        }
        match self.try_networks(what).await {
            Ok(checks) => checks,
            Err(error) => both(Verdict::Failed, &chain(&error)),
        }
    }

    async fn try_networks(&self, what: &Verifiable) -> Result<Vec<Check>, Error> {
        let pair = what.open.len() > 1;
        let at = if pair { ProbeAt::Pair } else { ProbeAt::Anywhere };
        let image = self.give_probe_image(&what.open).await?;
        self.make_probe(&image, at, &what.through).await?;
        let looked = async {
            let probe = self.find_probe(&what.through).await?;
            let ingress = join_all(what.members.iter().map(async |node| {
                let limit = self.verification_limit(Some(node));
                let (verdict, text) = match self.fetch_through(node, &probe, limit).await {
                    Ok(()) => (Verdict::Ok, "a published port answers".to_owned()),
                    Err(error) => (Verdict::Failed, chain(&error)),
                };
                Check::new(Subject::Ingress, Some(node), verdict, text)
            }));
            let overlay = async {
                if !pair {
                    let text = "only one node accepts tasks";
                    return Check::new(Subject::Overlay, None, Verdict::Unknown, text);
                }
                let seen = async {
                    self.widen_probe(&what.through).await?;
                    self.see_each_other(&what.open[0], &probe).await
                };
                let (verdict, text) = match seen.await {
                    Ok(text) => (Verdict::Ok, text),
                    Err(error) => (Verdict::Failed, chain(&error)),
                };
                Check::new(Subject::Overlay, None, verdict, text)
            };
            let (mut checks, overlay) = tokio::join!(ingress, overlay);
            checks.push(overlay);
            Ok::<_, Error>(checks)
        };
        let checks = looked.await;
        self.end_probe(&what.through).await?;
        checks
    }

    /// Asks every node's engine over TLS, and looks at clocks and certificates. An engine that does not
    /// answer is an error, all else a warning: the cluster works, for now.
    pub(super) async fn verify_nodes(&self, nodes: &[NodeName]) -> Result<(), Error> {
        let checks = self.check_nodes(nodes).await;
        let mut broken = Vec::new();
        for Check { subject, node, verdict, text } in checks {
            match (subject, verdict, node) {
                (_, Verdict::Ok, _) => {}
                (Subject::Engine, _, Some(node)) => broken.push((node, text)),
                (_, _, node) => {
                    let place = node.map(|node| format!("{node}: ")).unwrap_or_default();
                    (self.events)(Event::Warning(format!("{place}{}: {text}", subject.as_str())));
                }
            }
        }
        if broken.is_empty() { Ok(()) } else { Err(Error::Engines(broken)) }
    }

    async fn check_nodes(&self, nodes: &[NodeName]) -> Vec<Check> {
        let (engines, clocks) = tokio::join!(
            join_all(nodes.iter().map(|node| self.check_engine(node))),
            join_all(nodes.iter().map(async |node| (node, self.clock_behind(node).await))),
        );
        let mut known = Vec::new();
        let mut checks = engines;
        for (node, behind) in clocks {
            checks.push(match behind {
                Ok(behind) => {
                    known.push((node.clone(), behind));
                    judge_clock(node, behind)
                }
                Err(error) => {
                    Check::new(Subject::Clock, Some(node), Verdict::Unknown, chain(&error))
                }
            });
        }
        checks.extend(judge_clocks(&known));
        checks.extend(self.check_certificates(nodes));
        checks
    }

    async fn check_engine(&self, node: &NodeName) -> Check {
        let asked = async { Ok::<_, Error>(self.engine(node)?.part().await?) };
        let (verdict, text) = match asked.await {
            Ok(_) => (Verdict::Ok, "its API answers over mutual TLS".to_owned()),
            Err(error) => (Verdict::Failed, chain(&error)),
        };
        Check::new(Subject::Engine, Some(node), verdict, text)
    }

    async fn clock_behind(&self, node: &NodeName) -> Result<i64, Error> {
        let machine = self.machine(node)?;
        let limit = self.limit(Some(node), Duration::from_secs(5));
        Ok(self.driver.shell(&machine).clock_behind(limit).await?)
    }

    fn check_certificates(&self, nodes: &[NodeName]) -> Vec<Check> {
        let dir = self.cluster.dir();
        let Credentials { ca, cert, .. } = Credentials::of_store(dir.path());
        let shared = [(None, "the authority", ca), (None, "the client's certificate", cert)];
        let own = nodes.iter().map(|node| {
            (Some(node), "the server's certificate", dir.machine_dir(node).join("server.pem"))
        });
        let look =
            |(node, what, path): (Option<&NodeName>, &str, std::path::PathBuf)| match pki::expiry(
                &path,
            ) {
                Ok(end) => {
                    judge_certificate(node, what, (end - OffsetDateTime::now_utc()).whole_days())
                }
                Err(error) => {
                    Check::new(Subject::Certificate, node, Verdict::Failed, chain(&error))
                }
            };
        shared.into_iter().chain(own).map(look).collect()
    }
}
