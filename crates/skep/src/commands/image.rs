//! `skep image`.

mod list;

pub use list::ImageList;

use std::io::IsTerminal as _;

use skep_core::model::{ClusterName, ImageSet, NodeName, Role};
use skep_core::observed::Observed;
use skep_core::plan::{plan_bake, plan_load};
use skep_docker::oci::{self, Source};
use skep_ops::Look;
use skep_ops::converge::OnFailure;
use skep_print::errln;

use super::stack::tell_of_outdated;
use crate::cli::{ImageBake, ImageCommand, ImageLoad};
use crate::context::{Context, leads_to_machine, other_engine};
use crate::error::CliError;

pub(super) async fn run(context: &Context, command: ImageCommand) -> Result<(), CliError> {
    match command {
        ImageCommand::Load(args) => load(context, args).await,
        ImageCommand::Bake(args) => bake(context, args).await,
        ImageCommand::Ls(args) => list::run(context, args).await,
    }
}

async fn load(context: &Context, args: ImageLoad) -> Result<(), CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    if args.sources.iter().any(|source| source == "-") && std::io::stdin().is_terminal() {
        return Err(CliError::usage(
            "`-` reads an image archive from standard input, which is a terminal",
        )
        .hint("docker save IMAGE | skep image load -"));
    }
    let mut sets = Vec::new();
    for source in &args.sources {
        sets.push(look(source).await?);
    }
    let mut run = context.run(None);
    run.images = true;
    let plan = |seen: &Observed| {
        let names = nodes(&args.node, seen, dir.name());
        let plan = names.and_then(|names| Ok(plan_load(seen, &sets, &names)?));
        let plan = plan.map_err(|error| error.hint(format!("skep status {}", dir.name())))?;
        if plan.is_empty() && plan.warnings.is_empty() && !context.is_quiet() {
            errln!("all nodes have the images already");
        }
        Ok(plan)
    };
    let loaded = run.change(dir.name(), Look::All, OnFailure::GoOn, plan).await;
    tell_of_outdated(&run, &dir).await;
    loaded.map(|_: Observed| ())
}

/// Looks at a source of images.
async fn look(source: &str) -> Result<ImageSet, CliError> {
    let parsed = Source::parse(source);
    if let Source::Reference(reference) = &parsed
        && let Some((name, digest)) = reference.split_once('@')
    {
        // Only what comes from a registry has it.
        return Err(CliError::usage(format!(
            "{reference}: an archive has no place for the digest, so nodes would not know the image by it"
        ))
        .hint(format!(
            "docker tag {name}@{digest} {}:pinned  # then load that, and name it so in the stack",
            name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(name, |(name, _)| name)
        )));
    }
    parsed.set().await.map_err(|error| {
        let told = CliError::usage(skep_sys::chain(&error));
        match &error {
            oci::Error::NoSuchImage { reference, .. } => missing(told, reference),
            _ => told,
        }
    })
}

/// Says which engine lacks an image, where that is not clear, and how it gets it.
fn missing(mut error: CliError, reference: &str) -> CliError {
    if let Some(engine) = other_engine() {
        error.message.push_str(&format!("; docker was asked as {engine} has it"));
    }
    // The docker command that is typed next would speak to a node.
    error.hint(match leads_to_machine() {
        true => format!(
            "(eval \"$(skep env --unset --shell sh)\"; docker --context default pull {reference})"
        ),
        false => format!("docker pull {reference}"),
    })
}

/// Looks at all sources of images that a cluster file names; all that is wrong is told at once.
pub(super) async fn look_at_all(sources: &[String]) -> Result<Vec<ImageSet>, CliError> {
    let mut sets = Vec::new();
    let mut wrong: Option<CliError> = None;
    for source in sources {
        match look(source).await {
            Ok(set) => sets.push(set),
            Err(error) => match &mut wrong {
                Some(first) => {
                    first.message = format!("{}\n{}", first.message, error.message);
                    first.hints.extend(error.hints);
                }
                None => wrong = Some(error),
            },
        }
    }
    wrong.map_or(Ok(sets), Err)
}

/// Looks at sources that are written down. One that is not there any more is as it was: most often no
/// node needs it.
pub(super) async fn look_again(recorded: &[ImageSet]) -> Vec<ImageSet> {
    let mut sets = Vec::new();
    for set in recorded {
        let now = Source::parse(&set.source).set().await;
        sets.push(now.unwrap_or_else(|_| set.clone()));
    }
    sets
}

/// Returns the sources that are not there any more, or cannot be read.
pub(super) async fn gone(recorded: &[ImageSet]) -> Vec<String> {
    let mut gone = Vec::new();
    for set in recorded {
        if Source::parse(&set.source).set().await.is_err() {
            gone.push(set.source.clone());
        }
    }
    gone
}

/// Returns the nodes that words such as `node1`, `manager` and `worker` mean.
fn nodes(
    words: &[String],
    seen: &Observed,
    cluster: &ClusterName,
) -> Result<Vec<NodeName>, CliError> {
    let mut chosen = Vec::new();
    let with = |role: Role| seen.nodes.iter().filter(move |(_, it)| it.record.spec.role == role);
    for word in words {
        match word.as_str() {
            "all" => chosen.extend(seen.nodes.keys().cloned()),
            "manager" => chosen.extend(with(Role::Manager).map(|(name, _)| name.clone())),
            "worker" => chosen.extend(with(Role::Worker).map(|(name, _)| name.clone())),
            name => chosen.push(
                name.parse().map_err(|error| CliError::usage(format!("--node {name}: {error}")))?,
            ),
        }
    }
    if !words.is_empty() && chosen.is_empty() {
        let words = words.join(",");
        return Err(CliError::usage(format!("cluster {cluster} has no node that matches {words}")));
    }
    chosen.sort();
    chosen.dedup();
    Ok(chosen)
}

async fn bake(context: &Context, args: ImageBake) -> Result<(), CliError> {
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let run = context.run_on(args.accel);
    let plan = |seen: &Observed| {
        let sets = seen.cluster.as_ref().map(|it| it.images.as_slice()).unwrap_or_default();
        if sets.is_empty() {
            return Err(CliError::usage(format!(
                "the file of cluster {} lists no images",
                dir.name()
            ))
            .hint("add `images: [IMAGE]` to its file, then: skep up -f FILE"));
        }
        let plan = plan_bake(seen)?;
        if plan.is_empty() && !context.is_quiet() {
            errln!("templates with these images exist already");
        }
        Ok(plan)
    };
    run.change(dir.name(), Look::Machines, OnFailure::Stop, plan).await.map(|_| ())
}
