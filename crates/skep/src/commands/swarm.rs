//! `skep swarm recover`.

use std::time::{Duration, Instant};

use skep_core::model::Role;
use skep_core::observed::{MachineState, Observed};
use skep_core::plan::{plan_forget_lost, plan_recover};
use skep_ops::converge::OnFailure;
use skep_ops::observe::Damage;
use skep_print::errln;

use super::confirm;
use crate::cli::{SwarmCommand, SwarmRecover};
use crate::context::Context;
use crate::error::CliError;

/// How long a leader may take to notice that it has lost the others: ten of raft's ticks of a second each,
/// and as long again where all is slow.
const NOTICE: Duration = Duration::from_secs(20);

pub(super) async fn run(context: &Context, command: SwarmCommand) -> Result<(), CliError> {
    match command {
        SwarmCommand::Recover(args) => recover(context, args).await,
    }
}

async fn recover(context: &Context, args: SwarmRecover) -> Result<(), CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let run = context.run(None);
    let began = Instant::now();
    let mut seen = run.observe(&dir, Damage::Refuse).await?;
    while misses_a_manager(&seen) && began.elapsed() < NOTICE {
        // wait: nothing but its answers tells when the leader has noticed.
        tokio::time::sleep(Duration::from_secs(1)).await;
        seen = run.observe(&dir, Damage::Refuse).await?;
    }
    plan_recover(&seen, &args.node)?;
    let node = &args.node;
    let question = format!(
        "Recreate the swarm of cluster {} from the state of {node}? Changes that only the other managers \
         know of are lost, and its engine restarts.",
        dir.name()
    );
    if !confirm(&question, args.yes)? {
        return Ok(());
    }
    let cluster = run.lock(dir.name()).await?;
    let seen = run.observe(&dir, Damage::Refuse).await?;
    let plan = plan_recover(&seen, node)?;
    let work = async {
        run.execute(&cluster, &plan, OnFailure::Stop).await?;
        let seen = run.observe(&dir, Damage::Refuse).await?;
        run.execute(&cluster, &plan_forget_lost(&seen, node), OnFailure::GoOn).await
    };
    let result = work.await;
    cluster.release();
    result?;
    if !context.is_quiet() {
        errln!("{node} is the only manager now; to make the others join again:");
        errln!("  skep up {}", dir.name());
    }
    Ok(())
}

/// Tells whether somebody leads a swarm with a manager that does not run: perhaps he has not noticed yet.
fn misses_a_manager(seen: &Observed) -> bool {
    let Some(swarm) = &seen.swarm else { return false };
    let mut managers = swarm.members.iter().filter(|member| member.role == Role::Manager);
    managers.any(|member| {
        let mut nodes = seen.nodes.values().filter(|node| member.is_node(node.record.name()));
        !nodes.any(|node| node.machine == MachineState::Running)
    })
}
