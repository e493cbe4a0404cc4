//! `skep certs`.

use clap::Args;
use serde_json::{Value, json};
use skep_core::observed::{Observed, Rotation};
use skep_core::plan::{Plan, plan_renew, plan_rotate};
use skep_ops::Look;
use skep_ops::converge::OnFailure;
use skep_ops::observe::Damage;
use skep_print::{errln, outln};
use skep_store::ClusterDir;
use skep_store::pki::{Certificate, rotation, survey, time_text};
use time::OffsetDateTime;

use super::confirm;
use super::dry_run::Preview;
use crate::cli::{CertsChange, CertsCommand, ClusterArg};
use crate::context::Context;
use crate::error::{CliError, Context as _, IS_CLOCK_RIGHT};
use crate::listing::{Column, Listing, Row};

/// `skep certs show`.
#[derive(Debug, Args)]
pub struct Certs {
    #[command(flatten)]
    cluster: ClusterArg,
    #[command(flatten)]
    listing: Listing<Listed>,
}

/// A certificate, and for how many days it is valid.
#[derive(Debug)]
struct Listed {
    it: Certificate,
    days: i64,
}

impl Row for Listed {
    const NAME: &'static str = "Of";
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("OF", "Of", |row| row.it.of.clone()),
        Column::new("KEY", "Key", |row| row.it.key.to_owned()),
        Column::wide("BEGINS", "Begins", |row| time_text(row.it.begins)),
        Column::new("ENDS", "Ends", |row| time_text(row.it.ends)),
        Column::new("DAYS", "Days", |row| row.days.to_string()),
        Column::new("SHA256", "SHA256", |row| row.it.fingerprint.chars().take(16).collect()),
        Column::only_named("FINGERPRINT", "Fingerprint", |row| row.it.fingerprint.clone()),
        Column::wide("FILE", "File", |row| row.it.path.display().to_string()),
        Column::new("NAMES", "Names", |row| row.it.names.join(",")),
    ];
}

pub(super) async fn run(context: &Context, command: CertsCommand) -> Result<(), CliError> {
    match command {
        CertsCommand::Show(args) => show(context, args),
        CertsCommand::Renew(args) => change(context, args, false).await,
        CertsCommand::Rotate(args) => change(context, args, true).await,
    }
}

fn show(context: &Context, args: Certs) -> Result<(), CliError> {
    let printer = args.listing.printer()?;
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let all = survey(dir.path()).context("cannot read the certificates")?;
    // A table is printed even if that cannot be read.
    let rotation = match printer.is_document() {
        true => json!(stage(&dir)?),
        false => Value::Null,
    };
    let now = OffsetDateTime::now_utc();
    let row = |it: Certificate| Listed { days: (it.ends - now).whole_days(), it };
    let rows: Vec<_> = all.into_iter().map(row).collect();
    printer.print(&rows, || {
        json!({
            "format": 1,
            "cluster": dir.name(),
            "rotation": rotation,
            "certificates": rows.iter().map(|row| document(&row.it)).collect::<Vec<_>>(),
        })
    })?;
    for line in warnings(&dir).iter().filter(|_| printer.is_table()) {
        outln!("warning: {line}");
    }
    Ok(())
}

/// Returns what of a cluster's certificates needs its user, each line with the command to type.
pub(crate) fn warnings(dir: &ClusterDir) -> Vec<String> {
    let lines = notices(dir).into_iter();
    lines.map(|(what, remedy)| format!("{what}; {remedy}")).collect()
}

/// Returns what of a cluster's certificates needs its user, and the command that mends it.
pub(crate) fn notices(dir: &ClusterDir) -> Vec<(String, String)> {
    let (name, now) = (dir.name(), OffsetDateTime::now_utc());
    let all = match survey(dir.path()) {
        Ok(all) => all,
        Err(error) => return vec![(skep_sys::chain(&error), format!("skep up {name}"))],
    };
    let command = |it: &Certificate| match it.of.as_str() {
        _ if it.begins > now => IS_CLOCK_RIGHT.to_owned(),
        "authority" => format!("skep certs rotate {name}"),
        _ => format!("skep certs renew {name}"),
    };
    let ending = all.iter().filter_map(|it| Some((it.warning(now)?, command(it))));
    let mut notices: Vec<_> = ending.collect();
    if rotation::stage(dir.path()).is_ok_and(|stage| stage != Rotation::Settled) {
        let text = "a CA rotation was interrupted; the old CA is still trusted";
        notices.push((text.to_owned(), format!("skep certs rotate {name}")));
    }
    notices
}

/// Returns a certificate for programs.
pub(crate) fn document(it: &Certificate) -> serde_json::Value {
    json!({
        "of": it.of,
        "file": it.path,
        "key": it.key,
        "begins": time_text(it.begins),
        "ends": time_text(it.ends),
        "names": it.names,
        "sha256": it.fingerprint,
    })
}

fn stage(dir: &ClusterDir) -> Result<Rotation, CliError> {
    rotation::stage(dir.path()).context("cannot determine which CA is in use")
}

/// Makes all certificates of a cluster anew by the same authority.
pub(super) async fn renew(context: &Context, dir: &ClusterDir) -> Result<(), CliError> {
    let run = context.run(None);
    let plan = |seen: &Observed| plan(dir, seen, false);
    run.change(dir.name(), Look::All, OnFailure::Stop, plan).await.map(|_| ())
}

async fn change(context: &Context, args: CertsChange, rotate: bool) -> Result<(), CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let run = context.run(None);
    let seen = run.observe(&dir, Damage::Refuse).await?;
    let first = plan(&dir, &seen, rotate)?;
    if args.dry_run.dry_run {
        Preview::of(dir.name(), &seen, &first).print(context, args.dry_run);
        return Ok(());
    }
    let hosts = seen.nodes.values().filter(|node| node.record.spec.is_host());
    let hosts: Vec<_> = hosts.map(|node| node.record.name().as_str()).collect();
    if !hosts.is_empty() {
        let question = format!(
            "Start the engines of {} anew, one after the other? A host's engine reads its certificate \
             only then; its containers are restarted.",
            hosts.join(", ")
        );
        if !confirm(&question, args.yes)? {
            return Ok(());
        }
    }
    let command = if rotate { "rotate" } else { "renew" };
    let again = format!("skep certs {command} {}  # continues from there", dir.name());
    let plan = |seen: &Observed| plan(&dir, seen, rotate);
    let done = run.change(dir.name(), Look::All, OnFailure::Stop, plan).await;
    done.map_err(|error: CliError| error.hint(again))?;
    if !context.is_quiet() {
        match rotate {
            true => errln!("the CA was rotated; certificates of the old CA are revoked"),
            false => errln!("certificates were renewed"),
        }
    }
    Ok(())
}

fn plan(dir: &ClusterDir, seen: &Observed, rotate: bool) -> Result<Plan, CliError> {
    let stage = stage(dir)?;
    let planned = match (rotate, stage) {
        (true, stage) => {
            let out_of_time = rotation::is_out_of_time(dir.path())
                .context("cannot read how long the CA is valid")?;
            plan_rotate(seen, stage, out_of_time)
        }
        (false, Rotation::Settled) => plan_renew(seen),
        (false, _) => {
            let text = "a CA rotation was interrupted and has to be completed first";
            return Err(CliError::failed(text).hint(format!("skep certs rotate {}", dir.name())));
        }
    };
    Ok(planned?)
}
