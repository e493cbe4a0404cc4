//! Why a cluster could not be looked at or changed.

use std::path::PathBuf;

use skep_core::model::{ClusterName, NodeName};
use skep_core::plan::PlanError;
use skep_docker::stack;
use skep_net::{hosts, network};
use skep_store::Exposed;
use skep_sys::{CmdError, shell};
use thiserror::Error;

use super::{NetworkMode, Refusal};
use crate::converge::Failure;
use crate::observe;

/// Why a cluster could not be looked at or changed.
#[derive(Debug, Error)]
pub enum Error {
    /// The clusters of the store could not be listed.
    #[error("cannot list clusters")]
    List(#[source] skep_store::Error),
    /// Others can read a cluster's keys, or could if they got into its directory.
    #[error("{} is accessible to other users (mode {:04o})", .0[0].path.display(), .0[0].mode)]
    Exposed(Vec<Exposed>),
    /// The cluster's lock could not be had.
    #[error("cluster {cluster}")]
    Lock {
        /// The cluster.
        cluster: ClusterName,
        /// Why.
        #[source]
        source: skep_store::Error,
    },
    /// The cluster could not be looked at.
    #[error("cluster {cluster}")]
    Observe {
        /// The cluster.
        cluster: ClusterName,
        /// Why.
        #[source]
        source: Box<observe::Error>,
    },
    /// There is no way from what is there to what is wanted.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// What is wanted cannot be had on this host.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Steps failed; there is at least one.
    #[error("{}", steps(.0))]
    Steps(Vec<Failure>),
    /// There is always something left to do.
    #[error("the cluster does not converge, because its engines do not stay reachable")]
    Restless,
    /// The clusters of the store have networks of the other mode.
    #[error("the clusters in {} have networks {}: {}", .store.display(), .current.place(), names(.clusters))]
    OtherNetworks {
        /// The store.
        store: PathBuf,
        /// The mode that they have.
        current: NetworkMode,
        /// The clusters.
        clusters: Vec<ClusterName>,
    },
    /// Root has no networks in a user namespace.
    #[error("networks in a user namespace are for non-root users")]
    RootInUserns,
    /// That networks are in a user namespace could not be written down.
    #[error("cannot note --net user")]
    NoteUserns(#[source] network::Error),
    /// The host's file of names could not be read.
    #[error("cannot read names")]
    Names(#[source] hosts::Error),
    /// The node's machine does not run.
    #[error("{0} is not running")]
    NotRunning(NodeName),
    /// A service in a node has no log.
    #[error("{node} has no log of {service}")]
    NoLog {
        /// The node.
        node: NodeName,
        /// The service.
        service: String,
    },
    /// A node has no console.
    #[error("{0} is a host, whose console skep does not have")]
    NoConsole(NodeName),
    /// What a machine said on its console cannot be read.
    #[error("{node} has no console log")]
    Console {
        /// The node.
        node: NodeName,
        /// Why.
        #[source]
        source: skep_sys::FileError,
    },
    /// A command in a node failed.
    #[error("{node}")]
    Shell {
        /// The node.
        node: NodeName,
        /// Why.
        #[source]
        source: shell::Error,
    },
    /// The nodes of a cluster could not be listed.
    #[error("cannot list nodes")]
    ListNodes(#[source] skep_store::Error),
    /// A cluster's record could not be read.
    #[error("cluster {cluster}")]
    Record {
        /// The cluster.
        cluster: ClusterName,
        /// Why.
        #[source]
        source: Box<skep_store::Error>,
    },
    /// No manager of a cluster runs.
    #[error("no manager of cluster {0} is running")]
    NoRunningManager(ClusterName),
    /// There is no docker command.
    #[error("the docker command is not installed on this host")]
    NoDocker,
    /// The node that the docker command spoke to ended.
    #[error("{0} went down in the meantime")]
    WentDown(NodeName),
    /// The docker command could not be run.
    #[error("{what}")]
    Docker {
        /// What was to be done.
        what: String,
        /// Why it was not.
        #[source]
        source: CmdError,
    },
    /// The docker command refused a stack.
    #[error("stack {stack}: {said}")]
    StackRefused {
        /// The stack.
        stack: String,
        /// What the docker command said.
        said: String,
    },
    /// The services of a swarm could not be watched.
    #[error("{what}")]
    Services {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: stack::Error,
    },
    /// The services of a stack have not converged.
    #[error("stack {stack} has not converged: {problems}")]
    NotConverged {
        /// The stack.
        stack: String,
        /// Its services that have not, each with what is wrong.
        problems: String,
    },
    /// Something that was to be done with a stack failed.
    #[error("stack {stack}: {source}")]
    OfStack {
        /// The stack.
        stack: String,
        /// Why.
        source: Box<Self>,
    },
    /// There is such a cluster already.
    #[error("cluster {0} already exists")]
    Exists(ClusterName),
}

impl Error {
    /// Says which stack it is about.
    pub(super) fn of_stack(self, stack: &str) -> Self {
        Self::OfStack { stack: stack.to_owned(), source: Box::new(self) }
    }
}

fn steps(failures: &[Failure]) -> String {
    let text = |failure: &Failure| {
        let place = failure.node.as_ref().map(|node| format!("{node}: ")).unwrap_or_default();
        format!("{place}{}: {}", failure.title, skep_sys::chain(&failure.error))
    };
    failures.iter().map(text).collect::<Vec<_>>().join("\n")
}

fn names(clusters: &[ClusterName]) -> String {
    clusters.iter().map(ClusterName::as_str).collect::<Vec<_>>().join(", ")
}
