//! Where things are, and what was chosen, on this machine and in this run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep_core::event::Event;
use skep_core::model::{ClusterName, NodeName, NodeRecord};
use skep_docker::contexts;
use skep_docker::program::{self, Kind};
use skep_driver::AnyDriver;
use skep_driver::qemu::{Accelerator, Profile};
use skep_ops::{Config, Events, NetworkMode, Run, RunOptions, Session};
use skep_store::{ClusterDir, Exposed};

use crate::cli::{Accel, Detail, Limits, Net};
use crate::environment::{text_variable, variable};
use crate::error::{CliError, Context as _};
use crate::logging;
use crate::render::progress::Progress;

/// The variable with which a test takes KVM's path while QEMU emulates; its value is the factor for KVM's time
/// limits. Only programs with debug assertions take it.
const TEST_KVM_PATH: &str = "SKEP_TEST_KVM_PATH";

/// The name of a cluster that was given none.
pub const DEFAULT_CLUSTER: &str = "skep";

/// This run of skep.
#[derive(Clone)]
pub struct Context {
    /// All clusters, and what acts for them.
    pub session: Session,
    /// How much progress is printed.
    pub detail: Detail,
    /// Whether events are printed as JSON lines in its place.
    pub prints_events: bool,
}

impl Context {
    /// Creates the context from the environment.
    ///
    /// # Errors
    ///
    /// If no directory for state can be told.
    pub fn from_env(detail: Detail) -> Result<Self, CliError> {
        let home =
            directory("SKEP_HOME").or_else(|| Some(directory("XDG_DATA_HOME")?.join("skep")));
        let data = home.or_else(|| Some(directory("HOME")?.join(".local/share/skep")));
        let cache = directory("XDG_CACHE_HOME").or_else(|| Some(directory("HOME")?.join(".cache")));
        let (Some(data), Some(cache)) = (data, cache) else {
            return Err(CliError::host("no place for state: neither HOME nor SKEP_HOME is set"));
        };
        // Podman's has no swarm, and a snap's cannot read keys: skep's own is better than these.
        let docker = program::find(&skep_sys::search_path(), &[Kind::Docker]);
        let docker_config = docker_config();
        let config = Config {
            store: absolute(&data),
            cache: absolute(&cache).join("skep"),
            hosts_file: directory("SKEP_HOSTS_FILE").unwrap_or_else(|| "/etc/hosts".into()),
            docker_config: docker_config
                .filter(|_| docker.is_some())
                .map(|it| absolute(&it))
                .filter(|it| !is_of_sudos_caller(it, text_variable("SUDO_UID"))),
            docker,
            program: std::env::current_exe().unwrap_or_else(|_| "skep".into()),
            user: text_variable("USER").unwrap_or_else(|| "unknown".to_owned()),
            no_proxy: no_proxy(text_variable),
            test_profile: test_profile()?,
            log_to: logging::write_to,
        };
        Ok(Self { session: Session::new(config), detail, prints_events: false })
    }

