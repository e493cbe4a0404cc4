//! What a node is given by the host: its identity, and its keys and certificates.

use std::net::Ipv4Addr;

use sha2::{Digest, Sha256};
use skep_core::model::{NetworkRecord, NodeRecord};

use skep_sys::hex;

/// The program in every guest that makes it what it is told to be (`guest/identity.rs`).
pub const PROGRAM: &str = "/usr/lib/skep/identity";

/// The services that wait for what only the host can give.
const SERVICES: [&str; 3] = ["tls", "sshd", "clock"];

/// What makes a guest one node and no other: a copy of a running machine has none of it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity<'a> {
    /// What is written down of the node.
    pub node: &'a NodeRecord,
    /// Its network.
    pub network: &'a NetworkRecord,
    /// The name of its interface, if it is another than usual.
    pub link: Option<&'a str>,
    /// Addresses of DNS servers.
    pub resolvers: &'a [Ipv4Addr],
    /// What its clock is behind, in nanoseconds.
    pub behind_ns: i64,
    /// Randomness from the host.
    pub seed: [u8; 32],
}

/// Keys and certificates of a node, as files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Public keys that may log in.
    pub authorized_keys: Vec<u8>,
    /// The ssh server's private key.
    pub host_key: Vec<u8>,
    /// The ssh server's public key.
    pub host_key_public: Vec<u8>,
    /// The certificate that the engine's clients are checked against.
    pub ca: Vec<u8>,
    /// The engine's certificate.
    pub server: Vec<u8>,
    /// The engine's private key.
    pub server_key: Vec<u8>,
}

impl Delivery {
    /// Returns the files, with the engine's a second time where docker-machine leaves them.
    fn files(&self) -> [(&'static str, u32, &[u8]); 9] {
        [
            ("home/docker/.ssh/authorized_keys", 0o600, &self.authorized_keys),
            ("etc/ssh/ssh_host_ed25519_key", 0o600, &self.host_key),
            ("etc/ssh/ssh_host_ed25519_key.pub", 0o644, &self.host_key_public),
            ("etc/docker/tls/ca.pem", 0o644, &self.ca),
            ("etc/docker/tls/server.pem", 0o644, &self.server),
            ("etc/docker/tls/server-key.pem", 0o600, &self.server_key),
            ("var/lib/boot2docker/ca.pem", 0o644, &self.ca),
            ("var/lib/boot2docker/server.pem", 0o644, &self.server),
            ("var/lib/boot2docker/server-key.pem", 0o600, &self.server_key),
        ]
    }

    /// Returns a digest of all the files; it tells nothing of the keys.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (path, mode, content) in self.files() {
            hash.update(format!("{path} {mode:o} {}\n", content.len()));
            hash.update(content);
        }
        hex(&hash.finalize())
    }
}

/// Returns what [`PROGRAM`] reads from its standard input.
///
/// A node that has its identity and files already is left alone: restarting the TLS service would
/// cut connections.
#[must_use]
pub fn render(identity: &Identity<'_>, delivery: &Delivery) -> Vec<u8> {
    let Identity { node, network, link, resolvers, behind_ns, seed } = identity;
    let seed = hex(seed);
    let mut text = format!("clock {behind_ns}\nseed {seed}\nhostname {}\n", node.name());
    text += &format!("address {}/{}\n", node.address, network.subnet.prefix_len());
    text += &format!("gateway {}\nmac {}\n", network.gateway(), node.mac);
    if let Some(link) = link {
        text += &format!("link {link}\n");
    }
    if !resolvers.is_empty() {
        let servers: Vec<_> = resolvers.iter().map(Ipv4Addr::to_string).collect();
        text += &format!("dns {}\n", servers.join(","));
    }
    text += &format!("digest {}\n", delivery.digest());
    let mut bytes = text.into_bytes();
    for (path, mode, content) in delivery.files() {
        bytes.extend(format!("file {mode:o} {path} {}\n", content.len()).into_bytes());
        bytes.extend(content);
        bytes.push(b'\n');
    }
    for service in SERVICES {
        bytes.extend(format!("service {service}\n").into_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_core::fixtures;

    #[test]
    fn a_node_is_told_what_it_is() {
        let node = fixtures::node();
        let network = fixtures::network();
        let resolvers = ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        let identity = Identity {
            node: &node,
            network: &network,
            link: Some("eth1"),
            resolvers: &resolvers,
            behind_ns: -5,
            seed: [7; 32],
        };
        let delivery = Delivery { server_key: b"A KEY".to_vec(), ..Delivery::default() };
        insta::assert_snapshot!(String::from_utf8(render(&identity, &delivery)).unwrap());
    }

    #[test]
    fn any_changed_file_changes_the_digest() {
        let plain = Delivery::default();
        let changed = Delivery { ca: b"x".to_vec(), ..Delivery::default() };
        assert_ne!(plain.digest(), changed.digest());
        assert_eq!(plain.digest(), Delivery::default().digest());
    }

    #[test]
    fn private_keys_are_for_root_alone() {
        for (path, mode, _) in Delivery::default().files() {
            let private = path.ends_with("_key") || path.ends_with("-key.pem");
            assert_eq!(mode & 0o077 == 0, private || path.contains("authorized"), "{path}");
        }
    }
}
