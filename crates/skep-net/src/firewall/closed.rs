//! Whether this host's own chains keep it from its nodes: those for what it sends, and for what it receives.
//!
//! A chain is called closed only where none of its rules can accept what skep sends to an engine, or the engine's answer. What a
//! rule depends on that is not understood here may be so, so the chain then counts as open.

use std::collections::BTreeMap;

use skep_core::model::ENGINE_PORT;

use super::nft::{self, BRIDGES, Chain, Listing};
use super::{Error, iptables};

/// What has to pass a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The first packet of a connection from this host to an engine.
    ToNode,
    /// Its answer.
    Answer,
}

impl Way {
    fn of(chain: &Chain) -> Option<Self> {
        match chain.hook.as_deref() {
            Some("output") => Some(Self::ToNode),
            Some("input") => Some(Self::Answer),
            _ => None,
        }
    }

    /// Tells whether a rule may be about what passes this way.
    fn may_match(self, rule: &str) -> bool {
        let words: Vec<&str> = rule.split(' ').collect();
        let (interfaces, state, port) = match self {
            Self::ToNode => (["oifname", "oif"], "new", "dport"),
            Self::Answer => (["iifname", "iif"], "established", "sport"),
        };
        let other_protocol = ["ip6", "icmp", "icmpv6", "udp", "esp", "sctp", "igmp"];
        if nft::leads_elsewhere(&words, &interfaces)
            || words.iter().any(|word| other_protocol.contains(word))
        {
            return false;
        }
        let value = |key: &[&str]| {
            let at = words.windows(key.len()).position(|it| it == key)? + key.len();
            let rest = &words[at..];
            match rest.first() {
                Some(&"{") => {
                    Some(rest[1..].iter().take_while(|it| **it != "}").copied().collect())
                }
                Some(word) => Some(vec![*word]),
                None => None,
            }
        };
        let has = |values: Vec<&str>, fits: &dyn Fn(&str) -> bool| {
            let listed = values.iter().flat_map(|it| it.split(',')).filter(|it| !it.is_empty());
            matches!(values.first(), Some(&("!=" | "vmap" | "map"))) || listed.into_iter().any(fits)
        };
        let ports = |ports: &str| {
            let (low, high) = ports.split_once('-').unwrap_or((ports, ports));
            match (low.parse::<u16>(), high.parse::<u16>()) {
                (Ok(low), Ok(high)) => (low..=high).contains(&ENGINE_PORT),
                _ => true,
            }
        };
        // An answer goes to some high port.
        let fits_other_port = |values: Vec<&str>| {
            self == Self::Answer && values.iter().any(|it| it.contains('-') || *it == "!=")
        };
        let other = if port == "dport" { "sport" } else { "dport" };
        value(&["ct", "state"]).is_none_or(|it| has(it, &|it| it == state))
            && value(&["tcp", port]).is_none_or(|it| has(it, &ports))
            && value(&["tcp", other]).is_none_or(|it| self == Self::ToNode || fits_other_port(it))
    }
}

/// What a chain does to all that passes one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// Some of it may be accepted.
    MayAccept,
    Drop,
    /// It goes on behind the chain.
    Through,
}

impl Listing {
    /// Tells whether a base chain certainly drops all that passes this way.
    pub(super) fn is_closed(&self, chain: &str, way: Way) -> bool {
        let policy = self
            .rules(chain)
            .iter()
            .any(|rule| rule.starts_with("type ") && rule.contains("policy drop"));
        match self.does(chain, way, 0) {
            Does::MayAccept => false,
            Does::Drop => true,
            Does::Through => policy,
        }
    }

    fn does(&self, chain: &str, way: Way, depth: usize) -> Does {
        // The kernel takes no deeper ones.
        if depth > 16 {
            return Does::MayAccept;
        }
        let rules = self.rules(chain).iter().filter(|rule| !rule.starts_with("type "));
        for rule in rules.filter(|rule| way.may_match(rule)) {
            let words: Vec<&str> = rule.split(' ').collect();
            if words.iter().any(|word| ["accept", "queue", "vmap", "map"].contains(word)) {
                return Does::MayAccept;
            }
            let always = is_unconditional(&words);
            let target = words.windows(2).find(|pair| ["jump", "goto"].contains(&pair[0]));
            let does = match target {
                Some(pair) => match (pair[0], self.does(pair[1], way, depth + 1)) {
                    ("goto", Does::Through) => {
                        return if always { Does::Through } else { continue };
                    }
                    (_, does) => does,
                },
                None if words.contains(&"drop") || words.contains(&"reject") => Does::Drop,
                None if words.contains(&"return") && always => return Does::Through,
                None => continue,
            };
            match does {
                Does::MayAccept => return does,
                Does::Drop if always => return does,
                Does::Drop | Does::Through => {}
            }
        }
        Does::Through
    }
}