    /// Tells whether no progress is printed.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.detail == Detail::Quiet
    }

    /// Has events printed as JSON lines in the place of progress.
    #[must_use]
    pub fn printing_events(self) -> Self {
        Self { detail: Detail::Quiet, prints_events: true, ..self }
    }

    /// Returns the same context, of which nothing is told but warnings.
    #[must_use]
    pub fn silent(&self) -> Self {
        Self { session: self.session.clone(), detail: Detail::Quiet, prints_events: false }
    }

    /// Returns the same context, whose clusters have their networks in a user namespace, or do not.
    ///
    /// # Errors
    ///
    /// If it has clusters of the other kind, or this user is root.
    pub fn with_network(&self, wanted: Net) -> Result<Self, CliError> {
        let mode = match wanted {
            Net::Bridge => NetworkMode::Bridge,
            Net::User => NetworkMode::User,
        };
        let session = self.session.with_network(mode)?;
        Ok(Self { session, ..self.clone() })
    }

    /// Returns the cluster that is meant: the one that is named, or the only one there is.
    ///
    /// # Errors
    ///
    /// If it does not exist, or none is named and there are several.
    pub fn existing(&self, name: Option<&ClusterName>) -> Result<ClusterDir, CliError> {
        let clusters = self.session.store.clusters().context("cannot list clusters")?;
        let known: Vec<&str> = clusters.iter().map(|cluster| cluster.name().as_str()).collect();
        match name {
            Some(name) => {
                let cluster = self.session.store.cluster(name);
                if cluster.exists() {
                    self.session.refuse_exposed(&cluster)?;
                    return Ok(cluster);
                }
                let message = match known.is_empty() {
                    true => format!("there is no cluster {name}"),
                    false => format!("there is no cluster {name}; there are {}", known.join(", ")),
                };
                Err(CliError::usage(message).hint(format!("skep up {name}")))
            }
            None => match &clusters[..] {
                [only] => {
                    self.session.refuse_exposed(only)?;
                    Ok(only.clone())
                }
                [] => Err(CliError::usage("there is no cluster").hint("skep up")),
                _ => {
                    Err(CliError::usage(format!("name one of the clusters: {}", known.join(", "))))
                }
            },
        }
    }

    /// Returns the name of a cluster that may not exist yet.
    #[must_use]
    pub fn name_or_default(&self, name: Option<&ClusterName>) -> ClusterName {
        name.cloned().unwrap_or_else(|| DEFAULT_CLUSTER.parse().expect("the default is a name"))
    }

    /// Returns a node of a cluster.
    ///
    /// # Errors
    ///
    /// If it does not exist or its record is damaged.
    pub fn node(&self, cluster: &ClusterDir, node: &NodeName) -> Result<NodeRecord, CliError> {
        let nodes = cluster.nodes().context("cannot list nodes")?;
        let known: Vec<_> = nodes.iter().map(|(name, _)| name.as_str()).collect();
        if !known.contains(&node.as_str()) {
            let (name, known) = (cluster.name(), known.join(", "));
            return Err(CliError::usage(format!(
                "cluster {name} has no node {node}; it has {known}"
            )));
        }
        cluster.node(node).context(node)
    }

    /// Returns the driver of machines, with the accelerator if one was chosen.
    #[must_use]
    pub fn driver(&self, accel: Option<Accel>) -> AnyDriver {
        self.session.driver(accel.map(Accelerator::from))
    }

    /// Begins a run in which nothing is waited for.
    #[must_use]
    pub fn run_on(&self, accel: Option<Accel>) -> Run<'_> {
        self.run(Some(Limits { timeout: None, accel }))
    }

    /// Begins a run.
    #[must_use]
    pub fn run(&self, limits: Option<Limits>) -> Run<'_> {
        self.timed_run(limits).0
    }

    /// Begins a run, and returns what renders its events and knows their times.
    #[must_use]
    pub fn timed_run(&self, limits: Option<Limits>) -> (Run<'_>, Arc<Progress>) {
        let (events, progress) = self.progress();
        let Limits { timeout, accel } = limits.unwrap_or_default();
        let options = RunOptions { accelerator: accel.map(Accelerator::from), timeout };
        (self.session.run(options, events), progress)
    }

    fn progress(&self) -> (Events, Arc<Progress>) {
        let progress = Arc::new(match self.prints_events {
            true => Progress::as_events(),
            false => Progress::new(self.detail, crate::render::redraws()),
        });
        let renderer = progress.clone();
        (Arc::new(move |event: Event| renderer.event(event)), progress)
    }
}

impl From<Accel> for Accelerator {
    fn from(accel: Accel) -> Self {
        match accel {
            Accel::Kvm => Self::Kvm,
            Accel::Tcg => Self::Tcg,
        }
    }
}

/// Returns the hosts that are reached without a proxy, if a proxy is used. Of both spellings the docker command
/// takes the first that is set.
fn no_proxy(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    const PROXIES: [&str; 6] =
        ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    PROXIES.iter().find_map(|name| variable(name))?;
    Some(variable("NO_PROXY").or_else(|| variable("no_proxy")).unwrap_or_default())
}

/// Returns how a test wants guests to be treated, if it does.
fn test_profile() -> Result<Option<Profile>, CliError> {
    let Some(value) = variable(TEST_KVM_PATH) else { return Ok(None) };
    let refuse = |why: &str| Err(CliError::usage(format!("{TEST_KVM_PATH}: {why}")));
    if !cfg!(debug_assertions) {
        return refuse("only a debug build of skep takes it, for its own tests")
            .map_err(|error| error.hint(format!("unset {TEST_KVM_PATH}")));
    }
    let slowness = value.to_str().and_then(|text| text.parse().ok());
    match slowness.and_then(Profile::kvm_under_emulation) {
        Some(profile) => Ok(Some(profile)),
        None => refuse("the factor for KVM's time limits is a number from 1 to 12"),
    }
}

