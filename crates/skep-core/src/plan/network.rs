//! The choice of a network for a new cluster.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::PlanError;
use crate::model::{ClusterName, NetworkRecord};
use crate::observed::HostFacts;

/// Where skep looks for a free /24. Docker's own pools are 172.17.0.0/12 and 192.168.0.0/16, swarm's
/// overlay networks take 10.0.0.0/8 from its beginning, so this is in the upper half of it.
const POOL: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 193, 0, 0), 16);

/// Where it looks then, as a VPN may route all of 10.0.0.0/8: what else is private (RFC 1918), and what is for
/// benchmarks (RFC 2544).
const OTHER_POOLS: [(Ipv4Addr, u8); 3] = [
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
];

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
    let pools: Vec<Ipv4Net> = match &host.granted {
        Some(granted) => granted.clone(),
        None => {
            let other = |(address, length)| Ipv4Net::new(address, length).expect("at most 32");
            [subnet_pool()].into_iter().chain(OTHER_POOLS.map(other)).collect()
        }
    };
    // One that is smaller than a cluster's usual subnet is that subnet.
    let parts = |pool: &Ipv4Net| pool.subnets(pool.prefix_len().max(24)).into_iter().flatten();
    let free = pools.iter().flat_map(parts).find(|subnet| user_of(*subnet, host).is_none());
    free.ok_or(PlanError::NoFreeSubnet { pools, granted: host.granted.is_some() })
}

/// Returns what a subnet overlaps, and who uses that.
pub(super) fn user_of(subnet: Ipv4Net, host: &HostFacts) -> Option<(Ipv4Net, String)> {
    host.subnets.iter().find(|(used, _)| is_in_use(subnet, *used)).cloned()
}

/// Tells whether a subnet cannot be had where another is used. A default route covers everything and says nothing
/// of who uses what; OpenVPN has two halves in its place, 0.0.0.0/1 and 128.0.0.0/1.
#[must_use]
pub fn is_in_use(subnet: Ipv4Net, used: Ipv4Net) -> bool {
    used.prefix_len() > 1 && (used.contains(&subnet) || subnet.contains(&used))
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
            ..HostFacts::default()
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
    fn routes_of_a_vpn_leave_room() {
        let subnet_beside =
            |used: &[&str]| choose("demo", None, &host(used, &[])).unwrap().subnet.to_string();
        // OpenVPN's redirect-gateway, WireGuard's default route.
        assert_eq!(subnet_beside(&["0.0.0.0/1", "128.0.0.0/1", "10.8.0.0/24"]), "10.193.0.0/24");
        assert_eq!(subnet_beside(&["0.0.0.0/0"]), "10.193.0.0/24");
        // A company's, and Docker beside it.
        assert_eq!(subnet_beside(&["10.0.0.0/8"]), "172.16.0.0/24");
        assert_eq!(subnet_beside(&["10.0.0.0/8", "172.16.0.0/12"]), "192.168.0.0/24");
        let private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
        assert_eq!(subnet_beside(&private), "198.18.0.0/24");
    }

    #[test]
    fn a_host_that_routes_all_pools_is_told() {
        let all = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15"];
        let error = choose("demo", None, &host(&all, &[])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no free subnet in 10.193.0.0/16, 172.16.0.0/12, 192.168.0.0/16, 198.18.0.0/15; \
             name one that nothing uses with --subnet"
        );
        let free = choose("demo", Some("100.64.7.0/24"), &host(&all, &[])).unwrap();
        assert_eq!(free.subnet.to_string(), "100.64.7.0/24");
    }

    #[test]
    fn an_ordinary_user_gets_what_was_granted() {
        let granted = ["172.20.0.0/23", "172.30.0.0/26"].map(|it| it.parse().unwrap());
        let with = |used: &[&str]| HostFacts { granted: Some(granted.to_vec()), ..host(used, &[]) };
        let subnet = |used: &[&str]| choose("demo", None, &with(used)).map(|it| it.subnet);
        assert_eq!(subnet(&[]).unwrap().to_string(), "172.20.0.0/24");
        assert_eq!(subnet(&["172.20.0.0/16"]).unwrap().to_string(), "172.30.0.0/26");
        assert_eq!(
            subnet(&["172.16.0.0/12"]).unwrap_err().to_string(),
            "no free subnet in 172.20.0.0/23, 172.30.0.0/26, the range for non-root users; \
             sudo skep setup --subnets SUBNET allows others"
        );
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
