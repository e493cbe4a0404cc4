//! What is refused before anything is touched.

use std::net::Ipv4Addr;

use skep_core::event::Event;
use skep_core::model::{ClusterName, ClusterSpec, HostSpec, NodeName};
use skep_core::observed::{MachineState, Observed};
use skep_driver::ssh::{self, Checked};
use skep_store::LockedCluster;
use skep_store::pki::rotation;
use thiserror::Error;

use super::Run;

/// Why a cluster cannot be what is wanted, on this host as it is now. Nothing was touched.
#[derive(Debug, Error)]
pub enum Refusal {
    /// Another program listens on a port that is to be published.
    #[error("port {0} is already in use on this host")]
    PortTaken(u16),
    /// An ordinary user cannot listen on a port that is to be published.
    #[error("port {port} of 127.0.0.1 is privileged")]
    PortOfRoot {
        /// The port.
        port: u16,
        /// The lowest port that this user can listen on.
        lowest: u16,
    },
    /// The process that kept the nodes' network in the user's namespace has ended.
    #[error("{}: no network, because the process that provides it has ended", names(.nodes))]
    CutOff {
        /// The cluster.
        cluster: ClusterName,
        /// The nodes.
        nodes: Vec<NodeName>,
    },
    /// Hosts cannot reach virtual machines in a user namespace.
    #[error("hosts cannot be nodes together with virtual machines under --net user")]
    HostsInUserns,
    /// Clusters in a user namespace cannot be peers.
    #[error("clusters with --net user cannot be peers: their networks are in a user namespace")]
    PeersInUserns,
    /// Names lead nowhere with networks in a user namespace.
    #[error(
        "--hostname does not work with --net user: nodes are reached through loopback addresses"
    )]
    NamesInUserns,
    /// Hosts that are to become nodes cannot.
    #[error("hosts are not ready; nothing was changed\n{}", hosts(.0))]
    HostsNotReady(Vec<NotReady>),
}

/// A host that cannot become a node.
#[derive(Debug)]
pub struct NotReady {
    /// The node that it was to become.
    pub node: NodeName,
    /// The host.
    pub host: HostSpec,
    /// Why not.
    pub problems: Vec<String>,
}

fn names(names: &[NodeName]) -> String {
    names.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ")
}

fn hosts(hosts: &[NotReady]) -> String {
    let lines = hosts.iter().flat_map(|it| {
        let at = at(&it.node, it.host.address);
        it.problems.iter().map(move |problem| format!("{at}: {problem}"))
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn at(node: &NodeName, address: Ipv4Addr) -> String {
    format!("{node} ({address})")
}

/// Refuses peers where networks are in a user namespace: there are no claims there, by which two clusters are opened.
///
/// # Errors
///
/// If there are any.
pub fn refuse_peers(spec: &ClusterSpec) -> Result<(), Refusal> {
    if spec.peers.is_empty() { Ok(()) } else { Err(Refusal::PeersInUserns) }
}

impl Run<'_> {
    /// Refuses ports of the loopback on which nothing of this user's can listen.
    ///
    /// # Errors
    ///
    /// The first such port.
    pub fn check_ports(&self, spec: &ClusterSpec, seen: &Observed) -> Result<(), Refusal> {
        let published = |port: u16| {
            seen.cluster.as_ref().is_some_and(|cluster| cluster.access.ports.contains(&port))
        };
        let mut new = spec.access.ports.iter().copied().filter(|port| !published(*port));
        if let Some(port) = new.clone().find(|port| skep_net::network::listens(*port)) {
            return Err(Refusal::PortTaken(port));
        }
        let lowest = skep_net::network::lowest_port();
        match new.find(|port| *port < lowest && !skep_sys::is_root()) {
            Some(port) => Err(Refusal::PortOfRoot { port, lowest }),
            None => Ok(()),
        }
    }

    /// Refuses what a network in the user's namespace cannot give.
    ///
    /// # Errors
    ///
    /// What that is.
    pub fn check_userns(&self, spec: &ClusterSpec, seen: &Observed) -> Result<(), Refusal> {
        if self.session().userns().is_none() {
            return Ok(());
        }
        let cut_off = seen.nodes.values().filter(|node| {
            node.machine == MachineState::Running && !seen.host.links.contains(&node.record.tap)
        });
        let cut_off: Vec<_> = cut_off.map(|node| node.record.name().clone()).collect();
        if !cut_off.is_empty() {
            return Err(Refusal::CutOff { cluster: spec.name.clone(), nodes: cut_off });
        }
        if spec.nodes.iter().any(|node| node.is_host()) && spec.has_machines() {
            return Err(Refusal::HostsInUserns);
        }
        refuse_peers(spec)?;
        if !spec.hostnames.is_empty() && self.session().writes_system_names() {
            return Err(Refusal::NamesInUserns);
        }
        Ok(())
    }

    /// Looks whether hosts that are to become nodes can.
    pub(super) async fn check_hosts(
        &self,
        cluster: &LockedCluster,
        spec: &ClusterSpec,
        before: &Observed,
    ) -> Result<(), Refusal> {
        let origin = rotation::origin(cluster.dir().path());
        let owner = ssh::owner(spec.name.as_str(), &origin).unwrap_or_default();
        let new = spec.nodes.iter().filter(|node| !before.nodes.contains_key(&node.name));
        let new: Vec<_> = new.filter_map(|node| Some((&node.name, node.host()?))).collect();
        let mut refused = Vec::new();
        for Checked { node, host, forbidden, warnings } in
            self.driver.hosts.check(&new, &owner).await
        {
            for warning in warnings {
                let at = at(node, host.address);
                self.report(Event::Warning(format!("{at}: {warning}")));
            }
            if !forbidden.is_empty() {
                refused.push(NotReady {
                    node: node.clone(),
                    host: host.clone(),
                    problems: forbidden,
                });
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(Refusal::HostsNotReady(refused)) }
    }
}
