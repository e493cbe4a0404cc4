//! `skep doctor`, and the checks that `up` makes before it touches anything.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};
use skep_core::model::ImageSpec;
use skep_docker::program::{about_snap, only_snap};
use skep_ops::preflight::{Check, Needs, Verdict, check, measure};
use skep_print::{errln, outln};
use skep_store::{ClusterDir, Exposed};
use skep_sys::{Cmd, shell_quoted};

use super::{certs, confirm};
use crate::cli::{Doctor, Output};
use crate::context::{Context, chmod};
use crate::error::{CliError, Context as _, code};
use crate::render::write_document;

/// The number of the JSON output's format.
const FORMAT: u32 = 2;

/// A check, and how it can be mended without harm.
#[derive(Debug, Serialize)]
struct Finding {
    #[serde(flatten)]
    check: Check,
    #[serde(skip)]
    fix: Option<Fix>,
}

/// What is done in the place of the user.
#[derive(Debug)]
enum Fix {
    /// Closes a file or directory to others.
    Close(Exposed),
    /// Installs packages.
    Install(Vec<String>),
    /// Makes a cluster's certificates anew.
    Renew(ClusterDir),
}

/// How long the installation of packages may take.
const INSTALL: std::time::Duration = std::time::Duration::from_secs(15 * 60);

pub(super) async fn run(context: &Context, args: Doctor) -> Result<u8, CliError> {
    let mut findings = look(context).await;
    if args.fix {
        let mut mended = false;
        for finding in &findings {
            if let Some(fix) = &finding.fix
                && confirm(
                    &format!("{}: {}?", finding.check.found, finding.check.remedy),
                    args.yes,
                )?
            {
                mend(context, fix).await?;
                mended = true;
            }
        }
        if mended {
            findings = look(context).await;
        }
    }
    match args.output {
        Output::Json | Output::Yaml => {
            write_document(args.output, &json!({"format": FORMAT, "checks": findings}));
        }
        Output::Table => findings.iter().for_each(|it| outln!("{}", line(&it.check))),
    }
    let bad = findings.iter().any(|it| it.check.verdict == Verdict::Failed);
    Ok(if bad { code::HOST } else { 0 })
}

/// Returns all checks for programs.
pub(super) async fn document(context: &Context) -> Value {
    json!({"format": FORMAT, "checks": look(context).await})
}

/// Makes all checks: of the host, and of what is kept on it.
async fn look(context: &Context) -> Vec<Finding> {
    let mut checks = check(needs(context, true)).await;
    checks.extend(measure(needs(context, true)).await);
    let of_host = checks.into_iter().map(|check| {
        let install = check
            .remedy
            .strip_prefix("apt-get install ")
            .map(|rest| Fix::Install(rest.split_whitespace().map(str::to_owned).collect()));
        Finding { fix: install.filter(|_| check.verdict != Verdict::Ok), check }
    });
    let snap = only_snap(&skep_sys::search_path());
    let of_host = of_host.chain(snap.map(|snap| docker_of_snap(&snap)));
    let of_host = of_host.chain(names(&context.session.config().hosts_file));
    of_host.chain(store(context)).chain(certificates(context)).collect()
}

/// Tells of a docker command that cannot speak to nodes.
fn docker_of_snap(snap: &Path) -> Finding {
    let found = format!("{}; skep uses its own", about_snap(snap));
    let remedy = "skep docker -- COMMAND  # in the place of docker; or install Docker from packages, then: skep up";
    let (name, verdict, remedy) = ("docker command", Verdict::Warning, remedy.to_owned());
    Finding { check: Check { name, verdict, found, remedy }, fix: None }
}

/// Checks that all users of the host can read its file of names; who made that so is not known, so it is
/// not mended without a word.
fn names(file: &Path) -> Option<Finding> {
    let mode = std::fs::metadata(file).ok()?.permissions().mode() & 0o7777;
    if mode & 0o004 != 0 {
        return None;
    }
    let found = format!("only some users can read {} (mode {mode:04o})", file.display());
    let remedy = format!("sudo chmod a+r {}", shell_quoted(&file.to_string_lossy()));
    let check = Check { name: "names of hosts", verdict: Verdict::Warning, found, remedy };
    Some(Finding { check, fix: None })
}

