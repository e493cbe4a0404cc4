//! From text to a tree in which everything knows its place.
//!
//! Invariants: a tree has at most [`NODES`] nodes, [`DEPTH`] levels and texts of [`TEXT`] bytes,
//! what its aliases stand for included. Duplicate keys are kept, for the reader to report. Merge keys (`<<`) are
//! resolved (yaml.org/type/merge.html).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use super::problem::{Place, Problem};

const DEPTH: usize = 32;
const NODES: usize = 50_000;
const TEXT: usize = 4096;
/// The key that adds the entries of other maps, if it is not quoted.
const MERGE: &str = "<<";

/// A part of a file.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it begins.
    pub at: Place,
    /// What it is.
    pub value: Value,
}

/// What a part of a file is.
#[derive(Debug, Clone)]
pub enum Value {
    /// A text, a number, a truth value, or nothing.
    Scalar(Scalar),
    /// Items in order.
    List(Vec<Node>),
    /// Keys, which are scalars and always text, with what stands under them.
    Map(Vec<(Node, Node)>),
}

/// A scalar as it is written.
#[derive(Debug, Clone)]
pub struct Scalar {
    /// The text, without quotes.
    pub text: String,
    /// Whether it has neither quotes nor `|` or `>`, so that it may be something else than text.
    pub plain: bool,
}

/// Returns the tree of a file, or nothing if there are only comments.
///
/// # Errors
///
/// The first thing that is not YAML, not understood here, or too much.
pub fn parse_tree(text: &str) -> Result<Option<Node>, Problem> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| not_yaml(&error))?;
        builder.take(event, place(span.start))?;
    }
    Ok(builder.root)
}

fn not_yaml(error: &ScanError) -> Problem {
    Problem::new(place(*error.marker()), format_args!("not YAML: {}", error.info()))
}

fn place(marker: Marker) -> Place {
    Place { line: marker.line().max(1), column: marker.col() + 1 }
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    documents: usize,
    nodes: usize,
}

/// A list or a map whose end is still to come.
struct Open {
    node: Node,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<Key>,
    /// The merge key's place and value.
    merge: Option<(Place, Node)>,
}

/// A key of a map.
enum Key {
    /// One of the map's own.
    Own(Node),
    /// `<<`, at this place.
    Merge(Place),
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Place) -> Result<(), Problem> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag, at)?;
                if text.len() > TEXT {
                    return Err(Problem::new(at, format!("text of more than {TEXT} bytes")));
                }
                self.count(1, at)?;
                let plain = style == ScalarStyle::Plain;
                let scalar = Scalar { text: text.into_owned(), plain };
                self.close(Node { at, value: Value::Scalar(scalar) }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(tag, at)?;
                self.open(Node { at, value: Value::List(Vec::new()) }, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                refuse_tag(tag, at)?;
                self.open(Node { at, value: Value::Map(Vec::new()) }, anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.close(merged(open.node, open.merge)?, open.anchor),
                None => Ok(()),
            },
            Event::Alias(anchor) => self.alias(anchor, at),
            Event::DocumentStart(_) => {
                self.documents += 1;
                match self.documents {
                    1 => Ok(()),
                    _ => {
                        Err(Problem::new(at, "a second YAML document; a cluster file has only one"))
                    }
                }
            }
            Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => Ok(()),
        }
    }

    fn open(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        self.count(1, node.at)?;
        check_depth(self.open.len() + 1, node.at)?;
        self.open.push(Open { node, anchor, key: None, merge: None });
        Ok(())
    }

    /// Takes a node that is complete, and keeps a copy if aliases may stand for it.
    fn close(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        if anchor != 0 {
            self.count(measure(&node).0, node.at)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.put(node)
    }

    fn alias(&mut self, anchor: usize, at: Place) -> Result<(), Problem> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Problem::new(at, "an alias cannot contain itself"));
        };
        let (nodes, height) = measure(node);
        check_depth(self.open.len() + height, at)?;
        let node = node.clone();
        self.count(nodes, at)?;
        self.put(node)
    }

    /// Puts a node where it belongs.
    fn put(&mut self, node: Node) -> Result<(), Problem> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut open.node.value, open.key.take()) {
            (Value::Map(_), Some(Key::Merge(at))) => match &open.merge {
                None => open.merge = Some((at, node)),
                Some((first, _)) => {
                    let line = first.line;
                    let message = format!(
                        "duplicate key `<<`, first used in line {line}; merge several maps with <<: [*a, *b]"
                    );
                    return Err(Problem::new(at, message));
                }
            },
            (Value::Map(entries), Some(Key::Own(key))) => {
                // What is not there has no place but that of its key.
                let at = if node.is_absent() { key.at } else { node.at };
                entries.push((key, Node { at, ..node }));
            }
            (Value::Map(_), None) => match node.value {
                Value::Scalar(Scalar { text, plain: true }) if text == MERGE => {
                    open.key = Some(Key::Merge(node.at));
                }
                Value::Scalar(Scalar { text, .. }) => {
                    let value = Value::Scalar(Scalar { text, plain: false });
                    open.key = Some(Key::Own(Node { at: node.at, value }));
                }
                _ => return Err(Problem::new(node.at, "a key must be text")),
            },
            (Value::List(items), _) => items.push(node),
            (Value::Scalar(_), _) => {}
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, at: Place) -> Result<(), Problem> {
        self.nodes += nodes;
        match self.nodes > NODES {
            true => {
                let message = format!("more than {NODES} values, aliases included");
                Err(Problem::new(at, message))
            }
            false => Ok(()),
        }
    }
}

