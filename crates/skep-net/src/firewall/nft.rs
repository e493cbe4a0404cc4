//! nftables: a pure renderer, and the one place that runs nft(8).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Deserialize;
use skep_core::model::NetworkRecord;
use skep_sys::Cmd;

use super::{Error, Frames, MARK, Outside, Peerings, Table};

/// What the name of an empty chain begins with that says whose a table is. The comment of a table
/// would say it better, but nft 1.0 leaves it out of its lists.
const OWNER: &str = "owner-";

/// What the name of an empty chain begins with that says which host is let in.
const ADMITS: &str = "admits-";

/// What the name of an empty chain begins with that says which network this one is open to.
const PEER: &str = "peer-";

/// The name of an empty chain that says which rules these are; another version of skep has others in their place.
const VERSION: &str = "rules-3";

/// The families in which a cluster has or had a table.
const FAMILIES: [&str; 2] = ["inet", "ip"];

/// The bridges of all clusters.
const CLUSTERS: &str = "skep-*";

/// What their names begin with.
pub(super) const BRIDGES: &str = "skep-";

/// The table of firewalld, and its chain that everything forwarded passes.
pub(super) const FIREWALLD: &str = "firewalld";
pub(super) const FIREWALLD_FORWARD: &str = "filter_FORWARD";

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

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.name)
    }
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
    peers: &[(String, Ipv4Net)],
) -> String {
    let NetworkRecord { subnet, bridge } = network;
    let quoted = |names: &[String]| {
        names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
    };
    let (exits, outside) = (quoted(exits), quoted(switched));
    let removal = render_removal(bridge);
    let admits: String =
        hosts.iter().map(|host| format!("\tchain {ADMITS}{host} {{\n\t}}\n")).collect();
    let marks: String =
        peers.iter().map(|(peer, _)| format!("\tchain {PEER}{peer} {{\n\t}}\n")).collect();
    let peers: String = peers
        .iter()
        .flat_map(|it| peer_rules(bridge, it))
        .map(|it| format!("\t\t{it}\n"))
        .collect();
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
{admits}{marks}	chain peers {{
{peers}	}}
	chain forged {{
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
		jump peers
		iifname "{bridge}" oifname "{CLUSTERS}" drop
{reach_hosts}		iifname "{bridge}" ct status dnat accept
		iifname "{bridge}" meta oifkind {{ "bridge", "veth" }} {not_an_exit}drop
		iifname "{bridge}" accept
		oifname "{bridge}" ct state established,related accept
{accept_hosts}		oifname "{bridge}" drop
{no_router}	}}
	chain postrouting {{
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr {subnet} ip daddr != {subnet} oifname != "{CLUSTERS}" masquerade
	}}
}}
"#
    )
}

/// Returns the rules by which a network is open to another: its nodes may reach those of the other, which may reach them.
/// Nothing passes that the table of the other one drops, so both have to have them.
fn peer_rules(bridge: &str, (peer, subnet): &(String, Ipv4Net)) -> [String; 2] {
    [
        format!("iifname \"{bridge}\" oifname \"{peer}\" ip daddr {subnet} accept"),
        format!("iifname \"{peer}\" oifname \"{bridge}\" ip saddr {subnet} accept"),
    ]
}

/// Returns what opens the tables of all networks but one to their peers, and closes them to others, where they differ.
pub(super) fn render_peers(chains: &[Chain], peerings: &Peerings, but: &str) -> String {
    let mut text = String::new();
    let tables = tables(chains);
    let current = tables.iter().filter(|(name, table)| *name != but && !table.outdated);
    for (table, Table { peers: present, .. }) in current {
        // A network without a claim is older than these, and has no peers.
        let peers = peerings.get(table).map(Vec::as_slice).unwrap_or_default();
        let names: BTreeSet<String> = peers.iter().map(|(peer, _)| peer.clone()).collect();
        if *present == names {
            continue;
        }
        text += &format!("flush chain inet {table} peers\n");
        for gone in present.difference(&names) {
            text += &format!("delete chain inet {table} {PEER}{gone}\n");
        }
        for new in names.difference(present) {
            text += &format!("add chain inet {table} {PEER}{new}\n");
        }
        for rule in peers.iter().flat_map(|peer| peer_rules(table, peer)) {
            text += &format!("add rule inet {table} peers {rule}\n");
        }
    }
    text
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
        let peers = of().filter_map(|it| it.name.strip_prefix(PEER).map(str::to_owned)).collect();
        let table = Table { owner: owner.to_owned(), hosts, peers, outdated };
        tables.insert(chain.table.clone(), table);
    }
    tables
}

/// Returns chains that drop what is forwarded and are neither ours nor iptables'.
pub(super) fn obstacles(chains: &[Chain]) -> Vec<&Chain> {
    let drops = |chain: &&Chain| {
        chain.hook.as_deref() == Some("forward")
            && chain.policy.as_deref() == Some("drop")
            && !(chain.family == "ip" && chain.table == "filter" && chain.name == "FORWARD")
            && matches!(chain.family.as_str(), "ip" | "inet")
    };
    chains.iter().filter(drops).collect()
}

