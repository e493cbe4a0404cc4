//! What is written down before it is made, and never changes after.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{
    Access, ClusterName, ClusterSpec, HostnameSpec, ImageSet, ImageSpec, NodeName, NodeSpec,
    RegistrySpec, Role, SpecError, TrustedRegistry,
};

/// What is written down of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// The cluster's name.
    pub name: ClusterName,
    /// The network of its nodes.
    pub network: NetworkRecord,
    /// The image of its nodes.
    pub image: ImageSpec,
    /// The nodes as they were wanted when this was written: one that has no record of its own yet is
    /// still to be made.
    #[serde(default)]
    pub nodes: Vec<NodeSpec>,
    /// Names for the host's /etc/hosts.
    #[serde(default)]
    pub hostnames: Vec<HostnameSpec>,
    /// Container images that every engine is to have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageSet>,
    /// Ways to it from its host.
    #[serde(default, skip_serializing_if = "Access::is_default")]
    pub access: Access,
    /// Clusters of the same store whose nodes and its own may reach each other, if they name it too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<ClusterName>,
    /// The registry that one of the nodes serves, or served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistrySpec>,
    /// The registries that all engines are to trust; none at all if there were never any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted: Option<Vec<TrustedRegistry>>,
}

/// A cluster's own network on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// The subnet.
    pub subnet: Ipv4Net,
    /// The bridge, whose address is the gateway. Also the name of the firewall table.
    pub bridge: String,
}

impl NetworkRecord {
    /// Returns the address of the bridge: the first of the subnet.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        nth(self.subnet, 1)
    }

    /// Returns the address of the node with that index: the gateway's is followed by node 0's.
    #[must_use]
    pub fn node_address(&self, index: u32) -> Ipv4Addr {
        nth(self.subnet, index + 2)
    }
}

fn nth(subnet: Ipv4Net, n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()) + n)
}

/// What is written down of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// The node as its user wants it.
    pub spec: NodeSpec,
    /// Its place in the subnet, unique in the cluster and not reused while the node exists.
    pub index: u32,
    /// Its address.
    pub address: Ipv4Addr,
    /// The hardware address of its network interface.
    pub mac: Mac,
    /// The name of its tap interface on the host.
    pub tap: String,
}

impl NodeRecord {
    /// Returns everything that is wrong with what was written down: it gets into rules and command lines.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<_> = self.spec.problems().iter().map(ToString::to_string).collect();
        let (name, address) = (self.name(), self.address);
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            problems.push(format!("{name}: {address} is not a valid node address"));
        }
        let other = self.spec.host().map(|host| host.address).filter(|it| *it != address);
        problems.extend(
            other.map(|it| format!("{name}: its address is {address}, but its host's is {it}")),
        );
        problems
    }

    /// Returns the node's name.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        &self.spec.name
    }
}

/// A hardware address (EUI-48).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

impl Mac {
    /// Returns the locally administered address that belongs to an IPv4 address.
    ///
    /// Subnets of clusters on one host do not overlap, so neither do these.
    #[must_use]
    pub fn for_address(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x52, 0x53, a, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a hardware address");
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            // from_str_radix() would take a sign.
            let is_octet = |part: &&str| part.len() == 2 && !part.starts_with(['+', '-']);
            let part = parts.next().filter(is_octet).ok_or_else(bad)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Self(octets)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

impl ClusterRecord {
    /// Returns everything that is wrong with what was written down. A cluster may have no nodes yet.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let spec = self.spec(std::iter::empty());
        let problems = spec.problems().into_iter();
        let problems =
            problems.filter(|it| !matches!(it, SpecError::NoNodes | SpecError::NoManager));
        problems.map(|problem| problem.to_string()).collect()
    }

    /// Returns the specification that a recorded cluster follows: its nodes as they were last wanted,
    /// those that are still to be made, and those that are no longer wanted and were kept.
    #[must_use]
    pub fn spec<'a>(&self, records: impl Iterator<Item = &'a NodeRecord>) -> ClusterSpec {
        let mut records: Vec<_> = records.collect();
        records.sort_by_key(|record| record.index);
        let wanted = |name: &NodeName| self.nodes.iter().find(|node| node.name == *name);
        let known = records.iter().map(|record| wanted(record.name()).unwrap_or(&record.spec));
        let to_be_made = self
            .nodes
            .iter()
            .filter(|node| !records.iter().any(|record| *record.name() == node.name));
        ClusterSpec {
            name: self.name.clone(),
            image: self.image.clone(),
            subnet: Some(self.network.subnet),
            nodes: known.chain(to_be_made).cloned().collect(),
            hostnames: self.hostnames.clone(),
            images: self.images.clone(),
            access: self.access.clone(),
            peers: self.peers.clone(),
            registry: self.registry.clone(),
            trusted: self.trusted.clone(),
        }
    }
}

/// Returns the first manager by index: the node that hostnames and the docker CLI point at.
#[must_use]
pub fn first_manager<'a>(nodes: impl Iterator<Item = &'a NodeRecord>) -> Option<&'a NodeRecord> {
    nodes.filter(|node| node.spec.role == Role::Manager).min_by_key(|node| node.index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_the_index() {
        let network =
            NetworkRecord { subnet: "10.83.4.0/24".parse().unwrap(), bridge: "skep-demo".into() };
        assert_eq!(network.gateway(), Ipv4Addr::new(10, 83, 4, 1));
        assert_eq!(network.node_address(0), Ipv4Addr::new(10, 83, 4, 2));
        assert_eq!(Mac::for_address(network.node_address(0)).to_string(), "52:53:0a:53:04:02");
    }

    #[test]
    fn a_hardware_address_reads_back() {
        let mac = Mac::for_address(Ipv4Addr::new(10, 83, 4, 2));
        assert_eq!(mac.to_string().parse::<Mac>().unwrap(), mac);
        for bad in ["", "52:53", "52:53:0a:53:04:02:01", "+2:53:0a:53:04:02", "zz:53:0a:53:04:02"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
