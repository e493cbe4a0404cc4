//! Choosing a subnet and a bridge, again where somebody else on this host was quicker to take them.

use skep_core::observed::Observed;
use skep_core::plan::Plan;

use super::{Failure, Unsettled};

/// How often they are chosen. Each time somebody else took what was chosen.
const CHOICES: u32 = 5;

/// Plans and carries out what makes a choice known, and chooses again while the choice is taken by then.
///
/// # Errors
///
/// If there is no plan, something else fails, or all choices were taken.
pub async fn reserve<E>(
    plan: impl Fn(&Observed) -> Result<Plan, E>,
    carry_out: impl AsyncFn(&Plan) -> Result<(), Vec<Failure>>,
    look: impl AsyncFn() -> Result<Observed, E>,
) -> Result<(), Unsettled<E>> {
    let mut choices = 0;
    loop {
        let seen = look().await.map_err(Unsettled::Unplanned)?;
        // A choice that was taken is in the record already, and is replaced.
        let seen = Observed { cluster: None, ..seen };
        let plan = plan(&seen).map_err(Unsettled::Unplanned)?;
        choices += 1;
        match carry_out(&plan).await {
            Err(failures) if choices < CHOICES && failures.iter().any(Failure::is_taken) => {}
            done => return done.map_err(Unsettled::Failed),
        }
    }
}
