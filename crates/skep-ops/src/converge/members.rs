//! Steps that change who belongs to a swarm, and as what.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use skep_core::model::{Availability, NodeName, Role};
use skep_core::observed::{EngineState, Member};
use skep_docker::engine::{self, Engine, Part};

use super::{Error, StepContext};

/// How seldom a join that does not end is looked at.
const JOIN_PAUSE: Duration = Duration::from_secs(2);

/// How far a node has come into the swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Its engine is in no swarm.
    Outside,
    /// Its engine is joining.
    Asked,
    /// The managers have an entry of it.
    Listed,
    /// It is a member.
    Joined,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outside => "its engine has not started to join",
            Self::Asked => "its engine is joining",
            Self::Listed => "the managers know it, and its engine is still joining",
            Self::Joined => "it has joined",
        })
    }
}

/// Tells whether what was asked for may succeed later. An engine that calls a request wrong stays with that;
/// whatever else it says, or does not say, may be due to a moment's load.
fn may_pass(error: &engine::Error) -> bool {
    match error {
        engine::Error::Refused { status, .. } => !(400..500).contains(status),
        engine::Error::Unreachable { .. }
        | engine::Error::Timeout { .. }
        | engine::Error::Garbled(_)
        | engine::Error::BrokenOff { .. } => !error.is_refused_certificate(),
        _ => false,
    }
}

