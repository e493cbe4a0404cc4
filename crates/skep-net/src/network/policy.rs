//! Policy routing (ip-rule(8)) that lets nothing into a cluster's network, or out of it, that the cluster's firewall table
//! did not allow.
//!
//! Whatever loads its rules anew with `nft flush ruleset`, as nftables.service does, removes the tables of all others. Routing
//! rules stay. The table marks each packet that may pass ([`MARK`]); without a mark there is no route:
//!
//! ```text
//! 61  iif lo to SUBNET            main       what this host itself sends to nodes
//! 62  to SUBNET, marked           main       what the table allows in
//! 63  to SUBNET                   prohibit
//! 64  iif BRIDGE, marked          goto 68    what the table allows out: the host's own rules decide where to
//! 65  iif BRIDGE                  prohibit
//! 66  iif INTERFACE, marked       goto 68    interfaces that forward for skep alone; see `forwarding`
//! 67  iif INTERFACE               blackhole
//! 68  iif BRIDGE to SUBNET        nop        where the jumps end, and which subnet belongs to which bridge
//! ```
//!
//! What is sent to an address of this host is in the table `local`, which is asked first, and needs no mark. All clusters
//! share these preferences, as rules with other selectors may stand beside each other: two that are made at the same time
//! have nothing to agree on. They come before those of VPNs (strongSwan 220, Tailscale 5210, wg-quick 32764), which may
//! have routes to anything.

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use skep_core::model::NetworkRecord;
use skep_sys::Cmd;

use super::Error;
use crate::firewall::MARK;

const FROM_HOST: u32 = 61;
const INTO: u32 = 62;
const NOT_INTO: u32 = 63;
const OUT: u32 = 64;
const NOT_OUT: u32 = 65;
const THROUGH: u32 = 66;
const NOT_THROUGH: u32 = 67;
const END: u32 = 68;

/// A rule, as `ip -json rule` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rule {
    priority: u32,
    #[serde(default)]
    dst: Option<String>,
    #[serde(default)]
    dstlen: Option<u8>,
    #[serde(default)]
    iif: Option<String>,
    #[serde(default)]
    fwmark: Option<String>,
}

impl Rule {
    fn subnet(&self) -> Option<Ipv4Net> {
        let address = self.dst.as_ref()?.parse().ok()?;
        Ipv4Net::new(address, self.dstlen.unwrap_or(32)).ok()
    }

    /// Returns which bridge has which subnet, if the rule says so.
    pub fn network(&self) -> Option<(&str, Ipv4Net)> {
        (self.priority == END).then(|| Some((self.iif.as_deref()?, self.subnet()?)))?
    }

    /// Returns the interface that forwards for skep alone, if the rule says so.
    pub fn interface(&self) -> Option<&str> {
        (self.priority == END && self.dst.is_none()).then_some(self.iif.as_deref()?)
    }

    fn is(&self, wanted: &Wanted<'_>) -> bool {
        self.priority == wanted.priority
            && self.subnet() == wanted.to
            && self.iif.as_deref() == wanted.iif
            && self.fwmark.is_some() == wanted.marked
    }
}

/// A rule that is to be there.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    priority: u32,
    iif: Option<&'a str>,
    to: Option<Ipv4Net>,
    marked: bool,
    action: &'static str,
}

impl Wanted<'_> {
    /// Returns the words that tell it from others.
    fn selector(&self) -> String {
        let mut words = format!("pref {}", self.priority);
        if let Some(iif) = self.iif {
            words += &format!(" iif {iif}");
        }
        if let Some(to) = self.to {
            words += &format!(" to {to}");
        }
        if self.marked {
            words += &format!(" fwmark {MARK:#x}/{MARK:#x}");
        }
        words
    }
}

/// Returns the rules of a network, in the order in which they are made: what closes comes first.
fn of_network(network: &NetworkRecord) -> [Wanted<'_>; 6] {
    let (bridge, subnet) = (Some(network.bridge.as_str()), Some(network.subnet));
    let rule = |priority, iif, to, marked, action| Wanted { priority, iif, to, marked, action };
    [
        rule(END, bridge, subnet, false, "nop"),
        rule(NOT_INTO, None, subnet, false, "prohibit"),
        rule(NOT_OUT, bridge, None, false, "prohibit"),
        rule(FROM_HOST, Some("lo"), subnet, false, "lookup main"),
        rule(INTO, None, subnet, true, "lookup main"),
        rule(OUT, bridge, None, true, "goto 68"),
    ]
}

/// Returns the rules of an interface that forwards for skep alone.
fn of_interface(name: &str) -> [Wanted<'_>; 3] {
    let name = Some(name);
    let rule = |priority, marked, action| Wanted { priority, iif: name, to: None, marked, action };
    [
        rule(END, false, "nop"),
        // Not `prohibit`: to answer what was never meant for this host helps nobody.
        rule(NOT_THROUGH, false, "blackhole"),
        rule(THROUGH, true, "goto 68"),
    ]
}

pub(super) async fn list() -> Result<Vec<Rule>, Error> {
    let output = Cmd::new("ip").args(["-json", "-4", "rule", "show"]).run().await?;
    super::ip::parse(&output.stdout)
}

/// Tells whether a network has all its rules.
pub(super) fn guards(rules: &[Rule], network: &NetworkRecord) -> bool {
    of_network(network).iter().all(|wanted| rules.iter().any(|rule| rule.is(wanted)))
}

