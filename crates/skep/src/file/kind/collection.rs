//! Lists and maps.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde_json::{Value as Json, json};

use super::{Kind, is_null, report_other};
use crate::file::problem::{Problems, quoted};
use crate::file::tree::{Node, Value};

/// A list, all of whose items are of one kind.
pub struct ListOf<K>(PhantomData<K>);

impl<K: Kind> Kind for ListOf<K> {
    type Value = Vec<K::Value>;

    fn schema() -> Json {
        json!({"type": ["array", "null"], "items": K::schema()})
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self::Value> {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ if is_null(node) => &[],
            _ => {
                report_other(node, "a list", problems);
                return None;
            }
        };
        let read = items.iter().enumerate();
        let read =
            read.map(|(index, item)| problems.item(index, |problems| K::read(item, problems)));
        Some(read.flatten().collect())
    }
}

/// One, or a list of them.
pub struct OneOrMore<K>(PhantomData<K>);

impl<K: Kind> Kind for OneOrMore<K> {
    type Value = Vec<K::Value>;

    fn schema() -> Json {
        json!({"anyOf": [K::schema(), ListOf::<K>::schema()]})
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self::Value> {
        match &node.value {
            Value::List(_) => ListOf::<K>::read(node, problems),
            _ if is_null(node) => Some(Vec::new()),
            _ => Some(vec![K::read(node, problems)?]),
        }
    }
}

/// A map with keys that the user chooses.
pub struct MapOf<K, V>(PhantomData<(K, V)>);

impl<K: Kind<Value: Ord>, V: Kind> Kind for MapOf<K, V> {
    type Value = BTreeMap<K::Value, V::Value>;

    fn schema() -> Json {
        json!({
            "type": ["object", "null"],
            "propertyNames": K::schema(),
            "additionalProperties": V::schema(),
        })
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self::Value> {
        let mut map = BTreeMap::new();
        for entry in entries(node, "a map", problems)? {
            let key = K::read(entry.key, problems);
            let value = problems.under(entry.name, |problems| V::read(entry.value, problems));
            if let (Some(key), Some(value)) = (key, value) {
                map.insert(key, value);
            }
        }
        Some(map)
    }
}

/// A key of a map with what stands under it.
pub struct Entry<'a> {
    /// The key as it is written.
    pub name: &'a str,
    /// The key.
    pub key: &'a Node,
    /// What stands under it.
    pub value: &'a Node,
}

/// Returns the entries of a map, and reports keys that are there twice.
pub fn entries<'a>(
    node: &'a Node,
    expected: &str,
    problems: &mut Problems,
) -> Option<Vec<Entry<'a>>> {
    let pairs = match &node.value {
        Value::Map(pairs) => pairs.as_slice(),
        _ if is_null(node) => &[],
        _ => {
            report_other(node, expected, problems);
            return None;
        }
    };
    let mut seen = BTreeMap::new();
    let mut entries = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let Value::Scalar(scalar) = &key.value else { continue };
        let name = scalar.text.as_str();
        match seen.get(name) {
            None => drop(seen.insert(name, key.at.line)),
            Some(first) => {
                let name = quoted(name);
                let message = format_args!("duplicate key {name}, first used in line {first}");
                problems.report(key.at, message);
            }
        }
        entries.push(Entry { name, key, value });
    }
    Some(entries)
}
