//! What a firewall that is on has to let through, for a node of a swarm and for a host with clusters.
//!
//! A [`Ruleset`] says what, and a [`Backend`] renders it as one shell script that applies it, removes it or
//! tells whether it is there: the same text does so here, and on a host that is reached by ssh. Rules
//! carry the name `skep:node` or `skep:host`, open and never close, and are kept by what the firewall
//! itself reads when it is loaded again.

mod firewalld;
mod iptables;
mod nftables;
mod ufw;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ipnet::Ipv4Net;
use thiserror::Error;

use skep_sys::{Cmd, CmdError, Output};

/// Prints which firewall is on here, for [`Detected`]. Changes nothing.
pub const DETECT: &str = include_str!("detect.sh");

/// The ports of a swarm's node: ssh, the engine's TLS port, joining, and gossip
/// (docs.docker.com, "Getting started with Swarm mode": open protocols and ports).
pub const TCP_PORTS: [u16; 4] = [22, 2376, 2377, 7946];

/// Gossip, and VXLAN, which carries overlay networks.
pub const UDP_PORTS: [u16; 2] = [4789, 7946];

/// What the names of all bridges of clusters begin with.
const BRIDGES: &str = "skep-";

/// What keeps a host's packets from passing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Chains of nftables that the host's own configuration makes.
    Nftables,
    /// iptables, on nftables or on its own.
    Iptables,
    /// firewalld.
    Firewalld,
    /// ufw.
    Ufw,
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Nftables, Self::Iptables, Self::Firewalld, Self::Ufw];

    /// Returns its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
            Self::Firewalld => "firewalld",
            Self::Ufw => "ufw",
        }
    }

    /// Returns the backend that has this name.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|backend| backend.as_str() == word)
    }
}

/// Which firewall is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detected {
    /// The one to be told what to let through.
    pub backend: Backend,
    /// Whether it may keep anybody out.
    pub closed: bool,
}

impl Detected {
    /// Reads what [`DETECT`] printed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (backend, state) = text.trim().split_once(' ')?;
        let closed = match state {
            "closed" => true,
            "open" => false,
            _ => return None,
        };
        Some(Self { backend: Backend::named(backend)?, closed })
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a script is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Make the rules, in the place of those that were made before.
    Apply,
    /// Take the rules away; none is fine.
    Remove,
    /// Print `on` or `off`; change nothing.
    Look,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Remove => "remove",
            Self::Look => "look",
        }
    }
}

/// The name of an interface, fit for rules and scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface(String);

/// A name that no interface can have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not an interface name, such as eth0")]
pub struct InterfaceError(String);

impl FromStr for Interface {
    type Err = InterfaceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._@-".contains(c);
        let good = (1..=15).contains(&text.len())
            && text.chars().all(fits)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if good { Ok(Self(text.to_owned())) } else { Err(InterfaceError(text.to_owned())) }
    }
}

/// Whom a node lets in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// The addresses; all if there is none.
    pub sources: Vec<Ipv4Net>,
    /// The interface that they come through; any if not given.
    pub interface: Option<Interface>,
}

/// A ruleset that cannot be rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// Everybody would be let in.
    #[error("name the source or interface that the node accepts traffic from")]
    Unscoped,
    /// The firewall has no such rules.
    #[error("firewalld accepts traffic by source or zone, not by interface")]
    Interface,
}

/// Runs a script here, as root; returns what it had to say, beside its result.
///
/// # Errors
///
/// If it fails, with its last words.
pub async fn run_here(script: &str) -> Result<Output, CmdError> {
    Cmd::new(SHELL[0]).args(&SHELL[1..]).stdin(script).timeout(SCRIPT).run().await
}

/// What reads a script whole before it does what it says, so that nothing in it reads the rest of it.
pub const SHELL: [&str; 3] = ["sh", "-c", "script=$(cat) && eval \"$script\""];

/// How long a script may take: firewalld loads all its rules anew.
pub const SCRIPT: Duration = Duration::from_secs(120);

