//! nftables: a pure renderer, and the one place that runs nft(8).

use std::collections::BTreeMap;

use serde::Deserialize;
use skep_core::model::NetworkRecord;

use super::Error;
use crate::sys::Cmd;

/// What the name of an empty chain begins with that says whose a table is. The comment of a table
/// would say it better, but nft 1.0 leaves it out of its lists.
const OWNER: &str = "owner-";

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
#[must_use]
pub(super) fn render(network: &NetworkRecord, owner: &str) -> String {
    let NetworkRecord { subnet, bridge } = network;
    format!(
        r#"table ip {bridge} {{
}}
delete table ip {bridge}
table ip {bridge} {{
	chain {OWNER}{owner} {{
	}}
	chain postrouting {{
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr {subnet} ip daddr != {subnet} oifname != "{bridge}" masquerade
	}}
}}
"#
    )
}

#[must_use]
pub(super) fn render_removal(bridge: &str) -> String {
    format!("table ip {bridge} {{\n}}\ndelete table ip {bridge}\n")
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

pub(super) fn owned_tables(chains: &[Chain]) -> BTreeMap<String, String> {
    let owned = |chain: &Chain| {
        let owner = chain.name.strip_prefix(OWNER)?;
        let ours = chain.family == "ip" && chain.table.starts_with("skep-");
        ours.then(|| (chain.table.clone(), owner.to_owned()))
    };
    chains.iter().filter_map(owned).collect()
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
        insta::assert_snapshot!(render(&network, "0123456789ab"));
    }

    #[test]
    fn whose_a_table_is_and_what_drops_is_read_from_the_chains() {
        let output = br#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
            {"chain": {"family": "ip", "table": "skep-demo", "name": "owner-ab12", "handle": 1}},
            {"chain": {"family": "ip", "table": "skep-demo", "name": "publish-10.193.0.2-80-443",
                       "handle": 9}},
            {"chain": {"family": "ip", "table": "skep-demo", "name": "postrouting", "handle": 2,
                       "type": "nat", "hook": "postrouting", "prio": 100, "policy": "accept"}},
            {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "handle": 3,
                       "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
            {"chain": {"family": "inet", "table": "my", "name": "forward", "handle": 4,
                       "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}}]}"#;
        let chains = parse(output).unwrap();
        assert_eq!(owned_tables(&chains), [("skep-demo".into(), "ab12".into())].into());
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
