//! Shells of nodes: the guest agent of a virtual machine, and ssh for a host.

mod agent;
mod ssh;

pub use agent::{AgentShell, RUN, SOCKET as AGENT_SOCKET};
pub use ssh::{Login, SshShell};
