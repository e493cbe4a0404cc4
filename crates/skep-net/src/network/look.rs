//! What is there of the host's network.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use skep_core::model::{Admits, NetworkRecord};
use skep_core::observed::{HostFacts, Leftover};
use skep_core::plan::is_in_use;
use skep_store::Owner;

use super::claims::{self, Claims};
use super::ip::{self, Link, Route};
use super::{Error, TAP, forwarding, policy};
use crate::firewall::{self, Docker, Rules, Table};

/// What was seen of the host's network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNetwork {
    links: Vec<Link>,
    routes: Vec<Route>,
    /// Rules of routing.
    policy: Vec<policy::Rule>,
    /// Whether everything is forwarded.
    router: bool,
    /// Interfaces that forward.
    forwarding: BTreeSet<String>,
    /// Rules of the firewall.
    rules: Rules,
    claims: Claims,
    /// Where this user's subnets may be; none if anywhere.
    granted: Option<Vec<Ipv4Net>>,
}

/// Looks at all of it.
pub(super) async fn look(docker: Docker) -> Result<HostNetwork, Error> {
    let (seen, rules) = tokio::join!(look_around(), firewall::look(docker));
    Ok(HostNetwork { rules: rules?, ..seen? })
}

/// Looks at what everybody may see: links and routes.
pub(super) async fn look_around() -> Result<HostNetwork, Error> {
    let (links, routes, policy) = tokio::join!(ip::links(), ip::routes(), policy::list());
    let links = links?;
    let names = links.iter().map(|link| link.ifname.clone());
    Ok(HostNetwork {
        forwarding: names.filter(|name| forwarding::forwards(name)).collect(),
        router: forwarding::is_router(),
        links,
        routes: routes?,
        policy: policy?,
        ..HostNetwork::default()
    })
}

impl HostNetwork {
    /// How many taps that are connected to nothing one user may have at once.
    pub const LOOSE_TAPS: u32 = 8;

    /// Returns what a look would find of bridges and rules as skep makes them, for whoever stands in
    /// for a host's network. `tables` are names of rules with the digests of their owners.
    #[must_use]
    pub fn of(
        bridges: impl IntoIterator<Item = (NetworkRecord, Owner)>,
        tables: BTreeMap<String, Table>,
    ) -> Self {
        let mut it = Self { rules: Rules::of(tables), router: true, ..Self::default() };
        for (network, owner) in bridges {
            it.policy.extend(policy::made(&network));
            let address = ip::Address {
                family: "inet".to_owned(),
                local: network.gateway().to_string(),
                prefixlen: network.subnet.prefix_len(),
            };
            it.links.push(Link::up(network.bridge, Some(owner.mark()), address));
        }
        it
    }

    /// Looks at what everybody may see; what else there is has to come from whoever may see it.
    ///
    /// # Errors
    ///
    /// If `ip` is missing or fails.
    pub async fn look_around() -> Result<Self, Error> {
        look_around().await
    }

    /// Adds what is known of networks of ordinary users.
    #[must_use]
    pub fn with_claims(self, claims: Claims) -> Self {
        Self { claims, ..self }
    }

    /// Adds where this user's subnets may be.
    #[must_use]
    pub fn with_granted(self, granted: Vec<Ipv4Net>) -> Self {
        Self { granted: Some(granted), ..self }
    }