/// Returns rules as they are after [`ensure`], for whoever stands in for a host's network.
pub(super) fn made(network: &NetworkRecord) -> impl Iterator<Item = Rule> {
    of_network(network).into_iter().map(|it| Rule {
        priority: it.priority,
        dst: it.to.map(|to| to.addr().to_string()),
        dstlen: it.to.map(|to| to.prefix_len()),
        iif: it.iif.map(str::to_owned),
        fwmark: it.marked.then(String::new),
    })
}

/// Makes the rules of a network.
pub(super) async fn ensure(network: &NetworkRecord) -> Result<(), Error> {
    add(&of_network(network)).await
}

/// Makes the rules of an interface that forwards for skep alone.
pub(super) async fn ensure_interface(name: &str) -> Result<(), Error> {
    add(&of_interface(name)).await
}

async fn add(wanted: &[Wanted<'_>]) -> Result<(), Error> {
    let rules = list().await?;
    let missing = wanted.iter().filter(|wanted| !rules.iter().any(|rule| rule.is(wanted)));
    // systemd-networkd removes rules that it was not told of, but for the kernel's (networkd.conf(5)).
    let lines =
        missing.map(|it| format!("rule add {} {} protocol kernel\n", it.selector(), it.action));
    batch(&lines.collect::<String>(), "File exists").await
}

/// Removes the rules of the network that has this bridge; none is fine.
pub(super) async fn remove(bridge: &str) -> Result<(), Error> {
    let rules = list().await?;
    let Some(subnet) = rules.iter().find_map(|it| it.network().filter(|it| it.0 == bridge)) else {
        return Ok(());
    };
    let network = NetworkRecord { subnet: subnet.1, bridge: bridge.to_owned() };
    let mut wanted = of_network(&network).to_vec();
    let shared =
        rules.iter().filter_map(Rule::network).any(|it| it.0 != bridge && it.1 == subnet.1);
    wanted.retain(|it| !shared || it.iif == Some(bridge));
    // The one that tells the subnet goes last, so that a removal that was cut off is finished by the next.
    wanted.reverse();
    delete(&rules, &wanted).await
}

/// Removes the rules of an interface; none is fine.
pub(super) async fn remove_interface(name: &str) -> Result<(), Error> {
    let mut wanted = of_interface(name);
    wanted.reverse();
    delete(&list().await?, &wanted).await
}

async fn delete(rules: &[Rule], wanted: &[Wanted<'_>]) -> Result<(), Error> {
    let present = wanted.iter().filter(|wanted| rules.iter().any(|rule| rule.is(wanted)));
    let lines = present.map(|it| format!("rule del {}\n", it.selector()));
    batch(&lines.collect::<String>(), "No such file or directory").await
}

/// Has ip(8) do these lines; a line that fails so was done by another skep at the same time.
async fn batch(lines: &str, done: &str) -> Result<(), Error> {
    if lines.is_empty() {
        return Ok(());
    }
    match Cmd::new("ip").args(["-4", "-force", "-batch", "-"]).stdin(lines).run().await {
        Err(skep_sys::CmdError::Failed { tail, .. })
            if tail
                .lines()
                .filter(|line| line.starts_with("RTNETLINK answers: "))
                .all(|line| line.ends_with(done))
                && tail.contains("RTNETLINK answers: ") =>
        {
            Ok(())
        }
        result => Ok(result.map(drop)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_a_network_are_known_again() {
        let subnet = "10.193.0.0/24".parse().unwrap();
        let network = NetworkRecord { subnet, bridge: "skep-demo".into() };
        let output = br#"[{"priority":0,"src":"all","table":"local"},
            {"priority":61,"src":"all","dst":"10.193.0.0","dstlen":24,"iif":"lo","table":"main"},
            {"priority":62,"src":"all","dst":"10.193.0.0","dstlen":24,"fwmark":"0x1000","fwmask":"0x1000","table":"main"},
            {"priority":63,"src":"all","dst":"10.193.0.0","dstlen":24,"action":"prohibit"},
            {"priority":64,"src":"all","fwmark":"0x1000","fwmask":"0x1000","iif":"skep-demo","iif_detached":null,"goto":68},
            {"priority":65,"src":"all","iif":"skep-demo","action":"prohibit"},
            {"priority":68,"src":"all","dst":"10.193.0.0","dstlen":24,"iif":"skep-demo","nop":null},
            {"priority":32766,"src":"all","table":"main"}]"#;
        let rules: Vec<Rule> = crate::network::ip::parse(output).unwrap();
        assert!(guards(&rules, &network));
        assert!(guards(&made(&network).collect::<Vec<_>>(), &network));
        assert_eq!(rules[6].network(), Some(("skep-demo", subnet)));
        assert_eq!(rules[6].interface(), None);
        let through = br#"[{"priority":68,"src":"all","iif":"eth0","nop":null}]"#;
        let through: Vec<Rule> = crate::network::ip::parse(through).unwrap();
        assert_eq!((through[0].interface(), through[0].network()), (Some("eth0"), None));
        for missing in 1..=6 {
            let mut rules = rules.clone();
            rules.remove(missing);
            assert!(!guards(&rules, &network), "without rule {missing}");
        }
        assert!(!guards(&rules, &NetworkRecord { bridge: "skep-other".into(), ..network }));
    }
}
