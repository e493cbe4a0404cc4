//! Registries of container images: one that a node serves to its cluster and to the host, and those that
//! are there already, which all engines are to trust.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use serde::{Deserialize, Serialize};

use super::{NodeName, NodeRecord, NodeSpec, Role};

/// A cluster's registry as its user wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrySpec {
    /// The node that serves it, and has its images on its disk.
    pub node: NodeName,
    /// Its port.
    pub port: u16,
    /// The registry whose images it also hands on, at the next port, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    /// Whether it runs. One that does not is kept in mind: nodes that slept when it was stopped are
    /// told when they wake up.
    pub runs: bool,
}

impl RegistrySpec {
    /// The port if none is given.
    pub const DEFAULT_PORT: u16 = 5000;

    /// Returns the node that serves one if nobody has chosen: the first manager that is a virtual machine,
    /// else any that is.
    #[must_use]
    pub fn place(nodes: &[NodeSpec]) -> Option<&NodeName> {
        let managers = nodes.iter().filter(|it| it.role == Role::Manager);
        let mut machines = managers.chain(nodes).filter(|it| it.is_vm());
        machines.next().map(|node| &node.name)
    }

    /// Returns what a node has to have of it; none if it does not run.
    #[must_use]
    pub fn part(&self, node: &NodeRecord, address: Ipv4Addr) -> Option<RegistryPart> {
        self.runs.then(|| RegistryPart {
            at: SocketAddrV4::new(address, self.port),
            serves: *node.name() == self.node,
            mirror: self.mirror.clone(),
        })
    }

    /// Returns everything that is wrong with it, but for its node.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(1024..u16::MAX).contains(&self.port) {
            problems.push(format!("the registry's port is {}; use 1024 to 65534", self.port));
        }
        let engines = [2376, 2377, 4789, 7946];
        if engines.iter().any(|port| (self.port..=self.last_port()).contains(port)) {
            problems
                .push(format!("the registry cannot use port {}, which the engines use", self.port));
        }
        let is_url = |url: &str| {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            let fits = |c: char| c.is_ascii_graphic() && !"'\"\\`$".contains(c);
            rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(fits))
        };
        if let Some(url) = self.mirror.as_ref().filter(|url| !is_url(url)) {
            problems
                .push(format!("`{url}` is not the URL of a registry, such as https://host:5000"));
        }
        problems
    }

    fn last_port(&self) -> u16 {
        self.port.saturating_add(u16::from(self.mirror.is_some()))
    }
}

/// What one node has of a registry. Its text is what the node keeps, to be compared later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryPart {
    /// Where it is, for engines and for the host.
    pub at: SocketAddrV4,
    /// Whether the node serves it; all others only trust it.
    pub serves: bool,
    /// The registry whose images are handed on.
    pub mirror: Option<String>,
}

impl RegistryPart {
    /// Returns where the images of another registry are handed on, if any are.
    #[must_use]
    pub fn mirror_at(&self) -> Option<SocketAddrV4> {
        let port = self.at.port().checked_add(1)?;
        self.mirror.as_ref().map(|_| SocketAddrV4::new(*self.at.ip(), port))
    }
}

impl fmt::Display for RegistryPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.serves { "serve" } else { "trust" }, self.at)?;
        match &self.mirror {
            Some(url) => write!(f, " mirror {url}"),
            None => Ok(()),
        }
    }
}

/// A registry that is there already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustedRegistry {
    /// Its name as it stands in references of images, such as `hub.example:5000`.
    pub at: String,
    /// The certificates of the authority that it is trusted by, in PEM; none if it is not verified at all,
    /// or has no TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

impl TrustedRegistry {
    /// Tells whether that is how references name a registry: a host and perhaps a port.
    #[must_use]
    pub fn is_name(text: &str) -> bool {
        let (host, port) = text.split_once(':').unwrap_or((text, "443"));
        let label = |label: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
            !label.is_empty() && label.chars().all(fits) && !label.starts_with('-')
        };
        host.len() <= 253
            && host.split('.').all(label)
            && (host.contains('.') || host == "localhost" || text.contains(':'))
            && port.chars().all(|c| c.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    }
}

impl fmt::Display for TrustedRegistry {
    /// Writes its name, and what tells one authority from another.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ca {
            Some(ca) => write!(f, "{} by {:016x}", self.at, fnv(ca.as_bytes())),
            None => write!(f, "{} unverified", self.at),
        }
    }
}

/// Returns a number that changes with the bytes (FNV-1a). It keeps nobody from anything: what is trusted is
/// the file itself.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What one node has of all registries. Its text is what the node keeps, to be compared later.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    /// Of the cluster's own.
    pub own: Option<RegistryPart>,
    /// Those that are there already.
    pub trusted: Vec<TrustedRegistry>,
}

impl Registries {
    /// Tells whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.own.is_none() && self.trusted.is_empty()
    }
}

impl fmt::Display for Registries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.own.iter().map(ToString::to_string);
        let trusted = self.trusted.iter().map(|it| format!("trust {it}"));
        f.write_str(&own.chain(trusted).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_references_begin_with() {
        for name in ["hub.example", "hub.example:5000", "hub:5000", "10.1.2.3:5000", "localhost"] {
            assert!(TrustedRegistry::is_name(name), "{name}");
        }
        for name in
            ["", "hub", "hub:", "hub:0", "hub:70000", "https://hub:1", "a b:1", "../x:1", "-a.b"]
        {
            assert!(!TrustedRegistry::is_name(name), "{name}");
        }
    }

    #[test]
    fn another_authority_makes_another_text() {
        let text = |ca: Option<&str>| {
            let trusted = TrustedRegistry { at: "hub:5000".into(), ca: ca.map(str::to_owned) };
            Registries { own: None, trusted: vec![trusted] }.to_string()
        };
        assert_eq!(text(None), "trust hub:5000 unverified");
        assert_ne!(text(Some("one")), text(Some("two")));
    }

    fn spec(port: u16, mirror: Option<&str>) -> RegistrySpec {
        let node = NodeName::numbered(0);
        RegistrySpec { node, port, mirror: mirror.map(str::to_owned), runs: true }
    }

    #[test]
    fn what_cannot_be_served_is_told() {
        assert!(spec(5000, Some("https://registry.example")).problems().is_empty());
        for (port, mirror) in [
            (80, None),
            (65535, None),
            (2377, None),
            (2375, Some("https://registry.example")),
            (5000, Some("registry.example")),
            (5000, Some("https://")),
            (5000, Some("https://a b")),
        ] {
            assert_eq!(spec(port, mirror).problems().len(), 1, "{port} {mirror:?}");
        }
    }
}