/// Tells whether a rule has no condition: it begins with what it does, or counts before.
fn is_unconditional(words: &[&str]) -> bool {
    let rest = match words {
        ["counter", "packets", _, "bytes", _, rest @ ..] | ["counter", rest @ ..] => rest,
        rest => rest,
    };
    rest.first().is_some_and(|it| ["drop", "reject", "jump", "goto", "return"].contains(it))
}

/// Returns the names of this host's chains that keep it from its nodes; none if nft cannot be asked. It reads the rules of all
/// tables that have such chains, so it is for checks, not for each look.
///
/// # Errors
///
/// If nft says what cannot be understood.
pub async fn closed_chains() -> Result<Vec<String>, Error> {
    let all = match nft::chains().await {
        Err(Error::Cmd(_)) => return Ok(Vec::new()),
        chains => chains?,
    };
    let mut tables = BTreeMap::<_, Vec<(&Chain, Way)>>::new();
    for chain in all.iter().filter(|it| matches!(it.family.as_str(), "ip" | "inet")) {
        if let Some(way) = Way::of(chain).filter(|_| !chain.table.starts_with(BRIDGES)) {
            tables.entry((&chain.family, &chain.table)).or_default().push((chain, way));
        }
    }
    let mut closed = Vec::new();
    for ((family, table), chains) in tables {
        let listing = nft::list(family, table).await?;
        let shut = chains.iter().filter(|(chain, way)| listing.is_closed(&chain.name, *way));
        closed.extend(shut.map(|(chain, _)| chain.to_string()));
    }
    // nft does not list what the old iptables has.
    if let Some(listing) = iptables::legacy_rules().await {
        for (chain, way) in [("INPUT", Way::Answer), ("OUTPUT", Way::ToNode)] {
            if listing.is_closed(chain, way) {
                closed.push(format!("{chain} of iptables-legacy"));
            }
        }
    }
    Ok(closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_closed(hook: &str, policy: &str, rules: &str) -> bool {
        let way = if hook == "output" { Way::ToNode } else { Way::Answer };
        let text = format!(
            "table inet filter {{\n\tchain base {{\n\t\ttype filter hook {hook} priority filter; policy \
             {policy};\n{rules}\n\t}}\n\n\tchain inner {{\n\t\tct state established,related accept\n\
             \t\tcounter packets 0 bytes 0 drop\n\t}}\n\n\tchain last {{\n\t\tdrop\n\t}}\n}}\n"
        );
        Listing::parse(&text).is_closed("base", way)
    }

    #[test]
    fn a_chain_is_closed_where_no_rule_can_accept_an_engines_answer() {
        for rules in [
            "",
            "iifname \"lo\" accept",
            "iifname \"eth*\" accept",
            "tcp dport 22 accept\n\t\ttcp dport { 2376, 2377 } accept",
            "udp dport 53 accept\n\t\ticmp type echo-request accept",
            "ct state new accept",
            "ct state { new, untracked } tcp dport 22 accept",
            "tcp sport 443 accept",
            "meta nfproto ipv6 ip6 saddr ::1 accept",
            "ip saddr 192.0.2.1 jump last",
        ] {
            assert!(is_closed("input", "drop", rules), "{rules}");
            assert!(!is_closed("input", "accept", rules), "{rules}");
        }
        for rules in [
            "ct state established,related accept",
            "ct state { established, related } accept",
            "ct state != invalid accept",
            "ct state related,established counter packets 10 bytes 100 accept",
            "iifname \"skep-*\" counter packets 0 bytes 0 accept",
            "iifname \"sk*\" accept",
            "jump inner",
            "tcp dport 1024-65535 accept",
            "tcp sport { 22, 2376 } accept",
            "ip saddr 10.0.0.0/8 accept",
            "meta mark 7 accept",
            "accept",
            "xt match \"conntrack\" accept",
            "ct state vmap { established : accept }",
        ] {
            assert!(!is_closed("input", "drop", rules), "{rules}");
        }
        assert!(is_closed("input", "accept", "iifname \"lo\" accept\n\t\tjump last"));
        assert!(!is_closed("input", "accept", "ip saddr 192.0.2.1 jump last"));
        assert!(!is_closed("input", "accept", "jump inner\n\t\tdrop"));
    }

    #[test]
    fn a_chain_is_closed_where_no_rule_can_accept_what_is_sent_to_an_engine() {
        for rules in [
            "",
            "oifname \"lo\" accept",
            "ct state established,related accept",
            "tcp dport { 22, 80, 443 } accept\n\t\tudp dport 53 accept",
            "jump inner",
            "tcp dport 3000-4000 accept",
        ] {
            assert!(is_closed("output", "drop", rules), "{rules}");
        }
        for rules in [
            "oifname \"skep-*\" accept",
            "tcp dport 2376 accept",
            "tcp dport 1024-65535 accept",
            "tcp dport != 25 accept",
            "ct state new,established accept",
            "meta skuid 0 accept",
            "ip daddr 10.0.0.0/8 accept",
        ] {
            assert!(!is_closed("output", "drop", rules), "{rules}");
        }
    }
}
