//! What each step does to the world.

use skep_core::model::{
    Admits, EngineImages, ImageSet, NodeName, NodeRecord, Publication, Role, Shape,
};
use skep_core::observed::{Baked, ContextState, EngineState, MachineState};
use skep_core::plan::{Action, ClusterAction, DiskBase, NodeAction, Step};

use super::{Disk, Node, Part, World};

/// Why a step is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// What it waits for is not there yet.
    NotYet(String),
    /// It failed.
    Failed(String),
}

fn failed(text: impl Into<String>) -> Result<(), Fault> {
    Err(Fault::Failed(text.into()))
}

impl World {
    /// Does one step.
    pub fn apply(&mut self, step: &Step) -> Result<(), Fault> {
        let result = match &step.action {
            Action::Node(node, action) => self.apply_to(node, action),
            Action::Cluster(action) => self.apply_to_cluster(action),
        };
        self.settle();
        result
    }

    fn apply_to_cluster(&mut self, action: &ClusterAction) -> Result<(), Fault> {
        match action {
            ClusterAction::RecordCluster(record) => {
                let moved = self.cluster.as_ref().is_some_and(|it| it.network != record.network);
                assert!(!moved, "the network of a cluster changed");
                self.cluster = Some((**record).clone());
            }
            ClusterAction::EnsureCredentials => {
                assert!(self.cluster.is_some(), "certificates before the record");
                let number = self.next();
                self.authority.get_or_insert(number);
            }
            ClusterAction::PrepareAuthority
            | ClusterAction::WithdrawAuthority
            | ClusterAction::RenewCredentials => {}
            ClusterAction::SwitchAuthority => self.authority = Some(self.next()),
            ClusterAction::EnsureImage(_) => self.image = true,
            ClusterAction::EnsureTemplate { shape, images } => {
                self.ensure_template(*shape, images)?
            }
            ClusterAction::LoadImages { set, nodes } => {
                for name in nodes {
                    self.load(name, set)?;
                }
            }
            ClusterAction::EnsureBridge(network) => {
                self.assert_recorded(&network.bridge);
                self.links.insert(network.bridge.clone(), Part::Whole);
            }
            ClusterAction::EnsureFirewall { network, admits } => {
                self.assert_recorded(&network.bridge);
                let whole = self.links.get(&network.bridge) == Some(&Part::Whole);
                assert!(whole, "rules before the bridge, which then forwards");
                self.admitted.clone_from(admits);
                self.tables.insert(network.bridge.clone(), Part::Whole);
            }
            ClusterAction::ForgetMember { id, through } => {
                let swarm = self.ask(through)?;
                let up = self.up(swarm);
                self.swarms[swarm].forget(id, &up).map_err(Fault::Failed)?;
            }
            ClusterAction::AwaitReady { nodes, through } => self.await_ready(nodes, through)?,
            ClusterAction::StartProbe { through, .. } => {
                self.ask(through)?;
                self.probed = true;
            }
            ClusterAction::VerifyNetworks { nodes, through, .. } => {
                if !self.probed {
                    return failed("there is no service to verify with");
                }
                self.await_ready(nodes, through)?;
                self.probed = false;
            }
            ClusterAction::VerifyNodes { .. } => {}
            ClusterAction::RemoveProbe { through } => {
                self.ask(through)?;
                self.probed = false;
            }
            ClusterAction::PublishPorts { network, publication } => {
                let whole = |part: Option<&Part>| part == Some(&Part::Whole);
                assert!(whole(self.tables.get(&network.bridge)), "ports before the rules");
                assert!(whole(self.links.get(&network.bridge)), "ports before the bridge");
                self.published = publication.as_ref().map(Publication::label);
            }
            ClusterAction::EnsureContext { config, to, .. } => {
                let record = self.cluster.as_ref().expect("a context after the record");
                assert_eq!(record.access.docker_config.as_ref(), Some(config));
                self.context = ContextState::Ours { address: Some(*to), current: true };
            }
            ClusterAction::RemoveContext { .. } => self.context = ContextState::Missing,
            ClusterAction::PublishHosts(entries) => self.hosts.clone_from(entries),
            ClusterAction::RemoveFirewall(name) => {
                self.published = None;
                self.admitted = Admits::default();
                self.tables.remove(name);
            }
            ClusterAction::RemoveLink(name) => {
                self.links.remove(name);
            }
            ClusterAction::RemoveCluster => {
                assert!(self.nodes.is_empty(), "machines lost their records");
                (self.cluster, self.authority) = (None, None);
            }
        }
        Ok(())
    }

