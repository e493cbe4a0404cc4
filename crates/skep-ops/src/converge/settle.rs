//! Look, plan, execute, until nothing is left to do.

use std::collections::BTreeSet;

use skep_core::model::NodeName;
use skep_core::observed::Observed;
use skep_core::plan::{Birth, Plan};

use super::{Failure, OnFailure};

/// How often a plan may ask for another look: one to start what sleeps, one for the swarm, one where
/// machines cannot be forked, and one to spare.
const ROUNDS: usize = 5;

/// Why something has not become what it should.
#[derive(Debug)]
pub enum Unsettled<E> {
    /// A look failed, or there is no plan.
    Unplanned(E),
    /// Steps failed.
    Failed(Vec<Failure>),
    /// There is always something left to do.
    Restless,
}

/// Plans and carries out until a plan does not ask for another look, beginning with what was seen
/// `first`. Where machines cannot be forked, `tell` is told so, in one line, and they are booted.
///
/// A plan that asks for another look has more to do. If nodes fail in it and others may go on, the next plan leaves out
/// those that failed, which it is given, and their failures are returned in the end.
///
/// # Errors
///
/// If that does not come to an end; what was done stays done.
pub async fn settle<E>(
    first: Observed,
    mut birth: Birth,
    on_failure: OnFailure,
    plan: impl Fn(&Observed, Birth, &BTreeSet<NodeName>) -> Result<Plan, E>,
    carry_out: impl AsyncFn(&Plan) -> Result<(), Vec<Failure>>,
    look: impl AsyncFn() -> Result<Observed, E>,
    tell: impl Fn(String),
) -> Result<(), Unsettled<E>> {
    let mut seen = first;
    let (mut failed, mut lost) = (Vec::new(), BTreeSet::new());
    for _ in 0..ROUNDS {
        let next = match plan(&seen, birth, &lost) {
            Ok(next) => next,
            Err(error) if failed.is_empty() => return Err(Unsettled::Unplanned(error)),
            // What failed before is the reason.
            Err(_) => break,
        };
        match carry_out(&next).await {
            Ok(()) if !next.look_again && failed.is_empty() => return Ok(()),
            Ok(()) if !next.look_again => break,
            Ok(()) => {}
            Err(failures) => match reason_to_boot(&failures) {
                Some(reason) if birth != Birth::Boot => {
                    tell(format!("booting machines, as they cannot be forked: {reason}"));
                    birth = Birth::Boot;
                }
                _ => {
                    let nodes = failures.iter().map(|failure| failure.node.clone());
                    let nodes: Option<BTreeSet<NodeName>> = nodes.collect();
                    failed.extend(failures);
                    match nodes {
                        Some(nodes) if next.look_again && on_failure != OnFailure::Stop => {
                            lost.extend(nodes);
                        }
                        _ => break,
                    }
                }
            },
        }
        seen = match look().await {
            Ok(seen) => seen,
            Err(error) if failed.is_empty() => return Err(Unsettled::Unplanned(error)),
            Err(_) => break,
        };
    }
    Err(match failed.is_empty() {
        true => Unsettled::Restless,
        false => Unsettled::Failed(failed),
    })
}

/// Returns why machines cannot be forked, if that is what failed.
fn reason_to_boot(failures: &[Failure]) -> Option<String> {
    let failure = failures.iter().find(|failure| failure.forking)?;
    let reason = skep_sys::chain(&failure.error);
    Some(reason.lines().next().unwrap_or_default().to_owned())
}
