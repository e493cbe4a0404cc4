//! Who makes networks and writes names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep_host::broker::{self, BrokeredNetwork};
use skep_host::enclosure::EnclosedNetwork;
use skep_host::hosts::{Names, OwnHands};
use skep_host::net::{LinuxNetwork, Network, RootNetwork};
use skep_host::sys::dial_through;

use super::Context;
use crate::cli::Net;
use crate::error::{CliError, Context as _};

/// Who makes networks and writes names for this run.
#[derive(Clone)]
pub(super) struct Hands {
    pub network: Arc<dyn Network>,
    pub names: Arc<dyn Names>,
    pub broker: Option<BrokeredNetwork>,
    pub enclosed: Option<EnclosedNetwork>,
}

impl Hands {
    /// The user itself where the store's networks are the user's own, else root itself, or what acts as root for
    /// ordinary users, if that was set up here.
    pub fn choose(store: &Path) -> Self {
        if let Some(enclosed) = EnclosedNetwork::of_store(store, own_program()) {
            return Self::enclosed(enclosed);
        }
        let own =
            |network| Self { network, names: Arc::new(OwnHands), broker: None, enclosed: None };
        if skep_host::firewall::is_root() {
            return own(Arc::new(RootNetwork));
        }
        if !Path::new(broker::PROGRAM).exists() {
            // A user without rights can still look, and be told by the kernel what is missing.
            return own(Arc::new(LinuxNetwork));
        }
        let broker = BrokeredNetwork::default();
        let (network, names) = (Arc::new(broker.clone()), Arc::new(broker.clone()));
        Self { network, names, broker: Some(broker), enclosed: None }
    }

    fn enclosed(enclosed: EnclosedNetwork) -> Self {
        dial_through(enclosed.clone());
        let (network, names) = (Arc::new(enclosed.clone()), Arc::new(enclosed.clone()));
        Self { network, names, broker: None, enclosed: Some(enclosed) }
    }
}

impl Context {
    /// Returns the same context, whose clusters have their networks in a namespace of the user's own, or do not.
    ///
    /// # Errors
    ///
    /// If it has clusters of the other kind, or this user is root.
    pub fn with_network(&self, wanted: Net) -> Result<Self, CliError> {
        let clusters = self.store.clusters().context("cannot list clusters")?;
        let there: Vec<_> = clusters.iter().map(|it| it.name().as_str()).collect();
        let other = |kind: &str| {
            let store = self.store.root().display();
            let message =
                format!("the clusters in {store} have networks {kind}: {}", there.join(", "));
            CliError::usage(message).hint("SKEP_HOME=DIRECTORY with the same command, for others")
        };
        let same = self.silent();
        match (wanted, self.enclosed()) {
            (Net::User, Some(_)) => Ok(Self { detail: self.detail, ..same }),
            (Net::Bridge, None) => Ok(Self { detail: self.detail, ..same }),
            (Net::Bridge, Some(_)) => Err(other("of their user's own (--net user)")),
            (Net::User, None) if skep_host::firewall::is_root() => {
                Err(CliError::usage("--net user is for ordinary users: root needs nobody's leave"))
            }
            (Net::User, None) if !there.is_empty() => Err(other("of this host (--net bridge)")),
            (Net::User, None) => {
                let enclosed = EnclosedNetwork::for_store(self.store.root(), own_program());
                let hands = Hands::enclosed(enclosed.context("cannot note --net user")?);
                Ok(Self { detail: self.detail, hands, ..same })
            }
        }
    }
}

/// Returns the file of this program.
fn own_program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| "skep".into())
}
