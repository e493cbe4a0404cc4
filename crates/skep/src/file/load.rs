//! Reading a cluster file, and telling an editor what may stand in it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::{Value as Json, json};
use skep_docker::oci::Source;

use super::kind::{Kind, Version, is_null};
use super::problem::{Place, Problem, Problems, render_problems};
use super::tree::{Node, parse_tree};
use super::{ClusterFile, VERSION};
use crate::error::CliError;

/// The most that is read; a file of a thousand nodes has less than a tenth.
const LIMIT: u64 = 1 << 20;

impl ClusterFile {
    /// Reads a cluster file; `-` is the standard input.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or all that is wrong in it.
    pub fn load(path: &Path) -> Result<Self, CliError> {
        let standard_input = path == Path::new("-");
        let name = if standard_input { "stdin".to_owned() } else { path.display().to_string() };
        let bytes = match standard_input {
            true => read_bounded(io::stdin().lock()),
            false => File::open(path).and_then(read_bounded),
        };
        let bytes =
            bytes.map_err(|error| CliError::usage(format!("cannot read {name}: {error}")))?;
        if bytes.len() as u64 > LIMIT {
            return Err(CliError::usage(format!(
                "{name} is larger than 1MiB, the limit for cluster files"
            )));
        }
        let text = decode(&bytes).map_err(|problem| wrong(&name, &[problem]))?;
        Self::parse_as(text, &name, path)
    }

    /// Reads the text of a cluster file; relative paths in it begin at the folder of `path`.
    ///
    /// # Errors
    ///
    /// All that is wrong, a line each, with the place.
    pub fn parse(text: &str, path: &Path) -> Result<Self, CliError> {
        Self::parse_as(text, &path.display().to_string(), path)
    }

    fn parse_as(text: &str, name: &str, path: &Path) -> Result<Self, CliError> {
        let tree = parse_tree(text).map_err(|problem| wrong(name, &[problem]))?;
        let Some(tree) = tree.filter(|tree| !is_null(tree)) else {
            return Err(CliError::usage(format!("{name}: the file is empty"))
                .hint("skep init -  # prints a starter file"));
        };
        let mut problems = Problems::default();
        // What the rest of a file of another version means is not known.
        let file = match read_version(&tree, &mut problems) {
            Some(VERSION) => <Self as Kind>::read(&tree, &mut problems),
            _ => None,
        };
        let problems = problems.into_sorted();
        match file {
            Some(file) if problems.is_empty() => Ok(file.beside(path)),
            _ => Err(wrong(name, &problems)),
        }
    }

    /// Lets the paths in the file begin at its folder.
    ///
    /// They become absolute, as they are written down with the cluster, and a later command may be
    /// given in another folder.
    fn beside(mut self, path: &Path) -> Self {
        let folder = path.parent().unwrap_or(Path::new(""));
        let from_folder = |path: &Path| {
            let joined = folder.join(path);
            std::path::absolute(&joined).unwrap_or(joined)
        };
        let text = |path: &Path| from_folder(path).to_string_lossy().into_owned();
        for image in &mut self.images {
            if let Source::Path(path) = Source::parse(image) {
                *image = text(&path);
            }
        }
        let registries = self.registries.iter_mut().flatten();
        for ca in registries.filter_map(|registry| registry.ca.as_mut()) {
            *ca = from_folder(ca);
        }
        for stack in &mut self.stacks {
            for file in stack.files.iter_mut().chain(&mut stack.how.env_file) {
                *file = from_folder(file);
            }
        }
        let sources = self.image.sources.iter_mut().filter_map(|source| source.key.as_mut());
        let hosts = self.nodes.values_mut().filter_map(|node| node.host.as_mut()?.key.as_mut());
        for key in sources.chain(hosts) {
            *key = text(Path::new(key.as_str()));
        }
        self
    }
}

/// Returns the version of the file's format; without one it is the first.
fn read_version(tree: &Node, problems: &mut Problems) -> Option<u32> {
    match tree.get("version") {
        None => Some(1),
        Some(version) => problems.under("version", |problems| Version::read(version, problems)),
    }
}

/// Returns the JSON Schema of the cluster file, in draft 7, which is what editors know best.
#[must_use]
pub fn json_schema() -> Json {
    let mut schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": format!("urn:skep:schema:cluster-file:{VERSION}"),
        "title": "skep cluster file",
        "description": "A Docker Swarm on this host, for `skep up -f skep.yaml`. Every key is optional.",
    });
    if let (Json::Object(schema), Json::Object(keys)) =
        (&mut schema, <ClusterFile as Kind>::schema())
    {
        schema.extend(keys);
    }
    // Every other section may be empty, the file may not.
    schema["type"] = json!("object");
    schema
}

fn read_bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(LIMIT + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Problem::new(Place { line, column }, "not UTF-8")
    })
}

fn wrong(name: &str, problems: &[Problem]) -> CliError {
    CliError::usage(render_problems(name, problems))
}
