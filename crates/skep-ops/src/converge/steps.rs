//! What each step does.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use skep_core::event::Event;
use skep_core::model::{ImageSet, NodeName, NodeRecord, Shape};
use skep_core::plan::{Action, ClusterAction, DiskBase, NodeAction, Step};
use skep_docker::contexts;
use skep_docker::engine::{self, Part, inside};
use skep_driver::image::Image;
use skep_driver::{Adopt, Boot, Fork, Remark, shape_of};
use skep_net::network;
use skep_store::Machine;
use skep_store::pki::{self, rotation};

use super::engine_ends::Ends;
use super::patience::Patience;
use super::{Error, StepContext, provision};

/// How soon something is looked at again that announces nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long certificates are refused before clocks are compared: a node whose host's clock was set follows
/// within 15 s (`guest/clock.rs`), and a proxy has its certificate as soon as it has started anew.
const FOLLOWS: Duration = Duration::from_secs(20);

/// How far a node's clock is off, in nanoseconds, when certificates that are made there or here are no use:
/// they begin to be valid 5 minutes before.
const CLOCK_WRONG: u64 = 5 * 60 * 1_000_000_000;

/// Starts the engine anew, on our machines and on hosts.
const RESTART: &str = r"
    if [ -d /run/systemd/system ]; then
        exec systemctl restart docker.service
    fi
    exec /etc/init.d/docker restart
";

