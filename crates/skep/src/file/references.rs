//! Files that a compose file names, as the docker command prints it after merging.

use std::collections::BTreeSet;

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
    /// The name that it has in the swarm, if the compose file says one.
    pub given: Option<String>,
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
            let given = entry.get("name").and_then(Node::text).map(str::to_owned);
            found.push(Reference { kind, name: name.to_owned(), path: path.to_owned(), given });
        }
    }
    found
}

/// Returns the images of a compose file's services.
#[must_use]
pub fn service_images(text: &str) -> BTreeSet<String> {
    let Ok(Some(root)) = parse_tree(text) else { return BTreeSet::new() };
    let Some(Value::Map(services)) = root.get("services").map(|it| &it.value) else {
        return BTreeSet::new();
    };
    let image = |entry: &Node| entry.get("image").and_then(Node::text).map(str::to_owned);
    services.iter().filter_map(|(_, entry)| image(entry)).collect()
}

/// Returns the version of the format that a compose file says it has.
#[must_use]
pub fn format_version(text: &str) -> Option<String> {
    Some(parse_tree(text).ok()??.get("version")?.text()?.to_owned())
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
  site: {file: \"/a/b c\", name: www}
";
        let found: Vec<_> = file_references(text)
            .into_iter()
            .map(|it| format!("{} {} {} {:?}", it.kind, it.name, it.path, it.given))
            .collect();
        assert_eq!(found, ["secret key /a/key None", "config site /a/b c Some(\"www\")"]);
        assert_eq!(file_references("- : ["), []);
        assert_eq!(service_images(text), ["x".to_owned()].into());
        assert_eq!(format_version("version: '3.8'\nservices: {}").as_deref(), Some("3.8"));
        assert_eq!(format_version(text), None);
    }
}
