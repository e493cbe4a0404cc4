//! Everything of skep that touches the machine.
//!
//! The modules stand on each other in this order, and an arrow only ever points up the list:
//! [`sys`], [`bundle`], [`store`], [`pki`], [`host_firewall`], [`net`] with [`firewall`], [`hosts`] and [`contexts`],
//! [`privileged_helper`], [`setup`], [`image`],
//! [`shell`], [`netcheck`], [`oci`], [`engine`], [`stack`], [`driver`], [`observe`], [`converge`].
//! `cargo xtask tidy` checks it.
//!
//! Nothing here prints, reads `$HOME` or knows of flags: paths and choices come from the caller,
//! progress goes to it as events.

pub mod bundle;
pub mod contexts;
pub mod converge;
pub mod driver;
pub mod engine;
pub mod firewall;
pub mod forwarder;
pub mod host_firewall;
pub mod hosts;
pub mod image;
pub mod net;
pub mod netcheck;
pub mod observe;
pub mod oci;
pub mod pki;
pub mod preflight;
pub mod privileged_helper;
pub mod setup;
pub mod shell;
pub mod stack;
pub mod store;
pub mod sys;
pub mod userns;