    /// Adds what is known of the firewall.
    #[must_use]
    pub fn with_rules(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// Adds a subnet that something else of that name stands for.
    #[must_use]
    pub fn with_subnet(mut self, subnet: Ipv4Net, by: &str) -> Self {
        let dev = Some(by.to_owned());
        self.routes.push(Route { dst: subnet.to_string(), dev, kind: None, nexthops: Vec::new() });
        self
    }

    /// Returns whose networks are.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Returns what was seen of the firewall.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Returns why an owner cannot have a network, if another cluster has its name or part of its subnet.
    #[must_use]
    pub fn conflict(&self, network: &NetworkRecord, owner: &Owner) -> Option<String> {
        let NetworkRecord { subnet, bridge } = network;
        let marked = |link: &&Link| link.ifname == *bridge;
        let own = match (self.claims.get(bridge), self.links.iter().find(marked)) {
            (Some(claim), _) => claim.is_of(owner),
            (None, Some(link)) => link.ifalias.as_deref().is_some_and(|mark| owner.owns(mark)),
            (None, None) => {
                let (used, by) = self.overlap(*subnet, bridge)?;
                return Some(format!("{subnet} overlaps {used}, which {by} uses"));
            }
        };
        (!own).then(|| format!("{bridge} belongs to another cluster"))
    }

    /// Returns what uses a part of a subnet, but for what is connected to one bridge.
    #[must_use]
    pub fn overlap(&self, subnet: Ipv4Net, own_bridge: &str) -> Option<(Ipv4Net, String)> {
        let taken = |(used, _): &(Ipv4Net, String)| is_in_use(subnet, *used);
        self.facts(Some(own_bridge)).subnets.into_iter().find(taken)
    }

    /// Returns the names of taps that stay when nobody has them.
    #[must_use]
    pub fn persistent_taps(&self) -> BTreeSet<String> {
        self.taps().filter(|link| link.stays()).map(name_of).collect()
    }

    /// Returns the names of taps of nodes in a subnet.
    #[must_use]
    pub fn taps_in(&self, subnet: Ipv4Net) -> BTreeSet<String> {
        let inside = |link: &&Link| {
            super::address_of_tap(&link.ifname).is_some_and(|address| subnet.contains(&address))
        };
        self.taps().filter(inside).map(name_of).collect()
    }

    /// Returns a name for one more tap of a user that is connected to nothing; none if there are enough.
    #[must_use]
    pub fn free_loose_tap(&self, user: u32) -> Option<String> {
        let name = |number| format!("{TAP}-{user:x}-{number}");
        (0..Self::LOOSE_TAPS).map(name).find(|name| !self.has_link(name))
    }

    /// Returns what is left without some interfaces.
    #[must_use]
    pub fn without_links(mut self, names: &BTreeSet<String>) -> Self {
        self.links.retain(|link| !names.contains(&link.ifname));
        self
    }

    fn taps(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(|link| link.ifname.starts_with(TAP))
    }

    /// Tells whether there is an interface of that name.
    #[must_use]
    pub fn has_link(&self, name: &str) -> bool {
        self.links.iter().any(|link| link.ifname == name)
    }

    /// Tells whether bridges of clusters are there, or written down.
    #[must_use]
    pub fn has_clusters(&self) -> bool {
        let bridge = |link: &Link| link.ifname.starts_with(super::BRIDGE);
        !self.claims.is_empty() || self.links.iter().any(bridge)
    }

    /// Returns what is in use, but for what is connected to one bridge.
    #[must_use]
    pub fn facts(&self, own_bridge: Option<&str>) -> HostFacts {
        let own = |name: &str| Some(name) == own_bridge;
        let routed = self.routes.iter().filter_map(|route| {
            let by = route.dev.as_deref().unwrap_or("a route");
            (!own(by)).then(|| Some((route.subnet()?, by.to_owned())))?
        });
        let addressed = self.links.iter().filter(|link| !own(&link.ifname)).flat_map(|link| {
            let subnets = link.addr_info.iter().filter_map(super::ip::Address::subnet);
            subnets.filter(|net| !net.addr().is_loopback()).map(|net| (net, link.ifname.clone()))
        });
        // What a removal that was cut off left keeps packets from that subnet.
        let guarded = self.policy.iter().filter_map(policy::Rule::network);
        let guarded = guarded.filter(|(bridge, _)| !own(bridge) && !self.has_link(bridge));
        let guarded = guarded.map(|(bridge, subnet)| (subnet, bridge.to_owned()));
        // A network of another user may have no bridge since the host was started.
        let claimed = self.claims.iter().filter(|(bridge, _)| !own(bridge));
        let claimed = claimed.map(|(bridge, claim)| (claim.subnet, bridge.clone()));
        let links = self.links.iter().map(|link| &link.ifname).chain(self.claims.keys());
        HostFacts {
            ports: Vec::new(),
            clusters: BTreeMap::new(),
            granted: self.granted.clone(),
            subnets: routed.chain(addressed).chain(claimed).chain(guarded).collect(),
            links: links.filter(|it| !own(it)).cloned().collect(),
        }
    }

    /// Tells whether a cluster's bridge is there, up, has its address, and is guarded.
    #[must_use]
    pub fn has_bridge(&self, network: &NetworkRecord) -> bool {
        let gateway = network.gateway().to_string();
        let is_up = self.links.iter().any(|link| {
            link.ifname == network.bridge
                && link.flags.iter().any(|flag| flag == "UP")
                && link.addr_info.iter().any(|address| address.local == gateway)
        });
        is_up && policy::guards(&self.policy, network)
    }

    /// Tells whether a cluster's rules are there, and what they let through is forwarded.
    #[must_use]
    pub fn has_firewall(&self, network: &NetworkRecord) -> bool {
        let outside = || forwarding::ways_out(&self.links, &self.routes);
        let forwards = |name: &str| self.forwarding.contains(name);
        self.rules.has(&network.bridge)
            && self.rules.has_peers(&network.bridge, &claims::peerings(&self.claims))
            && (self.router
                || forwards(&network.bridge) && outside().iter().all(|name| forwards(name)))
    }

    /// Returns whom a cluster's rules let in, and the peers that it was last said to have.
    #[must_use]
    pub fn admitted(&self, network: &NetworkRecord) -> Admits {
        let claim = self.claims.get(&network.bridge);
        Admits {
            hosts: self.rules.admitted(&network.bridge).to_vec(),
            peers: claim.map(|claim| claim.peers.clone()).unwrap_or_default(),
        }
    }

    /// Tells whether there are interfaces of containers or virtual machines that are not skep's.
    pub(super) fn has_others(&self) -> bool {
        let inner = |link: &&Link| matches!(link.kind(), Some("bridge" | "veth" | "tun"));
        let own =
            |link: &Link| link.ifname.starts_with(super::BRIDGE) || link.ifname.starts_with(TAP);
        self.links.iter().filter(inner).any(|link| !own(link))
    }

    /// Tells whether there is a bridge of a cluster.
    pub(super) fn has_bridges(&self) -> bool {
        self.links.iter().any(|link| link.ifname.starts_with(super::BRIDGE))
    }

    /// Returns what carries an owner's mark and is not part of its recorded network.
    #[must_use]
    pub fn leftovers(&self, owner: &Owner, network: Option<&NetworkRecord>) -> Vec<Leftover> {
        let recorded = |name: &str| network.is_some_and(|network| network.bridge == name);
        let owns = |link: &&Link| link.ifalias.as_deref().is_some_and(|mark| owner.owns(mark));
        let marked: Vec<&str> = self
            .links
            .iter()
            // A machine's interface goes with its process, and must not be taken from a living one.
            .filter(|link| owns(link) && !link.ifname.starts_with(TAP))
            .map(|link| link.ifname.as_str())
            .filter(|name| !recorded(name))
            .collect();
        let tables = self
            .rules
            .tables_of(|it| owner.owns_digest(it))
            .into_iter()
            .filter(|table| !recorded(table));
        let links = marked.iter().map(|name| Leftover::Link((*name).to_owned()));
        links.chain(tables.map(|table| Leftover::FirewallTable(table.to_owned()))).collect()
    }
}

fn name_of(link: &Link) -> String {
    link.ifname.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::claims::Claim;
    use crate::network::ip::Address;

    fn link(name: &str, alias: Option<&str>, address: &str) -> Link {
        let (local, prefixlen) = address.split_once('/').unwrap();
        let address = Address {
            family: "inet".into(),
            local: local.into(),
            prefixlen: prefixlen.parse().unwrap(),
        };
        Link::up(name.into(), alias.map(str::to_owned), address)
    }

    fn owner() -> Owner {
        Owner { cluster: "demo".parse().unwrap(), store: "/store".into(), user: 0 }
    }

    fn network() -> NetworkRecord {
        NetworkRecord { subnet: "10.193.0.0/24".parse().unwrap(), bridge: "skep-demo".into() }
    }

    #[test]
    fn a_clusters_own_bridge_does_not_stand_in_its_way() {
        let host = HostNetwork {
            links: vec![
                link("skep-demo", None, "10.193.0.1/24"),
                link("eth0", None, "192.0.2.2/24"),
            ],
            policy: policy::made(&network()).collect(),
            ..HostNetwork::default()
        };
        let facts = host.facts(Some("skep-demo"));
        assert_eq!(facts.subnets, [("192.0.2.0/24".parse().unwrap(), "eth0".to_owned())]);
        assert_eq!(host.facts(None).subnets.len(), 2);
        assert!(host.has_bridge(&network()));
        let unguarded = HostNetwork { policy: Vec::new(), ..host };
        assert!(!unguarded.has_bridge(&network()), "an earlier version of skep made it");
    }

    #[test]
    fn whoever_comes_second_is_told_what_is_taken() {
        let mark = owner().mark();
        let claim = |owner: &Owner, subnet: &str| Claim::of(owner, subnet.parse().unwrap());
        let other = Owner { store: "/elsewhere".into(), ..owner() };
        let host = HostNetwork {
            links: vec![
                link("skep-old", Some(&mark), "10.193.5.1/24"),
                link("skep-strange", None, "10.193.6.1/24"),
            ],
            claims: Claims::from([
                ("skep-demo".into(), claim(&owner(), "10.193.0.0/24")),
                ("skep-theirs".into(), claim(&other, "10.193.1.0/24")),
            ]),
            ..HostNetwork::default()
        };
        let conflict = |bridge: &str, subnet: &str| {
            let network = NetworkRecord { subnet: subnet.parse().unwrap(), bridge: bridge.into() };
            host.conflict(&network, &owner())
        };
        assert_eq!(conflict("skep-demo", "10.193.0.0/24"), None);
        assert_eq!(conflict("skep-old", "10.193.5.0/24"), None, "made before there were claims");
        assert_eq!(conflict("skep-new", "10.193.2.0/24"), None);
        for bridge in ["skep-theirs", "skep-strange"] {
            let reason = format!("{bridge} belongs to another cluster");
            assert_eq!(conflict(bridge, "10.193.2.0/24"), Some(reason));
        }
        let reason = conflict("skep-new", "10.193.1.128/25").unwrap();
        assert_eq!(reason, "10.193.1.128/25 overlaps 10.193.1.0/24, which skep-theirs uses");
    }

    #[test]
    fn what_is_marked_and_not_recorded_is_left_over() {
        let (mark, earlier) = (owner().mark(), owner().earlier_mark());
        let host = HostNetwork {
            links: vec![
                link("skep-demo", Some(&mark), "10.193.0.1/24"),
                link("skt0ac10002", Some(&mark), "10.193.0.9/24"),
                link("skep-other", Some("skep:other:1"), "10.193.1.1/24"),
                link("skep-demo-0", Some(&earlier), "10.193.2.1/24"),
            ],
            ..HostNetwork::default()
        };
        let demo = || Leftover::Link("skep-demo".into());
        let earlier = || Leftover::Link("skep-demo-0".into());
        assert_eq!(host.leftovers(&owner(), Some(&network())), [earlier()]);
        assert_eq!(host.leftovers(&owner(), None), [demo(), earlier()]);
        let another = Owner { user: 1000, ..owner() };
        assert_eq!(host.leftovers(&another, None), [], "of another user with the same names");
    }
}