/// Returns a map with the entries that its merge key adds: those whose keys it does not have itself. Of several maps
/// the first that has a key counts.
fn merged(mut map: Node, merge: Option<(Place, Node)>) -> Result<Node, Problem> {
    let (Value::Map(entries), Some((_, merge))) = (&mut map.value, merge) else { return Ok(map) };
    let sources = match merge.value {
        Value::List(items) => items,
        _ => vec![merge],
    };
    let text = |(key, _): &(Node, Node)| key.text().map(str::to_owned);
    let mut known: BTreeSet<_> = entries.iter().filter_map(text).collect();
    for source in sources {
        let Value::Map(more) = source.value else {
            let message = "`<<` needs a map, such as an alias (*name), or a list of maps";
            return Err(Problem::new(source.at, message));
        };
        let new = |(key, _): &(Node, Node)| key.text().is_some_and(|key| !known.contains(key));
        let begin = entries.len();
        entries.extend(more.into_iter().filter(new));
        known.extend(entries[begin..].iter().filter_map(text));
    }
    Ok(map)
}

impl Node {
    /// Returns the text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// Returns what a map has under a key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
    }

    /// Returns whether there is not even a `null`.
    fn is_absent(&self) -> bool {
        matches!(&self.value, Value::Scalar(Scalar { text, plain: true }) if text.is_empty())
    }
}

fn refuse_tag(tag: Option<Cow<'_, Tag>>, at: Place) -> Result<(), Problem> {
    match tag {
        Some(_) => Err(Problem::new(at, "YAML tags (`!…`) are not supported")),
        None => Ok(()),
    }
}

fn check_depth(levels: usize, at: Place) -> Result<(), Problem> {
    match levels > DEPTH {
        true => Err(Problem::new(at, format!("nested deeper than {DEPTH} levels"))),
        false => Ok(()),
    }
}

