//! Tests of whole cluster files.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value as Json;
use skep_core::model::{NodeSpec, Role, Size};

use super::tree::{Node, Value, parse_tree};
use super::*;

/// A file that sets every key.
const FULL: &str = include_str!("tests/full.yaml");
/// A file in which nothing is right.
const WRONG: &str = include_str!("tests/wrong.yaml");

fn parse(text: &str) -> Result<ClusterFile, String> {
    ClusterFile::parse(text, Path::new("/etc/skep/skep.yaml")).map_err(|error| error.message)
}

#[test]
fn every_key_is_understood() {
    insta::assert_debug_snapshot!(parse(FULL).unwrap());
}

#[test]
fn everything_wrong_is_told_at_once_with_its_place() {
    insta::assert_snapshot!(parse(WRONG).unwrap_err());
}

#[test]
fn the_schema_describes_every_key() {
    insta::assert_snapshot!(format!("{:#}", json_schema()));
}

#[test]
fn the_full_file_sets_every_key_of_the_schema() {
    let (mut known, mut set) = (BTreeSet::new(), BTreeSet::new());
    keys_of_schema(&json_schema(), "", &mut known);
    keys_of_tree(&parse_tree(FULL).unwrap().unwrap(), "", &mut set);
    assert!(known.len() > 25, "{known:?}");
    assert_eq!(known, set);
}

fn keys_of_schema(schema: &Json, path: &str, found: &mut BTreeSet<String>) {
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}/{key}");
        found.insert(path.clone());
        keys_of_schema(below, &path, found);
    }
    for either in schema["anyOf"].as_array().into_iter().flatten() {
        keys_of_schema(either, path, found);
    }
    for (below, step) in [("items", ""), ("additionalProperties", "/*")] {
        if let Some(below) = schema.get(below) {
            keys_of_schema(below, &format!("{path}{step}"), found);
        }
    }
}

fn keys_of_tree(node: &Node, path: &str, found: &mut BTreeSet<String>) {
    match &node.value {
        Value::Scalar(_) => {}
        Value::List(items) => items.iter().for_each(|item| keys_of_tree(item, path, found)),
        Value::Map(entries) => {
            // The user's own names are in no schema.
            let own = path == "/nodes" || path.ends_with("/labels");
            for (key, below) in entries {
                let Value::Scalar(key) = &key.value else { continue };
                let key = if own { "*" } else { &key.text };
                let path = format!("{path}/{key}");
                if !own {
                    found.insert(path.clone());
                }
                keys_of_tree(below, &path, found);
            }
        }
    }
}

#[test]
fn nothing_has_to_be_said() {
    for text in [
        "",
        "# only a comment\n",
        "---\n",
        "{}",
        "null\n",
        "\u{feff}",
        "node:\nnodes:\nhostnames:\n",
    ] {
        assert_eq!(parse(text), Ok(ClusterFile::default()), "{text:?}");
    }
    let file = parse("nodes: {extra: , node1: {labels: }}").unwrap();
    assert_eq!(file.nodes.len(), 2);
}

#[test]
fn a_part_may_be_written_once_and_named_again() {
    let file = parse("nodes: {node1: &big {cpus: 4}, node2: *big}").unwrap();
    assert_eq!(file.nodes[&"node2".parse().unwrap()].cpus, Some(4));
}

#[test]
fn what_is_too_much_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let load = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let error = ClusterFile::load(&path).unwrap_err().message;
        error.replace(&*dir.path().to_string_lossy(), "")
    };
    let large = vec![b'#'; (1 << 20) + 1];
    assert_eq!(load("large", &large), "/large is larger than a cluster file may be, 1MiB");
    assert_eq!(load("latin", b"name: a\nsuite: \xe9\n"), "/latin:2:8: not UTF-8");
    let deep = "- ".repeat(100_000);
    assert_eq!(load("deep", deep.as_bytes()), "/deep:1:65: nested deeper than 32 levels");
    let many = "x, ".repeat(300_000);
    assert!(
        load("many", format!("[{many}]").as_bytes())
            .ends_with("more than 50000 values, counting those of aliases")
    );
}

#[test]
fn what_cannot_be_read_is_named() {
    let error = ClusterFile::load(Path::new("/nowhere/skep.yaml")).unwrap_err();
    assert_eq!(error.code, crate::error::code::USAGE);
    assert!(error.message.starts_with("cannot read /nowhere/skep.yaml: No such file"), "{error}");
    let error = ClusterFile::load(Path::new("/")).unwrap_err();
    assert!(error.message.starts_with("cannot read /: Is a directory"), "{error}");
}

#[test]
fn the_bounds_are_those_of_the_specification() {
    let problems = |cpus: u32, memory: u64, disk: u64| {
        let mut spec = ClusterFile::default().spec("a".parse().unwrap());
        let node = &mut spec.nodes[0];
        *node = NodeSpec {
            cpus,
            memory: Size::mib(memory),
            disk: Size::mib(disk),
            role: Role::Manager,
            ..node.clone()
        };
        let node = format!("{{cpus: {cpus}, memory: {memory}MiB, disk: {disk}MiB}}");
        let told = parse(&format!("node: {node}")).map_or_else(|text| text.lines().count(), |_| 0);
        assert_eq!(spec.problems().len(), told, "{node}");
        told
    };
    assert_eq!(problems(1, 384, 3072), 0);
    assert_eq!(problems(255, 384, 3072), 0);
    assert_eq!(problems(0, 383, 3071), 3);
    assert_eq!(problems(256, 384, 3072), 1);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_yaml_like_text_is_read_or_refused(
        text in "[-{}\\[\\]:,&*!|>'\"%@`#?~ \t\r\nab01.]{0,80}",
    ) {
        let _ = parse(&text);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_file_with_damage_is_read_or_refused_line_by_line(
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0usize..4, any::<char>()), 1..12),
        wrong in any::<bool>(),
    ) {
        let mut text: Vec<char> = if wrong { WRONG } else { FULL }.chars().collect();
        for (index, kind, c) in damage {
            // So that there is a place to damage, whatever was removed before.
            text.push('\n');
            let at = index.index(text.len());
            match kind {
                0 => text[at] = c,
                1 => text.insert(at, c),
                2 => drop(text.remove(at)),
                _ => text.truncate(at.max(1)),
            }
        }
        let text: String = text.into_iter().collect();
        if let Err(message) = parse(&text) {
            for line in message.lines() {
                prop_assert!(line.starts_with("/etc/skep/skep.yaml:"), "{}", line);
            }
        }
    }
}