impl StepContext<'_> {
    pub(super) async fn perform(&self, index: usize, step: &Step) -> Result<(), Error> {
        match &step.action {
            Action::Node(node, action) => self.perform_on(index, node, action).await,
            Action::Cluster(action) => self.perform_for_cluster(index, action).await,
        }
    }

    async fn perform_for_cluster(&self, index: usize, action: &ClusterAction) -> Result<(), Error> {
        match action {
            ClusterAction::RecordCluster(record) => self.cluster.write_cluster(record)?,
            ClusterAction::EnsureCredentials => self.ensure_credentials().await?,
            ClusterAction::RenewCredentials => {
                rotation::renew_client(self.cluster.dir().path(), &self.settings.user)?;
            }
            ClusterAction::PrepareAuthority => {
                rotation::prepare(self.cluster.dir().path(), &self.settings.user)?;
            }
            ClusterAction::SwitchAuthority => rotation::switch(self.cluster.dir().path())?,
            ClusterAction::WithdrawAuthority => rotation::withdraw(self.cluster.dir().path())?,
            ClusterAction::EnsureImage(spec) => {
                let progress = |text: &str| self.progress(index, text);
                self.images.ensure(spec, &progress).await?;
            }
            ClusterAction::EnsureTemplate { shape, images } => {
                self.ensure_template(index, *shape, images).await?;
            }
            ClusterAction::LoadImages { set, nodes } => self.load_images(index, set, nodes).await?,
            ClusterAction::EnsureBridge(network) => {
                self.network.ensure_bridge(network, &self.owner()).await?;
            }
            ClusterAction::EnsureFirewall { network, admits } => {
                self.network.ensure_firewall(network, &self.owner(), admits).await?;
            }
            ClusterAction::ForgetMember { id, through } => self.forget_member(id, through).await?,
            ClusterAction::AwaitReady { nodes, through } => {
                self.await_ready(index, nodes, through).await?;
            }
            ClusterAction::StartProbe { nodes, verify, through } => {
                self.start_probe(index, nodes, *verify, through).await?;
            }
            ClusterAction::VerifyNetworks { nodes, open, verify: _, through } => {
                self.verify_networks(index, nodes, open, through).await?;
            }
            ClusterAction::VerifyNodes { nodes } => self.verify_nodes(nodes).await?,
            ClusterAction::RemoveProbe { through } => {
                self.end_probe(through).await?;
            }
            ClusterAction::PublishHosts(entries) => {
                self.names.write(&self.settings.hosts_file, &self.owner(), entries).await?;
            }
            ClusterAction::PublishPorts { network, publication } => {
                self.network.publish(network, &self.owner(), publication.as_ref()).await?;
            }
            ClusterAction::EnsureContext { config, to, .. } => {
                let docker = self.settings.docker.as_deref();
                let credentials = self.credentials();
                let (config, to) = (Path::new(config), self.network.host_address(*to));
                let made = contexts::ensure(docker, config, &self.owner(), to, &credentials).await;
                if let Err(error) = made {
                    // A cluster without one works as well.
                    let reason = skep_sys::chain(&error);
                    let told = format!(
                        "there is no docker context: {reason}; with DOCKER_CONFIG, name a directory for it, or \
                         write `context: false` into the cluster file"
                    );
                    (self.events)(Event::Warning(told));
                }
            }
            ClusterAction::RemoveContext { config } => {
                let docker = self.settings.docker.as_deref();
                let credentials = self.credentials();
                contexts::remove(docker, Path::new(config), &self.owner(), &credentials).await?;
            }
            ClusterAction::RemoveFirewall(name) => {
                self.network.unpublish(name, &self.owner()).await?;
                unless_taken(self.network.remove_firewall(name).await)?;
            }
            ClusterAction::RemoveLink(name) => unless_taken(self.network.remove_link(name).await)?,
            ClusterAction::RemoveCluster => {
                self.network.restore_forwarding(&self.settings.forwarding_file).await?;
                self.cluster.remove_cluster()?;
            }
        }
        Ok(())
    }

    async fn perform_on(
        &self,
        index: usize,
        node: &NodeName,
        action: &NodeAction,
    ) -> Result<(), Error> {
        match action {
            NodeAction::RecordNode(record) => {
                let bridge = self.network_record()?.bridge;
                self.cluster.write_node(&bridge, record)?;
            }
            NodeAction::EnsureNodeKeys => self.ensure_node_keys(node).await?,
            NodeAction::RenewNodeKeys => {
                let (store, record) = (self.cluster.dir().path(), self.record(node)?);
                let user = &self.settings.user;
                let names = self.names_from_here(&record);
                pki::make_server(store, record.name(), record.address, user, &names)?;
            }
            NodeAction::EnsureMachineKeys => self.ensure_machine_keys(node).await?,
            NodeAction::RenewMachineKeys => self.renew_machine_keys(node).await?,
            NodeAction::CreateDisk { on } => {
                let machine = self.machine(node)?;
                let base = match on {
                    DiskBase::Image => self.image().await?.root_disk(),
                    DiskBase::Template { images } => {
                        self.ensure_template(index, shape_of(&machine)?, images).await?
                    }
                };
                self.driver.create_disk(&machine, &base).await?;
            }
            NodeAction::ForkMachine | NodeAction::StartMachine => {
                self.start(index, node, *action == NodeAction::ForkMachine).await?;
            }
            NodeAction::AwaitGuest => {
                let machine = self.machine(node)?;
                self.driver.await_guest(&machine, self.settings.timeout).await?;
            }
            NodeAction::PauseMachine => self.driver.pause(&self.machine(node)?).await?,
            NodeAction::ResumeMachine => self.driver.resume(&self.machine(node)?).await?,
            NodeAction::Provision => self.provision(node).await?,
            NodeAction::AdoptHost => {
                let machine = self.machine(node)?;
                let progress = |remark: Remark<'_>| self.remark(index, node.as_str(), remark);
                self.adopts()?.adopt(&machine, &self.owner_of_hosts()?, &progress).await?;
            }
            NodeAction::OpenHost { to } => {
                let machine = self.machine(node)?;
                let progress = |remark: Remark<'_>| self.remark(index, node.as_str(), remark);
                self.adopts()?.open(&machine, &self.owner_of_hosts()?, to, &progress).await?;
            }
            NodeAction::ReleaseHost { forget, keep_engine } => {
                let machine = self.machine(node)?;
                let owner = self.owner_of_hosts()?;
                match self.adopts()?.release(&machine, &owner, *keep_engine).await {
                    Err(skep_driver::Error::Shell(error)) if *forget && error.is_unreachable() => {
                        let reason = skep_sys::chain(&error);
                        let text = format!("it keeps what was set up there: {reason}");
                        self.remark(index, node.as_str(), Remark::Warning(&text));
                    }
                    released => {
                        for stays in released? {
                            self.remark(index, node.as_str(), Remark::Warning(&stays));
                        }
                    }
                }
            }
            NodeAction::SetRegistry(registries) => self.set_registry(node, registries).await?,
            NodeAction::RestartEngine => self.restart_engine(node).await?,
            NodeAction::ConfigureEngine => self.configure_engine(index, node).await?,
            NodeAction::UpgradeEngine => self.upgrade_engine(index, node).await?,
            NodeAction::AwaitEngine => self.await_engine(node).await?,
            NodeAction::InitSwarm => self.init_swarm(node).await?,
            NodeAction::JoinSwarm { role, through } => {
                self.join(index, node, *role, through).await?
            }
            NodeAction::ConfigureMember { role, availability, set, unset, through } => {
                self.configure_member(node, *role, set, unset, through).await?;
                if let Some(availability) = availability {
                    self.set_availability(node, *availability, through).await?;
                }
            }
            NodeAction::AwaitIdle { through } => self.await_idle(index, node, through).await?,
            NodeAction::RecoverSwarm => {
                let address = self.record(node)?.address;
                self.engine(node)?.recover_swarm(address).await?;
            }
            NodeAction::LeaveSwarm { id, through } => self.leave(node, id, through).await?,
            NodeAction::StopMachine => {
                if !self.driver.stop(&self.machine(node)?).await? {
                    let text = "the guest did not shut down in time and was killed";
                    self.remark(index, node.as_str(), Remark::Warning(text));
                }
            }
            NodeAction::KillMachine => {
                self.driver.kill(&self.cluster.dir().machine_dir(node)).await?
            }
            NodeAction::RemoveNode => self.cluster.remove_node(node)?,
        }
        Ok(())
    }

    fn credentials(&self) -> pki::Credentials {
        pki::Credentials::of_store(self.cluster.dir().path())
    }

    async fn ensure_credentials(&self) -> Result<(), Error> {
        let store = self.cluster.dir().path();
        pki::ensure_authority(store, &self.settings.user)?;
        pki::ensure_ssh_key(store).await?;
        Ok(())
    }

    /// Returns by which other name than its address programs of this host reach a node.
    fn names_from_here(&self, record: &NodeRecord) -> Vec<String> {
        let seen = self.network.host_address(record.address);
        let other = record.spec.is_vm() && seen != record.address;
        other.then(|| seen.to_string()).into_iter().collect()
    }

    async fn ensure_node_keys(&self, node: &NodeName) -> Result<(), Error> {
        let record = self.record(node)?;
        let store = self.cluster.dir().path();
        let user = &self.settings.user;
        let names = self.names_from_here(&record);
        pki::ensure_server(store, record.name(), record.address, user, &names)?;
        if record.spec.is_host() {
            // Its key is its own.
            return Ok(());
        }
        pki::ensure_host_key(store, record.name(), record.address).await?;
        Ok(())
    }

    async fn image(&self) -> Result<Image, Error> {
        Ok(self.images.ensure(&self.image_spec()?, &|_| ()).await?)
    }

    async fn ensure_template(
        &self,
        index: usize,
        shape: Shape,
        images: &[ImageSet],
    ) -> Result<PathBuf, Error> {
        let image = self.image().await?;
        let progress = |remark: Remark<'_>| self.remark(index, "template", remark);
        Ok(self.forks()?.ensure_template(&image, shape, images, &progress).await?)
    }

    fn forks(&self) -> Result<&dyn Fork, Error> {
        let none = || skep_driver::Error::Unfit("these machines cannot be forked".to_owned());
        Ok(self.driver.forks().ok_or_else(none)?)
    }

    fn adopts(&self) -> Result<&dyn Adopt, Error> {
        let none = || skep_driver::Error::Unfit("these machines cannot be hosts".to_owned());
        Ok(self.driver.adopts().ok_or_else(none)?)
    }

    /// Returns what the cluster is known by on its hosts.
    fn owner_of_hosts(&self) -> Result<String, Error> {
        let dir = self.cluster.dir();
        let origin = rotation::origin(dir.path());
        Ok(skep_driver::ssh::owner(dir.name().as_str(), &origin)?)
    }

    async fn start(&self, index: usize, node: &NodeName, as_copy: bool) -> Result<(), Error> {
        let machine = self.machine(node)?;
        let image = self.image_under(&machine)?;
        let network = self.network_record()?;
        let boot = Boot {
            owner: self.owner(),
            network,
            kernel: image.kernel(),
            initrd: image.initrd(),
            resolvers: self.settings.resolvers.clone(),
        };
        let progress = |remark: Remark<'_>| self.remark(index, node.as_str(), remark);
        if as_copy {
            return Ok(self.forks()?.fork(&machine, &boot, &progress).await?);
        }
        Ok(self.driver.start(&machine, &boot, &progress).await?)
    }

    /// Returns the image on which a machine's disk stands; a newer skep would build another one, whose
    /// kernel does not fit the modules on the disk.
    pub(super) fn image_under(&self, machine: &Machine) -> Result<Image, Error> {
        let base = self.driver.base(machine);
        let base = base.ok_or_else(|| Error::NoRecord("the image of the disk".to_owned()))?;
        Ok(self.images.with_root_disk(&base)?)
    }

    async fn provision(&self, node: &NodeName) -> Result<(), Error> {
        let machine = self.machine(node)?;
        let delivery = self.delivery(&machine)?;
        let limit = self.limit(Some(node), Duration::from_secs(15));
        let shell = self.driver.shell(&machine);
        let mut seed = [0; 32];
        skep_sys::fill_random(&mut seed)?;
        let identity = provision::Identity {
            node: &machine.record,
            network: &self.network_record()?,
            link: self.usual_link(node),
            resolvers: &self.settings.resolvers,
            behind_ns: shell.clock_behind(limit).await?,
            seed,
        };
        let input = provision::render(&identity, &delivery);
        shell
            .succeed("the set-up of identity and keys", &[provision::PROGRAM], &input, limit)
            .await?;
        Ok(())
    }

    fn delivery(&self, machine: &Machine) -> Result<provision::Delivery, Error> {
        let read = |path: &Path| skep_sys::read(path);
        let dir = &machine.dir;
        Ok(provision::Delivery {
            authorized_keys: read(&dir.join("id_rsa.pub"))?,
            host_key: read(&dir.join("ssh_host_ed25519_key"))?,
            host_key_public: read(&dir.join("ssh_host_ed25519_key.pub"))?,
            ca: rotation::admitted(dir)?,
            server: read(&dir.join("server.pem"))?,
            server_key: read(&dir.join("server-key.pem"))?,
        })
    }

    async fn init_swarm(&self, node: &NodeName) -> Result<(), Error> {
        let machine = self.machine(node)?;
        let address = machine.record.address;
        if machine.record.spec.is_vm() {
            // A copy's engine has never stopped, while what answers at its port is still being started.
            let (shell, limit) =
                (self.driver.shell(&machine), self.limit(Some(node), Duration::from_secs(20)));
            if inside::init_swarm(&*shell, address, limit).await.is_ok() {
                return Ok(());
            }
        }
        self.await_engine(node).await?;
        self.insist("the swarm was not formed", Some(node), async || {
            Ok(self.engine(node)?.init_swarm(address).await?)
        })
        .await
    }

    async fn restart_engine(&self, node: &NodeName) -> Result<(), Error> {
        let machine = self.machine(node)?;
        let limit = self.limit(Some(node), Duration::from_secs(20));
        let restart = ["sh", "-c", RESTART];
        self.driver.shell(&machine).succeed("the engine's restart", &restart, b"", limit).await?;
        Ok(())
    }

    async fn await_engine(&self, node: &NodeName) -> Result<(), Error> {
        let machine = self.machine(node)?;
        let engine = self.engine(node)?;
        let limit = self.limit(Some(node), Duration::from_secs(20));
        let mut refused = None;
        let mut ends = Ends::new();
        self.poll("for the engine to respond", limit, async || match engine.part().await {
            Ok(Part::Unsettled(state)) => Ok(Err(format!("its part in the swarm is {state}"))),
            Ok(_) => Ok(Ok(())),
            Err(error) => {
                self.driver.check_alive(&machine)?;
                self.check_ends(node, &machine, &mut ends).await?;
                if !error.is_refused_certificate() {
                    refused = None;
                } else if refused.get_or_insert_with(Instant::now).elapsed() > FOLLOWS {
                    refused = None;
                    self.check_clock(node, &machine, &error).await?;
                }
                Ok(Err(skep_sys::chain(&error)))
            }
        })
        .await
    }

    /// Fails if a node's clock is so wrong that certificates are no use there.
    async fn check_clock(
        &self,
        node: &NodeName,
        machine: &Machine,
        error: &engine::Error,
    ) -> Result<(), Error> {
        let limit = self.limit(Some(node), Duration::from_secs(5));
        match self.driver.shell(machine).clock_behind(limit).await {
            Ok(behind_ns) if behind_ns.unsigned_abs() > CLOCK_WRONG => {
                let reason = skep_sys::chain(error);
                Err(Error::Clock { node: node.clone(), behind_ns, reason })
            }
            // It says nothing, or is right: the engine is waited for as any other.
            _ => Ok(()),
        }
    }

    /// Looks again and again until the answer is `Ok`, or the time is over; the last `Err` is told.
    pub(super) async fn poll<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl AsyncFnMut() -> Result<Result<T, String>, Error>,
    ) -> Result<T, Error> {
        self.poll_moving(what, limit, async |_| look().await).await
    }

    /// Does so, and begins the limit again whenever `look` calls the function that it is given: something has
    /// come a step nearer. That may happen only a bounded number of times.
    pub(super) async fn poll_moving<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl AsyncFnMut(&(dyn Fn() + Send + Sync)) -> Result<Result<T, String>, Error>,
    ) -> Result<T, Error> {
        let patience = Patience::new(limit, || self.slowdown());
        let moved = || patience.moved();
        let mut last = String::from("no answer");
        let looking = async {
            loop {
                match look(&moved).await? {
                    Ok(value) => return Ok(value),
                    Err(text) => last = text,
                }
                // wait: neither an engine that starts nor a swarm that forms announces itself.
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let done = tokio::select! {
            result = looking => Some(result),
            () = patience.is_over() => None,
        };
        let late = || Error::Late { what: what.to_owned(), limit: patience.waited(), last };
        done.unwrap_or_else(|| Err(late()))
    }
}

/// What somebody else has since by the name in a record is not this cluster's to remove, and nothing of this one is left.
fn unless_taken(removed: Result<(), network::Error>) -> Result<(), network::Error> {
    match removed {
        Err(network::Error::Taken(_)) => Ok(()),
        removed => removed,
    }
}
