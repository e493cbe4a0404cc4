//! Forwarding of packets between interfaces (ip-sysctl, `forwarding`).
//!
//! The kernel asks the interface that a packet comes in by. Where the host forwards everything already (`ip_forward`),
//! nothing is switched. Elsewhere the bridge forwards, and the interfaces that lead outside, and no other: the switch
//! for all of them would make a router of the host, and Docker, which sets its policy for forwarded packets to DROP
//! when it has to switch forwarding on itself, would find it on.
//!
//! What those interfaces forward is limited to clusters by the rules of a cluster's table, and of [`policy`]. Which
//! ones were switched on is written down in /run, as the kernel forgets it at a restart too:
//!
//! ```text
//! /run/skep-forwarding/INTERFACE
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use skep_sys::{FileError, make_private_dir, remove_file, write_atomic};

use super::ip::{Link, Route};
use super::{BRIDGE, Error, TAP, policy};
use crate::host_firewall::Interface;

/// The switches.
const SWITCHES: &str = "/proc/sys/net/ipv4";

/// Where the interfaces are written down that skep switched on.
const NOTES: &str = "/run/skep-forwarding";

/// Returns the switch of an interface.
fn switch(interface: &str) -> PathBuf {
    Path::new(SWITCHES).join("conf").join(interface).join("forwarding")
}

fn is_on(switch: &Path) -> bool {
    std::fs::read(switch).is_ok_and(|value| value.first() == Some(&b'1'))
}

/// Tells whether the host forwards everything.
pub(super) fn is_router() -> bool {
    is_on(&Path::new(SWITCHES).join("ip_forward"))
}

/// Tells whether an interface forwards.
pub(super) fn forwards(interface: &str) -> bool {
    is_on(&switch(interface))
}

/// Returns the interfaces that lead outside: those with a default route, and others with any route but bridges and veths,
/// which lead to virtual machines and containers of this host.
pub(super) fn ways_out(links: &[Link], routes: &[Route]) -> Vec<String> {
    let leads = |link: &&Link| {
        let name = link.ifname.as_str();
        let routes = || routes.iter().filter(|route| route.is_through(name));
        let inner = matches!(link.kind(), Some("bridge" | "veth"));
        let fits = name != "lo" && !name.starts_with(BRIDGE) && !name.starts_with(TAP);
        // Another name could end a word of a rule.
        fits && name.parse::<Interface>().is_ok()
            && (routes().any(Route::is_default) || !inner && routes().next().is_some())
    };
    links.iter().filter(leads).map(|link| link.ifname.clone()).collect()
}

/// Lets a bridge forward and, through `outside`, what leads there; what was off there is written down before.
pub(super) async fn ensure(bridge: &str, outside: &[String]) -> Result<(), Error> {
    if is_router() {
        // Somebody else switched that on, and relies on it.
        for name in switched_on().await? {
            policy::remove_interface(&name).await?;
        }
        return Ok(());
    }
    set(&switch(bridge), "1")?;
    for name in outside {
        make_private_dir(Path::new(NOTES))?;
        write_atomic(&Path::new(NOTES).join(name), 0o600, b"")?;
        policy::ensure_interface(name).await?;
        set(&switch(name), "1")?;
    }
    Ok(())
}

/// Switches off again what skep switched on, unless the host forwards everything by now: that is somebody else's doing,
/// who relies on it.
pub(super) async fn restore() -> Result<(), Error> {
    for name in switched_on().await? {
        if !is_router() && switch(&name).exists() {
            set(&switch(&name), "0")?;
        }
        policy::remove_interface(&name).await?;
        remove_file(&Path::new(NOTES).join(name))?;
    }
    if Path::new(NOTES).exists() {
        // Not empty if another skep has just switched something on.
        let _ = std::fs::remove_dir(NOTES);
    }
    Ok(())
}

/// Puts the host's own switch back where an earlier version of skep wrote down in `state` that it switched it on.
/// `others` tells whether there are interfaces of containers or virtual machines that may rely on it by now.
pub(super) fn restore_router(state: &Path, others: bool) -> Result<(), Error> {
    if !state.exists() {
        return Ok(());
    }
    if !others {
        set(&Path::new(SWITCHES).join("ip_forward"), "0")?;
    }
    Ok(remove_file(state)?)
}

/// Returns the interfaces that skep switched on, by what is written down and by their rules: a skep in a container has a
/// /run of its own, and perhaps the host's network.
pub(super) async fn switched_on() -> Result<BTreeSet<String>, Error> {
    let rules = policy::list().await?;
    let ruled = rules.iter().filter_map(policy::Rule::interface).map(str::to_owned);
    Ok(noted().into_iter().chain(ruled).collect())
}

/// Returns the interfaces that are written down as switched on.
fn noted() -> Vec<String> {
    let entries = std::fs::read_dir(NOTES).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn set(switch: &Path, value: &str) -> Result<(), Error> {
    // Not through write_atomic: what is in /proc is no file to be replaced.
    std::fs::write(switch, value).map_err(|source| FileError::new("write", switch, source).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_outside_is_told_by_routes_and_kinds() {
        let link = |name: &str, kind: Option<&str>| {
            let info = kind.map(|kind| format!(r#", "linkinfo": {{"info_kind": "{kind}"}}"#));
            let text = format!(r#"{{"ifname": "{name}"{}}}"#, info.unwrap_or_default());
            serde_json::from_str::<Link>(&text).unwrap()
        };
        let links = [
            link("lo", None),
            link("eth0", None),
            link("eth1", None),
            link("idle", None),
            link("br0", Some("bridge")),
            link("docker0", Some("bridge")),
            link("veth1", Some("veth")),
            link("wg0", Some("wireguard")),
            link("skep-demo", Some("bridge")),
            link("$(id)", None),
        ];
        let routes: Vec<Route> = crate::network::ip::parse(
            br#"[{"dst":"default","nexthops":[{"dev":"eth0"},{"dev":"br0"}]},
                {"dst":"192.0.2.0/24","dev":"eth1"}, {"dst":"default","dev":"$(id)"},
                {"dst":"172.17.0.0/16","dev":"docker0"}, {"dst":"10.1.0.2","dev":"veth1"},
                {"dst":"10.8.0.0/16","dev":"wg0"}, {"dst":"10.193.0.0/24","dev":"skep-demo"},
                {"type":"local","dst":"10.1.0.1","dev":"idle"}, {"dst":"127.0.0.0/8","dev":"lo"}]"#,
        )
        .unwrap();
        assert_eq!(ways_out(&links, &routes), ["eth0", "eth1", "br0", "wg0"]);
    }
}
