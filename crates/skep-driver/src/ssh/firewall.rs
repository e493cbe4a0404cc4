//! A host's own firewall: opened for those who have to reach it, and closed again when it leaves its cluster.
//!
//! What was opened is written down on the host before it is done, so that it is taken away even if the
//! host has another firewall by then.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use skep_net::host_firewall::{self, Backend, DETECT, Ruleset, SCRIPT, Scope};
use skep_sys::shell::NodeShell;

use super::setup::{Script, digest};
use crate::{Error, Remark, Say};

pub(super) const OPEN: &str = include_str!("open.sh");

/// Lets these into a node of `owner`, and nobody else who was let in before.
pub(super) async fn open(
    shell: &dyn NodeShell,
    owner: &str,
    sources: Vec<Ipv4Addr>,
    say: Say<'_>,
) -> Result<(), Error> {
    let rules = for_sources(sources).map_err(|error| Error::Unfit(error.to_string()))?;
    let functions = rules.functions();
    let told = digest(functions.as_bytes());
    let wanted = Backend::ALL.map(|backend| format!("{backend} {told}"));
    let args: Vec<&str> = [owner].into_iter().chain(wanted.iter().map(String::as_str)).collect();
    let text = format!("detect() (\n{DETECT})\n{functions}{OPEN}");
    let script = Script::new(&text, &args, b"");
    let said = script.run(shell, "the opening of its firewall", SCRIPT).await?;
    if let Some(backend) = Backend::named(String::from_utf8_lossy(&said.stdout).trim()) {
        say(Remark::Progress(&format!("its firewall ({backend}) lets the other nodes in")));
    }
    Ok(())
}

/// Returns what lets a client into a host that is nobody's, unless rules of a node are there already: these
/// may let in more.
///
/// # Errors
///
/// If the firewall has no such rules.
pub fn admit(backend: Backend, client: Ipv4Addr) -> Result<Script, host_firewall::Error> {
    let functions = for_sources(vec![client])?.functions();
    let text = format!(
        "set -eu\n{functions}now=$(firewall_{backend} look)\n[ \"$now\" = on ] || firewall_{backend} apply\n"
    );
    Ok(Script::new(&text, &[], b""))
}

/// Returns what takes any node's rules away, for `release.sh`.
pub(super) fn functions() -> String {
    Ruleset::of_any_node().functions()
}

fn for_sources(sources: Vec<Ipv4Addr>) -> Result<Ruleset, host_firewall::Error> {
    Ruleset::node(&Scope {
        sources: sources.into_iter().map(Ipv4Net::from).collect(),
        interface: None,
    })
}