/// Where packets are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// What comes to this host.
    Input,
    /// What this host sends.
    Output,
    /// What goes through.
    Forward,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Input, Self::Output, Self::Forward];

    /// Returns nftables' name of it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Forward => "forward",
        }
    }
}

/// Which packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// All of them.
    All,
    /// Answers of connections that were let through.
    Answers,
    /// TCP, to these ports.
    Tcp(&'static [u16]),
    /// UDP, to these ports.
    Udp(&'static [u16]),
    /// Encrypted overlay networks (IP protocol 50).
    Esp,
}

/// The interface of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Through {
    /// This one.
    Name(String),
    /// Those whose names begin so.
    Prefix(&'static str),
}

/// One thing that is let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where.
    pub hook: Hook,
    /// The interface that it comes in by; any if not given.
    pub inward: Option<Through>,
    /// The interface that it goes out by; any if not given.
    pub outward: Option<Through>,
    /// Where it comes from; anywhere if not given.
    pub source: Option<Ipv4Net>,
    /// What.
    pub traffic: Traffic,
}

/// What is let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    name: &'static str,
    /// The rules; their order does not matter, as all of them accept.
    pub rules: Vec<Rule>,
    /// Whether what comes from bridges of clusters leaves under this host's address.
    pub translates: bool,
    /// Whether sources tell all: no interface has to be named.
    by_interface: bool,
}

impl Ruleset {
    /// Returns what a node of a swarm lets in.
    ///
    /// # Errors
    ///
    /// If the scope is everybody.
    pub fn node(scope: &Scope) -> Result<Self, Error> {
        if scope.sources.is_empty() && scope.interface.is_none() {
            return Err(Error::Unscoped);
        }
        let sources = match &scope.sources[..] {
            [] => vec![None],
            sources => sources.iter().copied().map(Some).collect(),
        };
        let through = scope.interface.as_ref().map(|interface| Through::Name(interface.0.clone()));
        let mut rules = vec![loopback()];
        for source in sources {
            for traffic in [Traffic::Tcp(&TCP_PORTS), Traffic::Udp(&UDP_PORTS), Traffic::Esp] {
                let inward = through.clone();
                rules.push(Rule { hook: Hook::Input, inward, outward: None, source, traffic });
            }
        }
        Ok(Self { name: "node", rules, translates: false, by_interface: through.is_some() })
    }

    /// Returns the ruleset of a node whatever it lets in, to look for its rules or take them away.
    #[must_use]
    pub fn of_any_node() -> Self {
        Self { name: "node", rules: vec![loopback()], translates: false, by_interface: false }
    }

    /// Returns what a host of virtual machines lets through: all between it and the bridges of
    /// clusters, what the machines send on, and the answers.
    #[must_use]
    pub fn host() -> Self {
        let bridges = || Some(Through::Prefix(BRIDGES));
        let rule =
            |hook, inward, outward, traffic| Rule { hook, inward, outward, source: None, traffic };
        let rules = vec![
            loopback(),
            rule(Hook::Input, bridges(), None, Traffic::All),
            rule(Hook::Output, None, bridges(), Traffic::All),
            rule(Hook::Forward, bridges(), None, Traffic::All),
            rule(Hook::Forward, None, bridges(), Traffic::Answers),
        ];
        Self { name: "host", rules, translates: true, by_interface: false }
    }

    /// Returns `node` or `host`; the rules are called `skep:` and this.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the script for sh(1), as root, that does `action` to these rules.
    ///
    /// # Errors
    ///
    /// If the firewall has no such rules.
    pub fn render(&self, backend: Backend, action: Action) -> Result<String, Error> {
        self.render_with(backend, action.as_str())
    }

    /// Returns functions of sh(1), one for each firewall that has such rules, called `firewall_` and its name:
    /// with `apply`, `remove` or `look` they do that.
    #[must_use]
    pub fn functions(&self) -> String {
        let mut text = String::new();
        for backend in Backend::ALL {
            if let Ok(script) = self.render_with(backend, "\"$1\"") {
                text.push_str(&format!("firewall_{backend}() (\n{script})\n"));
            }
        }
        text
    }

