//! The keys of stacks.

use serde_json::Value as Json;

use std::time::Duration;

use super::{
    Field, FilePath, Flag, Kind, ListOf, Node, OneOrMore, Problems, Section, StackEntry, Time,
    Word, field,
};
use crate::cli::{ResolveImage, StackOptions};

#[derive(Default)]
struct StackFields {
    name: Option<String>,
    file: Vec<String>,
    files: Vec<String>,
    env_file: Vec<String>,
    prune: bool,
    resolve_image: Option<ResolveImage>,
    with_registry_auth: bool,
    timeout: Option<Duration>,
}

impl Section for StackFields {
    const FIELDS: &'static [Field<Self>] = &[
        field!("name": Word => name, required, "Name of the stack."),
        field!(
            "file": OneOrMore<FilePath> => file,
            otherwise("the files in `files`"),
            "Compose file, or several to merge, relative to this file's directory."
        ),
        field!("files": ListOf<FilePath> => files, default([]), "Same as `file`."),
        field!(
            "env_file": OneOrMore<FilePath> => env_file,
            default([]),
            "File of variables for the compose files, KEY=VALUE lines, or several. Environment variables \
             take precedence."
        ),
        field!(
            "prune": Flag => prune,
            default(false),
            "Whether to remove services that are no longer in the compose files."
        ),
        field!(
            "resolve_image": ResolveImage => resolve_image,
            default("always"),
            "When to query the registry for image digests."
        ),
        field!(
            "with_registry_auth": Flag => with_registry_auth,
            default(false),
            "Whether to send registry credentials to the nodes."
        ),
        field!(
            "timeout": Time => timeout,
            otherwise("5m, or 16m under emulation"),
            "How long to wait until the services have converged. `--timeout` takes precedence."
        ),
    ];
}

impl Kind for StackEntry {
    type Value = Self;

    fn schema() -> Json {
        StackFields::schema()
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let fields = StackFields::read(node, problems)?;
        let paths = |texts: Vec<String>| texts.into_iter().map(Into::into).collect();
        let files = [fields.file, fields.files].concat();
        if files.is_empty() {
            problems.report(node.at, "the key `file` is missing");
        }
        let how = StackOptions {
            env_file: paths(fields.env_file),
            prune: fields.prune,
            resolve_image: fields.resolve_image,
            with_registry_auth: fields.with_registry_auth,
        };
        Some(Self { name: fields.name?, files: paths(files), how, timeout: fields.timeout })
    }
}
