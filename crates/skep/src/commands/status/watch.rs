//! `skep status --watch`.

use std::pin::pin;
use std::time::Duration;

use skep_ops::observe::Damage;
use skep_print::{shown::document, streams, write_exact};
use time::OffsetDateTime;

use super::{is_whole, json, text};
use crate::cli::{Output, Status};
use crate::commands::interrupted;
use crate::context::Context;
use crate::error::{CliError, code};
use crate::render::{document_text, write_screen};

/// How long nothing is looked at between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// Prints the status again and again until interrupted; the exit code is that of the last look.
pub(in crate::commands) async fn watch(context: &Context, args: &Status) -> Result<u8, CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let run = context.run(None);
    let mut last = code::INTERRUPTED;
    let mut interrupted = pin!(interrupted());
    while !streams::is_lost() {
        if !dir.exists() {
            return Err(CliError::failed(format!("cluster {} was removed", dir.name())));
        }
        let seen = tokio::select! {
            seen = run.observe_within(&dir, Damage::List, args.timeout) => seen?,
            () = &mut interrupted => return Ok(last),
        };
        last = if is_whole(&seen) { 0 } else { code::FAILED };
        match args.output {
            Output::Json => write_exact(document(format!("{}\n", json(&dir, &seen))).as_bytes()),
            Output::Yaml => {
                let text = document_text(Output::Yaml, &json(&dir, &seen));
                write_exact(format!("---\n{text}").as_bytes());
            }
            Output::Table => {
                let (hour, minute, second) = OffsetDateTime::now_utc().to_hms();
                let title =
                    format!("cluster {} at {hour:02}:{minute:02}:{second:02} UTC", dir.name());
                write_screen(&format!("{title}\n\n{}", text(&dir, &seen)));
            }
        }
        tokio::select! {
            // wait: nodes do not announce what becomes of them.
            () = tokio::time::sleep(EVERY) => (),
            () = &mut interrupted => return Ok(last),
        }
    }
    Ok(last)
}
