//! An engine that is asked by a program in its guest (`guest/ask.rs`), before its port answers.

use std::net::Ipv4Addr;
use std::time::Duration;

use bollard::models::SwarmInitRequest;
use skep_sys::shell::{self, NodeShell};

use super::SWARM_PORT;

/// The program in every guest.
pub const PROGRAM: &str = "/usr/lib/skep/ask";

/// Forms a swarm.
///
/// # Errors
///
/// If the engine does not answer or refuses, as one that is a member already does.
pub async fn init_swarm(
    shell: &dyn NodeShell,
    advertise: Ipv4Addr,
    limit: Duration,
) -> Result<(), shell::Error> {
    let request = serde_json::to_vec(&init_request(advertise)).expect("a request has text keys");
    let argv = [PROGRAM, "POST", "/swarm/init"];
    shell.succeed("the forming of the swarm", &argv, &request, limit).await.map(drop)
}

/// Returns what asks for a swarm whose first manager others reach at an address.
pub(super) fn init_request(advertise: Ipv4Addr) -> SwarmInitRequest {
    SwarmInitRequest {
        listen_addr: Some(format!("0.0.0.0:{SWARM_PORT}")),
        advertise_addr: Some(advertise.to_string()),
        ..SwarmInitRequest::default()
    }
}
