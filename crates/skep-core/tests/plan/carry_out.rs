//! Carrying plans out, in any order that they allow, and no further than a crash lets it.

use skep_core::model::ClusterSpec;
use skep_core::observed::Observed;
use skep_core::plan::{Plan, PlanError, UpOptions, plan_up};

use crate::graph;
use crate::world::{Fault, World};

/// How often `up` looks again; the command does no more either.
const ROUNDS: usize = 4;

/// A source of choices that a test case can repeat.
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    /// Returns a number below `count`, or 0 (SplitMix64, Steele et al. 2014).
    pub fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % count.max(1) as u64).expect("below a usize")
    }
}

/// Where a run is cut off.
#[derive(Debug, Clone)]
pub struct Crash {
    /// How many steps are done before.
    pub after: usize,
    /// Whether the next one is half done.
    pub midway: bool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Everything is done.
    Done,
    /// The crash came.
    Crashed,
    /// A step failed, or what some steps wait for never comes; the text says which.
    Failed(String),
}

/// Carries a plan out, one step after the other; which comes first is up to the dice. A step that
/// waits lets others go first, as all that may run at the same time does.
pub fn execute(world: &mut World, plan: &Plan, dice: &mut Dice, crash: &mut Option<Crash>) -> End {
    graph::check(plan);
    let mut done = vec![false; plan.steps.len()];
    let mut late = Vec::new();
    loop {
        let open: Vec<usize> = (0..plan.steps.len())
            .filter(|at| !done[*at] && !late.iter().any(|(late, _)| late == at))
            .filter(|at| plan.steps[*at].needs.iter().all(|need| done[*need]))
            .collect();
        let Some(&at) = open.get(dice.below(open.len())) else { break };
        if let Some(crash) = crash {
            if crash.after == 0 {
                if crash.midway {
                    world.apply_half(&plan.steps[at]);
                }
                return End::Crashed;
            }
            crash.after -= 1;
        }
        match world.apply(&plan.steps[at]) {
            Ok(()) => {
                done[at] = true;
                late.clear();
            }
            Err(Fault::NotYet(why)) => late.push((at, why)),
            Err(Fault::Failed(why)) => return End::Failed(format!("{}: {why}", plan.steps[at])),
        }
    }
    match late.first() {
        Some((at, why)) => End::Failed(format!("{}: {why}", plan.steps[*at])),
        None => End::Done,
    }
}

/// Looks, plans and executes as `skep up` does, until a plan asks for no other look.
pub fn up(
    world: &mut World,
    spec: &ClusterSpec,
    dice: &mut Dice,
    mut crash: Option<Crash>,
) -> Result<End, PlanError> {
    converge(world, dice, &mut crash, |seen| plan_up(spec, seen, UpOptions::default()))
}

/// Looks, plans and executes until a plan asks for no other look.
pub fn converge(
    world: &mut World,
    dice: &mut Dice,
    crash: &mut Option<Crash>,
    plan: impl Fn(&Observed) -> Result<Plan, PlanError>,
) -> Result<End, PlanError> {
    for _ in 0..ROUNDS {
        let plan = plan(&world.look())?;
        let end = execute(world, &plan, dice, crash);
        if end != End::Done || !plan.look_again {
            return Ok(end);
        }
    }
    Ok(End::Failed("it does not settle".to_owned()))
}
