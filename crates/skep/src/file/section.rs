//! Maps with known keys: one table says for each key what stands there, where it goes and what it
//! means, and both the parser and the schema are made from it.

use serde_json::{Map, Value as Json, json};

use super::kind::{Kind, entries};
use super::problem::{Problems, advice, quoted};
use super::tree::Node;

/// A map with known keys.
pub trait Section: Default + 'static {
    /// The keys.
    const FIELDS: &'static [Field<Self>];
    /// Those that must be there.
    const REQUIRED: &'static [&'static str] = &[];
}

/// A known key.
pub struct Field<S> {
    /// The key.
    pub key: &'static str,
    /// What it means.
    pub about: &'static str,
    /// Returns the schema of what stands there.
    pub schema: fn() -> Json,
    /// Reads what stands there into the section.
    pub read: fn(&mut S, &Node, &mut Problems),
}

/// A field: its key, the kind of what stands there and, unless it is only checked, where it goes.
macro_rules! field {
    ($key:literal, $kind:ty, $($place:ident,)? $about:literal) => {
        $crate::file::section::Field {
            key: $key,
            about: $about,
            schema: <$kind as $crate::file::kind::Kind>::schema,
            read: |_section, node, problems| {
                let _value = <$kind as $crate::file::kind::Kind>::read(node, problems);
                $(if let Some(value) = _value {
                    _section.$place = value.into();
                })?
            },
        }
    };
}
pub(super) use field;

impl<S: Section> Kind for S {
    type Value = S;

    fn schema() -> Json {
        let properties: Map<String, Json> = S::FIELDS
            .iter()
            .map(|field| {
                let mut schema = json!({"description": field.about});
                if let (Json::Object(schema), Json::Object(kind)) = (&mut schema, (field.schema)())
                {
                    schema.extend(kind);
                }
                (field.key.to_owned(), schema)
            })
            .collect();
        match S::REQUIRED {
            [] => json!({
                "type": ["object", "null"],
                "properties": properties,
                "additionalProperties": false,
            }),
            required => json!({
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": false,
            }),
        }
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<S> {
        let keys: Vec<_> = S::FIELDS.iter().map(|field| field.key).collect();
        let expected = format!("a map with some of {}", keys.join(", "));
        let entries = entries(node, &expected, problems)?;
        let mut section = S::default();
        for entry in &entries {
            match S::FIELDS.iter().find(|field| field.key == entry.name) {
                Some(field) => problems.under(entry.name, |problems| {
                    (field.read)(&mut section, entry.value, problems);
                }),
                None => {
                    let advice = advice(entry.name, &keys);
                    let name = quoted(entry.name);
                    problems.report(entry.key.at, format_args!("unknown key {name}; {advice}"));
                }
            }
        }
        for key in S::REQUIRED {
            if !entries.iter().any(|entry| entry.name == *key) {
                problems.report(node.at, format_args!("the key `{key}` is missing"));
            }
        }
        Some(section)
    }
}