/// Returns the command that closes a file or directory to others.
#[must_use]
pub fn chmod(it: &Exposed) -> String {
    let path = skep_sys::shell_quoted(&it.path.to_string_lossy());
    format!("chmod {:o} {path}", it.wanted)
}

/// Tells whether root would create a directory in the home of the user who called sudo(8), who could then not use it.
fn is_of_sudos_caller(dir: &Path, caller: Option<String>) -> bool {
    use std::os::unix::fs::MetadataExt;
    let owner = skep_sys::present(dir).and_then(|dir| Some(std::fs::metadata(dir).ok()?.uid()));
    owner.is_some_and(|owner| owner != 0 && caller == Some(owner.to_string()))
}

/// Returns where the docker command has its contexts.
fn docker_config() -> Option<PathBuf> {
    directory("DOCKER_CONFIG").or_else(|| Some(directory("HOME")?.join(".docker")))
}

/// Returns how the environment of programs has to differ from ours so that the docker command that skep starts speaks
/// to whom skep wants: the host's own engine, or a node that skep names in variables of that one call.
#[must_use]
pub fn program_environment() -> Vec<skep_sys::Variable> {
    // An engine's version of the API is asked for, whatever fitted another one.
    let mut changes = vec![("DOCKER_API_VERSION".into(), None)];
    if leads_to_machine() {
        let host = ["DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_MACHINE_NAME"];
        changes.extend(host.map(|name| (name.into(), None)));
        changes.push(("DOCKER_CONTEXT".into(), Some("default".into())));
    }
    changes
}

/// Tells whether the docker command that a user types speaks to a machine.
#[must_use]
pub fn leads_to_machine() -> bool {
    match variable("DOCKER_HOST") {
        // As `skep env` and `docker-machine env` set it; a machine has its keys beside its record.
        Some(_) => {
            directory("DOCKER_CERT_PATH").is_some_and(|dir| skep_store::dm::is_machine(&dir))
        }
        None => {
            let chosen = text_variable("DOCKER_CONTEXT");
            docker_config().is_some_and(|dir| contexts::is_current(&dir, chosen.as_deref()))
        }
    }
}

/// Returns the setting by which the docker command asks an engine that is neither the usual one of this host nor a
/// machine's, and so is left as it is.
#[must_use]
pub fn other_engine() -> Option<String> {
    if leads_to_machine() {
        return None;
    }
    match text_variable("DOCKER_HOST") {
        Some(host) => Some(format!("DOCKER_HOST={host}")),
        None => {
            let chosen = text_variable("DOCKER_CONTEXT");
            let name = contexts::current(&docker_config()?, chosen.as_deref())?;
            Some(format!("the docker context {name}"))
        }
    }
}

/// Returns a directory from the environment.
fn directory(name: &str) -> Option<PathBuf> {
    variable(name).map(PathBuf::from)
}

/// QEMU runs in a directory of its own, so nothing may depend on where skep was started.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::{is_of_sudos_caller, no_proxy};

    #[test]
    fn root_makes_no_context_in_the_home_of_who_called_sudo() {
        let home = tempfile::tempdir().unwrap();
        if skep_sys::is_root() {
            std::os::unix::fs::chown(home.path(), Some(54321), None).unwrap();
        }
        let owner = std::fs::metadata(home.path()).unwrap().uid().to_string();
        let config = home.path().join(".docker");
        assert!(is_of_sudos_caller(&config, Some(owner)));
        assert!(!is_of_sudos_caller(&config, None), "somebody's container");
        assert!(!is_of_sudos_caller(&config, Some("54320".to_owned())));
        assert!(!is_of_sudos_caller(std::path::Path::new("/"), Some("0".to_owned())));
    }

    #[test]
    fn hosts_without_a_proxy_matter_where_there_is_one() {
        let of = |set: &[(&str, &str)]| {
            no_proxy(|name| Some(set.iter().find(|(key, _)| *key == name)?.1.to_owned()))
        };
        assert_eq!(of(&[("NO_PROXY", "a")]), None);
        assert_eq!(of(&[("https_proxy", "http://p:1")]), Some(String::new()));
        let both = [("HTTP_PROXY", "http://p:1"), ("no_proxy", "b"), ("NO_PROXY", "a")];
        assert_eq!(of(&both), Some("a".to_owned()));
    }
}
