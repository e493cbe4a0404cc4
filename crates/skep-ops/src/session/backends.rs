//! Who makes networks and writes names.

use std::path::Path;
use std::sync::Arc;

use skep_net::hosts::{DirectNames, Names};
use skep_net::network::{LinuxNetwork, Network, RootNetwork};
use skep_net::privileged_helper::{self, HelperNetwork};
use skep_net::userns::UsernsNetwork;

use super::{Error, Session};

/// Where the networks of clusters are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkMode {
    /// On bridges of this host.
    Bridge,
    /// In a namespace of an ordinary user.
    User,
}

impl NetworkMode {
    /// Says where networks are, and the option for that.
    pub(super) const fn place(self) -> &'static str {
        match self {
            Self::User => "in a user namespace (--net user)",
            Self::Bridge => "on this host (--net bridge)",
        }
    }
}

/// Who makes networks and writes names.
#[derive(Clone)]
pub struct Backends {
    pub(super) network: Arc<dyn Network>,
    pub(super) names: Arc<dyn Names>,
    pub(super) helper: Option<HelperNetwork>,
    pub(super) userns: Option<UsernsNetwork>,
}

impl Backends {
    /// Chooses the user namespace where the store's networks are in one, else root itself, or the privileged helper for
    /// ordinary users, if it is set up. `program` is skep's.
    #[must_use]
    pub fn choose(store: &Path, program: &Path) -> Self {
        if let Some(userns) = UsernsNetwork::of_store(store, program.to_owned()) {
            return Self::in_userns(userns);
        }
        let own =
            |network| Self { network, names: Arc::new(DirectNames), helper: None, userns: None };
        if skep_sys::is_root() {
            return own(Arc::new(RootNetwork));
        }
        if !Path::new(privileged_helper::PROGRAM).exists() {
            // A user without rights can still look, and be told by the kernel what is missing.
            return own(Arc::new(LinuxNetwork::host()));
        }
        let helper = HelperNetwork::default();
        let (network, names) = (Arc::new(helper.clone()), Arc::new(helper.clone()));
        Self { network, names, helper: Some(helper), userns: None }
    }

    fn in_userns(userns: UsernsNetwork) -> Self {
        let (network, names) = (Arc::new(userns.clone()), Arc::new(userns.clone()));
        Self { network, names, helper: None, userns: Some(userns) }
    }

    /// Returns what makes networks of a mode for a session's clusters.
    pub(super) fn switch(&self, mode: NetworkMode, session: &Session) -> Result<Self, Error> {
        let is_user = self.userns.is_some();
        if is_user == (mode == NetworkMode::User) {
            return Ok(self.clone());
        }
        let clusters = session.store.clusters().map_err(Error::List)?;
        if mode == NetworkMode::Bridge || !clusters.is_empty() && !skep_sys::is_root() {
            let clusters = clusters.iter().map(|it| it.name().clone()).collect();
            let current = if is_user { NetworkMode::User } else { NetworkMode::Bridge };
            let store = session.store.root().to_owned();
            return Err(Error::OtherNetworks { store, current, clusters });
        }
        if skep_sys::is_root() {
            return Err(Error::RootInUserns);
        }
        let userns = UsernsNetwork::for_store(session.store.root(), session.config.program.clone());
        userns.map(Self::in_userns).map_err(Error::NoteUserns)
    }
}