impl StepContext<'_> {
    /// Has a node join the swarm. A join that fails is tried again, with a new token and through whichever manager
    /// answers then: managers that are busy, or elect a leader, refuse for a while.
    pub(super) async fn join(
        &self,
        index: usize,
        node: &NodeName,
        role: Role,
        through: &[NodeName],
    ) -> Result<(), Error> {
        let machine = self.machine(node)?;
        let mut stage = Stage::Outside;
        let mut pause = Duration::from_millis(50);
        let mut told = String::new();
        let limit = self.limit_from(Some(node), Duration::from_secs(20), Duration::from_secs(90));
        self.poll_moving("for it to join the swarm", limit, async |moved| {
            let now = match self.advance_join(node, role, through).await {
                Ok(Stage::Joined) => return Ok(Ok(())),
                Ok(now) => Ok(now),
                Err(Error::Engine(error)) if !may_pass(&error) => return Err(error.into()),
                Err(error @ (Error::Engine(_) | Error::NoManager(_))) => {
                    self.driver.check_alive(&machine)?;
                    Err(skep_sys::chain(&error))
                }
                Err(error) => return Err(error),
            };
            let text = match now {
                Ok(now) => {
                    if now > stage {
                        stage = now;
                        moved();
                    }
                    now.to_string()
                }
                Err(text) => text,
            };
            if text != told {
                self.progress(index, text.clone());
                told.clone_from(&text);
            }
            // wait: an engine announces neither a join's progress nor that it may be tried again.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(JOIN_PAUSE);
            Ok(Err(text))
        })
        .await
    }

    /// Asks for a join, or looks how far one has come.
    async fn advance_join(
        &self,
        node: &NodeName,
        role: Role,
        through: &[NodeName],
    ) -> Result<Stage, Error> {
        let engine = self.engine(node)?;
        match engine.part().await? {
            Part::Worker | Part::Manager => return Ok(Stage::Joined),
            Part::None => {}
            Part::Unsettled(state) if state == "error" => {
                // It has given up, and takes no other request before it has left.
                self.forget_lost_entries(node, through).await?;
                engine.leave_swarm(true).await?;
            }
            Part::Unsettled(_) => {
                let members = self.manager(through).await?.members().await?;
                let is_listed = members.iter().any(|member| member.is_node(node));
                return Ok(if is_listed { Stage::Listed } else { Stage::Asked });
            }
        }
        let token = self.manager(through).await?.join_token(role).await?;
        let managers: Vec<_> =
            through.iter().filter_map(|name| Some(self.record(name).ok()?.address)).collect();
        engine.join_swarm(self.record(node)?.address, &managers, &token).await?;
        Ok(match engine.part().await? {
            Part::Worker | Part::Manager => Stage::Joined,
            Part::None => Stage::Outside,
            Part::Unsettled(_) => Stage::Asked,
        })
    }

    /// Has the swarm forget what a join left that failed: a manager's entry would count for the majority.
    async fn forget_lost_entries(
        &self,
        node: &NodeName,
        through: &[NodeName],
    ) -> Result<(), Error> {
        let manager = self.manager(through).await?;
        let members = manager.members().await?;
        for member in members.iter().filter(|member| member.is_node(node) && !member.ready) {
            if member.role == Role::Manager {
                demote(manager.as_ref(), &member.id).await?;
            }
            manager.forget_member(&member.id, true).await?;
        }
        Ok(())
    }

    /// Does something until it succeeds or fails for a reason that does not pass.
    pub(super) async fn insist<T>(
        &self,
        what: &str,
        node: Option<&NodeName>,
        mut work: impl AsyncFnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let limit = self.limit_from(node, Duration::from_secs(20), Duration::from_secs(60));
        self.poll(what, limit, async || match work().await {
            Ok(done) => Ok(Ok(done)),
            Err(Error::Engine(error)) if !may_pass(&error) => Err(error.into()),
            Err(error @ (Error::Engine(_) | Error::NoManager(_))) => {
                // wait: what refuses for a while is not asked all the time.
                tokio::time::sleep(Duration::from_millis(200)).await;
                Ok(Err(skep_sys::chain(&error)))
            }
            Err(error) => Err(error),
        })
        .await
    }

    pub(super) async fn configure_member(
        &self,
        node: &NodeName,
        role: Role,
        set: &BTreeMap<String, String>,
        unset: &[String],
        through: &[NodeName],
    ) -> Result<(), Error> {
        self.insist("its entry in the swarm was not changed", Some(node), async || {
            let id = self.member_id(node).await?;
            let manager = self.manager(through).await?;
            Ok(manager.configure_member(&id, role, set, unset).await?)
        })
        .await
    }

    pub(super) async fn set_availability(
        &self,
        node: &NodeName,
        availability: Availability,
        through: &[NodeName],
    ) -> Result<(), Error> {
        self.insist("its availability was not changed", Some(node), async || {
            let id = self.member_id(node).await?;
            let manager = self.manager(through).await?;
            Ok(manager.set_availability(&id, availability.as_str()).await?)
        })
        .await
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
        self.poll("for the node's tasks to stop", limit, async || {
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
                Err(error) => Ok(Err(skep_sys::chain(&error))),
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
        let limit = self.stop_limit(node);
        let moved = self.poll("for the node's tasks to stop", limit, async || {
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
        self.poll("for the swarm to remove the node", limit, async || {
            match manager.forget_member(id, true).await {
                Ok(()) => Ok(Ok(())),
                // A manager that was demoted a moment ago still counts for one.
                Err(error) => Ok(Err(skep_sys::chain(&error))),
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
        let limit =
            self.limit_from(nodes.first(), Duration::from_secs(20), Duration::from_secs(60));
        let mut told = String::new();
        let mut fewest = nodes.len();
        self.poll_moving("for all nodes to be Ready", limit, async |moved| {
            let swarm = match self.manager(through).await {
                Ok(manager) => manager.members().await,
                Err(error) => return Ok(Err(error.to_string())),
            };
            let missing = match swarm {
                Ok(members) => not_ready(&members, nodes),
                Err(error) => return Ok(Err(skep_sys::chain(&error))),
            };
            if missing.is_empty() {
                return Ok(Ok(()));
            }
            if missing.len() < fewest {
                fewest = missing.len();
                moved();
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
                Err(error) => reasons.push(format!("{name}: {}", skep_sys::chain(&error))),
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
