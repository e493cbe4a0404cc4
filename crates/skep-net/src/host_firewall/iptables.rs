//! iptables, be it on nftables or its own: chains of ours, which the host's are led through first.

use super::{Hook, Rule, Ruleset, Through, Traffic, joined, printer};

/// What the script does with the rules.
pub(super) const BODY: &str = include_str!("iptables.sh");

/// Returns the functions of the script that name the hooks and print the rules, for iptables-restore(8).
pub(super) fn render(ruleset: &Ruleset) -> String {
    let prefix = format!("SKEP-{}", ruleset.name.to_uppercase());
    let used = |hook: &Hook| ruleset.at(*hook).next().is_some();
    let hooks: Vec<_> =
        Hook::ALL.into_iter().filter(used).map(|hook| hook.as_str().to_uppercase()).collect();
    let rules = printer("rules", |hook: Hook| {
        let chain = format!("{prefix}-{}", hook.as_str().to_uppercase());
        ruleset.at(hook).map(|rule| format!("-A {chain} {}\n", text(rule, ruleset.name))).collect()
    });
    format!("prefix={prefix}\nhooks='{}'\n{rules}", hooks.join(" "))
}

fn text(rule: &Rule, name: &str) -> String {
    let mut words = Vec::new();
    let through = |through: &Through| match through {
        Through::Name(name) => name.clone(),
        Through::Prefix(prefix) => format!("{prefix}+"),
    };
    words.extend(rule.source.map(|source| format!("-s {source}")));
    words.extend(rule.inward.as_ref().map(|it| format!("-i {}", through(it))));
    words.extend(rule.outward.as_ref().map(|it| format!("-o {}", through(it))));
    words.extend(match rule.traffic {
        Traffic::All => None,
        Traffic::Answers => Some("-m conntrack --ctstate RELATED,ESTABLISHED".to_owned()),
        Traffic::Tcp(ports) => Some(format!("-p tcp -m multiport --dports {}", joined(ports, ","))),
        Traffic::Udp(ports) => Some(format!("-p udp -m multiport --dports {}", joined(ports, ","))),
        Traffic::Esp => Some("-p esp".to_owned()),
    });
    words.push(format!("-m comment --comment skep:{name} -j ACCEPT"));
    words.join(" ")
}
