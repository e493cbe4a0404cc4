//! Plans: what has to be done to get from what is there to what is wanted.
//!
//! A plan is a flat list of [`Step`]s. Each names the earlier steps that it needs, so an executor
//! can run what does not depend on each other at the same time; it has no choice beyond that. Every
//! step can be run again: a plan that was cut off anywhere is followed by a new look and a new plan.

mod access;
mod action;
mod aftermath;
mod certs;
mod diff;
mod down;
mod hosts;
mod images;
mod machine;
mod machines;
mod network;
mod nodes;
mod phase;
mod power;
mod recover;
mod registry;
mod settings;
mod swarm;
mod up;

use std::fmt;

use ipnet::Ipv4Net;
use thiserror::Error;

pub use access::plan_follow;
pub use action::{Action, ClusterAction, DiskBase, NodeAction, Step};
pub use aftermath::{Aftermath, Attempt, Standing, plan_aftermath};
pub use certs::{plan_renew, plan_rotate};
pub use diff::{Change, Kind, Mark, diff};
pub use down::{plan_down, plan_down_parting};
pub use hosts::plan_hostnames;
pub use images::{plan_bake, plan_load, without_images};
pub use machines::{
    UsualAddresses, plan_machine_engine, plan_machine_removal, plan_machine_upgrade,
    plan_machines_up,
};
pub use network::{is_in_use, subnet_pool};
pub use nodes::{Parting, plan_parting, plan_remove_nodes};
pub use phase::Phase;
pub use power::{StopMode, plan_pause, plan_resume, plan_start, plan_stop};
pub use recover::{plan_forget_lost, plan_recover};
pub use registry::{plan_registry_change, plan_trust};
pub use settings::{plan_idle_stop, plan_settings};
pub use up::{Birth, UpOptions, Verify, plan_reservation, plan_up, plan_up_without, reservation};

use crate::model::{ClusterName, NodeName, Size, SpecError};

/// What to do, in an order in which every step comes after those it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// Whether more may have to be done that can only be known after these steps: look again then.
    pub look_again: bool,
    /// What the user should know about the plan.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Tells whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Returns for each step whether nothing of the plan is of use without it: what forms the swarm, and all that
    /// this needs. In a plan for a swarm that exists there is none.
    #[must_use]
    pub fn vital_steps(&self) -> Vec<bool> {
        let mut vital = vec![false; self.steps.len()];
        for (index, step) in self.steps.iter().enumerate().rev() {
            vital[index] |= step.does(&NodeAction::InitSwarm);
            if vital[index] {
                step.needs.iter().for_each(|need| vital[*need] = true);
            }
        }
        vital
    }

    fn push(&mut self, step: Step) -> usize {
        self.steps.push(step);
        self.steps.len() - 1
    }
}

impl fmt::Display for Plan {
    /// Writes one step a line with the numbers of the steps that it needs, as `--dry-run` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            write!(f, "{:>3}. {}", index + 1, step)?;
            if !step.needs.is_empty() {
                let needs: Vec<_> = step.needs.iter().map(|need| (need + 1).to_string()).collect();
                write!(f, "  (after {})", needs.join(", "))?;
            }
            writeln!(f)?;
        }
        if self.look_again {
            writeln!(f, "     then look again: what the engines say decides the rest")?;
        }
        Ok(())
    }
}

/// Why there is no plan. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The specification contradicts itself.
    #[error("the cluster specification is invalid: {}", join(.0))]
    Spec(Vec<SpecError>),
    /// The subnet that was asked for is in use.
    #[error("the subnet {subnet} overlaps {used}, which {by} uses")]
    SubnetTaken {
        /// The subnet that was asked for.
        subnet: Ipv4Net,
        /// The subnet that is in use.
        used: Ipv4Net,
        /// What uses it.
        by: String,
    },
    /// Another cluster has a port of the host's loopback.
    #[error("port {port} of this host is already published by {by}")]
    PortTaken {
        /// The port.
        port: u16,
        /// Whose it is.
        by: String,
    },
    /// The subnet cannot hold a cluster.
    #[error("{subnet} is not a subnet for a cluster: {rule}")]
    SubnetUnfit {
        /// The subnet that was asked for.
        subnet: Ipv4Net,
        /// What is allowed.
        rule: &'static str,
    },
    /// All subnets that skep chooses from are in use.
    #[error("no free subnet in {}{}", joined(.pools), match .granted {
        true => ", the range for non-root users; sudo skep setup --subnets SUBNET allows others",
        false => "; name one that nothing uses with --subnet",
    })]
    NoFreeSubnet {
        /// Where skep looked for one.
        pools: Vec<Ipv4Net>,
        /// Whether those are all that an ordinary user may have.
        granted: bool,
    },
    /// The subnet of a cluster cannot change.
    #[error("cluster {cluster} has the subnet {recorded} and cannot move to {wanted}")]
    SubnetFixed {
        /// The cluster.
        cluster: ClusterName,
        /// The subnet that it has.
        recorded: Ipv4Net,
        /// The subnet that was asked for.
        wanted: Ipv4Net,
    },
    /// The subnet has no address left.
    #[error("the subnet {subnet} has no address left for {node}")]
    SubnetFull {
        /// The subnet.
        subnet: Ipv4Net,
        /// The node that found no place.
        node: NodeName,
    },
    /// A disk cannot shrink.
    #[error("the disk of {node} is {recorded} and cannot shrink to {wanted}")]
    DiskShrinks {
        /// The node.
        node: NodeName,
        /// The size that it has.
        recorded: Size,
        /// The size that was asked for.
        wanted: Size,
    },
    /// A node cannot become another machine.
    #[error(
        "{node} is {recorded} and cannot become {wanted}; remove it first (skep node rm {node})"
    )]
    AnotherMachine {
        /// The node.
        node: NodeName,
        /// What it is.
        recorded: String,
        /// What it was asked to be.
        wanted: String,
    },
    /// A host is not ours to switch on and off.
    #[error("{0} is an existing host, which skep does not start or stop")]
    Host(NodeName),
    /// There is no such node.
    #[error("cluster {cluster} has no node {node}; it has {known}")]
    UnknownNode {
        /// The cluster.
        cluster: ClusterName,
        /// The node.
        node: NodeName,
        /// The nodes that exist, joined by commas.
        known: String,
    },
    /// An engine that is to be given something does not answer.
    #[error("the engine of {node} is unreachable: {reason}")]
    NoEngine {
        /// The node.
        node: NodeName,
        /// Why.
        reason: String,
    },
    /// A node can be told nothing, and would go on with what it has.
    #[error("cannot install a certificate on {node}: {reason}")]
    Deaf {
        /// The node.
        node: NodeName,
        /// Why.
        reason: String,
    },
    /// A node that is to go serves the registry.
    #[error("{0} runs the registry and stores its images")]
    Registry(NodeName),
    /// The registry is somewhere else.
    #[error("the registry and its images are on {there}, not on {wanted}")]
    RegistryElsewhere {
        /// The node that serves it.
        there: NodeName,
        /// The node that was asked for.
        wanted: NodeName,
    },
    /// There is no cluster, or only the beginnings of one.
    #[error("the cluster has no record")]
    NotRecorded,
    /// A node runs and cannot be told what it is to be.
    #[error("the engine of {node} is in no swarm, or does not respond")]
    NoMember {
        /// The node.
        node: NodeName,
    },
    /// The managers that would stay are no majority, or none.
    #[error("{0}")]
    Quorum(String),
}

fn joined(subnets: &[Ipv4Net]) -> String {
    subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn join(errors: &[SpecError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
