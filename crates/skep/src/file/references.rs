//! Files that a compose file names, as the docker command prints it after merging.

use super::tree::{Node, Value, parse_tree};

/// A file of this host whose content a stack gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `secret` or `config`.
    pub kind: &'static str,
    /// Its name in the compose file.
    pub name: String,
    /// The file.
    pub path: String,
}

/// Returns the files of the secrets and configs of a compose file; none if it is not understood, as
/// the docker command will tell then.
#[must_use]
pub fn file_references(text: &str) -> Vec<Reference> {
    let Ok(Some(root)) = parse_tree(text) else { return Vec::new() };
    let mut found = Vec::new();
    for (key, kind) in [("secrets", "secret"), ("configs", "config")] {
        let Some(section) = root.get(key) else { continue };
        let Value::Map(entries) = &section.value else { continue };
        for (name, entry) in entries {
            let (Some(name), Some(path)) = (name.text(), entry.get("file").and_then(Node::text))
            else {
                continue;
            };
            found.push(Reference { kind, name: name.to_owned(), path: path.to_owned() });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_secrets_and_configs_are_found() {
        let text = "\
services:
  web: {image: x, secrets: [key]}
secrets:
  key: {file: /a/key}
  other: {external: true}
configs:
  site: {file: \"/a/b c\"}
";
        let found: Vec<_> = file_references(text)
            .into_iter()
            .map(|it| format!("{} {} {}", it.kind, it.name, it.path))
            .collect();
        assert_eq!(found, ["secret key /a/key", "config site /a/b c"]);
        assert_eq!(file_references("- : ["), []);
    }
}
