//! `skep image ls`.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};
use skep_core::model::NodeName;
use skep_docker::engine::EngineImage;
use skep_ops::observe::Damage;
use skep_print::errln;

use crate::cli::ClusterWord;
use crate::context::Context;
use crate::error::CliError;
use crate::listing::{Column, Listing, Row};

/// The number of the JSON output's format.
const FORMAT: u32 = 1;

/// `skep image ls`.
#[derive(Debug, Args)]
pub struct ImageList {
    #[command(flatten)]
    cluster: ClusterWord,
    #[command(flatten)]
    listing: Listing<Named>,
}

/// One image, and where it is.
struct Found {
    image: EngineImage,
    nodes: Vec<NodeName>,
}

/// One name of an image, as docker lists them.
#[derive(Debug)]
struct Named {
    /// None if the image has no name at all.
    name: Option<String>,
    id: String,
    bytes: u64,
    nodes: String,
}

impl Row for Named {
    const NAME: &'static str = "Name";
    const ID: &'static str = "ID";
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("IMAGE", "Name", |it| it.name.clone().unwrap_or_else(|| NONE.to_owned())),
        Column::only_named("REPOSITORY", "Repository", |it| it.parts().0.to_owned()),
        Column::only_named("TAG", "Tag", |it| it.parts().1.to_owned()),
        Column::new("ID", "ID", |it| {
            it.id.strip_prefix("sha256:").unwrap_or(&it.id).chars().take(12).collect()
        }),
        Column::new("SIZE", "Size", |it| megabytes(it.bytes)),
        Column::wide("BYTES", "Bytes", |it| it.bytes.to_string()),
        Column::wide("FULL ID", "FullID", |it| it.id.clone()),
        Column::new("NODES", "Nodes", |it| it.nodes.clone()),
    ];
}

/// Docker's word for a name that is not there.
const NONE: &str = "<none>";

impl Named {
    /// Returns repository and tag. A colon before a slash is that of a port.
    fn parts(&self) -> (&str, &str) {
        let Some(name) = self.name.as_deref() else { return (NONE, NONE) };
        match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            _ => (name, NONE),
        }
    }
}

pub(super) async fn run(context: &Context, args: ImageList) -> Result<(), CliError> {
    let printer = args.listing.printer()?;
    let dir = context.existing(args.cluster.cluster.as_ref())?;
    let run = context.run(None);
    let seen = run.observe_machines(&dir, Damage::Refuse).await?;
    let answers = run.images_by_node(&dir, &seen).await;
    let mut found: BTreeMap<(Vec<String>, String), Found> = BTreeMap::new();
    let mut silent = Vec::new();
    let asked = answers.len();
    for (node, images) in answers {
        match images {
            Ok(images) => {
                for image in images {
                    let key = (image.names.iter().cloned().collect(), image.id.clone());
                    let image = found.entry(key).or_insert(Found { image, nodes: Vec::new() });
                    image.nodes.push(node.clone());
                }
            }
            Err(reason) => silent.push((node, reason)),
        }
    }
    let found: Vec<Found> = found.into_values().collect();
    let rows: Vec<_> = found.iter().flat_map(|it| it.rows(asked)).collect();
    printer.print(&rows, || document(&found, &silent))?;
    for (node, reason) in silent.iter().filter(|_| !printer.is_document()) {
        errln!("warning: cannot list the images of {node}: {reason}");
    }
    Ok(())
}

fn document(found: &[Found], silent: &[(NodeName, String)]) -> Value {
    let images: Vec<_> = found.iter().map(Found::json).collect();
    let reason = |(node, reason): &(NodeName, String)| (node.to_string(), json!(reason));
    let unknown: serde_json::Map<_, _> = silent.iter().map(reason).collect();
    json!({"format": FORMAT, "images": images, "unknown": unknown})
}

impl Found {
    fn rows(&self, asked: usize) -> Vec<Named> {
        let nodes: Vec<_> = self.nodes.iter().map(NodeName::as_str).collect();
        let nodes = if nodes.len() == asked { "all".to_owned() } else { nodes.join(", ") };
        let row = |name: Option<&String>| Named {
            name: name.cloned(),
            id: self.image.id.clone(),
            bytes: self.image.bytes,
            nodes: nodes.clone(),
        };
        match self.image.names.is_empty() {
            true => vec![row(None)],
            false => self.image.names.iter().map(|name| row(Some(name))).collect(),
        }
    }

    fn json(&self) -> Value {
        let nodes: Vec<_> = self.nodes.iter().map(NodeName::as_str).collect();
        json!({
            "id": self.image.id,
            "names": self.image.names,
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

    fn found(names: &[&str]) -> Found {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let image = EngineImage { id: "sha256:1".into(), names, bytes: 7 << 20, pulled: false };
        Found { image, nodes: vec![NodeName::numbered(0)] }
    }

    #[test]
    fn images_fit_their_schema() {
        let silent = [(NodeName::numbered(1), "no answer".to_owned())];
        let document = document(&[found(&["app:1"])], &silent);
        let document = assert_described("image-ls", &document.to_string());
        assert_eq!(document["unknown"]["node1"], "no answer");
    }

    #[test]
    fn each_name_of_an_image_is_a_row_with_its_parts() {
        let rows = found(&["app:1", "hub.example:5000/app", "hub.example:5000/app:2"]).rows(1);
        let parts: Vec<_> = rows.iter().map(Named::parts).collect();
        let hub = "hub.example:5000/app";
        assert_eq!(parts, [("app", "1"), (hub, NONE), (hub, "2")]);
        let nameless = found(&[]).rows(2);
        assert_eq!((nameless[0].parts(), nameless[0].nodes.as_str()), ((NONE, NONE), "node0"));
    }
}
