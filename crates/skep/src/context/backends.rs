//! Who makes networks and writes names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep_net::hosts::{DirectNames, Names};
use skep_net::network::{LinuxNetwork, Network, RootNetwork};
use skep_net::privileged_helper::{self, HelperNetwork};
use skep_net::userns::UsernsNetwork;
use skep_sys::dial_through;

use super::Context;
use crate::cli::Net;
use crate::error::{CliError, Context as _};

/// Who makes networks and writes names for this run.
#[derive(Clone)]
pub(super) struct Backends {
    pub network: Arc<dyn Network>,
    pub names: Arc<dyn Names>,
    pub helper: Option<HelperNetwork>,
    pub userns: Option<UsernsNetwork>,
}

impl Backends {
    /// The user itself where the store's networks are the user's own, else root itself, or what acts as root for
    /// ordinary users, if that was set up here.
    pub fn choose(store: &Path) -> Self {
        if let Some(userns) = UsernsNetwork::of_store(store, own_program()) {
            return Self::userns(userns);
        }
        let own =
            |network| Self { network, names: Arc::new(DirectNames), helper: None, userns: None };
        if skep_sys::is_root() {
            return own(Arc::new(RootNetwork));
        }
        if !Path::new(privileged_helper::PROGRAM).exists() {
            // A user without rights can still look, and be told by the kernel what is missing.
            return own(Arc::new(LinuxNetwork));
        }
        let helper = HelperNetwork::default();
        let (network, names) = (Arc::new(helper.clone()), Arc::new(helper.clone()));
        Self { network, names, helper: Some(helper), userns: None }
    }

    fn userns(userns: UsernsNetwork) -> Self {
        dial_through(userns.clone());
        let (network, names) = (Arc::new(userns.clone()), Arc::new(userns.clone()));
        Self { network, names, helper: None, userns: Some(userns) }
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
        let told = Self { detail: self.detail, prints_events: self.prints_events, ..self.silent() };
        match (wanted, self.userns()) {
            (Net::User, Some(_)) => Ok(told),
            (Net::Bridge, None) => Ok(told),
            (Net::Bridge, Some(_)) => Err(other("of their user's own (--net user)")),
            (Net::User, None) if skep_sys::is_root() => {
                Err(CliError::usage("--net user is for non-root users"))
            }
            (Net::User, None) if !there.is_empty() => Err(other("of this host (--net bridge)")),
            (Net::User, None) => {
                let userns = UsernsNetwork::for_store(self.store.root(), own_program());
                let backends = Backends::userns(userns.context("cannot note --net user")?);
                Ok(Self { backends, ..told })
            }
        }
    }
}

/// Returns the file of this program.
fn own_program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| "skep".into())
}