/// Lists a table, in nft's own language.
pub(super) async fn list(family: &str, table: &str) -> Result<Listing, Error> {
    let listing = Cmd::new("nft").args(["list", "table", family, table]).run().await?;
    Ok(Listing::parse(&listing.text()))
}

/// The rules of a table, by chain, in nft's own language.
pub(super) struct Listing(BTreeMap<String, Vec<String>>);

impl Listing {
    pub(super) fn parse(text: &str) -> Self {
        let mut chains = BTreeMap::<String, Vec<String>>::new();
        let mut current = None;
        for line in text.lines().map(str::trim) {
            match line.strip_prefix("chain ").and_then(|rest| rest.strip_suffix(" {")) {
                Some(name) => current = Some(name.to_owned()),
                None if line == "}" => current = None,
                None => {
                    if let Some(name) = &current {
                        chains.entry(name.clone()).or_default().push(line.to_owned());
                    }
                }
            }
        }
        Self(chains)
    }

    /// Reads rules as iptables-restore-translate(8) writes them: a command for each chain and rule.
    pub(super) fn of_commands(text: &str) -> Self {
        let mut chains = BTreeMap::<String, Vec<String>>::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("add chain ip filter ")
                && let Some((name, kind)) = rest.split_once(' ')
            {
                let kind = kind.trim_start_matches("{ ").trim_end_matches(" }");
                chains.entry(name.to_owned()).or_default().push(kind.to_owned());
            }
            if let Some(rest) = line.strip_prefix("add rule ip filter ")
                && let Some((name, rule)) = rest.split_once(' ')
            {
                chains.entry(name.to_owned()).or_default().push(rule.to_owned());
            }
        }
        Self(chains)
    }

    pub(super) fn rules(&self, chain: &str) -> &[String] {
        self.0.get(chain).map(Vec::as_slice).unwrap_or_default()
    }

    /// Tells whether a chain has been told to let clusters through.
    pub fn is_told(&self, chain: &str) -> bool {
        self.rules(chain).iter().any(|rule| rule.contains("comment \"skep:host\""))
    }

    /// Returns what a chain that drops what it does not know does to frames between nodes of a cluster.
    pub fn frames(&self, chain: &str) -> Frames {
        let mut reached = vec![chain];
        let mut next = 0;
        while let Some(chain) = reached.get(next).copied() {
            for rule in self.rules(chain).iter().filter(|rule| may_match(rule)) {
                let words: Vec<&str> = rule.split(' ').collect();
                if words.iter().any(|word| ["accept", "queue", "vmap"].contains(word)) {
                    return Frames::MayDrop;
                }
                let targets = words.windows(2).filter(|pair| ["jump", "goto"].contains(&pair[0]));
                for target in targets.map(|pair| pair[1]) {
                    if !reached.contains(&target) {
                        reached.push(target);
                    }
                }
            }
            next += 1;
        }
        Frames::Drop
    }
}

/// Tells whether a rule may be about the first packet from a node of a cluster to another, which comes from the bridge
/// and goes there.
fn may_match(rule: &str) -> bool {
    // The line that makes it a base chain has its policy.
    if rule.starts_with("type ") {
        return false;
    }
    let words: Vec<&str> = rule.split(' ').collect();
    let of = |first: &str, second: &str| {
        let mut pairs = words.windows(3).filter(move |it| it[0] == first && it[1] == second);
        pairs.next().map(|it| it[2])
    };
    let states = rule.split_once("ct state ").map(|it| it.1);
    let is_later = states.is_some_and(|states| {
        let states = states.strip_prefix("{ ").and_then(|it| it.split_once(" }")).map_or_else(
            || states.split(' ').next().unwrap_or_default().to_owned(),
            |it| it.0.replace(", ", ","),
        );
        states.split(',').all(|it| ["established", "related", "invalid"].contains(&it))
    });
    let elsewhere = leads_elsewhere(&words, &["iifname", "iif", "oifname", "oif"]);
    !is_later && !elsewhere && of("ct", "status") != Some("dnat") && !words.contains(&"ip6")
}

/// Tells whether a rule is about an interface, by one of these keys, that is no bridge of a cluster.
pub(super) fn leads_elsewhere(words: &[&str], keys: &[&str]) -> bool {
    keys.iter().any(|key| {
        let name = words.windows(2).find(|pair| pair[0] == *key).map(|pair| pair[1]);
        let name = name.and_then(|it| it.strip_prefix('"')?.strip_suffix('"'));
        name.is_some_and(|name| match name.strip_suffix('*') {
            Some(start) => !start.starts_with(BRIDGES) && !BRIDGES.starts_with(start),
            None => !name.starts_with(BRIDGES),
        })
    })
}