/// Checks that keys, and what has them, are their owner's alone.
fn store(context: &Context) -> Vec<Finding> {
    const NAME: &str = "store";
    let clusters = match context.session.store.clusters().context("clusters") {
        Ok(clusters) => clusters,
        Err(CliError { message: found, hints, .. }) => {
            let (verdict, remedy) = (Verdict::Failed, hints.into_iter().next().unwrap_or_default());
            let check = Check { name: NAME, verdict, found, remedy };
            return vec![Finding { check, fix: None }];
        }
    };
    let others = context.session.registry().list();
    let inner = clusters.iter().chain(&others).flat_map(ClusterDir::exposed);
    let exposed: Vec<_> = context.session.store.exposed().into_iter().chain(inner).collect();
    if exposed.is_empty() {
        return vec![good(NAME, "keys are readable by their owner only")];
    }
    let finding = |it: Exposed| {
        let found =
            format!("{} is accessible to other users (mode {:04o})", it.path.display(), it.mode);
        let (verdict, remedy) = (Verdict::Failed, chmod(&it));
        Finding { check: Check { name: NAME, verdict, found, remedy }, fix: Some(Fix::Close(it)) }
    };
    exposed.into_iter().map(finding).collect()
}

/// Checks when certificates end, and that no change of the authority was cut off.
fn certificates(context: &Context) -> Vec<Finding> {
    const NAME: &str = "certificates";
    let clusters = context.session.store.clusters().unwrap_or_default();
    let mut findings = Vec::new();
    for dir in &clusters {
        for (what, remedy) in certs::notices(dir) {
            let renews = remedy.starts_with("skep certs renew");
            // One renewal is enough for all certificates of a cluster.
            let again = findings.iter().any(|it: &Finding| it.check.remedy == remedy);
            let fix = (renews && !again).then(|| Fix::Renew(dir.clone()));
            let (verdict, found) = (Verdict::Warning, format!("{}: {what}", dir.name()));
            findings.push(Finding { check: Check { name: NAME, verdict, found, remedy }, fix });
        }
    }
    if findings.is_empty() {
        findings.push(good(NAME, "none expires within 30 days"));
    }
    findings
}

fn good(name: &'static str, found: impl Into<String>) -> Finding {
    let check = Check { name, verdict: Verdict::Ok, found: found.into(), remedy: String::new() };
    Finding { check, fix: None }
}

async fn mend(context: &Context, fix: &Fix) -> Result<(), CliError> {
    match fix {
        Fix::Close(exposed) => exposed.close().context("it stays as it is"),
        Fix::Renew(dir) => certs::renew(context, dir).await,
        Fix::Install(words) => {
            let install = Cmd::new("apt-get").args(["-y", "-q", "install"]).args(words);
            let install = install.env("DEBIAN_FRONTEND", "noninteractive").timeout(INSTALL);
            install.run().await.context("nothing was installed").map(drop)
        }
    }
}

/// Refuses to go on where something is missing that the host must have.
pub(crate) async fn require(context: &Context, image: &ImageSpec) -> Result<(), CliError> {
    let build = context.session.cache.find(image).context("cannot find the image")?.is_none();
    let checks = check(needs(context, build)).await;
    let bad: Vec<_> = checks.iter().filter(|check| check.verdict == Verdict::Failed).collect();
    if bad.is_empty() {
        for check in checks.iter().filter(|check| check.is_said_by_up()) {
            errln!("warning: {}; try: {}", check.found, check.remedy);
        }
        return Ok(());
    }
    let found: Vec<_> =
        bad.iter().map(|check| format!("{}: {}", check.name, check.found)).collect();
    let mut error = CliError::host(format!("this host is not ready\n{}", found.join("\n")));
    error.hints =
        bad.iter().map(|check| check.remedy.clone()).filter(|it| !it.is_empty()).collect();
    Err(error)
}

fn needs(context: &Context, build: bool) -> Needs<'_> {
    let (store, cache) = (context.session.store.root(), context.session.cache.root());
    Needs {
        store,
        cache,
        build,
        helper: context.session.privileged_helper(),
        userns: context.session.userns(),
    }
}

fn line(check: &Check) -> String {
    let mark = match check.verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Failed => "failed",
    };
    let line = format!("{mark:<8} {}: {}", check.name, check.found);
    if check.remedy.is_empty() { line } else { format!("{line}\n         try: {}", check.remedy) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_docker_command_that_cannot_read_keys_is_told_of() {
        let check = docker_of_snap(Path::new("/snap/bin/docker")).check;
        assert!(check.found.starts_with("/snap/bin/docker is a snap"), "{check:?}");
        assert!(check.remedy.starts_with("skep docker --"), "{check:?}");
    }

    #[test]
    fn a_file_of_names_that_not_all_can_read_is_told_of() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let set = |mode| skep_sys::set_mode(file.path(), mode).unwrap();
        set(0o644);
        assert!(names(file.path()).is_none());
        set(0o600);
        let check = names(file.path()).unwrap().check;
        assert!(check.found.ends_with("(mode 0600)"), "{}", check.found);
        assert_eq!(check.remedy, format!("sudo chmod a+r '{}'", file.path().display()));
    }
}