/// Returns how many nodes there are, this one included, and on how many levels lists and maps.
fn measure(node: &Node) -> (usize, usize) {
    let add = |(nodes, height): (usize, usize), node: &Node| {
        let (more, below) = measure(node);
        (nodes + more, height.max(below))
    };
    match &node.value {
        Value::Scalar(_) => (1, 0),
        Value::List(items) => {
            let (nodes, below) = items.iter().fold((1, 0), add);
            (nodes, below + 1)
        }
        Value::Map(entries) => {
            let all = entries.iter().flat_map(|(key, value)| [key, value]);
            let (nodes, below) = all.fold((1, 0), add);
            (nodes, below + 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::problem::render_problems;

    fn problem(text: &str) -> String {
        parse_tree(text).map_or_else(|problem| render_problems("f", &[problem]), |_| String::new())
    }

    #[test]
    fn what_is_not_yaml_is_told_with_its_place() {
        for (text, told) in [
            ("a: [1, 2\nb: 3\n", "f:2:2: not YAML: illegal placement of ':' indicator"),
            ("a: 1\n  b: 2\n", "f:2:4: not YAML: mapping values are not allowed in this context"),
            (
                "a:\n\tb: 2\n",
                "f:2:2: not YAML: tabs disallowed within this context (block indentation)",
            ),
            ("a: *b\n", "f:1:4: not YAML: while parsing node, found unknown anchor"),
        ] {
            assert_eq!(problem(text), told);
        }
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_place() {
        assert_eq!(
            problem("---\na: 1\n---\na: 2\n"),
            "f:3:1: a second YAML document; a cluster file has only one"
        );
        assert_eq!(problem("a: !!int 1\n"), "f:1:4: YAML tags (`!…`) are not supported");
        assert_eq!(problem("[a]: 1\n"), "f:1:1: a key must be text");
        assert_eq!(problem("a: &a [*a]\n"), "f:1:8: an alias cannot contain itself");
        assert_eq!(
            problem(&format!("a: {}", "x".repeat(TEXT + 1))),
            "f:1:4: text of more than 4096 bytes"
        );
    }

    #[test]
    fn depth_is_bounded_with_that_of_aliases() {
        assert_eq!(problem(&format!("{}{}", "[".repeat(DEPTH), "]".repeat(DEPTH))), "");
        let blocks = format!("{}x", "- ".repeat(DEPTH + 1));
        assert_eq!(problem(&blocks), "f:1:65: nested deeper than 32 levels");
        // Of brackets the library reads more ahead, and has a bound of its own.
        assert_eq!(problem(&"[".repeat(100_000)), "f:1:256: not YAML: recursion limit exceeded");
        let mut chain = "a0: &a0 [x]\n".to_owned();
        for level in 1..DEPTH {
            chain.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        assert_eq!(problem(&chain), "f:32:12: nested deeper than 32 levels");
    }

    #[test]
    fn what_merges_wrongly_is_told_with_its_place() {
        let needs = "`<<` needs a map, such as an alias (*name), or a list of maps";
        assert_eq!(problem("a: {<<: 1}"), format!("f:1:9: {needs}"));
        assert_eq!(problem("a: {<<: [{b: 1}, [c]]}"), format!("f:1:18: {needs}"));
        assert_eq!(problem("a:\n  <<:\n"), format!("f:2:5: {needs}"));
        assert_eq!(
            problem("a: {<<: {b: 1},\n <<: {c: 1}}"),
            "f:2:2: duplicate key `<<`, first used in line 1; merge several maps with <<: [*a, *b]"
        );
        assert_eq!(problem("a: &a {<<: *a}"), "f:1:12: an alias cannot contain itself");
    }

    #[test]
    fn a_merge_key_adds_what_a_map_does_not_have_itself() {
        let merged = |text: &str| {
            let root = parse_tree(text).unwrap().unwrap();
            let Some(Value::Map(entries)) = root.get("m").map(|node| node.value.clone()) else {
                panic!("{root:?}");
            };
            let pairs = entries.iter().map(|(key, value)| [key.text(), value.text()]);
            pairs
                .map(|it| it.map(|text| text.unwrap_or("…")).join("="))
                .collect::<Vec<_>>()
                .join(" ")
        };
        // Its own keys count, wherever the merge key is; of several maps the first; maps below are not merged.
        assert_eq!(merged("m: {<<: {a: 1, b: 1}, a: 2}"), "a=2 b=1");
        assert_eq!(
            merged("m: {a: 2, <<: [{b: 1, n: {x: 1}}, {b: 2, n: {y: 1}, c: 3}]}"),
            "a=2 b=1 n=… c=3"
        );
        assert_eq!(
            merged("a: &a {x: 1, y: 1}\nb: &b {<<: *a, y: 2}\nm: {<<: *b, z: 3}"),
            "z=3 y=2 x=1"
        );
        assert_eq!(merged("m: {\"<<\": {a: 1}}"), "<<=…");
        assert_eq!(merged("m: {<<: [], a: 1}"), "a=1");
        // A duplicate within one map is still there for the reader to report.
        assert_eq!(merged("m: {<<: {a: 1, a: 2}}"), "a=1 a=2");
    }

    #[test]
    fn merge_keys_are_bounded_like_aliases_and_take_time_in_proportion() {
        let mut bomb = "a0: &a0 {k0: x}\n".to_owned();
        for level in 1..20 {
            let own = format!("k{level}: *a{}", level - 1);
            let all = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} {{<<: [{all}], {own}}}\n"));
        }
        let bomb = problem(&bomb);
        assert!(bomb.ends_with("more than 50000 values, aliases included"), "{bomb}");
        // A test for each pair of entry and map would take minutes.
        let keys: String = (0..12_000).map(|key| format!("k{key}: x, ")).collect();
        let empty = "{}, ".repeat(24_000);
        assert_eq!(problem(&format!("m: {{{keys} <<: [{empty}]}}")), "");
    }

    #[test]
    fn aliases_stand_for_a_bounded_number_of_values() {
        assert_eq!(problem("a: &a {x: 1}\nb: *a\nc: [*a, *a]\n"), "");
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let ten = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{ten}]\n"));
        }
        let problem = problem(&bomb);
        assert!(problem.ends_with("more than 50000 values, aliases included"), "{problem}");
    }
}
