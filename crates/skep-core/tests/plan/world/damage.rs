//! What befalls a host between two runs.

use skep_core::model::NodeName;
use skep_core::observed::MachineState;

use super::World;

/// Something that breaks. Numbers choose a node, whatever nodes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// A machine ends.
    Killed(u8),
    /// A machine's processors are halted.
    Paused(u8),
    /// A machine cannot go on, and its process is still there.
    Crashed(u8),
    /// The host restarts: machines, bridge and rules are gone.
    Restarted,
    /// Somebody removes the bridge.
    NoBridge,
    /// Somebody flushes the firewall.
    NoFirewall,
    /// Somebody restores /etc/hosts.
    NoHosts,
    /// The certificates are gone.
    NoCertificates,
    /// The cache is emptied.
    NoImage,
    /// A machine ends and its disk is gone.
    NoDisk(u8),
    /// A machine ends and its whole directory is gone.
    NoNode(u8),
}

impl World {
    /// Breaks something. What would leave a swarm without the disks of a majority is left alone:
    /// nothing can mend that.
    pub fn suffer(&mut self, damage: Damage) {
        let before = self.clone();
        match damage {
            Damage::Killed(number) => self.on(number, |world, name| world.kill(name)),
            Damage::Paused(number) => self.on(number, |world, name| {
                let node = world.node_mut(name);
                if node.machine == MachineState::Running {
                    node.machine = MachineState::Paused;
                }
            }),
            Damage::Crashed(number) => self.on(number, |world, name| {
                let node = world.node_mut(name);
                if node.machine == MachineState::Running && !node.is_host() {
                    node.machine = MachineState::Crashed;
                }
            }),
            Damage::Restarted => {
                for name in self.nodes.keys().cloned().collect::<Vec<_>>() {
                    self.kill(&name);
                }
                self.links.clear();
                self.tables.clear();
            }
            Damage::NoBridge => self.links.clear(),
            Damage::NoFirewall => self.tables.clear(),
            Damage::NoHosts => self.hosts.clear(),
            Damage::NoCertificates => self.authority = None,
            Damage::NoImage => {
                self.image = false;
                self.templates.clear();
                self.baked.clear();
            }
            Damage::NoDisk(number) => self.on(number, |world, name| {
                world.kill(name);
                world.node_mut(name).disk = None;
            }),
            Damage::NoNode(number) => self.on(number, |world, name| {
                world.nodes.remove(name);
            }),
        }
        if (0..self.swarms.len()).any(|swarm| before.survives(swarm) && !self.survives(swarm)) {
            *self = before;
        }
        self.settle();
    }

    fn on(&mut self, number: u8, act: impl FnOnce(&mut Self, &NodeName)) {
        let machines: Vec<_> = self.nodes.iter().filter(|(_, node)| !node.is_host()).collect();
        let chosen = machines.get(usize::from(number) % machines.len().max(1));
        if let Some(name) = chosen.map(|(name, _)| (*name).clone()) {
            act(self, &name);
        }
    }
}
