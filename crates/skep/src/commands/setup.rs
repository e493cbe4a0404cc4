//! `skep setup`: what lets ordinary users have clusters.

use std::path::Path;

use serde_json::json;
use skep_core::plan::subnet_pool;
use skep_net::network::claims::STATE;
use skep_net::privileged_helper::Grants;
use skep_net::setup::{self, Error, GROUP, Part, Seen, Wanted};
use skep_print::outln;

use crate::cli::{Output, Setup};
use crate::error::{CliError, Context as _};
use crate::render::write_document;

/// The number of the JSON output's format.
const FORMAT: u32 = 1;

pub(super) async fn run(args: Setup) -> Result<(), CliError> {
    if !skep_sys::is_root() {
        let error = CliError::host("only root can change what users may do on this host");
        return Err(error.hint(setup::remedy()));
    }
    let state = Path::new(STATE);
    let before = Grants::read(state).context("cannot read the recorded permissions")?;
    let wanted = Wanted { users: users(&args), grants: grants(&args, before) };
    let seen = setup::look(&wanted, state).await.map_err(told)?;
    let mut told_of = Vec::new();
    let mut say = |part: &Part| told_of.push(part.clone());
    if args.undo {
        if !seen.used.is_empty() && !args.force {
            return Err(told(Error::InUse(seen.used)));
        }
        match args.dry_run {
            true => seen.record.parts.iter().rev().for_each(say),
            false => setup::undo(&seen, state, args.force, &mut say).await.map_err(told)?,
        }
    } else {
        let parts = setup::plan(&wanted, &seen);
        let version = env!("CARGO_PKG_VERSION");
        match args.dry_run {
            true => parts.iter().for_each(say),
            false => {
                let done = setup::set_up(&parts, &wanted, state, version, &mut say).await;
                done.map_err(|error| told(error).hint(format!("{} --undo", setup::remedy())))?;
            }
        }
    }
    let after = match args.dry_run {
        true => seen,
        false => setup::look(&wanted, state).await.map_err(told)?,
    };
    report(&args, &told_of, &wanted, &after);
    Ok(())
}

/// Returns who is meant: whoever is named, else whoever ran sudo.
fn users(args: &Setup) -> Vec<String> {
    if args.undo || !args.user.is_empty() {
        return args.user.clone();
    }
    let caller = crate::environment::text_variable("SUDO_USER");
    caller.filter(|name| !name.is_empty() && name != "root").into_iter().collect()
}

/// Returns what users may have: what was said before counts until something else is said.
fn grants(args: &Setup, before: Grants) -> Grants {
    let subnets = match (&args.subnets[..], before.subnets) {
        ([], before) if before.is_empty() => vec![subnet_pool()],
        ([], before) => before,
        (given, _) => given.iter().map(ipnet::Ipv4Net::trunc).collect(),
    };
    Grants { subnets, hosts: (before.hosts || args.hosts) && !args.no_hosts }
}

fn report(args: &Setup, parts: &[Part], wanted: &Wanted, after: &Seen) {
    let lines: Vec<_> = parts.iter().map(ToString::to_string).collect();
    let (key, verb) = match (args.undo, args.dry_run) {
        (false, false) => ("made", "created"),
        (false, true) => ("would_make", "would create"),
        (true, false) => ("took_away", "removed"),
        (true, true) => ("would_take_away", "would remove"),
    };
    if args.output != Output::Table {
        let changed: Vec<_> = after.record.parts.iter().map(ToString::to_string).collect();
        let document = json!({
            "format": FORMAT,
            key: lines,
            "changed": changed,
            "members": after.members,
            "grants": after.grants,
            "networks": after.used,
        });
        write_document(args.output, &document);
        return;
    }
    lines.iter().for_each(|line| outln!("{verb}  {line}"));
    if lines.is_empty() {
        outln!("nothing to do");
    }
    if args.undo || args.dry_run {
        return;
    }
    let subnets: Vec<_> = wanted.grants.subnets.iter().map(ToString::to_string).collect();
    let names = if wanted.grants.hosts { "may" } else { "may not" };
    let (members, subnets) = (after.members.join(", "), subnets.join(", "));
    match after.members.is_empty() {
        true => outln!("no user may create clusters yet; try: {} --user NAME", setup::remedy()),
        false => outln!(
            "{members} may create clusters with subnets in {subnets}; they {names} add names to /etc/hosts"
        ),
    }
    let new = |part: &&Part| matches!(part, Part::Member { group, .. } if group == GROUP);
    for part in parts.iter().filter(new) {
        if let Part::Member { user, .. } = part {
            outln!("{user} has to log in again for this to take effect, or run: newgrp {GROUP}");
        }
    }
}

fn told(error: Error) -> CliError {
    let message = skep_sys::chain(&error);
    match error {
        Error::InUse(used) => {
            let line =
                |it: &setup::Used| format!("{}: cluster {} of {}", it.bridge, it.cluster, it.user);
            let lines: Vec<_> = used.iter().map(line).collect();
            let error = CliError::failed(format!("{message}\n{}", lines.join("\n")));
            let hint = |it: &setup::Used| format!("sudo -iu {} skep down {}", it.user, it.cluster);
            used.iter().map(hint).fold(error, CliError::hint)
        }
        Error::NoSudo => {
            CliError::host(message).hint("apt-get install --no-install-recommends sudo")
        }
        Error::Profile(_) => {
            CliError::host(message).hint("apt-get install --no-install-recommends apparmor")
        }
        Error::NoUser(_) => CliError::usage(message),
        _ => CliError::failed(message),
    }
}
