//! The docker command, as it speaks to a cluster.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use skep_core::event::Event;
use skep_core::model::{NodeRecord, Role};
use skep_core::observed::MachineState;
use skep_core::services::View;
use skep_docker::stack::{self, Ending};
use skep_driver::Driver as _;
use skep_store::{ClusterDir, Machine};
use skep_sys::Cmd;

use super::{Error, Run, Session};
use crate::converge;

/// How often it is seen whether a node still runs.
const ALIVE: Duration = Duration::from_millis(500);

/// How long a look at one machine may take.
const LIMIT: Duration = Duration::from_secs(1);

/// How long the docker command may take to deploy; it may ask a registry for each image.
const DEPLOYING: Duration = Duration::from_secs(300);

/// How often a stack is deployed that somebody else deploys at the same time, and how long between.
const TRIES: u32 = 5;
const OVERTAKEN: Duration = Duration::from_secs(1);

/// Returns the names of the services that `docker stack deploy` says it created or updated.
fn deployed_services(done: &str) -> Vec<String> {
    let name = |line: &str| {
        let rest = line.strip_prefix("Creating service ");
        let rest = rest.or_else(|| line.strip_prefix("Updating service "))?;
        Some(rest.split_whitespace().next()?.to_owned())
    };
    done.lines().filter_map(name).collect()
}

/// Tells whether the docker command was refused because somebody else changed the same thing between its
/// look and its change. Deploying again leads to what the file says.
fn is_overtaken(said: &str) -> bool {
    said.contains("update out of sequence")
        || said.contains("name conflicts with an existing object")
        || said.contains("network with name") && said.contains("already exists")
}

/// Adds addresses to a list of hosts that are reached without a proxy.
fn without_proxy(hosts: &str, nodes: impl IntoIterator<Item = Ipv4Addr>) -> String {
    let mut all: Vec<_> = hosts.split(',').map(str::trim).filter(|host| !host.is_empty()).collect();
    let nodes: Vec<_> = nodes.into_iter().map(|node| node.to_string()).collect();
    // An asterisk alone stands for all hosts, and only if it is alone.
    if all != ["*"] {
        let missing = nodes.iter().map(String::as_str).filter(|node| !all.contains(node));
        let missing: Vec<_> = missing.collect();
        all.extend(missing);
    }
    all.join(",")
}

impl Session {
    /// Returns the variables by which the docker command speaks to a node.
    #[must_use]
    pub fn docker_environment(
        &self,
        cluster: &ClusterDir,
        node: &NodeRecord,
    ) -> Vec<(&'static str, OsString)> {
        let address = self.host_address(node);
        let host = format!("tcp://{address}:{}", skep_core::model::ENGINE_PORT);
        let no_proxy = self.no_proxy([address]).map(|hosts| ("NO_PROXY", hosts.into()));
        let variables = [
            ("DOCKER_TLS_VERIFY", "1".into()),
            ("DOCKER_HOST", host.into()),
            ("DOCKER_CERT_PATH", cluster.machine_dir(node.name()).into()),
            // A context of the user's own would win over the variables' host.
            ("DOCKER_CONTEXT", "".into()),
        ];
        variables.into_iter().chain(no_proxy).collect()
    }

    /// Returns what the variable `NO_PROXY` has to be so that programs reach nodes at these addresses directly; none if
    /// no proxy is used.
    #[must_use]
    pub fn no_proxy(&self, nodes: impl IntoIterator<Item = Ipv4Addr>) -> Option<String> {
        self.config().no_proxy.as_deref().map(|hosts| without_proxy(hosts, nodes))
    }

    /// Returns the docker command: this host's, else that of the cluster's image.
    ///
    /// # Errors
    ///
    /// If there is neither.
    pub fn docker_program(&self, cluster: Option<&ClusterDir>) -> Result<PathBuf, Error> {
        if let Some(own) = &self.config().docker {
            return Ok(own.clone());
        }
        let record = match cluster {
            Some(cluster) => cluster.record().map_err(|source| {
                let cluster = cluster.name().clone();
                Error::Record { cluster, source: Box::new(source) }
            })?,
            None => None,
        };
        let image = record.and_then(|record| self.cache.find(&record.image).ok().flatten());
        image.map(|image| image.docker_cli()).ok_or(Error::NoDocker)
    }

    /// Returns the managers that are recorded, the first one first.
    ///
    /// # Errors
    ///
    /// If the cluster cannot be read.
    pub fn managers(&self, cluster: &ClusterDir) -> Result<Vec<NodeRecord>, Error> {
        let nodes = cluster.nodes().map_err(Error::ListNodes)?;
        let records = nodes.into_iter().filter_map(|(_, record)| record.ok());
        let mut managers: Vec<_> =
            records.filter(|record| record.spec.role == Role::Manager).collect();
        managers.sort_by_key(|record| record.index);
        Ok(managers)
    }

