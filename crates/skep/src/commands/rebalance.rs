//! `skep rebalance`.

use std::time::Duration;

use skep_core::event::Event;
use skep_core::services::{Spread, View, plan_rebalance};
use skep_ops::DockerCommand;
use skep_print::{errln, outln};

use super::stack::{converging_limit, judge_ending};
use crate::cli::Rebalance;
use crate::context::Context;
use crate::error::{CliError, Context as _};

/// How long the docker command may take for one service.
const UPDATING: Duration = Duration::from_secs(60);

pub(super) async fn run(context: &Context, args: Rebalance) -> Result<u8, CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let run = context.run(None);
    let swarm = run.swarm(&dir);
    let manager = swarm.manager().await.context("cannot list the services")?;
    let view = manager.view().await.context("cannot list the services")?;
    let chosen = choose(&view, &args.services)?;
    for spread in &chosen {
        outln!("{}: {}", spread.name, places(spread));
    }
    if chosen.is_empty() && !context.is_quiet() {
        errln!("all services are evenly spread");
    }
    if chosen.is_empty() || args.dry_run {
        return Ok(0);
    }
    let docker = DockerCommand::of(&context.session, &dir).await?;
    for spread in &chosen {
        let call = ["service", "update", "--force", "--detach", "--quiet", spread.id.as_str()];
        docker.call(call, UPDATING).run().await.context(&spread.name)?;
        run.report(Event::Note(format!("{}: redistributing its tasks", spread.name)));
    }
    if args.converging.detach {
        return Ok(0);
    }
    let select = |view: &View| {
        let mut view = view.clone();
        view.services.retain(|service| chosen.iter().any(|spread| spread.id == service.id));
        view
    };
    let limit = converging_limit(context, &dir, &args.converging);
    let ending = run.watch(&dir, &select, limit).await.context("cannot watch the services")?;
    judge_ending(swarm, &ending, "rebalance", limit).await?;
    Ok(0)
}

/// Returns the services that are to be spread anew: those that are named, else all but those that
/// would lose their data.
fn choose(view: &View, named: &[String]) -> Result<Vec<Spread>, CliError> {
    if let Some(name) = named.iter().find(|name| !view.services.iter().any(|it| it.name == **name))
    {
        return Err(CliError::usage(format!("there is no service {name}"))
            .hint("skep docker -- service ls"));
    }
    let uneven = plan_rebalance(view).into_iter();
    if !named.is_empty() {
        return Ok(uneven.filter(|spread| named.contains(&spread.name)).collect());
    }
    let (kept, moved): (Vec<_>, Vec<_>) = uneven.partition(|spread| spread.keep.is_some());
    for spread in kept {
        let why = spread.keep.unwrap_or_default();
        errln!("warning: {} stays on {}: {why}; name it to move it", spread.name, places(&spread));
    }
    Ok(moved)
}

fn places(spread: &Spread) -> String {
    let places = spread.nodes.iter().map(|(node, count)| format!("{count} on {node}"));
    places.collect::<Vec<_>>().join(", ")
}
