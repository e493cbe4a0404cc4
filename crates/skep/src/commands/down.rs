//! `skep down`.

use clap::Args;
use skep_core::observed::Observed;
use skep_core::plan::{Parting, plan_down_parting};
use skep_ops::Look;
use skep_ops::converge::OnFailure;
use skep_ops::observe::Damage;
use skep_print::errln;

use super::confirm;
use super::dry_run::Preview;
use crate::cli::{ClusterArg, DryRun};
use crate::context::Context;
use crate::error::CliError;
use crate::logging;

/// `skep down`.
#[derive(Debug, Args)]
pub struct Down {
    #[command(flatten)]
    cluster: ClusterArg,
    /// Do not ask for confirmation.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    dry_run: DryRun,
    /// Force: forget unreachable hosts and what was set up there.
    #[arg(long)]
    force: bool,
    /// Keep the Docker Engine that skep installed on hosts, and its data.
    #[arg(long)]
    keep_engine: bool,
}

impl Down {
    /// Tells whether events are wanted as JSON lines.
    pub(super) fn wants_events(&self) -> bool {
        self.dry_run.wants_events()
    }

    /// Removes a cluster without a question.
    pub(super) fn unasked(cluster: ClusterArg) -> Self {
        let dry_run = DryRun::default();
        Self { cluster, yes: true, dry_run, force: false, keep_engine: false }
    }
}

pub(super) async fn run(context: &Context, args: Down) -> Result<(), CliError> {
    let run = context.run(None);
    let name = match &args.cluster.cluster {
        Some(name) => name.clone(),
        None => context.existing(None)?.name().clone(),
    };
    let dir = context.session.store.cluster(&name);
    let parting = Parting { forget: args.force, keep_engine: args.keep_engine };
    let seen = run.observe_machines(&dir, Damage::ListAll).await?;
    let plan = plan_down_parting(&seen, parting);
    if args.dry_run.dry_run {
        Preview::of(&name, &seen, &plan).print(context, args.dry_run);
        return Ok(());
    }
    if plan.is_empty() {
        logging::remove(&context.session.store.log_file(&name));
        if !context.is_quiet() {
            errln!("cluster {name} does not exist");
        }
        return Ok(());
    }
    let nodes = seen.nodes.len();
    let question = format!("Remove cluster {name}, its {nodes} nodes and all their data?");
    if !confirm(&question, args.yes)? {
        return Ok(());
    }
    let plan = |seen: &Observed| Ok(plan_down_parting(seen, parting));
    let result = run.change(&name, Look::Remains, OnFailure::GoOn, plan).await;
    let forget = format!("skep down {name} --force  # forgets unreachable hosts");
    let has_hosts = seen.nodes.values().any(|node| node.record.spec.is_host());
    result.map_err(|error: CliError| {
        let error = error.hint(format!("skep down {name}  # run it again once that is fixed"));
        if has_hosts { error.hint(forget) } else { error }
    })?;
    logging::remove(&context.session.store.log_file(&name));
    if !context.is_quiet() {
        errln!("cluster {name} is removed");
    }
    Ok(())
}
