//! A network in memory.

use std::os::fd::OwnedFd;
use std::path::Path;

use async_trait::async_trait;
use skep_core::model::{Admits, NetworkRecord, Publication};
use skep_net::firewall::Table;
use skep_net::network::claims::Claim;
use skep_net::network::{Error, HostNetwork, Network};
use skep_store::Owner;

use super::{FakeHost, file_error};

fn injected() -> Error {
    Error::File(file_error())
}

#[async_trait]
impl Network for FakeHost {
    async fn ensure_bridge(&self, network: &NetworkRecord, owner: &Owner) -> Result<(), Error> {
        self.act(injected, |state| {
            if state.rivals > 0 {
                state.rivals -= 1;
                let rival = Owner { user: 1000, ..owner.clone() };
                let bridge = format!("skep-rival-{}", state.rivals);
                state.claims.insert(bridge, Claim::of(&rival, network.subnet));
                let reason = format!("{} overlaps what a rival has", network.subnet);
                return Err(Error::Taken(reason));
            }
            state.bridges.insert(network.bridge.clone(), (network.clone(), owner.clone()));
            Ok(())
        })
    }

    async fn remove_link(&self, name: &str) -> Result<(), Error> {
        self.act(injected, |state| {
            state.bridges.remove(name);
            Ok(())
        })
    }

    async fn ensure_firewall(
        &self,
        network: &NetworkRecord,
        owner: &Owner,
        admits: &Admits,
    ) -> Result<(), Error> {
        self.act(injected, |state| {
            let claim = Claim { peers: admits.peers.clone(), ..Claim::of(owner, network.subnet) };
            state.claims.insert(network.bridge.clone(), claim);
            let (owner, hosts) = (owner.digest(), admits.hosts.clone());
            let table = Table { owner, hosts, ..Table::default() };
            state.tables.insert(network.bridge.clone(), table);
            state.forwarding = true;
            Ok(())
        })
    }

    async fn publish(
        &self,
        network: &NetworkRecord,
        _owner: &Owner,
        publication: Option<&Publication>,
    ) -> Result<(), Error> {
        self.act(injected, |state| {
            match publication {
                Some(it) => state.published.insert(network.bridge.clone(), it.label()),
                None => state.published.remove(&network.bridge),
            };
            Ok(())
        })
    }

    async fn published(&self, network: &NetworkRecord, _owner: &Owner) -> Option<String> {
        self.state().published.get(&network.bridge).cloned()
    }

    async fn unpublish(&self, bridge: &str, _owner: &Owner) -> Result<(), Error> {
        self.act(injected, |state| {
            state.published.remove(bridge);
            Ok(())
        })
    }

    async fn remove_firewall(&self, name: &str) -> Result<(), Error> {
        self.act(injected, |state| {
            state.claims.remove(name);
            state.tables.remove(name);
            Ok(())
        })
    }

    async fn restore_forwarding(&self, _state: &Path) -> Result<(), Error> {
        self.act(injected, |state| {
            state.forwarding = false;
            Ok(())
        })
    }

    async fn look(&self) -> Result<HostNetwork, Error> {
        self.act(injected, |state| {
            let seen = HostNetwork::of(state.bridges.values().cloned(), state.tables.clone());
            Ok(seen.with_claims(state.claims.clone()))
        })
    }

    async fn tap(&self, _: &str, _: &NetworkRecord, _: &Owner) -> Result<OwnedFd, Error> {
        unreachable!("machines in memory have no taps")
    }

    async fn detached_tap(&self) -> Result<OwnedFd, Error> {
        unreachable!("machines in memory have no taps")
    }
}
