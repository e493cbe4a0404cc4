//! Phases: the few parts of a run that are worth a line each.

use std::fmt;

use super::{Action, ClusterAction, NodeAction, Plan};
use crate::event::StepOutline;

/// A part of the work that a user knows by name. Every step belongs to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// skep's own records. Writing them takes no time that anybody would notice.
    Records,
    /// The image that machines are made from, and templates of running ones.
    Image,
    /// Certificate authority, certificates and ssh keys.
    Certificates,
    /// Bridge, firewall rules and address translation.
    Network,
    /// Machines, from their disks to an engine that answers.
    Machines,
    /// Membership, roles and labels in the swarm.
    Swarm,
    /// Container images on the nodes.
    Images,
    /// The cluster's registry, and trust in others.
    Registry,
    /// What shows that the swarm works.
    Verification,
    /// Published ports, names and the docker context on this host.
    Access,
    /// Services that were deployed.
    Stacks,
}

impl Phase {
    /// Returns the phase's name as users read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Image => "image",
            Self::Certificates => "certificates",
            Self::Network => "network",
            Self::Machines => "machines",
            Self::Swarm => "swarm",
            Self::Images => "container images",
            Self::Registry => "registry",
            Self::Verification => "verification",
            Self::Access => "access",
            Self::Stacks => "stacks",
        }
    }

    /// Tells whether the phase gets its own line when steps are not shown.
    #[must_use]
    pub fn has_line(self) -> bool {
        self != Self::Records
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Action {
    /// Returns the phase that the action belongs to.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self {
            Self::Cluster(action) => action.phase(),
            Self::Node(_, action) => action.phase(),
        }
    }
}

impl ClusterAction {
    /// Returns the phase that the action belongs to.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self {
            Self::RecordCluster(_) | Self::RemoveCluster => Phase::Records,
            Self::EnsureImage(_) | Self::EnsureTemplate { .. } => Phase::Image,
            Self::EnsureCredentials
            | Self::RenewCredentials
            | Self::PrepareAuthority
            | Self::SwitchAuthority
            | Self::WithdrawAuthority => Phase::Certificates,
            Self::EnsureBridge(_)
            | Self::EnsureFirewall { .. }
            | Self::RemoveFirewall(_)
            | Self::RemoveLink(_) => Phase::Network,
            Self::ForgetMember { .. } | Self::AwaitReady { .. } => Phase::Swarm,
            Self::LoadImages { .. } => Phase::Images,
            Self::StartProbe { .. }
            | Self::VerifyNetworks { .. }
            | Self::VerifyNodes { .. }
            | Self::RemoveProbe { .. } => Phase::Verification,
            Self::PublishHosts(_)
            | Self::PublishPorts { .. }
            | Self::EnsureContext { .. }
            | Self::RemoveContext { .. } => Phase::Access,
        }
    }
}

impl NodeAction {
    /// Returns the phase that the action belongs to.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self {
            Self::RecordNode(_) => Phase::Records,
            Self::EnsureNodeKeys
            | Self::RenewNodeKeys
            | Self::EnsureMachineKeys
            | Self::RenewMachineKeys => Phase::Certificates,
            Self::OpenHost { .. } => Phase::Network,
            Self::CreateDisk { .. }
            | Self::ForkMachine
            | Self::StartMachine
            | Self::AwaitGuest
            | Self::PauseMachine
            | Self::ResumeMachine
            | Self::Provision
            | Self::AdoptHost
            | Self::ReleaseHost { .. }
            | Self::RestartEngine
            | Self::ConfigureEngine
            | Self::UpgradeEngine
            | Self::AwaitEngine
            | Self::StopMachine
            | Self::KillMachine
            | Self::RemoveNode => Phase::Machines,
            Self::InitSwarm
            | Self::JoinSwarm { .. }
            | Self::ConfigureMember { .. }
            | Self::AwaitIdle { .. }
            | Self::RecoverSwarm
            | Self::LeaveSwarm { .. } => Phase::Swarm,
            Self::SetRegistry(_) => Phase::Registry,
        }
    }
}

impl Plan {
    /// Returns of each step what progress has to know in advance.
    #[must_use]
    pub fn outline(&self) -> Vec<StepOutline> {
        let outline = |step: &super::Step| StepOutline {
            phase: step.action.phase(),
            node: step.action.node().cloned(),
        };
        self.steps.iter().map(outline).collect()
    }
}
