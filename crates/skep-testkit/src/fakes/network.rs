//! A network in memory.

use std::path::Path;

use async_trait::async_trait;
use skep_core::model::NetworkRecord;
use skep_host::net::{Error, HostNetwork, Network};
use skep_host::store::Owner;

use super::{FakeHost, file_error};

fn injected() -> Error {
    Error::File(file_error())
}

#[async_trait]
impl Network for FakeHost {
    async fn ensure_bridge(&self, network: &NetworkRecord, owner: &Owner) -> Result<(), Error> {
        self.act(injected, |state| {
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

    async fn ensure_firewall(&self, network: &NetworkRecord, owner: &Owner) -> Result<(), Error> {
        self.act(injected, |state| {
            state.tables.insert(network.bridge.clone(), owner.digest());
            Ok(())
        })
    }

    async fn remove_firewall(&self, name: &str) -> Result<(), Error> {
        self.act(injected, |state| {
            state.tables.remove(name);
            Ok(())
        })
    }

    async fn ensure_forwarding(&self, _state: &Path) -> Result<(), Error> {
        self.act(injected, |state| {
            state.forwarding = true;
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
            Ok(HostNetwork::of(state.bridges.values().cloned(), state.tables.clone()))
        })
    }
}
