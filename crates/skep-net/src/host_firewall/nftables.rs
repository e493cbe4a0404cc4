//! nftables, where the host's own configuration has chains that filter.
//!
//! To accept a packet in one table does not keep another from dropping it, so the rules go into the chains that
//! are there, before all others, and a file of ours is included at the end of the host's configuration.

use super::{Hook, Rule, Ruleset, Through, Traffic, joined, printer};

/// What the script does with the rules.
pub(super) const BODY: &str = include_str!("nftables.sh");

/// Returns the functions of the script that print the rules, by hook, and a table of ours.
pub(super) fn render(ruleset: &Ruleset) -> String {
    let rules = printer("rules", |hook: Hook| {
        ruleset.at(hook).map(|rule| text(rule, ruleset.name) + "\n").collect()
    });
    let table = if ruleset.translates { TRANSLATION } else { "" };
    format!("{rules}own_table() {{\n\tcat <<'END'\n{table}END\n}}\n")
}

/// What is forwarded leaves under the address of the host. `up` makes the same for each cluster; this
/// one is there again after the whole ruleset was loaded anew.
const TRANSLATION: &str = r#"table ip skep_host {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		iifname "skep-*" oifname != "skep-*" masquerade
	}
}
"#;

fn text(rule: &Rule, name: &str) -> String {
    let mut words = Vec::new();
    let through = |through: &Through| match through {
        Through::Name(name) => format!("\"{name}\""),
        Through::Prefix(prefix) => format!("\"{prefix}*\""),
    };
    words.extend(rule.inward.as_ref().map(|it| format!("iifname {}", through(it))));
    words.extend(rule.outward.as_ref().map(|it| format!("oifname {}", through(it))));
    words.extend(rule.source.map(|source| format!("ip saddr {source}")));
    words.extend(match rule.traffic {
        Traffic::All => None,
        Traffic::Answers => Some("ct state established,related".to_owned()),
        Traffic::Tcp(ports) => Some(format!("tcp dport {{ {} }}", joined(ports, ", "))),
        Traffic::Udp(ports) => Some(format!("udp dport {{ {} }}", joined(ports, ", "))),
        Traffic::Esp => Some("meta l4proto esp".to_owned()),
    });
    words.push(format!("accept comment \"skep:{name}\""));
    words.join(" ")
}
