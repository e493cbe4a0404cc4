//! `skep registry`.

use std::net::SocketAddrV4;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use skep_core::model::{ClusterRecord, ClusterSpec, RegistrySpec, TrustedRegistry};
use skep_core::observed::Observed;
use skep_core::plan::{plan_registry_change, plan_trust};
use skep_docker::engine::repositories;
use skep_ops::Look;
use skep_ops::converge::OnFailure;
use skep_print::{errln, out, outln};
use skep_store::ClusterDir;
use skep_store::pki::Credentials;

use crate::cli::{
    ClusterOption, ClusterWord, Output, RegistryCommand, RegistryStart, RegistryTrust,
};
use crate::context::Context;
use crate::error::{CliError, Context as _};
use crate::file::{ClusterFile, TrustedEntry};
use crate::render::write_document;

/// The number of the JSON output's format.
const FORMAT: u32 = 1;

/// How long a registry may take to answer, which is emulated at worst.
const ANSWER: Duration = Duration::from_secs(15);

pub(super) async fn run(context: &Context, command: RegistryCommand) -> Result<(), CliError> {
    match command {
        RegistryCommand::Start(args) => start(context, &args).await,
        RegistryCommand::Stop { cluster } => stop(context, &cluster).await,
        RegistryCommand::Trust(args) => trust(context, &args).await,
        RegistryCommand::Distrust { at, cluster } => distrust(context, &at, &cluster).await,
        RegistryCommand::Status { cluster, output } => status(context, &cluster, output).await,
    }
}

async fn start(context: &Context, args: &RegistryStart) -> Result<(), CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let wanted = |record: &ClusterRecord| {
        let first = RegistrySpec::place(&record.nodes).ok_or_else(no_place)?;
        Ok(args.wanted(record.registry.as_ref(), first))
    };
    let registry = change(context, &dir, wanted).await?;
    let at = address(&dir, &registry)?;
    outln!("{at}");
    if !context.is_quiet() {
        explain(context, &dir, at);
    }
    Ok(())
}

async fn stop(context: &Context, cluster: &ClusterWord) -> Result<(), CliError> {
    let dir = context.existing(cluster.cluster.as_ref())?;
    let wanted = |record: &ClusterRecord| match &record.registry {
        Some(registry) => Ok(RegistrySpec { runs: false, ..registry.clone() }),
        None => Err(none(&dir)),
    };
    change(context, &dir, wanted).await.map(|_| ())
}

async fn trust(context: &Context, args: &RegistryTrust) -> Result<(), CliError> {
    if !TrustedRegistry::is_name(&args.at) {
        let message =
            format!("`{}` is not the name of a registry, such as hub.example:5000", args.at);
        return Err(CliError::usage(message));
    }
    let ca = args.ca.as_deref().map(|path| certificates(path, "--ca")).transpose()?;
    let registry = TrustedRegistry { at: args.at.clone(), ca };
    change_trust(context, &args.cluster, |trusted| {
        trusted.retain(|it| it.at != registry.at);
        trusted.push(registry.clone());
        Ok(())
    })
    .await
}