    /// Returns the script whose last line is `action`.
    fn render_with(&self, backend: Backend, action: &str) -> Result<String, Error> {
        let (rules, body) = match backend {
            Backend::Nftables => (nftables::render(self), nftables::BODY),
            Backend::Iptables => (iptables::render(self), iptables::BODY),
            Backend::Firewalld => (firewalld::render(self)?, firewalld::BODY),
            Backend::Ufw => (ufw::render(self), ufw::BODY),
        };
        let name = self.name;
        Ok(format!(
            "# {backend}: the rules of skep:{name}.\nset -eu\nname={name}\n{rules}\n{body}\n{action}\n"
        ))
    }

    fn at(&self, hook: Hook) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |rule| rule.hook == hook)
    }

    /// Returns the rules but that of loopback, for firewalls that have it always.
    fn beside_loopback(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| **rule != loopback())
    }
}

fn loopback() -> Rule {
    Rule {
        hook: Hook::Input,
        inward: Some(Through::Name("lo".to_owned())),
        outward: None,
        source: None,
        traffic: Traffic::All,
    }
}

fn joined(ports: &[u16], separator: &str) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(separator)
}

/// Returns a function of the script that prints a text for each hook.
fn printer(function: &str, text: impl Fn(Hook) -> String) -> String {
    let mut script = format!("{function}() {{\n\tcase $1 in\n");
    for hook in Hook::ALL {
        let text = text(hook);
        if !text.is_empty() {
            script.push_str(&format!("\t{}) cat <<'END' ;;\n{text}END\n", hook.as_str()));
        }
    }
    script.push_str("\tesac\n}\n");
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Ruleset {
        let sources = vec!["192.0.2.7/32".parse().unwrap(), "10.9.0.0/24".parse().unwrap()];
        Ruleset::node(&Scope { sources, interface: None }).unwrap()
    }

    #[test]
    fn each_firewall_is_told_the_same() {
        let host = Ruleset::host();
        for (ruleset, whose) in [(node(), "node"), (host, "host")] {
            for backend in Backend::ALL {
                let script = ruleset.render(backend, Action::Apply).unwrap();
                // The rest of the script is a file.
                let (rules, rest) = script.split_once("\n# ---").unwrap();
                assert!(rest.ends_with("}\n\napply\n"), "{rest}");
                insta::assert_snapshot!(format!("{backend}_of_a_{whose}"), rules);
            }
        }
    }

    #[test]
    fn a_node_lets_nobody_in_who_is_not_named() {
        assert_eq!(Ruleset::node(&Scope::default()), Err(Error::Unscoped));
        let interface = Some("eth1".parse().unwrap());
        let by_interface = Ruleset::node(&Scope { sources: Vec::new(), interface }).unwrap();
        let script = |backend| by_interface.render(backend, Action::Apply);
        assert!(script(Backend::Nftables).unwrap().contains("iifname \"eth1\" tcp dport {"));
        assert!(script(Backend::Iptables).unwrap().contains("-i eth1 -p udp"));
        assert!(script(Backend::Ufw).unwrap().contains("allow in on eth1 proto esp"));
        assert_eq!(script(Backend::Firewalld), Err(Error::Interface));
    }

    #[test]
    fn an_interface_cannot_be_a_command() {
        for bad in ["", "a b", "$(id)", "-i", "sixteen-letters-", "eth0;", "x\n"] {
            assert!(bad.parse::<Interface>().is_err(), "{bad:?}");
        }
        assert!("br-3f.12@x".parse::<Interface>().is_ok());
    }

    #[test]
    fn a_backend_is_known_by_its_name() {
        for backend in Backend::ALL {
            let closed = Detected { backend, closed: true };
            assert_eq!(Detected::parse(&format!("{backend} closed\n")), Some(closed));
        }
        assert_eq!(Detected::parse("nftables"), None);
        assert_eq!(Detected::parse("pf closed"), None);
    }
}
