//! The program `ip` (iproute2): the one place that runs it.

use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use skep_core::model::{Mac, NetworkRecord};
use skep_store::{Owner, user_of};
use skep_sys::{Cmd, CmdError, FileError};

use super::{Error, address_of_tap, policy};

/// An interface, as `ip -json address` tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Link {
    pub ifname: String,
    #[serde(default)]
    pub ifalias: Option<String>,
    #[serde(default)]
    pub flags: Vec<String>,
    #[serde(default)]
    pub addr_info: Vec<Address>,
    #[serde(default)]
    linkinfo: LinkInfo,
}

/// What kind of interface it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct LinkInfo {
    #[serde(default)]
    info_kind: Option<String>,
    #[serde(default)]
    info_data: InfoData,
}

/// What there is to say of that kind; of taps, whether it stays when nobody has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct InfoData {
    #[serde(default, rename = "persist")]
    stays: bool,
}

impl Link {
    /// Creates one of no kind, up and with an address.
    pub fn up(ifname: String, ifalias: Option<String>, address: Address) -> Self {
        Self {
            ifname,
            ifalias,
            flags: vec!["UP".to_owned()],
            addr_info: vec![address],
            linkinfo: LinkInfo::default(),
        }
    }

    /// Returns the kind of a virtual interface.
    pub fn kind(&self) -> Option<&str> {
        self.linkinfo.info_kind.as_deref()
    }

    /// Tells whether a tap stays when nobody has it.
    pub fn stays(&self) -> bool {
        self.linkinfo.info_data.stays
    }
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Address {
    #[serde(default)]
    pub family: String,
    #[serde(default)]
    pub local: String,
    #[serde(default)]
    pub prefixlen: u8,
}

impl Address {
    /// Returns the subnet of an IPv4 address.
    pub fn subnet(&self) -> Option<Ipv4Net> {
        if self.family != "inet" {
            return None;
        }
        Some(Ipv4Net::new(self.local.parse().ok()?, self.prefixlen).ok()?.trunc())
    }
}

/// A route, as `ip -json route` tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Route {
    pub dst: String,
    #[serde(default)]
    pub dev: Option<String>,
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Where a route of several ways leads.
    #[serde(default)]
    pub nexthops: Vec<NextHop>,
}

/// One of several ways of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NextHop {
    #[serde(default)]
    dev: Option<String>,
}

impl Route {
    /// Tells whether packets leave by an interface for it.
    pub fn is_through(&self, interface: &str) -> bool {
        let devs = self.nexthops.iter().map(|hop| &hop.dev).chain([&self.dev]);
        self.kind.as_deref().is_none_or(|kind| kind == "unicast")
            && devs.flatten().any(|dev| dev == interface)
    }

    /// Tells whether it leads everywhere.
    pub fn is_default(&self) -> bool {
        self.dst == "default"
    }

    /// Returns the subnet that the route leads to; none for the default route and for what the
    /// kernel routes to itself.
    pub fn subnet(&self) -> Option<Ipv4Net> {
        if self.kind.as_deref().is_some_and(|kind| kind != "unicast") || self.dst == "default" {
            return None;
        }
        let net = match self.dst.parse::<Ipv4Net>() {
            Ok(net) => net,
            Err(_) => Ipv4Net::from(self.dst.parse::<Ipv4Addr>().ok()?),
        };
        (!net.addr().is_loopback() && !net.addr().is_multicast()).then(|| net.trunc())
    }
}

pub(super) async fn links() -> Result<Vec<Link>, Error> {
    list(&["-json", "-details", "address", "show"]).await
}

pub(super) async fn routes() -> Result<Vec<Route>, Error> {
    list(&["-json", "-4", "route", "show", "table", "all"]).await
}

async fn list<T: serde::de::DeserializeOwned>(args: &[&str]) -> Result<Vec<T>, Error> {
    parse(&Cmd::new("ip").args(args).run().await?.stdout)
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(output: &[u8]) -> Result<Vec<T>, Error> {
    // With nothing to list, `ip` prints nothing at all.
    if output.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    serde_json::from_slice(output).map_err(|source| Error::Parse { program: "ip", source })
}

/// Makes the bridge. From before it has its address on, nothing is routed to it or from it without the firewall's mark.
pub(super) async fn ensure_bridge(network: &NetworkRecord, owner: &Owner) -> Result<(), Error> {
    let bridge = network.bridge.as_str();
    let links = links().await?;
    let mark = links.iter().find(|it| it.ifname == bridge).and_then(|it| it.ifalias.as_deref());
    if let Some(other) = mark.and_then(user_of).filter(|user| *user != owner.user) {
        return Err(Error::Refused(format!("{bridge} is a bridge of user {other}'s")));
    }
    policy::ensure(network).await?;
    if !links.iter().any(|link| link.ifname == bridge) {
        // No spanning tree: its listening and learning would hold packets back for 30 s.
        run(&[
            "link",
            "add",
            "name",
            bridge,
            "type",
            "bridge",
            "stp_state",
            "0",
            "forward_delay",
            "0",
        ])
        .await?;
    }
    // A bridge that was given no address takes one of its taps', and loses it with that tap's machine:
    // the other machines would go on sending to it.
    let mac = Mac::for_address(network.gateway()).to_string();
    run(&["link", "set", "dev", bridge, "address", &mac, "alias", &owner.mark()]).await?;
    // Guests have no IPv6 either, and no say in the host's routes.
    set_own("ipv6", bridge, "disable_ipv6", "1")?;
    set_own("ipv6", bridge, "accept_ra", "0")?;
    // An earlier version of skep switched that on for published ports, and with it guests reach services that listen
    // on 127.0.0.1.
    set_own("ipv4", bridge, "route_localnet", "0")?;
    let address = format!("{}/{}", network.gateway(), network.subnet.prefix_len());
    run(&["address", "replace", &address, "brd", "+", "dev", bridge]).await?;
    run(&["link", "set", "dev", bridge, "up"]).await?;
    // Machines that run lost their place with a bridge that was removed under them.
    for link in links.iter().filter(|link| is_own_tap(link, network, owner)) {
        connect(&link.ifname, bridge, &owner.mark()).await?;
    }
    Ok(())
}

/// Tells whether an interface is a machine's of this network: it has the owner's mark, and is named by an address of the
/// subnet, so that not even a mark that two owners share, as those of earlier versions could be, takes one from another.
fn is_own_tap(link: &Link, network: &NetworkRecord, owner: &Owner) -> bool {
    link.ifalias.as_deref().is_some_and(|mark| owner.owns(mark))
        && address_of_tap(&link.ifname).is_some_and(|it| network.subnet.contains(&it))
}

/// Sets a switch of an interface; a host without the protocol has none.
fn set_own(protocol: &str, interface: &str, name: &str, value: &str) -> Result<(), Error> {
    let file = format!("/proc/sys/net/{protocol}/conf/{interface}/{name}");
    match std::fs::write(&file, value) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FileError::new("write", Path::new(&file), error).into())
        }
        _ => Ok(()),
    }
}

