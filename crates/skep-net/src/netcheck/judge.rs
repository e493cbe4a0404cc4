//! What is made of what nodes have counted; pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::host_firewall::{TCP_PORTS, UDP_PORTS};

/// One way that packets take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The node that sends.
    pub from: String,
    /// The node that receives.
    pub to: String,
    /// What is sent, such as `tcp 2377`, or `esp`.
    pub what: String,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It came through, and for TCP so did an answer.
    Open,
    /// It could not be sent: the kernel has no ESP.
    Unknown,
    /// The firewall of a node keeps it.
    Dropped {
        /// The node.
        at: String,
        /// Its rule, if it could be told.
        rule: Option<String>,
    },
    /// It has left the one and not arrived at the other.
    Lost,
    /// It came through, and no answer came back.
    Unanswered,
}

/// A kind of packet: protocol and port.
type Kind = (&'static str, u16);

fn kinds() -> impl Iterator<Item = Kind> {
    let tcp = TCP_PORTS.iter().map(|port| ("tcp", *port));
    let udp = UDP_PORTS.iter().map(|port| ("udp", *port));
    tcp.chain(udp).chain([("esp", 0)])
}

/// What a node has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    name: String,
    address: Option<Ipv4Addr>,
    /// By place, other node and kind: how many packets.
    counts: BTreeMap<String, u64>,
    /// By other node and kind: how TCP answered, or why nothing was sent.
    answers: BTreeMap<String, String>,
    /// What was dropped, by the trace of nftables: from, to, kind, rule.
    drops: Vec<Drop>,
    /// Rules of iptables that drop, and did so while we looked.
    rules: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Drop {
    from: String,
    to: String,
    kind: String,
    rule: String,
}

impl Seen {
    /// Reads what the scripts have printed in a node.
    pub(super) fn parse(name: &str, address: Ipv4Addr, text: &str) -> Self {
        let mut seen = Self { name: name.to_owned(), address: Some(address), ..Self::default() };
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let mut packets = BTreeMap::new();
        for line in text.lines() {
            // A terminal may show it, and a node is not believed.
            let line: String = line.chars().filter(|c| !c.is_control()).take(1000).collect();
            let Some((word, rest)) = line.split_once(' ') else { continue };
            match word {
                "count" => {
                    let words: Vec<_> = rest.splitn(3, ' ').collect();
                    if let [place, packets, kind] = words[..] {
                        let count = packets.parse().unwrap_or(0);
                        *seen.counts.entry(format!("{place} {kind}")).or_default() += count;
                    }
                }
                "answer" => {
                    if let Some((kind, answer)) = rest.rsplit_once(' ') {
                        seen.answers.insert(kind.to_owned(), answer.to_owned());
                    }
                }
                "trace" => seen.drops.extend(dropped(rest, &mut packets)),
                "before" => before.push(rest.to_owned()),
                "after" => after.push(rest.to_owned()),
                _ => (),
            }
        }
        seen.rules = grown(&before, &after);
        seen
    }

    fn count(&self, place: &str, other: &Self, kind: Kind) -> u64 {
        self.counts.get(&format!("{place} {}", other.key(kind))).copied().unwrap_or(0)
    }

    fn answer(&self, other: &Self, kind: Kind) -> &str {
        self.answers.get(&other.key(kind)).map_or("", String::as_str)
    }

    fn address(&self) -> String {
        self.address.map(|it| it.to_string()).unwrap_or_default()
    }

    fn key(&self, (protocol, port): Kind) -> String {
        format!("{} {protocol} {port}", self.address())
    }

    /// Returns the rule that has dropped a packet of this kind here.
    fn rule(&self, from: &Self, to: &Self, (protocol, port): Kind) -> Option<String> {
        let kind = format!("{protocol} {port}");
        let is_it =
            |it: &&Drop| it.from == from.address() && it.to == to.address() && it.kind == kind;
        match self.drops.iter().find(is_it) {
            Some(drop) => Some(drop.rule.clone()),
            None if self.rules.is_empty() => None,
            None => Some(self.rules.join(", or ")),
        }
    }
}

/// Reads a line of `nft monitor trace`, after its first word; remembers packets by their identity.
fn dropped(line: &str, packets: &mut BTreeMap<String, (String, String, String)>) -> Option<Drop> {
    let words: Vec<_> = line.split_whitespace().collect();
    let ["id", id, family, table, chain, ..] = words[..] else { return None };
    let after = |word: &str| {
        let found = words.windows(2).find(|pair| pair[0] == word);
        found.map(|pair| pair[1])
    };
    let pair = |one: &str, two: &str| {
        words.windows(3).find(|three| three[0] == one && three[1] == two).map(|three| three[2])
    };
    if words.get(5) == Some(&"packet:") {
        let kind = match (pair("tcp", "dport"), pair("udp", "dport")) {
            (Some(port), _) => format!("tcp {port}"),
            (_, Some(port)) => format!("udp {port}"),
            _ if after("protocol") == Some("esp") => "esp 0".to_owned(),
            _ => return None,
        };
        let address = |word| pair("ip", word).unwrap_or_default().to_owned();
        packets.insert(id.to_owned(), (address("saddr"), address("daddr"), kind));
        return None;
    }
    let rest = words[5..].join(" ");
    let rule = match rest.strip_prefix("rule ") {
        Some(rule) => rule.strip_suffix("(verdict drop)")?.trim().to_owned(),
        None => rest.strip_prefix("policy drop").map(|_| "policy drop".to_owned())?,
    };
    let (from, to, kind) = packets.get(id)?.clone();
    Some(Drop { from, to, kind, rule: format!("{family} {table} {chain}: {rule}") })
}

/// Returns the rules and policies that drop or reject, and whose counters have grown between two lists of
/// `iptables-save -c`.
fn grown(before: &[String], after: &[String]) -> Vec<String> {
    let counted = |line: &String| -> Option<(String, u64)> {
        if let Some(rest) = line.strip_prefix('[') {
            let (count, rule) = rest.split_once("] ")?;
            let drops = rule.contains("-j DROP") || rule.contains("-j REJECT");
            return drops.then(|| Some((rule.to_owned(), packets(count)?)))?;
        }
        let (chain, count) = line.strip_prefix(':')?.split_once(" DROP [")?;
        Some((format!("-P {chain} DROP"), packets(count.trim_end_matches(']'))?))
    };
    let before: BTreeMap<_, _> = before.iter().filter_map(counted).collect();
    let has_grown = |(rule, count): (String, u64)| {
        (count > before.get(&rule).copied().unwrap_or(0)).then(|| format!("iptables {rule}"))
    };
    after.iter().filter_map(counted).filter_map(has_grown).collect()
}

fn packets(count: &str) -> Option<u64> {
    count.split(':').next()?.parse().ok()
}

/// Returns what came of each packet.
pub(super) fn judge(seen: &[Seen]) -> Vec<Path> {
    let mut paths = Vec::new();
    for from in seen {
        for to in seen.iter().filter(|to| to.address != from.address) {
            for kind in kinds() {
                let what =
                    if kind.1 == 0 { kind.0.to_owned() } else { format!("{} {}", kind.0, kind.1) };
                let verdict = verdict(from, to, kind);
                paths.push(Path { from: from.name.clone(), to: to.name.clone(), what, verdict });
            }
        }
    }
    paths
}

fn verdict(from: &Seen, to: &Seen, kind: Kind) -> Verdict {
    let answer = from.answer(to, kind);
    if answer == "impossible" {
        return Verdict::Unknown;
    }
    if to.count("passed", from, kind) > 0 {
        // That a port is closed is an answer too.
        let answered = kind.0 != "tcp" || answer == "open" || answer == "refused";
        return if answered { Verdict::Open } else { Verdict::Unanswered };
    }
    let at =
        |node: &Seen| Verdict::Dropped { at: node.name.clone(), rule: node.rule(from, to, kind) };
    if to.count("arrived", from, kind) > 0 {
        at(to)
    } else if from.count("left", to, kind) > 0 {
        Verdict::Lost
    } else {
        at(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(last: u8, text: &str) -> Seen {
        Seen::parse(&format!("node{last}"), Ipv4Addr::new(10, 0, 0, last), text)
    }

    fn of(one: &str, two: &str, what: &str) -> Verdict {
        let paths = judge(&[seen(1, one), seen(2, two)]);
        assert_eq!(paths.len(), 14);
        paths.into_iter().find(|it| it.from == "node1" && it.what == what).unwrap().verdict
    }

    #[test]
    fn a_packet_is_where_it_was_seen_last() {
        let left = "count left 1 10.0.0.2 tcp 22\nanswer 10.0.0.2 tcp 22 silent";
        let arrived = "count arrived 1 10.0.0.1 tcp 22";
        let passed = &format!("{arrived}\ncount passed 1 10.0.0.1 tcp 22");
        let dropped = |at: &str| Verdict::Dropped { at: at.to_owned(), rule: None };
        assert_eq!(of("", "", "tcp 22"), dropped("node1"));
        assert_eq!(of(left, "", "tcp 22"), Verdict::Lost);
        assert_eq!(of(left, arrived, "tcp 22"), dropped("node2"));
        assert_eq!(of(left, passed, "tcp 22"), Verdict::Unanswered);
        let answered = left.replace("silent", "refused");
        assert_eq!(of(&answered, passed, "tcp 22"), Verdict::Open);
        assert_eq!(of("answer 10.0.0.2 esp 0 impossible", "", "esp"), Verdict::Unknown);
        let udp = "count passed 1 10.0.0.1 udp 4789";
        assert_eq!(of("", udp, "udp 4789"), Verdict::Open);
    }

    #[test]
    fn the_rule_is_read_from_the_trace() {
        let trace = "count arrived 1 10.0.0.1 udp 7946\n\
            trace id ab inet skep_probe arrived packet: iif \"v0\" ip saddr 10.0.0.1 ip daddr 10.0.0.2 ip \
            protocol udp ip length 61 udp sport 1 udp dport 7946 udp length 41\n\
            trace id ab inet filter input rule udp dport 7946 drop (verdict drop)\n\
            trace id cd inet filter input policy drop";
        let rule = Some("inet filter input: udp dport 7946 drop".to_owned());
        assert_eq!(of("", trace, "udp 7946"), Verdict::Dropped { at: "node2".into(), rule });
    }

    #[test]
    fn the_rule_is_read_from_the_counters_of_iptables() {
        let counters = "count arrived 1 10.0.0.1 udp 7946\n\
            before :INPUT DROP [0:0]\nbefore [0:0] -A INPUT -p udp -j DROP\nbefore [4:9] -A X -j DROP\n\
            after :INPUT DROP [2:9]\nafter [1:61] -A INPUT -p udp -j DROP\nafter [4:9] -A X -j DROP\n\
            after [9:61] -A INPUT -j ACCEPT";
        let rule = Some("iptables -P INPUT DROP, or iptables -A INPUT -p udp -j DROP".to_owned());
        assert_eq!(of("", counters, "udp 7946"), Verdict::Dropped { at: "node2".into(), rule });
    }
}