    fn ensure_template(&mut self, shape: Shape, images: &[ImageSet]) -> Result<(), Fault> {
        if !self.image {
            return failed("there is no image");
        }
        if images.is_empty() {
            self.templates.insert(shape);
            return Ok(());
        }
        let image = self.cluster.as_ref().expect("it is recorded").image.clone();
        let baked = Baked { image, shape, images: EngineImages::of(images) };
        if !self.baked.contains(&baked) {
            self.baked.push(baked);
        }
        Ok(())
    }

    /// Puts images into a node's engine.
    pub(super) fn load(&mut self, name: &NodeName, set: &ImageSet) -> Result<(), Fault> {
        self.expect_running(name)?;
        if let EngineState::Unreachable(why) = self.engine(self.node(name)) {
            return Err(Fault::NotYet(why));
        }
        self.node_mut(name).disk.as_mut().expect("it runs").images.add(set);
        Ok(())
    }

    fn assert_recorded(&self, bridge: &str) {
        let recorded = self.cluster.as_ref().map(|cluster| cluster.network.bridge.as_str());
        assert_eq!(recorded, Some(bridge), "the network is made before it is recorded");
    }

    fn apply_to(&mut self, name: &NodeName, action: &NodeAction) -> Result<(), Fault> {
        match action {
            NodeAction::RecordNode(record) => self.record_node(record),
            NodeAction::EnsureNodeKeys | NodeAction::RenewNodeKeys => {
                let Some(authority) = self.authority else { return failed("no authority") };
                self.node_mut(name).keys = Some(authority);
            }
            NodeAction::EnsureMachineKeys | NodeAction::RenewMachineKeys => {
                let authority = self.authority.unwrap_or(0);
                self.authority = Some(authority);
                self.node_mut(name).keys = Some(authority);
            }
            NodeAction::SetRegistry(registries) => {
                self.expect_running(name)?;
                let text = registries.to_string();
                self.node_mut(name).disk.as_mut().expect("it runs").registry = text;
            }
            NodeAction::ConfigureEngine | NodeAction::UpgradeEngine => self.expect_running(name)?,
            NodeAction::CreateDisk { on } => {
                let shape =
                    self.node(name).record.spec.shape().expect("hosts have no disk of ours");
                let base = match on {
                    DiskBase::Image => self.image,
                    DiskBase::Template { images } if images.is_empty() => {
                        self.templates.contains(&shape)
                    }
                    DiskBase::Template { images } => {
                        let has = EngineImages::of(images);
                        self.baked.iter().any(|it| it.shape == shape && it.images == has)
                    }
                };
                if !base {
                    return failed("what the disk is made on is not there");
                }
                let node = self.node_mut(name);
                assert!(node.disk.is_none(), "{name} has data on the disk that is made anew");
                let images = match on {
                    DiskBase::Image => EngineImages::default(),
                    DiskBase::Template { images } => EngineImages::of(images),
                };
                let virgin = *on != DiskBase::Image;
                node.disk = Some(Disk { virgin, images, ..Disk::default() });
            }
            NodeAction::ForkMachine => {
                let virgin = self.node(name).disk.as_ref().is_some_and(|disk| disk.virgin);
                assert!(virgin, "{name} is made a copy of another over what is on its disk");
                self.start(name)?;
            }
            NodeAction::StartMachine => self.start(name)?,
            NodeAction::AwaitGuest => self.expect_running(name)?,
            NodeAction::PauseMachine => {
                self.expect_running(name)?;
                self.node_mut(name).machine = MachineState::Paused;
            }
            NodeAction::ResumeMachine => {
                if matches!(self.node(name).machine, MachineState::Stopped | MachineState::Crashed)
                {
                    return failed("it does not run");
                }
                self.node_mut(name).machine = MachineState::Running;
            }
            NodeAction::Provision => self.provision(name)?,
            NodeAction::RestartEngine => self.expect_running(name)?,
            NodeAction::AwaitEngine => {
                self.expect_running(name)?;
                if let EngineState::Unreachable(why) = self.engine(self.node(name)) {
                    return Err(Fault::NotYet(why));
                }
            }
            NodeAction::StopMachine | NodeAction::KillMachine => self.kill(name),
            NodeAction::AdoptHost => self.provision(name)?,
            NodeAction::OpenHost { to } => {
                assert!(self.node(name).is_host(), "{name} is a machine of ours");
                self.node_mut(name).disk.as_mut().expect("a host has one").open_to.clone_from(to);
            }
            NodeAction::ReleaseHost { .. } => {
                self.leave(name);
                self.node_mut(name).disk = Some(Disk::default());
            }
            NodeAction::RemoveNode if self.nodes.get(name).is_some_and(Node::is_host) => {
                let was = self.nodes.remove(name).and_then(|node| node.disk);
                assert_eq!(was, Some(Disk::default()), "{name} keeps what was done to it");
            }
            NodeAction::RemoveNode => {
                let running =
                    self.nodes.get(name).is_some_and(|it| it.machine != MachineState::Stopped);
                assert!(!running, "{name} runs and loses its directory");
                self.nodes.remove(name);
            }
            membership => self.apply_to_member(name, membership)?,
        }
        Ok(())
    }