    /// Returns the first manager that runs.
    ///
    /// # Errors
    ///
    /// If none does.
    pub async fn running_manager(&self, cluster: &ClusterDir) -> Result<NodeRecord, Error> {
        for record in self.managers(cluster)? {
            if self.is_running(cluster, &record).await {
                return Ok(record);
            }
        }
        Err(Error::NoRunningManager(cluster.name().clone()))
    }

    /// Tells whether a node's machine runs.
    pub async fn is_running(&self, cluster: &ClusterDir, record: &NodeRecord) -> bool {
        let driver = self.driver(None);
        let machine = Machine { dir: cluster.machine_dir(record.name()), record: record.clone() };
        let state = tokio::time::timeout(LIMIT, driver.state(&machine)).await;
        state.is_ok_and(|state| state == MachineState::Running)
    }

    /// Returns how long one call of an engine may take: the slowest node's measure.
    pub(super) fn call_limit(&self, cluster: &ClusterDir) -> Duration {
        converge::call_limit(self.slowness(cluster))
    }

    /// Returns how long services may take to converge: images come from a registry at the network's speed, containers
    /// start at the slowest node's.
    #[must_use]
    pub fn converging_limit(&self, cluster: &ClusterDir) -> Duration {
        Duration::from_secs(240) + Duration::from_secs(60) * self.slowness(cluster)
    }

    /// Returns how many times slower than a processor of its own the slowest node may be.
    fn slowness(&self, cluster: &ClusterDir) -> u32 {
        let driver = self.driver(None);
        let nodes = cluster.nodes().unwrap_or_default().into_iter();
        let slowness = nodes.filter_map(|(_, record)| record.ok()).map(|record| {
            driver.slowness(&Machine { dir: cluster.machine_dir(record.name()), record })
        });
        slowness.max().unwrap_or(1)
    }
}

/// The docker command, as it speaks to a cluster, or to none.
pub struct DockerCommand {
    program: PathBuf,
    /// The manager that it speaks to.
    machine: Option<Machine>,
    env: Vec<(OsString, OsString)>,
    input: Vec<u8>,
}

impl DockerCommand {
    /// Finds the command, and lets it speak to the first manager that runs.
    ///
    /// # Errors
    ///
    /// If there is no such command, or no manager runs.
    pub async fn of(session: &Session, cluster: &ClusterDir) -> Result<Self, Error> {
        let node = session.running_manager(cluster).await?;
        let env = session.docker_environment(cluster, &node);
        let env = env.into_iter().map(|(key, value)| (key.into(), value)).collect();
        let program = session.docker_program(Some(cluster))?;
        let machine = Machine { dir: cluster.machine_dir(node.name()), record: node };
        Ok(Self { program, machine: Some(machine), env, input: Vec::new() })
    }

    /// Finds the command, which is to speak to nobody.
    ///
    /// # Errors
    ///
    /// If there is no such command.
    pub fn alone(session: &Session, cluster: Option<&ClusterDir>) -> Result<Self, Error> {
        let nobody = ("DOCKER_HOST".into(), "unix:///nonexistent".into());
        let program = session.docker_program(cluster)?;
        Ok(Self { program, machine: None, env: vec![nobody], input: Vec::new() })
    }

    /// Adds variables, and what it reads on its standard input.
    #[must_use]
    pub fn with(mut self, env: &BTreeMap<String, String>, input: &[u8]) -> Self {
        self.env.extend(env.iter().map(|(key, value)| (key.into(), value.into())));
        self.input = input.to_vec();
        self
    }

    /// Waits for a call of it for as long as the node that it speaks to runs; the command itself would
    /// wait for minutes for an answer.
    ///
    /// # Errors
    ///
    /// If the node ends.
    pub async fn while_up<T>(
        &self,
        session: &Session,
        call: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let driver = session.driver(None);
        let ended = async {
            let Some(machine) = &self.machine else { return std::future::pending().await };
            while driver.check_alive(machine).is_ok() {
                // wait: the end of a process that is no child of ours is not announced.
                tokio::time::sleep(ALIVE).await;
            }
            machine.record.name()
        };
        tokio::select! {
            done = call => Ok(done),
            node = ended => Err(Error::WentDown(node.clone())),
        }
    }

