//! nftables: a pure renderer, and the one place that runs nft(8).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::Deserialize;
use skep_core::model::NetworkRecord;

use super::{Error, MARK, Outside, Table};
use crate::sys::Cmd;

/// What the name of an empty chain begins with that says whose a table is. The comment of a table
/// would say it better, but nft 1.0 leaves it out of its lists.
const OWNER: &str = "owner-";

/// What the name of an empty chain begins with that says which host is let in.
const ADMITS: &str = "admits-";

/// The name of an empty chain that says which rules these are; another version of skep has others in their place.
const VERSION: &str = "rules-2";

/// The families in which a cluster has or had a table.
const FAMILIES: [&str; 2] = ["inet", "ip"];

/// The bridges of all clusters.
const CLUSTERS: &str = "skep-*";

/// A chain, as `nft -j list chains` tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Chain {
    pub family: String,
    pub table: String,
    pub name: String,
    #[serde(default)]
    pub hook: Option<String>,
    #[serde(default)]
    pub policy: Option<String>,
}

/// Returns the rules of a network, as one transaction for `nft -f -`: what was there is replaced.
///
/// A packet is dropped here, or marked as one that may pass: without the mark the rules of routing let nothing into the
/// network or out of it. Guests reach a container or another virtual machine of this host only through a port that is
/// published for it (DNAT), as the outside does: the rule with which Docker lets clusters out would let them in there, too.
#[must_use]
pub(super) fn render(
    network: &NetworkRecord,
    owner: &str,
    hosts: &[Ipv4Addr],
    Outside { exits, switched }: &Outside,
) -> String {
    let NetworkRecord { subnet, bridge } = network;
    let quoted = |names: &[String]| {
        names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
    };
    let (exits, outside) = (quoted(exits), quoted(switched));
    let removal = render_removal(bridge);
    let admits: String =
        hosts.iter().map(|host| format!("\tchain {ADMITS}{host} {{\n\t}}\n")).collect();
    let hosts = hosts.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ");
    let unless_empty =
        |list: &str, rules: String| if list.is_empty() { String::new() } else { rules };
    let mark = format!("meta mark set meta mark or {MARK:#x}");
    let mark_hosts =
        unless_empty(&hosts, format!("\t\tip saddr {{ {hosts} }} ip daddr {subnet} {mark}\n"));
    let accept_hosts =
        unless_empty(&hosts, format!("\t\toifname \"{bridge}\" ip saddr {{ {hosts} }} accept\n"));
    let reach_hosts =
        unless_empty(&hosts, format!("\t\tiifname \"{bridge}\" ip daddr {{ {hosts} }} accept\n"));
    let not_an_exit = unless_empty(&exits, format!("oifname != {{ {exits} }} "));
    // What goes on to a cluster is marked by that cluster's table.
    let mark_others = unless_empty(
        &outside,
        format!("\t\tiifname {{ {outside} }} fib daddr oifname != \"{CLUSTERS}\" {mark}\n"),
    );
    let no_router = unless_empty(
        &outside,
        format!(
            r#"		iifname {{ {outside} }} oifname {{ {outside} }} drop
		iifname {{ {outside} }} meta oifkind {{ "bridge", "veth" }} accept
		iifname {{ {outside} }} drop
"#
        ),
    );
    format!(
        r#"{removal}table inet {bridge} {{
	chain {OWNER}{owner} {{
	}}
	chain {VERSION} {{
	}}
{admits}	chain forged {{
		type filter hook prerouting priority raw; policy accept;
		iifname "{bridge}" meta nfproto ipv6 drop
		iifname "{bridge}" ip saddr != {subnet} drop
		iifname "{bridge}" ip daddr 127.0.0.0/8 drop
		iifname != {{ "{bridge}", "lo" }} ip saddr {subnet} drop
	}}
	chain allowed {{
		type filter hook prerouting priority dstnat + 10; policy accept;
		iifname "{bridge}" ip saddr {subnet} {mark}
		ip daddr {subnet} ct state established,related {mark}
{mark_hosts}{mark_others}	}}
	chain forward {{
		type filter hook forward priority filter; policy accept;
		iifname "{bridge}" oifname "{bridge}" accept
		iifname "{bridge}" oifname "{CLUSTERS}" drop
{reach_hosts}		iifname "{bridge}" ct status dnat accept
		iifname "{bridge}" meta oifkind {{ "bridge", "veth" }} {not_an_exit}drop
		iifname "{bridge}" accept
		oifname "{bridge}" ct state established,related accept
{accept_hosts}		oifname "{bridge}" drop
{no_router}	}}
	chain postrouting {{
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr {subnet} ip daddr != {subnet} oifname != "{bridge}" masquerade
	}}
}}
"#
    )
}

/// Returns what removes the rules of a network, those of earlier versions of skep too, whose table is for IPv4 alone.
#[must_use]
pub(super) fn render_removal(bridge: &str) -> String {
    FAMILIES
        .map(|family| format!("table {family} {bridge} {{\n}}\ndelete table {family} {bridge}\n"))
        .concat()
}

pub(super) async fn apply(ruleset: &str) -> Result<(), Error> {
    Cmd::new("nft").args(["-f", "-"]).stdin(ruleset).run().await?;
    Ok(())
}

pub(super) async fn chains() -> Result<Vec<Chain>, Error> {
    parse(&Cmd::new("nft").args(["-j", "list", "chains"]).run().await?.stdout)
}

