//! `skep image`.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use serde_json::{Value, json};
use skep_core::model::{ClusterName, ImageSet, NodeName, Role};
use skep_core::observed::Observed;
use skep_core::plan::{plan_bake, plan_load};
use skep_docker::engine::EngineImage;
use skep_docker::oci::{self, Source};
use skep_ops::Look;
use skep_ops::converge::OnFailure;
use skep_ops::observe::Damage;

use crate::cli::{ClusterArg, ImageBake, ImageCommand, ImageLoad, Output};
use crate::context::Context;
use crate::error::CliError;
use crate::render::table::table;
use crate::render::write_document;
use crate::{errln, out};

/// The number of the JSON output's format.
const FORMAT: u32 = 1;

pub(super) async fn run(context: &Context, command: ImageCommand) -> Result<(), CliError> {
    match command {
        ImageCommand::Load(args) => load(context, args).await,
        ImageCommand::Bake(args) => bake(context, args).await,
        ImageCommand::Ls { cluster, output } => list(context, cluster, output).await,
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
    run.change(dir.name(), Look::All, OnFailure::GoOn, plan).await.map(|_: Observed| ())
}

/// Looks at a source of images.
async fn look(source: &str) -> Result<ImageSet, CliError> {
    Source::parse(source).set().await.map_err(|error| {
        let hint = match &error {
            oci::Error::NoSuchImage { reference, .. } => Some(format!("docker pull {reference}")),
            _ => None,
        };
        let error = CliError::usage(skep_sys::chain(&error));
        hint.into_iter().fold(error, CliError::hint)
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

/// One image, and where it is.
struct Row {
    image: EngineImage,
    nodes: Vec<NodeName>,
}

async fn list(context: &Context, cluster: ClusterArg, output: Output) -> Result<(), CliError> {
    let dir = context.existing(cluster.cluster.as_ref())?;
    let run = context.run(None);
    let seen = run.observe_machines(&dir, Damage::Refuse).await?;
    let answers = run.images_by_node(&dir, &seen).await;
    let mut rows: BTreeMap<(Vec<String>, String), Row> = BTreeMap::new();
    let mut silent = Vec::new();
    let asked = answers.len();
    for (node, images) in answers {
        match images {
            Ok(images) => {
                for image in images {
                    let key = (image.names.iter().cloned().collect(), image.id.clone());
                    let row = rows.entry(key).or_insert(Row { image, nodes: Vec::new() });
                    row.nodes.push(node.clone());
                }
            }
            Err(reason) => silent.push((node, reason)),
        }
    }
    let rows: Vec<Row> = rows.into_values().collect();
    match output {
        Output::Json | Output::Yaml => write_document(output, &document(&rows, &silent)),
        Output::Table => {
            let cells: Vec<_> = rows.iter().map(|row| row.cells(asked)).collect();
            out!("{}", table(&["IMAGE", "ID", "SIZE", "NODES"], &cells));
            for (node, reason) in &silent {
                errln!("warning: cannot list the images of {node}: {reason}");
            }
        }
    }
    Ok(())
}

fn document(rows: &[Row], silent: &[(NodeName, String)]) -> Value {
    let images: Vec<_> = rows.iter().map(Row::json).collect();
    let reason = |(node, reason): &(NodeName, String)| (node.to_string(), json!(reason));
    let unknown: serde_json::Map<_, _> = silent.iter().map(reason).collect();
    json!({"format": FORMAT, "images": images, "unknown": unknown})
}

impl Row {
    fn names(&self) -> Vec<&str> {
        self.image.names.iter().map(String::as_str).collect()
    }

    fn cells(&self, asked: usize) -> Vec<String> {
        let names = match self.image.names.is_empty() {
            true => "<none>".to_owned(),
            false => self.names().join(", "),
        };
        let id = self.image.id.strip_prefix("sha256:").unwrap_or(&self.image.id);
        let nodes: Vec<_> = self.nodes.iter().map(NodeName::as_str).collect();
        let nodes = if nodes.len() == asked { "all".to_owned() } else { nodes.join(", ") };
        vec![names, id.chars().take(12).collect(), megabytes(self.image.bytes), nodes]
    }

    fn json(&self) -> Value {
        let nodes: Vec<_> = self.nodes.iter().map(NodeName::as_str).collect();
        json!({
            "id": self.image.id,
            "names": self.names(),
            "bytes": self.image.bytes,
            "nodes": nodes,
        })
    }
}

fn megabytes(bytes: u64) -> String {
    let tenths = bytes * 10 / (1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use skep_testkit::schema::assert_described;

    use super::*;

    #[test]
    fn images_fit_their_schema() {
        let image = EngineImage {
            id: "sha256:1".into(),
            names: ["app:1".to_owned()].into(),
            bytes: 7 << 20,
        };
        let rows = [Row { image, nodes: vec![NodeName::numbered(0)] }];
        let silent = [(NodeName::numbered(1), "no answer".to_owned())];
        let document = assert_described("image-ls", &document(&rows, &silent).to_string());
        assert_eq!(document["unknown"]["node1"], "no answer");
    }
}
