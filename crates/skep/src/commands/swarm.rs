//! `skep swarm recover`.

use skep_core::plan::{plan_forget_lost, plan_recover};
use skep_host::converge::OnFailure;
use skep_host::observe::Damage;

use super::confirm;
use super::converge::{carry_out, plan_error};
use crate::cli::{SwarmCommand, SwarmRecover};
use crate::context::Context;
use crate::error::CliError;

pub(super) async fn run(context: &Context, command: SwarmCommand) -> Result<(), CliError> {
    match command {
        SwarmCommand::Recover(args) => recover(context, args).await,
    }
}

async fn recover(context: &Context, args: SwarmRecover) -> Result<(), CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let machinery = context.machinery(None);
    let seen = machinery.observe(&dir, Damage::Refuse).await?;
    plan_recover(&seen, &args.node).map_err(plan_error)?;
    let node = &args.node;
    let question = format!(
        "Form the swarm of cluster {} anew from what {node} knows? What the other managers decided \
         without it is lost.",
        dir.name()
    );
    if !confirm(&question, args.yes)? {
        return Ok(());
    }
    let cluster = context.lock(dir.name()).await?;
    let seen = machinery.observe(&dir, Damage::Refuse).await?;
    let plan = plan_recover(&seen, node).map_err(plan_error)?;
    let work = async {
        carry_out(&machinery, &cluster, &plan, OnFailure::Stop).await?;
        let seen = machinery.observe(&dir, Damage::Refuse).await?;
        carry_out(&machinery, &cluster, &plan_forget_lost(&seen, node), OnFailure::GoOn).await
    };
    let result = work.await;
    cluster.release();
    result?;
    if !context.quiet {
        eprintln!("{node} is the only manager now; to let the others join again:");
        eprintln!("  skep up {}", dir.name());
    }
    Ok(())
}
