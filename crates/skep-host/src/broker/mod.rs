//! What acts as root for ordinary users: bridges, taps, rules and names of their clusters, and no more.
//!
//! ```text
//!   skep (a user) ── sudo ──▶ skep-net (root): reads one request, judges it, does it, answers, ends
//! ```
//!
//! `skep setup` puts a copy of skep in place under that name, and lets members of a group run it through
//! sudo without arguments. It believes nothing but the user's number that sudo gives. A request is judged by
//! a pure function before anything is touched; whose a network is, is written down in [`claims`].
//! Descriptors, such as that of a tap, go back over the socket on which the request came.
//!
//! [`claims`]: crate::net::claims

mod client;
mod judge;
mod request;
mod serve;

pub use client::BrokeredNetwork;
pub use request::PROTOCOL;
pub use serve::{Grants, serve};

/// The name by which skep is called to act as root.
pub const NAME: &str = "skep-net";

/// Where the copy of skep is that acts as root.
pub const PROGRAM: &str = "/usr/local/libexec/skep-net";

/// Where that program finds others; sudo is told to give it this path.
pub const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
