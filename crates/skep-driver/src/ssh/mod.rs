//! Hosts that exist already and are reached by ssh.
//!
//! Nothing starts or stops them. One becomes a node by getting an engine, if it has none, that listens to the
//! cluster's clients; what was done there is written down there, and is taken back when it leaves.
//!
//! ```text
//!            adopt                         release
//!   a host ────────▶ a node (an engine on 2376) ────────▶ a host
//!            └─ cut off: adopt again ─┘      └─ cut off: release again
//! ```

mod facts;
mod firewall;
mod setup;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use skep_core::model::{HostSpec, NodeName};
use skep_core::observed::MachineState;
use skep_docker::engine::remote;
use skep_net::network;
use skep_store::Machine;
use skep_store::pki::{KNOWN_HOSTS, rotation};
use skep_sys::shell::{self, NodeShell};
use skep_sys::{chain, read, write_atomic};

pub use facts::Facts;
pub use firewall::admit;
pub use setup::{CERTS, Certificates, Setup, owner, tls_flags};

use super::{Adopt, Boot, Driver, Error, Fork, Remark, Say, host_of};
use crate::shell::{Login, SshShell};

/// How long a host may take to tell what it is.
const LOOK: Duration = Duration::from_secs(30);

/// How long the set-up may take: packages are fetched and unpacked.
const SET_UP: Duration = Duration::from_secs(15 * 60);

/// How many packages that stay are told of.
const STAYS: usize = 20;

/// How long a host may take to show that it is there.
const ANSWER: Duration = Duration::from_secs(3);

/// Hosts that are reached by ssh.
#[derive(Debug, Default)]
pub struct SshHosts {
    /// What was seen of hosts before they had a directory.
    seen: Mutex<HashMap<Server, Seen>>,
}

/// What was seen of a host before it had a directory.
#[derive(Debug, Clone)]
struct Seen {
    /// Its key.
    pin: Vec<u8>,
    facts: Facts,
}

/// What was found out about a host that is to become a node.
#[derive(Debug)]
pub struct Checked<'a> {
    /// The node.
    pub node: &'a NodeName,
    /// The host.
    pub host: &'a HostSpec,
    /// What forbids it.
    pub forbidden: Vec<String>,
    /// What its user has to know.
    pub warnings: Vec<String>,
}

/// What tells one ssh server from another.
type Server = (std::net::Ipv4Addr, u16);

/// Returns where and as whom to log in to a host.
#[must_use]
pub fn login(host: &HostSpec) -> Login {
    Login {
        host: host.address.to_string(),
        user: host.user.clone(),
        port: host.port,
        key: host.key.clone().map(Into::into),
        user_config: true,
    }
}

/// Looks at a host through a shell there.
///
/// # Errors
///
/// If nobody can log in.
pub async fn look(shell: &dyn NodeShell) -> Result<Facts, shell::Error> {
    let found = setup::look().run(shell, "the look at the host", LOOK).await?;
    Ok(Facts::parse(&String::from_utf8_lossy(&found.stdout)))
}

/// Sets a host up through a shell there.
///
/// # Errors
///
/// If nobody can log in, or the set-up fails; with its last words.
pub async fn set_up(
    shell: &dyn NodeShell,
    setup: &Setup,
    certificates: &Certificates,
) -> Result<(), shell::Error> {
    setup.script(certificates).run(shell, "the host's set-up", SET_UP).await.map(drop)
}

impl SshHosts {
    /// Looks whether hosts that are no nodes yet can become some; `owner` is the cluster. Changes nothing.
    pub async fn check<'a>(
        &self,
        hosts: &[(&'a NodeName, &'a HostSpec)],
        owner: &str,
    ) -> Vec<Checked<'a>> {
        let looks = hosts.iter().map(async |(node, host)| {
            let (forbidden, warnings) = match self.first_look(host).await {
                Ok((facts, unknown)) => {
                    let unpinned = host.install_problem().filter(|_| !facts.has_engine());
                    let problems = facts.problems(owner).into_iter().chain(unpinned).collect();
                    let mut warnings = facts.warnings(owner);
                    warnings.extend(unknown.map(|key| {
                        format!("its host key was not known, and is pinned from now on: {key}")
                    }));
                    (problems, warnings)
                }
                Err(error) => (vec![error], Vec::new()),
            };
            Checked { node, host, forbidden, warnings }
        });
        join_all(looks).await
    }

    /// Looks at a host that has no directory yet, and remembers its key; returns the key's fingerprint if nobody knew
    /// it.
    async fn first_look(&self, host: &HostSpec) -> Result<(Facts, Option<String>), String> {
        let dir = tempfile::Builder::new().prefix("skep-").tempdir();
        let dir = dir.map_err(|error| error.to_string())?;
        let shell = SshShell::first(login(host), dir.path()).await;
        let facts = look(&shell).await.map_err(|error| chain(&error))?;
        let unknown = shell.pin().await.map_err(|error| chain(&error))?;
        if let Ok(pin) = read(&dir.path().join(KNOWN_HOSTS)) {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.insert((host.address, host.port), Seen { pin, facts: facts.clone() });
        }
        Ok((facts, unknown))
    }

    /// Pins the key that the host had when it was checked, and returns what was seen then: once, as things
    /// change.
    fn take_seen(&self, machine: &Machine, host: &HostSpec) -> Result<Option<Facts>, Error> {
        let pinned = machine.dir.join(KNOWN_HOSTS);
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = all.remove(&(host.address, host.port)) else { return Ok(None) };
        if pinned.exists() {
            return Ok(None);
        }
        write_atomic(&pinned, 0o600, &seen.pin)?;
        Ok(Some(seen.facts))
    }
}

