//! The choice of a network for a new cluster.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::PlanError;
use crate::model::{ClusterName, NetworkRecord};
use crate::observed::HostFacts;

/// Where skep looks for a free /24. Docker's own pools are 172.17.0.0/12 and 192.168.0.0/16, swarm's
/// overlay networks take 10.0.0.0/8 from its beginning, so this is in the upper half of it.
const POOL: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 193, 0, 0), 16);

/// The longest interface name (IFNAMSIZ less its terminating zero).
const INTERFACE_NAME: usize = 15;

/// Returns the network of a new cluster, or why it can have none.
pub(super) fn choose_network(
    name: &ClusterName,
    wanted: Option<Ipv4Net>,
    host: &HostFacts,
) -> Result<NetworkRecord, PlanError> {
    let subnet = match wanted {
        Some(subnet) => check_subnet(subnet, host)?,
        None => free_subnet(host)?,
    };
    Ok(NetworkRecord { subnet, bridge: free_bridge(name, host) })
}

fn check_subnet(subnet: Ipv4Net, host: &HostFacts) -> Result<Ipv4Net, PlanError> {
    let unfit = |rule| PlanError::SubnetUnfit { subnet, rule };
    if subnet.trunc() != subnet {
        return Err(unfit("the bits after the prefix must be zero"));
    }
    if !(8..=29).contains(&subnet.prefix_len()) {
        return Err(unfit("use a prefix of /8 to /29"));
    }
    if !subnet.network().is_private() && !is_documentation_or_shared(subnet.network()) {
        return Err(unfit("use a private range: 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"));
    }
    match user_of(subnet, host) {
        Some((used, by)) => Err(PlanError::SubnetTaken { subnet, used, by }),
        None => Ok(subnet),
    }
}

/// RFC 6598 shared space and RFC 2544 benchmarking space route nowhere else either.
fn is_documentation_or_shared(address: Ipv4Addr) -> bool {
    let in_net = |a, b, len| {
        Ipv4Net::new(Ipv4Addr::new(a, b, 0, 0), len).is_ok_and(|net| net.contains(&address))
    };
    in_net(100, 64, 10) || in_net(198, 18, 15)
}

/// Returns where skep looks for a free subnet unless it is told one.
#[must_use]
pub fn subnet_pool() -> Ipv4Net {
    Ipv4Net::new(POOL.0, POOL.1).expect("the pool's prefix is at most 32")
}

fn free_subnet(host: &HostFacts) -> Result<Ipv4Net, PlanError> {
    let pool = subnet_pool();
    pool.subnets(24)
        .expect("the pool's prefix is shorter than 24")
        .find(|subnet| user_of(*subnet, host).is_none())
        .ok_or(PlanError::NoFreeSubnet { pool })
}

pub(super) fn user_of(subnet: Ipv4Net, host: &HostFacts) -> Option<(Ipv4Net, String)> {
    host.subnets
        .iter()
        // The default route covers everything and says nothing about who uses what.
        .find(|(used, _)| {
            used.prefix_len() > 0 && (used.contains(&subnet) || subnet.contains(used))
        })
        .cloned()
}

/// Returns a bridge name that says whose it is, fits the kernel's limit, and is not taken.
fn free_bridge(name: &ClusterName, host: &HostFacts) -> String {
    let full = format!("skep-{name}");
    if full.len() <= INTERFACE_NAME && !host.links.contains(&full) {
        return full;
    }
    (0u32..)
        .map(|number| {
            let suffix = format!("-{number}");
            let keep = full.len().min(INTERFACE_NAME - suffix.len());
            format!("{}{suffix}", &full[..keep])
        })
        .find(|candidate| !host.links.contains(candidate))
        .expect("a host has fewer interfaces than there are numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(subnets: &[&str], links: &[&str]) -> HostFacts {
        HostFacts {
            subnets: subnets.iter().map(|net| (net.parse().unwrap(), "eth9".to_owned())).collect(),
            links: links.iter().map(|&link| link.to_owned()).collect(),
            ports: Vec::new(),
        }
    }

    fn choose(
        name: &str,
        wanted: Option<&str>,
        host: &HostFacts,
    ) -> Result<NetworkRecord, PlanError> {
        choose_network(&name.parse().unwrap(), wanted.map(|net| net.parse().unwrap()), host)
    }

    #[test]
    fn the_first_free_subnet_is_taken() {
        let host = host(&["0.0.0.0/0", "10.193.0.0/24", "10.193.1.128/25"], &[]);
        let network = choose("demo", None, &host).unwrap();
        assert_eq!(network.subnet.to_string(), "10.193.2.0/24");
        assert_eq!(network.bridge, "skep-demo");
    }

    #[test]
    fn a_host_that_routes_the_whole_pool_is_told() {
        let error = choose("demo", None, &host(&["10.0.0.0/8"], &[])).unwrap_err();
        assert_eq!(error.to_string(), "no free subnet in 10.193.0.0/16");
    }

    #[test]
    fn a_subnet_that_overlaps_is_refused_with_its_user() {
        let error = choose("demo", Some("10.5.0.0/16"), &host(&["10.5.3.0/24"], &[])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the subnet 10.5.0.0/16 overlaps 10.5.3.0/24, which eth9 uses"
        );
    }

    #[test]
    fn subnets_that_cannot_hold_a_cluster_are_refused() {
        for unfit in ["10.5.0.1/24", "10.5.0.0/30", "8.8.8.0/24", "0.0.0.0/0"] {
            let error = choose("demo", Some(unfit), &host(&[], &[])).unwrap_err();
            assert!(matches!(error, PlanError::SubnetUnfit { .. }), "{unfit}: {error}");
        }
    }

    #[test]
    fn bridges_have_distinct_names_within_the_kernels_limit() {
        let first = choose("a-cluster-with-a-long-name", None, &host(&[], &[])).unwrap().bridge;
        assert_eq!(first, "skep-a-cluste-0");
        let second = choose("a-cluster-with-a-long-name-2", None, &host(&[], &[&first])).unwrap();
        assert_eq!(second.bridge, "skep-a-cluste-1");
        let taken = choose("demo", None, &host(&[], &["skep-demo"])).unwrap();
        assert_eq!(taken.bridge, "skep-demo-0");
    }
}
