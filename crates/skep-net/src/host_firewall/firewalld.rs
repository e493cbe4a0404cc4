//! firewalld: a policy of ours, which is asked before its zones, so that no address or interface of a
//! node changes its zone; and a zone for the bridges of clusters, which have none
//! (firewalld.policy(5), firewalld.zone(5)).

use super::{Error, Rule, Ruleset, Traffic};

/// What the script does with the rules.
pub(super) const BODY: &str = include_str!("firewalld.sh");

/// Returns the function of the script that prints the files of the policy and the zone.
pub(super) fn render(ruleset: &Ruleset) -> Result<String, Error> {
    if ruleset.by_interface {
        return Err(Error::Interface);
    }
    let (zone, policy) = match ruleset.translates {
        true => (BRIDGES.to_owned(), FORWARD.to_owned()),
        false => (String::new(), policy(ruleset)),
    };
    let printer =
        |function: &str, text: &str| format!("{function}() {{\n\tcat <<'END'\n{text}END\n}}\n");
    Ok(printer("zone", &zone) + &printer("policy", &policy))
}

const BRIDGES: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<zone target="ACCEPT">
  <short>skep:host</short>
  <description>Bridges of clusters.</description>
  <interface name="skep-+"/>
</zone>
"#;

const FORWARD: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<policy target="ACCEPT">
  <short>skep:host</short>
  <description>What nodes of clusters send on.</description>
  <ingress-zone name="skep-host"/>
  <egress-zone name="ANY"/>
</policy>
"#;

fn policy(ruleset: &Ruleset) -> String {
    let rules: String = ruleset.beside_loopback().map(rich_rules).collect();
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?>
<policy priority="-100" target="CONTINUE">
  <short>skep:node</short>
  <description>The ports of a swarm, for its nodes.</description>
  <ingress-zone name="ANY"/>
  <egress-zone name="HOST"/>
{rules}</policy>
"#
    )
}

fn rich_rules(rule: &Rule) -> String {
    let ports = |ports: &[u16], protocol: &str| {
        let port = |port: &u16| format!(r#"<port port="{port}" protocol="{protocol}"/>"#);
        ports.iter().map(port).collect()
    };
    let elements: Vec<String> = match rule.traffic {
        Traffic::Tcp(numbers) => ports(numbers, "tcp"),
        Traffic::Udp(numbers) => ports(numbers, "udp"),
        Traffic::Esp => vec![r#"<protocol value="esp"/>"#.to_owned()],
        Traffic::All | Traffic::Answers => Vec::new(),
    };
    let source = rule.source.map(|source| format!(r#"<source address="{source}"/>"#));
    let source = source.unwrap_or_default();
    let rule =
        |element: String| format!("  <rule family=\"ipv4\">{source}{element}<accept/></rule>\n");
    elements.into_iter().map(rule).collect()
}