fn ssh(machine: &Machine) -> Result<SshShell, Error> {
    Ok(SshShell::new(login(host_of(machine)?), &machine.dir))
}

#[async_trait]
impl Adopt for SshHosts {
    async fn adopt(&self, machine: &Machine, owner: &str, say: Say<'_>) -> Result<(), Error> {
        let host = host_of(machine)?;
        let seen = self.take_seen(machine, host)?;
        let shell = ssh(machine)?;
        let facts = match seen {
            Some(facts) => facts,
            None => look(&shell).await?,
        };
        let problems = facts.problems(owner);
        if !problems.is_empty() {
            return Err(Error::Unfit(problems.join("; ")));
        }
        if let Some(problem) = host.install_problem().filter(|_| !facts.has_engine()) {
            return Err(Error::Unfit(problem));
        }
        match facts.has_engine() {
            true => say(Remark::Progress(&format!("{}, which has an engine", facts.system()))),
            false => say(Remark::Progress(&format!("installing an engine ({})", facts.system()))),
        }
        let file = |name: &str| read(&machine.dir.join(name));
        let certificates = Certificates {
            ca: rotation::admitted(&machine.dir)?,
            server: file("server.pem")?,
            server_key: file("server-key.pem")?,
        };
        let setup = Setup::of_node(owner, host.install_url.as_deref());
        Ok(set_up(&shell, &setup, &certificates).await?)
    }

    async fn open(
        &self,
        machine: &Machine,
        owner: &str,
        to: &[Ipv4Addr],
        say: Say<'_>,
    ) -> Result<(), Error> {
        // This host is no node, and needs the engine's port.
        let own = network::source_to(machine.record.address);
        let sources: BTreeSet<_> = to.iter().copied().chain(own).collect();
        firewall::open(&ssh(machine)?, owner, sources.into_iter().collect(), say).await
    }

    async fn release(
        &self,
        machine: &Machine,
        owner: &str,
        keep: bool,
    ) -> Result<Vec<String>, Error> {
        let shell = ssh(machine)?;
        let done = setup::release(owner, keep).run(&shell, "the host's release", SET_UP).await?;
        let said = String::from_utf8_lossy(&done.stdout);
        Ok(said.lines().take(STAYS).map(str::to_owned).collect())
    }
}

/// What is said where a host is to do what only machines of ours can.
fn not_ours<T>() -> Result<T, Error> {
    Err(Error::Unfit("a host of its own is not switched on or off by skep".to_owned()))
}

#[async_trait]
impl Driver for SshHosts {
    fn forks(&self) -> Option<&dyn Fork> {
        None
    }

    fn adopts(&self) -> Option<&dyn Adopt> {
        Some(self)
    }

    async fn create_disk(&self, _: &Machine, _: &Path) -> Result<(), Error> {
        not_ours()
    }

    /// A host has state of which nothing is known here.
    fn has_disk(&self, _: &Machine) -> bool {
        true
    }

    fn base(&self, _: &Machine) -> Option<std::path::PathBuf> {
        None
    }

    async fn start(&self, _: &Machine, _: &Boot, _: Say<'_>) -> Result<(), Error> {
        not_ours()
    }

    async fn await_guest(&self, machine: &Machine, _: Option<Duration>) -> Result<(), Error> {
        ssh(machine)?.succeed("the look at the host", &["true"], b"", LOOK).await?;
        Ok(())
    }

    fn check_alive(&self, _: &Machine) -> Result<(), Error> {
        Ok(())
    }

    async fn pause(&self, _: &Machine) -> Result<(), Error> {
        not_ours()
    }

    async fn resume(&self, _: &Machine) -> Result<(), Error> {
        not_ours()
    }

    async fn stop(&self, _: &Machine) -> Result<bool, Error> {
        not_ours()
    }

    async fn kill(&self, _: &Path) -> Result<(), Error> {
        not_ours()
    }

    async fn state(&self, machine: &Machine) -> MachineState {
        let Ok(host) = host_of(machine) else { return MachineState::Stopped };
        match remote::answers(&host.address.to_string(), host.port, ANSWER).await {
            true => MachineState::Running,
            false => MachineState::Stopped,
        }
    }

    /// Nothing is known of a host's speed: it may be an emulated machine too.
    fn slowness(&self, _: &Machine) -> u32 {
        3
    }

    fn shell(&self, machine: &Machine) -> Box<dyn NodeShell> {
        let other = || SshShell::new(Login::of(machine.record.address), &machine.dir);
        Box::new(ssh(machine).unwrap_or_else(|_| other()))
    }

    fn last_words(&self, _: &Machine) -> String {
        String::new()
    }
}