    /// A node that joins gets through to all hosts, and all others to it.
    fn expect_open(&self, name: &NodeName) {
        let address = |node: &Node| node.record.address;
        let own = address(self.node(name));
        for other in self.nodes.values().filter(|other| address(other) != own) {
            for (host, to) in [(other, own), (self.node(name), address(other))] {
                let is_member = host.disk.as_ref().is_some_and(|disk| disk.membership.is_some());
                let open = host.disk.as_ref().is_some_and(|disk| disk.open_to.contains(&to));
                let counts = host.is_host() && (is_member || address(host) == own);
                assert!(!counts || open, "the firewall of {host:?} keeps {to} out");
            }
        }
    }

    fn apply_to_member(&mut self, name: &NodeName, action: &NodeAction) -> Result<(), Fault> {
        match action {
            NodeAction::InitSwarm => match self.engine(self.node(name)) {
                EngineState::Member { .. } => {}
                EngineState::Inactive { .. } => self.form_swarm(name),
                other => return failed(format!("{other:?}")),
            },
            NodeAction::JoinSwarm { role, through } => match self.engine(self.node(name)) {
                EngineState::Member { .. } => {}
                EngineState::Inactive { .. } => {
                    self.expect_open(name);
                    let swarm = self.ask(through)?;
                    self.enter(swarm, name, *role);
                }
                other => return failed(format!("{other:?}")),
            },
            NodeAction::AwaitIdle { through } => {
                self.ask(through)?;
            }
            NodeAction::RecoverSwarm => return self.recover(name),
            NodeAction::ConfigureMember { role, availability, set, unset, through } => {
                let EngineState::Member { id, .. } = self.engine(self.node(name)) else {
                    return failed("it is no member");
                };
                let swarm = self.ask(through)?;
                let up = self.up(swarm);
                self.swarms[swarm]
                    .configure(&id, *role, *availability, (set, unset), &up)
                    .map_err(Fault::Failed)?;
            }
            NodeAction::LeaveSwarm { through, .. } if through.is_empty() => self.leave(name),
            NodeAction::LeaveSwarm { id, through } => {
                let swarm = self.ask(through)?;
                if self.swarms[swarm].members.contains_key(id) {
                    let up = self.up(swarm);
                    self.swarms[swarm].set_role(id, Role::Worker, &up).map_err(Fault::Failed)?;
                    if self.is_up(swarm, id) {
                        self.leave(name);
                    }
                    let up = self.up(swarm);
                    self.swarms[swarm].forget(id, &up).map_err(Fault::Failed)?;
                }
            }
            other => panic!("`{other}` has a node"),
        }
        Ok(())
    }