/// Marks an interface and connects it to a bridge.
pub(super) async fn connect(name: &str, bridge: &str, mark: &str) -> Result<(), Error> {
    run(&["link", "set", "dev", name, "alias", mark, "master", bridge, "up"]).await
}

pub(super) async fn remove_link(name: &str) -> Result<(), Error> {
    match run(&["link", "delete", "dev", name]).await {
        Err(Error::Cmd(CmdError::Failed { tail, .. })) if tail.contains("Cannot find device") => {
            Ok(())
        }
        result => result,
    }?;
    policy::remove(name).await
}

async fn run(args: &[&str]) -> Result<(), Error> {
    Cmd::new("ip").args(args).run().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_as_ip_prints_them() {
        let output = br#"[{"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP"],"mtu":65536,
            "addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8},
                         {"family":"inet6","local":"::1","prefixlen":128}]},
            {"ifindex":9,"ifname":"skep-demo","flags":["BROADCAST","UP"],"ifalias":"skep:demo:x",
             "linkinfo":{"info_kind":"bridge","info_data":{"forward_delay":0}},
             "addr_info":[{"family":"inet","local":"10.193.0.1","prefixlen":24}]},
            {"ifindex":10,"ifname":"skt0ac10002","flags":[],"addr_info":[],"linkinfo":{"info_kind":"tun",
             "info_data":{"type":"tap","pi":false,"vnet_hdr":true,"persist":true}}}]"#;
        let links: Vec<Link> = parse(output).unwrap();
        assert_eq!(links[1].ifalias.as_deref(), Some("skep:demo:x"));
        assert!(links[2].linkinfo.info_data.stays && !links[1].linkinfo.info_data.stays);
        assert_eq!(links[1].addr_info[0].subnet(), Some("10.193.0.0/24".parse().unwrap()));
        assert_eq!(links[0].addr_info[1].subnet(), None);
        assert_eq!(parse::<Link>(b"\n").unwrap(), []);
    }

    #[test]
    fn a_bridge_gets_only_its_own_machines_back() {
        let owner = |user| Owner { cluster: "a".parse().unwrap(), store: "/".into(), user };
        let subnet = "10.193.0.0/24".parse().unwrap();
        let network = NetworkRecord { subnet, bridge: "skep-a".into() };
        let own = |name: &str, mark: String| {
            let address = Address { family: String::new(), local: String::new(), prefixlen: 0 };
            is_own_tap(&Link::up(name.into(), Some(mark), address), &network, &owner(1000))
        };
        assert!(own("skt0ac10002", owner(1000).mark()));
        assert!(own("skt0ac10002", owner(1000).earlier_mark()), "an earlier version made it");
        assert!(!own("skt0ac10002", owner(1001).mark()));
        assert!(!own("skt0ac10002", owner(1001).earlier_mark()));
        assert!(!own("skt0ac10102", owner(1000).earlier_mark()), "of another subnet");
        assert!(!own("skep-a", owner(1000).mark()) && !own("eth0", owner(1000).mark()));
    }

    #[test]
    fn only_routes_that_lead_somewhere_count() {
        let output = br#"[{"dst":"default","gateway":"192.0.2.1","dev":"eth0","flags":[]},
            {"dst":"10.83.0.0/24","dev":"br0","protocol":"kernel"},
            {"type":"local","dst":"10.83.0.1","dev":"br0","table":"local"},
            {"type":"broadcast","dst":"10.83.0.255","dev":"br0","table":"local"},
            {"dst":"198.51.100.7","dev":"eth0"}]"#;
        let routes: Vec<Route> = parse(output).unwrap();
        let subnets: Vec<_> =
            routes.iter().filter_map(Route::subnet).map(|net| net.to_string()).collect();
        assert_eq!(subnets, ["10.83.0.0/24", "198.51.100.7/32"]);
    }
}
