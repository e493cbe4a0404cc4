//! Look, plan, execute, until nothing is left to do.

use skep_core::observed::Observed;
use skep_core::plan::{Birth, Plan};

use super::Failure;

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
/// # Errors
///
/// If that does not come to an end; what was done stays done.
pub async fn settle<E>(
    first: Observed,
    mut birth: Birth,
    plan: impl Fn(&Observed, Birth) -> Result<Plan, E>,
    carry_out: impl AsyncFn(&Plan) -> Result<(), Vec<Failure>>,
    look: impl AsyncFn() -> Result<Observed, E>,
    tell: impl Fn(String),
) -> Result<(), Unsettled<E>> {
    let mut seen = first;
    for _ in 0..ROUNDS {
        let next = plan(&seen, birth).map_err(Unsettled::Unplanned)?;
        match carry_out(&next).await {
            Ok(()) if !next.look_again => return Ok(()),
            Ok(()) => {}
            Err(failures) => match reason_to_boot(&failures) {
                Some(reason) if birth != Birth::Boot => {
                    tell(format!("machines are booted, as they cannot be forked: {reason}"));
                    birth = Birth::Boot;
                }
                _ => return Err(Unsettled::Failed(failures)),
            },
        }
        seen = look().await.map_err(Unsettled::Unplanned)?;
    }
    Err(Unsettled::Restless)
}

/// Returns why machines cannot be forked, if that is what failed.
fn reason_to_boot(failures: &[Failure]) -> Option<String> {
    let failure = failures.iter().find(|failure| failure.forking)?;
    let reason = crate::sys::chain(&failure.error);
    Some(reason.lines().next().unwrap_or_default().to_owned())
}
