//! Waits until nothing of a stack is left.

use std::time::Duration;

use futures_util::future::join_all;
use skep_core::event::Event;
use tokio::time::Instant;

use super::{Error, Swarm};
use crate::engine;

/// How soon it is looked again.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// Waits for `limit` until the swarm has nothing of a stack any more, and no node that can be asked
/// has; returns what is left then.
///
/// # Errors
///
/// If no manager answers at the end.
pub async fn await_gone(
    swarm: Swarm<'_>,
    stack: &str,
    limit: Duration,
    events: &(dyn Fn(Event) + Send + Sync),
) -> Result<Vec<String>, Error> {
    let began = Instant::now();
    let mut told = String::new();
    loop {
        let late = began.elapsed() >= limit;
        match remains(swarm, stack).await {
            Ok(left) if left.is_empty() || late => return Ok(left),
            Ok(left) => {
                let text = left.join(", ");
                if text != told {
                    events(Event::Detail(format!("{stack}: waiting for {text} to go")));
                    told = text;
                }
            }
            Err(error) if late => return Err(error),
            Err(_) => {}
        }
        // wait: neither containers nor networks announce that they are gone
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn remains(swarm: Swarm<'_>, stack: &str) -> Result<Vec<String>, Error> {
    let manager = swarm.manager().await?;
    let view = manager.view().await?.of_stack(stack);
    let mut left: Vec<String> =
        view.services.iter().map(|service| format!("service {}", service.name)).collect();
    left.extend(manager.shared_by(stack).await?);
    let records = swarm.records()?;
    let looks = records.iter().map(async |record| {
        let remains = swarm.engine(record)?.remains(stack).await;
        let name = record.name();
        let count = |number: usize, what: &str| {
            let s = if number == 1 { "" } else { "s" };
            (number > 0).then(|| format!("{number} {what}{s} on {name}"))
        };
        match remains {
            Ok(remains) => {
                let containers = count(remains.containers, "container");
                Ok(containers.or_else(|| count(remains.networks, "network")))
            }
            // What a node that does not run has of it goes when it next starts.
            Err(engine::Error::Unreachable { .. }) => Ok(None),
            Err(error) => Err(Error::from(error)),
        }
    });
    for look in join_all(looks).await {
        left.extend(look?);
    }
    Ok(left)
}
