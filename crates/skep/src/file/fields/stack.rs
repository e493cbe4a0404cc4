//! The keys of stacks.

use serde_json::Value as Json;

use super::{
    Field, FilePath, Kind, ListOf, Node, OneOrMore, Problems, Section, StackEntry, Word, field,
};

#[derive(Default)]
struct StackFields {
    name: Option<String>,
    file: Vec<String>,
    files: Vec<String>,
    env_file: Vec<String>,
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
    ];
}

impl Kind for StackEntry {
    type Value = Self;

    fn schema() -> Json {
        StackFields::schema()
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let StackFields { name, file, files, env_file } = StackFields::read(node, problems)?;
        let paths = |texts: Vec<String>| texts.into_iter().map(Into::into).collect();
        let files = [file, files].concat();
        if files.is_empty() {
            problems.report(node.at, "the key `file` is missing");
        }
        Some(Self { name: name?, files: paths(files), env_files: paths(env_file) })
    }
}
