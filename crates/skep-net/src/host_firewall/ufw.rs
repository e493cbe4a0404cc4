//! ufw, which keeps and reloads its rules itself, and has loopback open (ufw-framework(8)).

use super::{Hook, Rule, Ruleset, Through, Traffic, joined};

/// What the script does with the rules.
pub(super) const BODY: &str = include_str!("ufw.sh");

/// Returns the function of the script that prints the rules, each as words for ufw(8).
pub(super) fn render(ruleset: &Ruleset) -> String {
    // Answers pass always, before its users' rules.
    let rules = ruleset.beside_loopback().filter(|rule| rule.traffic != Traffic::Answers);
    let rules: Vec<_> = rules.map(text).collect();
    format!("rules() {{\n\tcat <<'END'\n{}\nEND\n}}\n", rules.join("\n"))
}

fn text(rule: &Rule) -> String {
    let mut words = Vec::new();
    if rule.hook == Hook::Forward {
        words.push("route".to_owned());
    }
    words.push("prepend allow".to_owned());
    let through = |through: &Through| match through {
        Through::Name(name) => name.clone(),
        Through::Prefix(prefix) => format!("{prefix}+"),
    };
    words.extend(rule.inward.as_ref().map(|it| format!("in on {}", through(it))));
    words.extend(rule.outward.as_ref().map(|it| format!("out on {}", through(it))));
    let (protocol, ports) = match rule.traffic {
        Traffic::All | Traffic::Answers => return words.join(" "),
        Traffic::Tcp(ports) => ("tcp", ports),
        Traffic::Udp(ports) => ("udp", ports),
        Traffic::Esp => ("esp", &[][..]),
    };
    let source = rule.source.map_or("any".to_owned(), |source| source.to_string());
    words.push(format!("proto {protocol} from {source} to any"));
    if !ports.is_empty() {
        words.push(format!("port {}", joined(ports, ",")));
    }
    words.join(" ")
}