/// Tells whether firewalld is on and rejects what bridges of clusters send.
pub(super) fn has_firewalld(chains: &[Chain]) -> bool {
    let has = |name: &str| chains.iter().any(|it| it.table == FIREWALLD && it.name == name);
    has("filter_INPUT") && !has("filter_IN_skep-host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_a_network() {
        let network =
            NetworkRecord { subnet: "10.193.0.0/24".parse().unwrap(), bridge: "skep-demo".into() };
        insta::assert_snapshot!(render(&network, "0123456789ab", &[], &Outside::default(), &[]));
        let hosts = [[192, 0, 2, 7], [192, 0, 2, 8]].map(Ipv4Addr::from);
        let exits = ["eth0", "br0"].map(str::to_owned).to_vec();
        let outside = Outside { switched: exits.clone(), exits };
        let peers = [("skep-other".to_owned(), "10.193.1.0/24".parse().unwrap())];
        insta::assert_snapshot!(
            "the_rules_with_hosts_where_nothing_was_forwarded",
            render(&network, "0123456789ab", &hosts, &outside, &peers)
        );
    }

    #[test]
    fn whose_a_table_is_and_what_drops_is_read_from_the_chains() {
        let output = br#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
            {"chain": {"family": "inet", "table": "skep-demo", "name": "owner-ab12", "handle": 1}},
            {"chain": {"family": "inet", "table": "skep-demo", "name": "rules-3", "handle": 2}},
            {"chain": {"family": "inet", "table": "skep-demo", "name": "admits-192.0.2.7", "handle": 3}},
            {"chain": {"family": "inet", "table": "skep-demo", "name": "peer-skep-b", "handle": 4}},
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
        let peers = ["skep-b".to_owned()].into();
        let demo = Table { owner: "ab12".into(), hosts, peers, outdated: false };
        let old = Table { owner: "ab13".into(), outdated: true, ..Table::default() };
        assert_eq!(tables(&chains), [("skep-demo".into(), demo), ("skep-old".into(), old)].into());
        let to = |peer: &str| vec![(peer.to_owned(), "10.193.1.0/24".parse().unwrap())];
        let changes = |peers, but| {
            render_peers(
                &chains,
                &[("skep-demo".into(), peers), ("skep-old".into(), to("x"))].into(),
                but,
            )
        };
        assert_eq!(changes(to("skep-b"), ""), "", "as it is");
        assert_eq!(changes(Vec::new(), "skep-demo"), "", "which is made anew");
        assert_eq!(
            changes(to("skep-c"), ""),
            "flush chain inet skep-demo peers\n\
             delete chain inet skep-demo peer-skep-b\n\
             add chain inet skep-demo peer-skep-c\n\
             add rule inet skep-demo peers iifname \"skep-demo\" oifname \"skep-c\" ip daddr 10.193.1.0/24 accept\n\
             add rule inet skep-demo peers iifname \"skep-c\" oifname \"skep-demo\" ip saddr 10.193.1.0/24 accept\n"
        );
        let names: Vec<_> = obstacles(&chains).into_iter().map(ToString::to_string).collect();
        assert_eq!(names, ["inet my forward"]);
        assert!(!has_firewalld(&chains));
        let firewalld = |name: &str| Chain {
            family: "inet".into(),
            table: FIREWALLD.into(),
            name: name.into(),
            hook: None,
            policy: None,
        };
        assert!(has_firewalld(&[firewalld("filter_INPUT")]));
        let told = [firewalld("filter_INPUT"), firewalld("filter_IN_skep-host")];
        assert!(!has_firewalld(&told));
    }

    #[test]
    fn whether_a_chain_drops_frames_between_nodes_is_read_from_its_rules() {
        let frames = |rules: &str| {
            let text = format!(
                "table inet filter {{\n\tchain forward {{\n\t\ttype filter hook forward priority \
                 filter; policy drop;\n{rules}\n\t}}\n\n\tchain inner {{\n\t\taccept\n\t}}\n}}\n"
            );
            Listing::parse(&text).frames("forward")
        };
        for certain in [
            "",
            "ct state { established, related } accept",
            "ct state established,related accept",
            "ct status dnat accept",
            "iifname \"lo\" accept\n\t\toifname \"virbr*\" accept",
            "oifname \"eth0\" jump inner",
            "reject with icmpx admin-prohibited",
            "jump nowhere",
        ] {
            assert_eq!(frames(certain), Frames::Drop, "{certain}");
        }
        for possible in [
            "accept",
            "ct state { established, new } accept",
            "ct state established,new accept",
            "iifname \"skep-*\" accept",
            "iifname \"s*\" accept",
            "iifname { \"lo\", \"skep-demo\" } accept",
            "meta l4proto tcp accept",
            "goto inner",
            "iifname vmap { \"skep-demo\" : accept }",
        ] {
            assert_eq!(frames(possible), Frames::MayDrop, "{possible}");
        }
        let told = "table inet a {\n\tchain forward {\n\t\tiifname \"skep-*\" accept comment \"skep:host\"\n\t}\n}";
        assert!(Listing::parse(told).is_told("forward"));
        assert!(!Listing::parse(told).is_told("input"));
    }
}
