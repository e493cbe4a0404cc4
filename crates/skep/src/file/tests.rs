//! Tests of whole cluster files.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value as Json;
use skep_core::model::{NodeKind, NodeSpec, Role, Shape, Size};

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
    for text in ["{}", "version: 1", "x-later: [1]\n", "node:\nnodes:\nhostnames:\n"] {
        assert_eq!(parse(text), Ok(ClusterFile::default()), "{text:?}");
    }
    let file = parse("nodes: {extra: , node1: {labels: }}").unwrap();
    assert_eq!(file.nodes.len(), 2);
}

#[test]
fn an_empty_file_is_an_error_that_names_init() {
    for text in ["", "# only a comment\n", "---\n", "null\n", "~", "\u{feff}"] {
        let error = ClusterFile::parse(text, Path::new("skep.yaml")).unwrap_err();
        assert_eq!(error.message, "skep.yaml: the file is empty", "{text:?}");
        assert_eq!(error.hints, ["skep init -  # prints a starter file"]);
        assert_eq!(error.code, crate::error::code::USAGE);
    }
}

#[test]
fn a_file_of_another_version_is_refused_for_that_alone() {
    let told = |version: &str| parse(&format!("nodse: {{}}\nversion: {version}")).unwrap_err();
    let at = "/etc/skep/skep.yaml:2:10: version";
    assert_eq!(
        told("2"),
        format!("{at}: the file needs a newer skep: this one reads version 1, not 2; update skep")
    );
    for (version, found) in
        [("0", "the number `0`"), ("3.8", "the number `3.8`"), ("v1", "the text `v1`")]
    {
        let message = format!("{at}: {found} is not a version; write `version: 1`");
        assert_eq!(told(version), message);
    }
    assert_eq!(told("\"1\""), format!("{at}: the text \"1\" is not a version; write `version: 1`"));
    assert!(told("1").contains("unknown key `nodse`"));
}

#[test]
fn a_node_takes_keys_from_another_with_a_merge_key() {
    let text = "\
x-big: &big {cpus: 4, memory: 4GiB, labels: {size: big}}
x-fast: &fast {disk: 40GiB, cpus: 8}
nodes:
  node1:
    <<: *big
    memory: 8GiB
  node2: {cpus: 1, <<: [*big, *fast]}
";
    let file = parse(text).unwrap();
    let node = |name: &str| file.nodes[&name.parse().unwrap()].clone();
    assert_eq!((node("node1").cpus, node("node1").memory), (Some(4), Some(Size::gib(8))));
    assert_eq!((node("node2").cpus, node("node2").disk), (Some(1), Some(Size::gib(40))));
    assert_eq!(node("node2").labels["size"], "big");
    // A problem is where the merged value is written, with the key that it is read for.
    let wrong = parse("x-a: &a\n  cpus: none\nnodes: {node1: {<<: *a}}").unwrap_err();
    assert_eq!(
        wrong,
        "/etc/skep/skep.yaml:2:9: nodes.node1.cpus: expected a whole number from 1 to 255, found the text \
         `none`"
    );
}

#[test]
fn every_key_of_the_schema_says_what_holds_without_it() {
    fn check(schema: &Json, path: &str) {
        let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
        for (key, below) in schema["properties"].as_object().into_iter().flatten() {
            let about = below["description"].as_str().unwrap_or_default();
            assert!(about.contains('.'), "{path}/{key} has no description");
            let said = below.get("default").is_some() || about.contains("[default: ");
            assert!(said || required.iter().any(|it| *it == key), "{path}/{key}");
            check(below, &format!("{path}/{key}"));
        }
        for either in schema["anyOf"].as_array().into_iter().flatten() {
            check(either, path);
        }
        for below in [schema.get("items"), schema.get("additionalProperties")].into_iter().flatten()
        {
            check(below, path);
        }
    }
    let schema = json_schema();
    check(&schema, "");
    assert_eq!(schema["$id"], "urn:skep:schema:cluster-file:1");
}

/// Returns the keys of a section in the schema that have a default, with it.
fn defaults(section: &Json) -> Vec<(String, Json)> {
    let keys = section["properties"].as_object().unwrap().iter();
    let keys = keys.filter_map(|(key, about)| Some((key.clone(), about.get("default")?.clone())));
    keys.collect()
}

#[test]
fn a_default_of_the_schema_that_is_written_changes_nothing() {
    let schema = json_schema();
    let keys = &schema["properties"];
    let spec = |text: &str| parse(text).unwrap().spec("a".parse().unwrap());
    let host = ("nodes: {box: {address: 192.0.2.7, ", "}}");
    let mut tried = 0;
    for (section, (before, after)) in [
        (&schema, ("", "")),
        (&keys["node"], ("node: {", "}")),
        (&keys["image"], ("image: {", "}")),
        (&keys["registry"], ("registry: {", "}")),
        (&keys["nodes"]["additionalProperties"], host),
    ] {
        for (key, default) in defaults(section) {
            let without = format!("{{{before}{after}}}");
            let with = format!("{{{before}{key}: {default}{after}}}");
            assert_eq!(spec(&with), spec(&without), "{with}");
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried}");
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
    assert_eq!(load("large", &large), "/large is larger than 1MiB, the limit for cluster files");
    assert_eq!(load("latin", b"name: a\nsuite: \xe9\n"), "/latin:2:8: not UTF-8");
    let deep = "- ".repeat(100_000);
    assert_eq!(load("deep", deep.as_bytes()), "/deep:1:65: nested deeper than 32 levels");
    let many = "x, ".repeat(300_000);
    assert!(
        load("many", format!("[{many}]").as_bytes())
            .ends_with("more than 50000 values, aliases included")
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
        let shape = Shape { cpus, memory: Size::mib(memory), disk: Size::mib(disk) };
        *node = NodeSpec { kind: NodeKind::Vm(shape), role: Role::Manager, ..node.clone() };
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

#[test]
fn what_config_prints_is_read_back_as_the_same_cluster() {
    for text in [FULL, STARTER, "{}", "driver: ssh\nnodes: {box: {address: 192.0.2.7}}"] {
        let read = |text: &str| {
            let file = parse(text).unwrap();
            let spec = file.spec("a".parse().unwrap());
            let document = document(&spec, Some(&file));
            (spec, document)
        };
        let (spec, printed) = read(text);
        for again in [crate::render::yaml::yaml(&printed), format!("{printed:#}")] {
            assert_eq!(read(&again), (spec.clone(), printed.clone()), "{again}");
        }
    }
}

#[test]
fn every_example_of_the_starter_file_is_read_and_every_key_has_one() {
    assert!(parse(STARTER).unwrap().stacks.is_empty());
    // A line that is commented out has its key right after the mark.
    let uncommented = STARTER.lines().map(|line| match line.trim_start().strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => {
            line.replacen('#', "", 1)
        }
        _ => line.to_owned(),
    });
    let uncommented: Vec<_> = uncommented.collect();
    let all = uncommented.join("\n");
    // An inner line stands alone, too.
    assert_eq!(parse(&all).unwrap().nodes.len(), 3, "{all}");
    let spec = parse(&all).unwrap().spec("a".parse().unwrap());
    assert_eq!(spec.problems(), []);
    let schema = json_schema();
    for key in schema["properties"].as_object().unwrap().keys() {
        assert!(uncommented.iter().any(|line| line.starts_with(&format!("{key}:"))), "{key}");
    }
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
