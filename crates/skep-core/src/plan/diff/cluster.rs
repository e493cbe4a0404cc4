//! What a plan changes of a cluster beside its nodes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::{Change, Kind, Mark, View};
use crate::model::{ClusterName, ClusterRecord, RegistrySpec};
use crate::plan::{Action, ClusterAction, NodeAction};

impl View<'_> {
    pub(super) fn cluster(&self) -> Option<Change> {
        let subnet = |record: &ClusterRecord| format!("subnet {}", record.network.subnet);
        if self.removed {
            let removed = Change::of(Mark::Remove, Kind::Cluster, self.name.as_str());
            return Some(match self.before {
                Some(record) => removed.from(subnet(record)),
                None => removed.from("its record cannot be read"),
            });
        }
        let added = Change::of(Mark::Add, Kind::Cluster, self.name.as_str());
        let record = self.after.filter(|_| self.before.is_none())?;
        Some(added.to(format!("{}, Debian {}", subnet(record), record.image.suite)))
    }

    pub(super) fn ports(&self) -> Vec<Change> {
        let ports = |record: Option<&ClusterRecord>| {
            record.map_or_else(Vec::new, |record| record.access.ports.clone())
        };
        let (before, after) = (ports(self.before), ports(self.after));
        let (added, removed) = (missing(&after, &before), missing(&before, &after));
        let publication = self.actions().find_map(|action| match action {
            ClusterAction::PublishPorts { publication, .. } => publication.as_ref(),
            _ => None,
        });
        let port = |mark| move |port: &u16| Change::of(mark, Kind::Port, port.to_string());
        let mut changes: Vec<_> = added.iter().map(port(Mark::Add)).collect();
        changes.extend(removed.iter().map(port(Mark::Remove)));
        if let (true, Some(publication)) = (changes.is_empty(), publication) {
            let to = format!("forward to {}", self.node_at(publication.to));
            changes.extend(publication.ports.iter().map(port(Mark::Change)).map(|it| it.to(&to)));
        }
        changes
    }

    pub(super) fn peers(&self) -> Vec<Change> {
        let peers = |record: Option<&ClusterRecord>| {
            record.map_or_else(Vec::new, |record| record.peers.clone())
        };
        let (before, after) = (peers(self.before), peers(self.after));
        let peer = |mark| move |peer: &ClusterName| Change::of(mark, Kind::Peer, peer.as_str());
        let (added, removed) = (missing(&after, &before), missing(&before, &after));
        added.iter().map(peer(Mark::Add)).chain(removed.iter().map(peer(Mark::Remove))).collect()
    }

    pub(super) fn hostnames(&self) -> Vec<Change> {
        let published = self.actions().find_map(|action| match action {
            ClusterAction::PublishHosts(entries) => Some(entries),
            _ => None,
        });
        let (before, after): (BTreeMap<_, _>, BTreeMap<_, _>) = match published {
            Some(entries) => {
                let to = |entries: &[crate::observed::HostsEntry]| {
                    let pairs = entries.iter();
                    pairs.map(|it| (it.name.clone(), self.node_at(it.address))).collect()
                };
                (to(&self.seen.hosts_entries), to(entries))
            }
            // Where they point may be decided later, and is not told yet.
            None => {
                let names = |record: Option<&ClusterRecord>| {
                    let names = record.into_iter().flat_map(|record| &record.hostnames);
                    names.map(|it| (it.name.to_string(), String::new())).collect()
                };
                (names(self.before), names(self.after))
            }
        };
        let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let target = |map: &BTreeMap<String, String>, name: &String| map.get(name).cloned();
        let changes = names.into_iter().filter_map(|name| {
            Change::between(Kind::Hostname, name, target(&before, name), target(&after, name))
        });
        changes
            .map(|mut change| {
                for target in [&mut change.from, &mut change.to] {
                    *target = target.take().filter(|node| !node.is_empty());
                }
                change
            })
            .collect()
    }

    pub(super) fn context(&self) -> Vec<Change> {
        let name = format!("skep-{}", self.name);
        let changes = self.actions().filter_map(|action| match action {
            ClusterAction::EnsureContext { to, update, .. } => {
                let mark = if *update { Mark::Change } else { Mark::Add };
                let context = Change::of(mark, Kind::Context, &name);
                Some(context.to(format!("for {}", self.node_at(*to))))
            }
            ClusterAction::RemoveContext { .. } => {
                Some(Change::of(Mark::Remove, Kind::Context, &name))
            }
            _ => None,
        });
        changes.collect()
    }

    pub(super) fn images(&self) -> Vec<Change> {
        let sources = |record: Option<&ClusterRecord>| {
            let sets = record.into_iter().flat_map(|record| &record.images);
            sets.map(|set| set.source.clone()).collect::<Vec<_>>()
        };
        if self.removed {
            return Vec::new();
        }
        let (before, after) = (sources(self.before), sources(self.after));
        let image = |mark| move |source: &String| Change::of(mark, Kind::Image, source);
        let mut changes: Vec<_> = missing(&after, &before).iter().map(image(Mark::Add)).collect();
        changes.extend(missing(&before, &after).iter().map(image(Mark::Remove)));
        for action in self.actions() {
            if let ClusterAction::LoadImages { set, nodes } = action
                && !changes.iter().any(|change| change.name == set.source)
            {
                let nodes: Vec<_> = nodes.iter().map(|node| node.as_str()).collect();
                let loaded = format!("load on {}", nodes.join(", "));
                changes.push(image(Mark::Change)(&set.source).to(loaded));
            }
        }
        changes
    }

    pub(super) fn registries(&self) -> Vec<Change> {
        if self.removed {
            return Vec::new();
        }
        let own = |record: Option<&ClusterRecord>| {
            let registry = record.and_then(|record| record.registry.as_ref());
            registry.filter(|registry| registry.runs).map(describe)
        };
        let trusted = |record: Option<&ClusterRecord>| -> BTreeMap<String, String> {
            let registries = record.and_then(|record| record.trusted.as_ref());
            let how = |ca: &Option<String>| match ca {
                Some(_) => "verified with its CA certificate",
                None => "not verified",
            };
            let registries = registries.into_iter().flatten();
            registries.map(|it| (it.at.clone(), how(&it.ca).to_owned())).collect()
        };
        let (before, after) = (trusted(self.before), trusted(self.after));
        let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let own = Change::between(Kind::Registry, "", own(self.before), own(self.after));
        let named = |at: &String| {
            let (from, to) = (before.get(at).cloned(), after.get(at).cloned());
            Change::between(Kind::TrustedRegistry, at, from, to)
        };
        own.into_iter().chain(names.into_iter().filter_map(named)).collect()
    }

    /// Returns what is restored of a cluster's network, or removed where nothing else tells of it.
    pub(super) fn network(&self) -> Vec<Change> {
        let changes = self.actions().filter_map(|action| match action {
            ClusterAction::EnsureBridge(network) if self.stays() => {
                Some(Change::of(Mark::Add, Kind::Interface, &network.bridge).to("bridge"))
            }
            ClusterAction::EnsureFirewall { network, .. } if self.stays() => {
                let mark = if self.seen.firewall { Mark::Change } else { Mark::Add };
                let rules = Change::of(mark, Kind::Firewall, &network.bridge);
                Some(if self.seen.firewall { rules.to("update") } else { rules })
            }
            ClusterAction::RemoveLink(name) if self.before.is_none() => {
                Some(Change::of(Mark::Remove, Kind::Interface, name))
            }
            ClusterAction::RemoveFirewall(name) if self.before.is_none() => {
                Some(Change::of(Mark::Remove, Kind::Firewall, name))
            }
            _ => None,
        });
        changes.collect()
    }

    /// Returns what is left: certificates, and the swarm as a whole.
    pub(super) fn rest(&self) -> Vec<Change> {
        let hostname = |id: &str| {
            let member = self.seen.swarm.as_ref().and_then(|swarm| swarm.member(id));
            member.map(|member| member.hostname.clone())
        };
        let changes = self.actions().filter_map(|action| match action {
            ClusterAction::EnsureCredentials if self.stays() => {
                Some(Change::of(Mark::Add, Kind::Certificates, ""))
            }
            ClusterAction::RenewCredentials
            | ClusterAction::PrepareAuthority
            | ClusterAction::SwitchAuthority
            | ClusterAction::WithdrawAuthority => {
                Some(Change::of(Mark::Change, Kind::Certificates, "").to(action.to_string()))
            }
            ClusterAction::ForgetMember { id, .. } => {
                let change = Change::of(Mark::Remove, Kind::SwarmEntry, id);
                Some(Change { from: hostname(id), ..change })
            }
            ClusterAction::RemoveProbe { .. } => {
                let change = Change::of(Mark::Remove, Kind::Service, "");
                Some(change.from("left by an interrupted verification"))
            }
            _ => None,
        });
        changes.collect()
    }

    /// Returns the name of the node with that address, or the address.
    fn node_at(&self, address: Ipv4Addr) -> String {
        let planned = self.plan.steps.iter().filter_map(|step| match &step.action {
            Action::Node(_, NodeAction::RecordNode(record)) => Some(record),
            _ => None,
        });
        let known = self.seen.nodes.values().map(|node| &node.record);
        let found = known.chain(planned).find(|record| record.address == address);
        found.map_or_else(|| address.to_string(), |record| record.name().to_string())
    }
}

fn describe(registry: &RegistrySpec) -> String {
    let mirror = registry.mirror.iter().map(|url| format!(", cache of {url}"));
    let place = format!("port {} on {}", registry.port, registry.node);
    std::iter::once(place).chain(mirror).collect()
}

/// Returns those of the first that are not among the second.
fn missing<T: PartialEq + Clone>(of: &[T], among: &[T]) -> Vec<T> {
    of.iter().filter(|it| !among.contains(it)).cloned().collect()
}
