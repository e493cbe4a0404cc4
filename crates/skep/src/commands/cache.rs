//! `skep cache`.

use clap::{Args, Subcommand};
use serde::Serialize;
use skep_driver::image::image_id;
use skep_driver::qemu::{Manifest, Qemu, base, template_of};
use skep_print::{errln, outln};
use skep_store::ClusterDir;

use crate::context::Context;
use crate::error::{CliError, Context as _};
use crate::listing::{Column, Listing, Row};

/// The number of the JSON output's format.
const FORMAT: u32 = 2;

/// `skep cache`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List images and templates.
    #[command(alias = "list")]
    Ls(CacheList),
    /// Remove images and templates that no cluster uses.
    Prune,
}

/// `skep cache ls`.
#[derive(Debug, Args)]
pub struct CacheList {
    #[command(flatten)]
    listing: Listing<Entry>,
}

pub(super) fn run(context: &Context, command: CacheCommand) -> Result<(), CliError> {
    match command {
        CacheCommand::Ls(args) => {
            let printer = args.listing.printer()?;
            let entries = entries(context, &in_use(context)?)?;
            printer
                .print(&entries, || serde_json::json!({"format": FORMAT, "entries": entries}))?;
        }
        CacheCommand::Prune => {
            let used = in_use(context)?;
            let images =
                context.session.cache.prune(&used.images).context("cannot prune the cache")?;
            let templates = Qemu::templates(context.session.cache.root());
            let templates = templates
                .prune::<skep_driver::Error>(&used.templates)
                .context("cannot prune the cache")?;
            let images = images.into_iter().map(|image| (image.id, image.bytes));
            let templates = templates.into_iter().map(|entry| (entry.id, entry.bytes));
            let removed: Vec<_> = images.chain(templates).collect();
            for (id, _) in &removed {
                outln!("{id}");
            }
            let freed: u64 = removed.iter().map(|(_, bytes)| bytes).sum();
            errln!("{} removed, {} MiB", removed.len(), freed >> 20);
        }
    }
    Ok(())
}

/// One entry of the cache.
#[derive(Debug, Serialize)]
struct Entry {
    id: String,
    kind: Kind,
    /// What it is made of; none if it is damaged or only a part of one.
    of: Option<String>,
    /// What it takes on disk.
    bytes: u64,
    used: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Image,
    Template,
}

impl Row for Entry {
    const NAME: &'static str = "ID";
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("ID", "ID", |it| it.id.clone()),
        Column::new("KIND", "Kind", |it| {
            let kind = match it.kind {
                Kind::Image => "image",
                Kind::Template => "template",
            };
            kind.to_owned()
        }),
        Column::new("OF", "Of", |it| it.of.clone().unwrap_or_else(|| "(incomplete)".to_owned())),
        Column::new("SIZE", "Size", |it| format!("{} MiB", it.bytes >> 20)),
        Column::wide("BYTES", "Bytes", |it| it.bytes.to_string()),
        Column::new("USED", "Used", |it| if it.used { "yes" } else { "no" }.to_owned()),
    ];
}

fn entries(context: &Context, used: &InUse) -> Result<Vec<Entry>, CliError> {
    let images = context.session.cache.list().context("cannot list the cache")?;
    let images = images.into_iter().map(|image| Entry {
        used: used.images.contains(&image.id),
        id: image.id,
        kind: Kind::Image,
        of: image.suite,
        bytes: image.bytes,
    });
    let templates = Qemu::templates(context.session.cache.root());
    let templates = templates.list().context("cannot list the cache")?;
    let templates = templates.into_iter().map(|entry| Entry {
        used: used.templates.contains(&entry.id),
        of: Qemu::template(&entry).map(|manifest| describe(&manifest)),
        id: entry.id,
        kind: Kind::Template,
        bytes: entry.bytes,
    });
    Ok(images.chain(templates).collect())
}

fn describe(template: &Manifest) -> String {
    let accelerator = template.emulator.accelerator.as_str();
    let names = template.images.iter().flat_map(|set| &set.images).map(|image| {
        match image.names.is_empty() {
            true => image.id.clone(),
            false => image.names.join(", "),
        }
    });
    let names: Vec<_> = names.collect();
    let with =
        if names.is_empty() { String::new() } else { format!(", with {}", names.join(", ")) };
    format!("{} ({accelerator}, image {}{with})", template.shape, template.image)
}

/// What nodes stand on, and what clusters would be given now.
#[derive(Default)]
struct InUse {
    images: Vec<String>,
    templates: Vec<String>,
}

/// Returns what must stay. A cluster whose record cannot be read keeps everything: which of it the
/// cluster needs is not known.
fn in_use(context: &Context) -> Result<InUse, CliError> {
    let mut used = InUse::default();
    let templates = Qemu::templates(context.session.cache.root());
    let clusters = context.session.store.clusters().context("cannot list clusters")?;
    for cluster in clusters.into_iter().chain(context.session.registry().list()) {
        add_nodes(&cluster, &mut used)?;
        match cluster.record() {
            Ok(Some(record)) => {
                used.images.push(image_id(&record.image).context("an image's key")?);
            }
            Ok(None) => {}
            Err(_) => {
                let images = context.session.cache.list().context("cannot list the cache")?;
                used.images.extend(images.into_iter().map(|image| image.id));
                let templates = templates.list().context("cannot list the cache")?;
                used.templates.extend(templates.into_iter().map(|entry| entry.id));
            }
        }
    }
    // A template's disk stands on its image.
    for entry in templates.list().context("cannot list the cache")? {
        if used.templates.contains(&entry.id)
            && let Some(manifest) = Qemu::template(&entry)
        {
            used.images.push(manifest.image);
        }
    }
    Ok(used)
}

fn add_nodes(cluster: &ClusterDir, used: &mut InUse) -> Result<(), CliError> {
    for (node, _) in cluster.nodes().context("cannot list nodes")? {
        let dir = cluster.path().join("machines").join(node);
        let image = base(&dir).and_then(|disk| Some(disk.parent()?.file_name()?.to_owned()));
        used.images.extend(image.map(|id| id.to_string_lossy().into_owned()));
        used.templates.extend(template_of(&dir));
    }
    Ok(())
}
