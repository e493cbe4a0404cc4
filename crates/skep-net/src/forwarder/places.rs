//! What is written down of networks, and of what is forwarded to them.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skep_core::model::{NetworkRecord, Publication};
use skep_store::check_known;
use skep_sys::{FileError, make_private_dir, read_own, remove_file, write_atomic};

use super::loopback_alias;

/// The port of a node's engine, which every directory that has nodes forwards to.
const ENGINE: u16 = 2376;

/// What is written down of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// The network.
    pub network: NetworkRecord,
    /// The addresses of its nodes, as far as their machines were started.
    pub nodes: Vec<Ipv4Addr>,
    /// What else listens on nodes.
    #[serde(default)]
    pub services: Vec<SocketAddrV4>,
    /// Ports of the loopback, and the node that they lead to.
    pub ports: Vec<u16>,
    /// That node; none if no port is published.
    pub to: Option<Ipv4Addr>,
}

impl Noted {
    fn new(network: &NetworkRecord) -> Self {
        Self {
            network: network.clone(),
            nodes: Vec::new(),
            services: Vec::new(),
            ports: Vec::new(),
            to: None,
        }
    }

    /// Has ports of the loopback lead to a node, and no others; with no publication, none do.
    pub fn lead(&mut self, publication: Option<&Publication>) {
        self.to = publication.map(|it| it.to);
        self.ports = publication.map(|it| it.ports.clone()).unwrap_or_default();
    }

    /// Returns where ports of the loopback lead.
    #[must_use]
    pub fn publication(&self) -> Option<Publication> {
        Some(Publication { ports: self.ports.clone(), to: self.to? })
    }

    /// Returns where to listen, and where that leads.
    pub fn ways(&self) -> impl Iterator<Item = (SocketAddrV4, SocketAddrV4)> {
        let engines = self.nodes.iter().map(|node| SocketAddrV4::new(*node, ENGINE));
        let aliases = engines.chain(self.services.iter().copied());
        let aliases =
            aliases.map(|to| (SocketAddrV4::new(loopback_alias(*to.ip()), to.port()), to));
        let published = self.to.into_iter().flat_map(|to| {
            let at = move |port: &u16| {
                (SocketAddrV4::new(Ipv4Addr::LOCALHOST, *port), SocketAddrV4::new(to, *port))
            };
            self.ports.iter().map(at)
        });
        aliases.chain(published)
    }
}

/// What is written down of all networks of a directory.
#[derive(Debug, Clone)]
pub struct Places {
    dir: PathBuf,
}

impl Places {
    /// Returns those of a directory.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.join("networks") }
    }

    fn file(&self, bridge: &str) -> PathBuf {
        self.dir.join(format!("{bridge}.json"))
    }

    fn paths(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|it| it.extension().is_some_and(|it| it == "json"))
            .collect()
    }

    /// Returns all of them, by the names of their bridges; one that is damaged is left out.
    ///
    /// # Errors
    ///
    /// If one has a key that this skep does not know.
    pub fn all(&self) -> Result<Vec<Noted>, FileError> {
        let mut all = Vec::new();
        for path in self.paths() {
            let Some(value) = read_own(&path).ok().and_then(|it| serde_json::from_slice(&it).ok())
            else {
                continue;
            };
            if let Ok(noted) = Noted::deserialize(&value) {
                check_known(&path, &value, &noted)?;
                all.push(noted);
            }
        }
        all.sort_by(|a, b| a.network.bridge.cmp(&b.network.bridge));
        Ok(all)
    }

    /// Tells whether nothing is written down, not even what cannot be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths().is_empty()
    }

    /// Changes what is written down of a network, which may be nothing yet.
    ///
    /// # Errors
    ///
    /// If the directory cannot be written to, or a newer skep wrote in it.
    pub fn change(
        &self,
        network: &NetworkRecord,
        change: impl FnOnce(&mut Noted),
    ) -> Result<(), FileError> {
        make_private_dir(&self.dir)?;
        let known = self.all()?.into_iter().find(|noted| noted.network == *network);
        let mut noted = known.unwrap_or_else(|| Noted::new(network));
        change(&mut noted);
        let text = serde_json::to_vec(&noted).expect("plain values");
        write_atomic(&self.file(&network.bridge), 0o600, &text)
    }

    /// Removes what is written down of a network; nothing is fine.
    ///
    /// # Errors
    ///
    /// If the directory cannot be written to.
    pub fn forget(&self, bridge: &str) -> Result<(), FileError> {
        remove_file(&self.file(bridge))
    }

    /// Tells whether an address is of one of these networks.
    #[must_use]
    pub fn has(&self, address: Ipv4Addr) -> bool {
        let all = self.all().unwrap_or_default();
        all.iter().any(|noted| noted.network.subnet.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_noted_with_its_ways_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::new(dir.path());
        let subnet = "10.193.0.0/24".parse().unwrap();
        let network = NetworkRecord { subnet, bridge: "skep-a".into() };
        assert_eq!(places.all().unwrap(), []);
        places.change(&network, |it| it.nodes.push([10, 193, 0, 2].into())).unwrap();
        let publication = Publication { ports: vec![8080], to: [10, 193, 0, 2].into() };
        places.change(&network, |it| it.lead(Some(&publication))).unwrap();
        let serve = |it: &mut Noted| it.services.push("10.193.0.3:5000".parse().unwrap());
        places.change(&network, serve).unwrap();
        let ways: Vec<_> =
            places.all().unwrap()[0].ways().map(|(at, to)| format!("{at} {to}")).collect();
        let expected = [
            "127.193.0.2:2376 10.193.0.2:2376",
            "127.193.0.3:5000 10.193.0.3:5000",
            "127.0.0.1:8080 10.193.0.2:8080",
        ];
        assert_eq!(ways, expected);
        assert!(places.has([10, 193, 0, 9].into()) && !places.has([10, 193, 1, 2].into()));
        std::fs::write(dir.path().join("networks/skep-b.json"), "{").unwrap();
        places.forget("skep-a").unwrap();
        assert_eq!(places.all().unwrap(), []);
        assert!(
            !places.is_empty(),
            "another network's note is damaged, and its own cluster's to remove"
        );
        places.forget("skep-b").unwrap();
        assert!(places.is_empty());
    }
}
