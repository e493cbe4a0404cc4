//! Which of the steps that could be done now are begun.
//!
//! A node that starts or joins keeps a processor busy, under emulation for seconds. When many do so at
//! once each gets a little, and what a swarm bounds by the clock fails: managers take nodes whose
//! heartbeats come late for dead, and nodes that come back cost more than those that join. So only
//! as many are begun as the host has processors for, in the plan's order.

use std::collections::BTreeSet;

use skep_core::plan::{NodeAction, Plan};

/// Steps that wait for their turn.
pub(super) struct Ready<'a> {
    plan: &'a Plan,
    at_once: usize,
    busy: usize,
    waiting: BTreeSet<(Turn, usize)>,
}

/// What comes first among steps that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// It keeps no processor of the host busy for long.
    Light,
    /// Everybody waits for it.
    First,
    /// It keeps a processor busy.
    Heavy,
}

impl<'a> Ready<'a> {
    pub(super) fn new(plan: &'a Plan, at_once: usize) -> Self {
        Self { plan, at_once: at_once.max(1), busy: 0, waiting: BTreeSet::new() }
    }

    /// Adds a step whose needs are done.
    pub(super) fn add(&mut self, step: usize) {
        self.waiting.insert((self.turn(step), step));
    }

    /// Takes the next step that may begin now.
    pub(super) fn next(&mut self) -> Option<usize> {
        let (turn, step) = *self.waiting.first()?;
        match turn {
            Turn::Light => {}
            Turn::First | Turn::Heavy if self.busy < self.at_once => self.busy += 1,
            Turn::First | Turn::Heavy => return None,
        }
        self.waiting.pop_first();
        Some(step)
    }

    /// Is told that a step that had begun has ended.
    pub(super) fn ended(&mut self, step: usize) {
        if self.turn(step) != Turn::Light {
            self.busy -= 1;
        }
    }

    fn turn(&self, step: usize) -> Turn {
        match self.plan.steps[step].action.on_node() {
            Some(NodeAction::InitSwarm) => Turn::First,
            // None of these waits for another node's: an engine may, for the majority of its swarm.
            Some(
                NodeAction::ForkMachine
                | NodeAction::Provision
                | NodeAction::ConfigureEngine
                | NodeAction::UpgradeEngine
                | NodeAction::JoinSwarm { .. },
            ) => Turn::Heavy,
            _ => Turn::Light,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_core::model::NodeName;
    use skep_core::plan::Step;

    #[test]
    fn as_many_as_the_host_bears_and_the_first_manager_first() {
        let name: NodeName = "node0".parse().unwrap();
        let steps = [
            NodeAction::Provision,
            NodeAction::Provision,
            NodeAction::InitSwarm,
            NodeAction::RemoveNode,
        ];
        let steps = steps.map(|action| Step::node(&name, action, vec![]));
        let plan = Plan { steps: steps.to_vec(), ..Plan::default() };
        let mut ready = Ready::new(&plan, 1);
        for step in 0..4 {
            ready.add(step);
        }
        assert_eq!((ready.next(), ready.next(), ready.next()), (Some(3), Some(2), None));
        ready.ended(3);
        assert_eq!(ready.next(), None, "it took no place");
        ready.ended(2);
        assert_eq!((ready.next(), ready.next()), (Some(0), None));
        ready.ended(0);
        assert_eq!((ready.next(), ready.next()), (Some(1), None));
    }
}
