//! The host's packet filter: what a cluster's network needs of it, and no more.
//!
//! Address translation lives in an nftables table of the cluster's own. To accept a packet there
//! does not keep another table from dropping it, so where iptables drops what it forwards (Docker
//! sets it so), rules that carry the cluster's name are put where Docker leaves room for them.

mod iptables;
mod nft;

use std::collections::BTreeMap;

use skep_core::model::NetworkRecord;
use thiserror::Error;

use crate::sys::CmdError;

/// What went wrong with the packet filter.
#[derive(Debug, Error)]
pub enum Error {
    /// A program failed.
    #[error(transparent)]
    Cmd(#[from] CmdError),
    /// A program said what cannot be understood.
    #[error("the output of nft cannot be understood")]
    Parse(#[source] serde_json::Error),
}

/// What was seen of the packet filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Tables of skep, by name, each with the digest of its owner.
    tables: BTreeMap<String, String>,
    /// Where rules of ours are needed in iptables; none if it forwards everything anyway.
    iptables: Option<iptables::Place>,
    /// Bridges that have rules there.
    accepted: Vec<String>,
    /// Chains that drop what they forward, and that are not ours to change.
    pub obstacles: Vec<String>,
}

impl Rules {
    /// Returns the rules of tables, by name, each with the digest of its owner.
    #[must_use]
    pub fn of(tables: BTreeMap<String, String>) -> Self {
        Self { tables, ..Self::default() }
    }

    /// Tells whether the network that has this bridge has all its rules.
    #[must_use]
    pub fn has(&self, bridge: &str) -> bool {
        self.tables.contains_key(bridge)
            && (self.iptables.is_none() || self.accepted.iter().any(|name| name == bridge))
    }

    /// Returns the tables that carry the digest of an owner.
    #[must_use]
    pub fn tables_of(&self, owner: &str) -> Vec<&str> {
        let own = self.tables.iter().filter(|(_, digest)| *digest == owner);
        own.map(|(name, _)| name.as_str()).collect()
    }
}

/// Makes the rules of a network.
///
/// # Errors
///
/// If nft is missing or refuses.
pub async fn ensure(network: &NetworkRecord, owner: &str) -> Result<(), Error> {
    nft::apply(&nft::render(network, owner)).await?;
    if let Some(place) = iptables::place(&nft::chains().await?).await? {
        iptables::ensure(&place, &network.bridge).await?;
    }
    Ok(())
}

/// Removes the rules of the network that has this bridge; none is fine.
///
/// # Errors
///
/// If nft or iptables refuses; what can be removed is removed all the same.
pub async fn remove(bridge: &str) -> Result<(), Error> {
    let chains = nft::chains().await?;
    let from_iptables = match iptables::place(&chains).await {
        Ok(Some(place)) => iptables::remove(&place, bridge).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if chains.iter().any(|chain| chain.table == bridge) {
        nft::apply(&nft::render_removal(bridge)).await?;
    }
    from_iptables
}

/// Looks at the rules; changes nothing. A host without nft has none.
///
/// # Errors
///
/// If nft says what cannot be understood.
pub async fn look() -> Result<Rules, Error> {
    let chains = match nft::chains().await {
        // Without nft, or without the right to ask it, nothing of ours is there to be seen.
        Err(Error::Cmd(_)) => return Ok(Rules::default()),
        chains => chains?,
    };
    let place = iptables::place(&chains).await?;
    let accepted = match &place {
        Some(place) => iptables::accepted(place).await?,
        None => Vec::new(),
    };
    Ok(Rules {
        tables: nft::owned_tables(&chains),
        obstacles: nft::obstacles(&chains),
        iptables: place,
        accepted,
    })
}