    pub(super) fn record_node(&mut self, record: &NodeRecord) {
        assert!(self.cluster.is_some(), "a node before its cluster");
        let fixed =
            |record: &NodeRecord| (record.index, record.address, record.mac, record.tap.clone());
        for (name, other) in &self.nodes {
            let same = fixed(&other.record) == fixed(record);
            assert_eq!(same, name == record.name(), "identities of {name} and {}", record.name());
        }
        let new = Node {
            record: record.clone(),
            keys: None,
            disk: None,
            machine: MachineState::Stopped,
            session: false,
        };
        let new = match record.spec.is_host() {
            // A host is there before it is recorded.
            true => Node { machine: MachineState::Running, disk: Some(Disk::default()), ..new },
            false => new,
        };
        self.nodes.entry(record.name().clone()).or_insert(new).record = record.clone();
    }

    fn start(&mut self, name: &NodeName) -> Result<(), Fault> {
        // The image under a disk is the disk's own: another one in its place would not do.
        if !self.bridge_works() || self.node(name).disk.is_none() {
            return failed("bridge or disk is missing");
        }
        let node = self.node_mut(name);
        if node.machine == MachineState::Crashed {
            // A start finds its process and does nothing.
            return Ok(());
        }
        node.machine = MachineState::Running;
        if let Some(disk) = &mut node.disk {
            disk.virgin = false;
        }
        Ok(())
    }

    fn expect_running(&self, name: &NodeName) -> Result<(), Fault> {
        match self.node(name).machine {
            MachineState::Running => Ok(()),
            other => failed(format!("its machine is {other:?}")),
        }
    }

    fn provision(&mut self, name: &NodeName) -> Result<(), Fault> {
        self.expect_running(name)?;
        let node = self.node_mut(name);
        let Some(keys) = node.keys else { return failed("it has no certificate") };
        node.disk.as_mut().expect("it runs").delivered = Some(keys);
        Ok(())
    }

    fn await_ready(&self, nodes: &[NodeName], through: &[NodeName]) -> Result<(), Fault> {
        let Ok(swarm) = self.ask(through) else {
            return Err(Fault::NotYet("no manager answers".to_owned()));
        };
        let ready = |name: &&NodeName| {
            self.swarms[swarm]
                .members
                .iter()
                .any(|(id, member)| member.hostname == name.as_str() && self.is_up(swarm, id))
        };
        match nodes.iter().find(|name| !ready(name)) {
            Some(name) => Err(Fault::NotYet(format!("{name} is not Ready"))),
            None => Ok(()),
        }
    }

    /// Returns the swarm of the first of these managers that answers.
    pub(super) fn ask(&self, through: &[NodeName]) -> Result<usize, Fault> {
        let answer = through.iter().find_map(|name| self.manager_of(name));
        answer.ok_or_else(|| Fault::Failed(format!("no manager of {through:?} answers")))
    }

    pub(super) fn leave(&mut self, name: &NodeName) {
        let node = self.node_mut(name);
        node.session = false;
        if let Some(disk) = &mut node.disk {
            disk.membership = None;
        }
    }
}
