//! The pure heart of skep: what a cluster is ([`model`]), what was seen of it ([`observed`]),
//! what has to be done ([`plan`]), what is reported while it is done ([`event`]), what is verified
//! after ([`readiness`]), and what a swarm makes of its services ([`services`]).
//!
//! Nothing here touches the machine: no I/O, no clock, no randomness, no environment, no async.
//! Every choice that skep makes is made in [`plan`], as a function of its arguments.

pub mod event;
#[cfg(any(test, feature = "test-support"))]
pub mod fixtures;
pub mod model;
pub mod observed;
pub mod plan;
pub mod readiness;
pub mod services;
