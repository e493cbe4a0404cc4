//! Steps that change who belongs to a swarm, and as what.

use std::collections::BTreeMap;
use std::time::Duration;

use skep_core::model::{Availability, NodeName, Role};
use skep_core::observed::{EngineState, Member};

use super::{Error, World};
use crate::engine::{self, Engine, Part};

impl World<'_> {
    pub(super) async fn join(
        &self,
        node: &NodeName,
        role: Role,
        through: &[NodeName],
    ) -> Result<(), Error> {
        let engine = self.engine(node)?;
        if matches!(engine.part().await?, Part::Worker | Part::Manager) {
            return Ok(());
        }
        let manager = self.manager(through).await?;
        let token = manager.join_token(role).await?;
        let managers: Vec<_> =
            through.iter().filter_map(|name| Some(self.record(name).ok()?.address)).collect();
        let address = self.record(node)?.address;
        Ok(engine.join_swarm(address, &managers, &token).await?)
    }

    pub(super) async fn configure_member(
        &self,
        node: &NodeName,
        role: Role,
        set: &BTreeMap<String, String>,
        unset: &[String],
        through: &[NodeName],
    ) -> Result<(), Error> {
        let id = self.member_id(node).await?;
        let manager = self.manager(through).await?;
        Ok(manager.configure_member(&id, role, set, unset).await?)
    }

    pub(super) async fn set_availability(
        &self,
        node: &NodeName,
        availability: Availability,
        through: &[NodeName],
    ) -> Result<(), Error> {
        let id = self.member_id(node).await?;
        let manager = self.manager(through).await?;
        Ok(manager.set_availability(&id, availability.as_str()).await?)
    }

    /// Waits until no task runs on a node any more; how long one may take to stop is its service's word.
    pub(super) async fn await_idle(
        &self,
        index: usize,
        node: &NodeName,
        through: &[NodeName],
    ) -> Result<(), Error> {
        let id = self.member_id(node).await?;
        let limit = self.limit(Some(node), Duration::from_secs(30)).max(Duration::from_secs(60));
        let mut told = 0;
        self.poll("the node's tasks did not stop", limit, async || {
            let manager = match self.manager(through).await {
                Ok(manager) => manager,
                Err(error) => return Ok(Err(error.to_string())),
            };
            match manager.running_tasks(&id).await {
                Ok(0) => Ok(Ok(())),
                Ok(count) => {
                    let text = format!("{count} still run");
                    if count != told {
                        self.progress(index, text.clone());
                        told = count;
                    }
                    Ok(Err(text))
                }
                Err(error) => Ok(Err(crate::sys::chain(&error))),
            }
        })
        .await
    }

    pub(super) async fn forget_member(&self, id: &str, through: &[NodeName]) -> Result<(), Error> {
        let manager = self.manager(through).await?;
        let swarm = manager.swarm().await?;
        let Some(member) = swarm.member(id) else { return Ok(()) };
        if member.role == Role::Manager {
            demote(manager.as_ref(), id).await?;
        }
        self.forget(manager.as_ref(), id).await
    }

    pub(super) async fn leave(
        &self,
        node: &NodeName,
        id: &str,
        through: &[NodeName],
    ) -> Result<(), Error> {
        if through.is_empty() {
            // There is nobody to tell: the swarm has no managers any more.
            return Ok(self.engine(node)?.leave_swarm(true).await?);
        }
        let manager = self.manager(through).await?;
        let swarm = manager.swarm().await?;
        let Some(member) = swarm.member(id) else { return Ok(()) };
        if member.role == Role::Manager {
            demote(manager.as_ref(), id).await?;
        }
        if member.ready {
            self.drain(node, id, manager.as_ref()).await?;
            // One that does not follow is forgotten all the same: it goes with its machine.
            let _ = self.engine(node)?.leave_swarm(true).await;
        }
        self.forget(manager.as_ref(), id).await
    }

    /// Moves the node's tasks away while it can still be asked.
    async fn drain(&self, node: &NodeName, id: &str, manager: &dyn Engine) -> Result<(), Error> {
        manager.set_availability(id, "drain").await?;
        let limit = self.limit(Some(node), Duration::from_secs(15));
        let moved = self.poll("the node's tasks did not stop", limit, async || {
            match manager.running_tasks(id).await? {
                0 => Ok(Ok(())),
                count => Ok(Err(format!("{count} still run"))),
            }
        });
        // Tasks that do not end in time end with the node.
        match moved.await {
            Ok(()) | Err(Error::Late { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn forget(&self, manager: &dyn Engine, id: &str) -> Result<(), Error> {
        let limit = self.limit(None, Duration::from_secs(30)).max(Duration::from_secs(60));
        self.poll("the swarm did not forget the node", limit, async || {
            match manager.forget_member(id, true).await {
                Ok(()) => Ok(Ok(())),
                // A manager that was demoted a moment ago still counts for one.
                Err(error) => Ok(Err(crate::sys::chain(&error))),
            }
        })
        .await
    }

    pub(super) async fn await_ready(
        &self,
        index: usize,
        nodes: &[NodeName],
        through: &[NodeName],
    ) -> Result<(), Error> {
        let limit = self.limit(nodes.first(), Duration::from_secs(20));
        let mut told = String::new();
        self.poll("not all nodes became Ready", limit, async || {
            let swarm = match self.manager(through).await {
                Ok(manager) => manager.members().await,
                Err(error) => return Ok(Err(error.to_string())),
            };
            let missing = match swarm {
                Ok(members) => not_ready(&members, nodes),
                Err(error) => return Ok(Err(crate::sys::chain(&error))),
            };
            if missing.is_empty() {
                return Ok(Ok(()));
            }
            let text = format!("not Ready: {}", missing.join(", "));
            if text != told {
                self.progress(index, text.clone());
                told.clone_from(&text);
            }
            Ok(Err(text))
        })
        .await
    }

    /// Returns the first of these nodes whose engine answers as a manager of the swarm.
    pub(super) async fn manager(&self, through: &[NodeName]) -> Result<Box<dyn Engine>, Error> {
        let mut reasons = Vec::new();
        for name in through {
            let engine = self.engine(name)?;
            match engine.part().await {
                Ok(Part::Manager) => return Ok(engine),
                Ok(_) => reasons.push(format!("{name} is not a manager")),
                Err(error) => reasons.push(format!("{name}: {}", crate::sys::chain(&error))),
            }
        }
        Err(Error::NoManager(reasons.join("; ")))
    }

    async fn member_id(&self, node: &NodeName) -> Result<String, Error> {
        match self.engine(node)?.state().await? {
            EngineState::Member { id, .. } => Ok(id),
            _ => Err(Error::NoRecord(format!("{node} as a member of the swarm"))),
        }
    }
}

/// Returns the nodes that have no entry which is ready, each with what is known of it.
fn not_ready(members: &[Member], nodes: &[NodeName]) -> Vec<String> {
    let ready = |member: &Member| member.ready && (member.role == Role::Worker || member.reachable);
    nodes
        .iter()
        .filter(|name| !members.iter().any(|member| member.is_node(name) && ready(member)))
        .map(|name| match members.iter().find(|member| member.is_node(name)) {
            Some(_) => format!("{name} (down)"),
            None => format!("{name} (not joined)"),
        })
        .collect()
}

/// Makes a manager a worker: only as such does a swarm forget it. One that has an entry and no part in the
/// managers' decisions, as after the swarm was formed anew without it, is not found, and forgotten as it is.
async fn demote(manager: &dyn Engine, id: &str) -> Result<(), Error> {
    match manager.configure_member(id, Role::Worker, &BTreeMap::new(), &[]).await {
        Ok(()) | Err(engine::Error::Refused { status: 404, .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
