//! What acts as root for ordinary users: bridges, taps, rules and names of their clusters, and no more.
//!
//! ```text
//!   skep (a user) ── sudo ──▶ skep-net (root): reads one request, judges it, does it, answers, ends
//! ```
//!
//! `skep setup` puts a copy of skep in place under that name, and lets members of a group run it through
//! sudo without arguments. It believes nothing but the user's number that sudo gives. A request is judged by
//! a pure function before anything is touched; whose a network is, is written down in [`claims`].
//!
//! No user holds up another: the process leaves its caller behind ([`leave_caller`]), reads the whole request before it
//! takes a lock and answers after it has released it. Of one user's requests one at a time waits for the lock that
//! all share.
//! Descriptors, such as that of a tap, go back over the socket on which the request came.
//!
//! [`claims`]: crate::network::claims

mod blocks;
mod client;
mod detach;
mod judge;
mod queue;
mod serve;

pub use blocks::remove_all as remove_all_names;
pub use client::HelperNetwork;
pub use detach::{ignore_terminals, leave_caller};
pub use serve::{Grants, serve};

pub use crate::remote::PROTOCOL;

/// The longest request or answer, in bytes.
const MOST: usize = 64 << 10;

/// The name by which skep is called to act as root.
pub const NAME: &str = "skep-net";

/// Where the copy of skep is that acts as root.
pub const PROGRAM: &str = "/usr/local/libexec/skep-net";

/// Where that program finds others; sudo is told to give it this path.
pub const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