fn parse(output: &[u8]) -> Result<Vec<Chain>, Error> {
    #[derive(Deserialize)]
    struct Listing {
        nftables: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        chain: Option<Chain>,
    }
    let listing: Listing = serde_json::from_slice(output).map_err(Error::Parse)?;
    Ok(listing.nftables.into_iter().filter_map(|entry| entry.chain).collect())
}

/// Returns the tables of clusters, by name.
pub(super) fn tables(chains: &[Chain]) -> BTreeMap<String, Table> {
    let mut tables = BTreeMap::<String, Table>::new();
    let ours = chains.iter().filter(|it| FAMILIES.contains(&it.family.as_str()));
    let ours: Vec<_> = ours.filter(|it| it.table.starts_with("skep-")).collect();
    for (chain, owner) in ours.iter().filter_map(|it| Some((it, it.name.strip_prefix(OWNER)?))) {
        let of = || ours.iter().filter(|it| it.table == chain.table);
        let host = |it: &&Chain| it.name.strip_prefix(ADMITS)?.parse().ok();
        let outdated = of().any(|it| it.family == "ip") || !of().any(|it| it.name == VERSION);
        let hosts = of().filter_map(host).collect();
        let table = Table { owner: owner.to_owned(), hosts, outdated };
        tables.insert(chain.table.clone(), table);
    }
    tables
}

/// Returns chains that drop what is forwarded and are neither ours nor iptables'.
pub(super) fn obstacles(chains: &[Chain]) -> Vec<String> {
    let drops = |chain: &&Chain| {
        chain.hook.as_deref() == Some("forward")
            && chain.policy.as_deref() == Some("drop")
            && !(chain.family == "ip" && chain.table == "filter" && chain.name == "FORWARD")
            && matches!(chain.family.as_str(), "ip" | "inet")
    };
    let name = |chain: &Chain| format!("{} {} {}", chain.family, chain.table, chain.name);
    chains.iter().filter(drops).map(name).collect()
}

/// Tells whether a chain, by the name that [`obstacles`] gives it, has been told to let clusters through.
pub(super) async fn is_told(chain: &str) -> Result<bool, Error> {
    let listing = Cmd::new("nft").args(["list", "chain"]).args(chain.split(' ')).run().await?;
    Ok(listing.text().contains("comment \"skep:host\""))
}

/// Returns firewalld if it is on and rejects what bridges of clusters send.
pub(super) fn guards(chains: &[Chain]) -> Vec<String> {
    let has = |name: &str| chains.iter().any(|it| it.table == "firewalld" && it.name == name);
    let is_on = has("filter_INPUT") && !has("filter_IN_skep-host");
    is_on.then(|| "firewalld".to_owned()).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_a_network() {
        let network =
            NetworkRecord { subnet: "10.193.0.0/24".parse().unwrap(), bridge: "skep-demo".into() };
        insta::assert_snapshot!(render(&network, "0123456789ab", &[], &Outside::default()));
        let hosts = [[192, 0, 2, 7], [192, 0, 2, 8]].map(Ipv4Addr::from);
        let exits = ["eth0", "br0"].map(str::to_owned).to_vec();
        let outside = Outside { switched: exits.clone(), exits };
        insta::assert_snapshot!(
            "the_rules_with_hosts_where_nothing_was_forwarded",
            render(&network, "0123456789ab", &hosts, &outside)
        );
    }

    #[test]
    fn whose_a_table_is_and_what_drops_is_read_from_the_chains() {
        let output = br#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
            {"chain": {"family": "inet", "table": "skep-demo", "name": "owner-ab12", "handle": 1}},
            {"chain": {"family": "inet", "table": "skep-demo", "name": "rules-2", "handle": 2}},
            {"chain": {"family": "inet", "table": "skep-demo", "name": "admits-192.0.2.7", "handle": 3}},
            {"chain": {"family": "ip", "table": "skep-old", "name": "owner-ab13", "handle": 1}},
            {"chain": {"family": "ip", "table": "skep-old", "name": "publish-10.193.0.2-80-443",
                       "handle": 9}},
            {"chain": {"family": "ip", "table": "skep-old", "name": "postrouting", "handle": 2,
                       "type": "nat", "hook": "postrouting", "prio": 100, "policy": "accept"}},
            {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "handle": 3,
                       "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
            {"chain": {"family": "inet", "table": "my", "name": "forward", "handle": 4,
                       "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}}]}"#;
        let chains = parse(output).unwrap();
        let hosts = vec!["192.0.2.7".parse().unwrap()];
        let demo = Table { owner: "ab12".into(), hosts, outdated: false };
        let old = Table { owner: "ab13".into(), hosts: Vec::new(), outdated: true };
        assert_eq!(tables(&chains), [("skep-demo".into(), demo), ("skep-old".into(), old)].into());
        assert_eq!(obstacles(&chains), ["inet my forward"]);
        assert!(guards(&chains).is_empty());
        let firewalld = |name: &str| Chain {
            family: "inet".into(),
            table: "firewalld".into(),
            name: name.into(),
            hook: None,
            policy: None,
        };
        assert_eq!(guards(&[firewalld("filter_INPUT")]), ["firewalld"]);
        let told = [firewalld("filter_INPUT"), firewalld("filter_IN_skep-host")];
        assert!(guards(&told).is_empty());
    }
}