async fn distrust(context: &Context, at: &str, cluster: &ClusterOption) -> Result<(), CliError> {
    change_trust(context, cluster, |trusted| {
        let before = trusted.len();
        trusted.retain(|it| it.at != at);
        if trusted.len() == before {
            let known: Vec<_> = trusted.iter().map(|it| it.at.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(CliError::usage(format!(
                "registry {at} is not among the trusted ones: {known}"
            )));
        }
        Ok(())
    })
    .await
}

/// Puts what a cluster's file says of registries in the place of what is recorded, as far as it speaks of them.
///
/// # Errors
///
/// If nobody can serve one, or certificates cannot be read.
pub(super) fn take_from_file(
    spec: &mut ClusterSpec,
    file: &ClusterFile,
    recorded: Option<&ClusterRecord>,
) -> Result<(), CliError> {
    let before = recorded.and_then(|record| record.registry.as_ref());
    match &mut spec.registry {
        // It stays where its images are.
        Some(wanted) => wanted.node = before.map_or(&wanted.node, |it| &it.node).clone(),
        None if file.registry.is_some() => return Err(no_place()),
        None => spec.registry = before.cloned(),
    }
    let Some(registries) = &file.registries else {
        spec.trusted = recorded.and_then(|record| record.trusted.clone());
        return Ok(());
    };
    let read = |entry: &TrustedEntry| {
        let ca = entry.ca.as_deref().map(|path| certificates(path, &entry.at)).transpose()?;
        Ok(TrustedRegistry { at: entry.at.clone(), ca })
    };
    spec.trusted = Some(registries.iter().map(read).collect::<Result<_, CliError>>()?);
    Ok(())
}

fn no_place() -> CliError {
    CliError::usage("a registry needs a virtual machine, and this cluster has none")
}

/// Reads the certificates of an authority; `whose` begins what is said of a file that is wrong.
fn certificates(path: &Path, whose: &str) -> Result<String, CliError> {
    let wrong = |why: String| CliError::usage(format!("{whose} {}: {why}", path.display()));
    skep_store::pki::expiry(path).map_err(|error| wrong(skep_sys::chain(&error)))?;
    let text = skep_sys::read(path).map_err(|error| wrong(skep_sys::chain(&error)))?;
    let text = String::from_utf8(text).map_err(|_| wrong("it is not text".to_owned()))?;
    match text.contains("PRIVATE KEY") {
        true => Err(wrong("it contains a private key, which nodes must not get".to_owned())),
        false => Ok(text),
    }
}

/// Writes down whom engines are to trust, and tells them.
async fn change_trust(
    context: &Context,
    cluster: &ClusterOption,
    change: impl Fn(&mut Vec<TrustedRegistry>) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let dir = context.existing(cluster.cluster.as_ref())?;
    let plan = |seen: &Observed| {
        let recorded = seen.cluster.as_ref().and_then(|record| record.trusted.clone());
        let mut trusted = recorded.unwrap_or_default();
        change(&mut trusted)?;
        Ok(plan_trust(seen, &trusted)?)
    };
    let run = context.run(None);
    run.change(dir.name(), Look::All, OnFailure::GoOn, plan).await.map(|_: Observed| ())
}

/// Writes down what is wanted and carries it out.
async fn change(
    context: &Context,
    dir: &ClusterDir,
    wanted: impl Fn(&ClusterRecord) -> Result<RegistrySpec, CliError>,
) -> Result<RegistrySpec, CliError> {
    let mut chosen = None;
    let plan = |seen: &Observed| {
        let record = seen.cluster.as_ref().ok_or_else(|| {
            CliError::failed(format!(
                "creating cluster {} was interrupted, and its record is incomplete",
                dir.name()
            ))
            .hint(format!("skep up {}", dir.name()))
        })?;
        let registry = chosen.insert(wanted(record)?);
        Ok(plan_registry_change(seen, registry)?)
    };
    let run = context.run(None);
    let done = run.change(dir.name(), Look::All, OnFailure::GoOn, plan).await;
    let logs = |registry: &RegistrySpec| format!("skep logs {} --service registry", registry.node);
    done.map_err(|error: CliError| chosen.iter().map(logs).fold(error, CliError::hint))?;
    Ok(chosen.expect("what was planned was chosen"))
}

fn none(dir: &ClusterDir) -> CliError {
    let name = dir.name();
    CliError::usage(format!("cluster {name} has no registry"))
        .hint(format!("skep registry start -c {name}"))
}

fn address(dir: &ClusterDir, registry: &RegistrySpec) -> Result<SocketAddrV4, CliError> {
    let record = dir.node(&registry.node).context(&registry.node)?;
    Ok(SocketAddrV4::new(record.address, registry.port))
}

/// Tells how images get there.
fn explain(context: &Context, dir: &ClusterDir, at: SocketAddrV4) {
    let name = dir.name();
    errln!("nodes pull {at}/IMAGE. To push from a node's engine:");
    errln!("  skep docker --cluster {name} -- push {at}/IMAGE");
    let here = SocketAddrV4::new(context.session.network().host_address(*at.ip()), at.port());
    let trusted = format!("/etc/docker/certs.d/{here}/ca.crt");
    if here.ip().is_loopback() {
        errln!("or from this host, whose docker trusts loopback addresses:");
    } else if Path::new(&trusted).exists() {
        errln!("or from this host, whose docker trusts it:");
    } else {
        errln!("or from this host, once its docker trusts it:");
        let ca = Credentials::of_store(dir.path()).ca;
        errln!("  install -D -m 644 {} {trusted}", ca.display());
    }
    errln!("  docker push {here}/IMAGE");
}

async fn status(context: &Context, cluster: &ClusterWord, output: Output) -> Result<(), CliError> {
    let dir = context.existing(cluster.cluster.as_ref())?;
    let record = dir.record().context(format!("cluster {}", dir.name()))?;
    let registry = record.and_then(|record| record.registry).ok_or_else(|| none(&dir))?;
    let at = address(&dir, &registry)?;
    let credentials = Credentials::of_store(dir.path());
    let answer = match registry.runs {
        true => repositories(context.session.network().dialer(), at, &credentials, ANSWER).await,
        false => Ok(Vec::new()),
    };
    let state = match (registry.runs, &answer) {
        (false, _) => "stopped".to_owned(),
        (true, Ok(_)) => "running".to_owned(),
        (true, Err(error)) => skep_sys::chain(error),
    };
    let has = answer.as_deref().unwrap_or_default();
    match output {
        Output::Json | Output::Yaml => write_document(
            output,
            &json!({
                "format": FORMAT,
                "address": at.to_string(),
                "node": registry.node.as_str(),
                "mirror": registry.mirror,
                "state": state,
                "ca": credentials.ca.display().to_string(),
                "repositories": has,
            }),
        ),
        Output::Table => {
            out!("registry: {at} on {}, {state}\n", registry.node);
            if let (Some(mirror), Some(port)) = (&registry.mirror, at.port().checked_add(1)) {
                out!("mirror:   of {mirror}, at {}:{port}\n", at.ip());
            }
            for repository in has {
                outln!("{at}/{repository}");
            }
        }
    }
    match (registry.runs, answer) {
        (true, Ok(_)) => Ok(()),
        (true, Err(_)) => Err(CliError::failed("the registry does not respond")
            .hint(format!("skep logs {} --service registry", registry.node))
            .hint(format!("skep up {}", dir.name()))),
        (false, _) => Err(CliError::failed("the registry is stopped")
            .hint(format!("skep registry start -c {}", dir.name()))),
    }
}