    /// Returns a call of it.
    pub fn call<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, limit: Duration) -> Cmd {
        let cmd = Cmd::new(&self.program).args(args).stdin(self.input.clone()).timeout(limit);
        self.env.iter().fold(cmd, |cmd, (key, value)| cmd.env(key, value))
    }

    /// Runs `docker stack deploy`, with these arguments before the stack's name. What it says goes out as events.
    /// Returns the names of the services that it created or updated: those of the file.
    ///
    /// # Errors
    ///
    /// If it cannot be run, refuses, or its node ends.
    pub async fn deploy(
        &self,
        run: &Run<'_>,
        stack: &str,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Vec<String>, Error> {
        let failed = |source| Error::Docker { what: format!("stack {stack}"), source };
        let help = self.call(["stack", "deploy", "--help"], Duration::from_secs(30));
        let help = help.run().await;
        let help =
            help.map_err(|source| Error::Docker { what: "cannot run docker".to_owned(), source })?;
        let mut args: Vec<OsString> = vec!["stack".into(), "deploy".into()];
        // Newer ones could wait themselves, and say at length that they do not.
        if help.text().contains("--detach") {
            args.push("--detach=true".into());
        }
        args.extend(arguments);
        args.push(stack.into());
        let mut tries = 1;
        let (said, services) = loop {
            let call = self.call(&args, DEPLOYING);
            let deploying = self.while_up(run.session(), call.status()).await;
            let deployed = deploying.map_err(|error| error.of_stack(stack))?;
            let (status, output) = deployed.map_err(failed)?;
            let done = String::from_utf8_lossy(&output.stdout);
            for line in done.lines() {
                run.report(Event::Detail(line.to_owned()));
            }
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if status.success() {
                break (said, deployed_services(&done));
            }
            if tries == TRIES || !is_overtaken(&said) {
                let said = said.trim().to_owned();
                return Err(Error::StackRefused { stack: stack.to_owned(), said });
            }
            tries += 1;
            run.report(Event::Note(format!(
                "stack {stack}: changed meanwhile, deploying it again"
            )));
            // wait: the other deployment is about to change its next service.
            tokio::time::sleep(OVERTAKEN).await;
        };
        for line in said.lines() {
            run.report(Event::Note(line.to_owned()));
        }
        Ok(services)
    }
}

impl Run<'_> {
    /// Watches a stack until its services have converged, for `limit`.
    ///
    /// # Errors
    ///
    /// If no manager answers in all that time.
    pub async fn watch_stack(
        &self,
        dir: &ClusterDir,
        stack: &str,
        limit: Duration,
    ) -> Result<Ending, Error> {
        let select = |view: &View| view.of_stack(stack);
        let ending = self.watch(dir, &select, limit).await;
        ending.map_err(|source| Error::Services { what: format!("stack {stack}"), source })
    }

    /// Watches the services that `select` leaves until they have converged, for `limit`.
    ///
    /// # Errors
    ///
    /// If no manager answers in all that time.
    pub async fn watch(
        &self,
        dir: &ClusterDir,
        select: &(dyn Fn(&View) -> View + Send + Sync),
        limit: Duration,
    ) -> Result<Ending, stack::Error> {
        let events = |event| self.report(event);
        let ending = stack::watch(self.swarm(dir), select, limit, &events).await;
        self.report(Event::PlanFinished);
        ending
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{deployed_services, is_overtaken, without_proxy};

    #[test]
    fn two_deployments_of_one_stack_at_once_both_come_to_their_end() {
        let daemon = "Error response from daemon:";
        for said in [
            format!(
                "failed to create network par_default: {daemon} rpc error: code = Unknown desc = name conflicts with an existing object"
            ),
            format!(
                "failed to update service shop_web: {daemon} rpc error: code = Unknown desc = update out of sequence"
            ),
            format!(
                "failed to create network shop_default: {daemon} network with name shop_default already exists"
            ),
            format!(
                "failed to create service shop_web: {daemon} rpc error: code = AlreadyExists desc = name conflicts with an existing object: service shop_web already exists"
            ),
        ] {
            assert!(is_overtaken(&said), "{said}");
        }
        assert!(!is_overtaken("only updates to Labels are allowed"));
        assert!(!is_overtaken("port '80' is already in use by service 'x'"));
    }

    #[test]
    fn nodes_are_reached_without_the_proxy() {
        let node = Ipv4Addr::new(10, 193, 0, 2);
        for (hosts, with) in [
            ("", "10.193.0.2"),
            ("localhost, .example.org,", "localhost,.example.org,10.193.0.2"),
            ("10.193.0.2,a", "10.193.0.2,a"),
            ("*", "*"),
        ] {
            assert_eq!(without_proxy(hosts, [node]), with, "{hosts}");
        }
    }

    #[test]
    fn services_of_the_file_are_read_from_what_docker_did() {
        let done = "Creating network shop_default\nUpdating service shop_web (id: 7kdyqm)\nCreating service shop_db\n";
        assert_eq!(deployed_services(done), ["shop_web", "shop_db"]);
    }
}
