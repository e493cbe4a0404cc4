//! Maps with known keys: one table says for each key what it may hold, where that goes, what it means and
//! what its default is. Both the parser and the JSON Schema are made from the table.

use serde_json::{Map, Value as Json, json};

use super::kind::{Kind, entries};
use super::problem::{Problems, advice, quoted};
use super::tree::Node;

/// How a key begins that skep ignores, as docker compose does: a place for anchors.
const EXTENSION: &str = "x-";

/// A map with known keys.
pub trait Section: Default + 'static {
    /// The keys.
    const FIELDS: &'static [Field<Self>];
    /// Whether keys that begin with `x-` are ignored.
    const EXTENSIONS: bool = false;
}

/// A known key.
pub struct Field<S> {
    /// The key.
    pub key: &'static str,
    /// What it means.
    pub about: &'static str,
    /// What holds if the key is left out.
    pub preset: Preset,
    /// Returns the schema of its value.
    pub schema: fn() -> Json,
    /// Reads its value into the section.
    pub read: fn(&mut S, &Node, &mut Problems),
}

/// What holds if a key is left out.
pub enum Preset {
    /// The key cannot be left out.
    Required,
    /// This value.
    Value(fn() -> Json),
    /// What these words describe; it is not the same for every file.
    Otherwise(&'static str),
}

/// A field: its key, the kind of its value and, unless that is only checked, where it goes; then
/// `required`, `default(VALUE)` or `otherwise(WORDS)`, and what it means.
macro_rules! field {
    (@preset required) => { $crate::file::section::Preset::Required };
    (@preset default($($value:tt)+)) => {
        $crate::file::section::Preset::Value(|| serde_json::json!($($value)+))
    };
    (@preset otherwise($words:literal)) => { $crate::file::section::Preset::Otherwise($words) };
    (
        $key:literal: $kind:ty $(=> $place:ident)?,
        $preset:ident $(($($value:tt)+))?,
        $about:literal
    ) => {
        $crate::file::section::Field {
            key: $key,
            about: $about,
            preset: $crate::file::section::field!(@preset $preset $(($($value)+))?),
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

impl<S> Field<S> {
    /// Returns the schema of the key's value with what it means and its default.
    fn described(&self) -> Json {
        let mut schema = match &self.preset {
            Preset::Required => json!({"description": self.about}),
            Preset::Value(value) => json!({"description": self.about, "default": value()}),
            Preset::Otherwise(words) => {
                json!({"description": format!("{} [default: {words}]", self.about)})
            }
        };
        if let (Json::Object(schema), Json::Object(kind)) = (&mut schema, (self.schema)()) {
            schema.extend(kind);
        }
        schema
    }
}

impl<S: Section> Kind for S {
    type Value = S;

    fn schema() -> Json {
        let properties: Map<String, Json> =
            S::FIELDS.iter().map(|field| (field.key.to_owned(), field.described())).collect();
        let required: Vec<_> = required::<S>().collect();
        let mut schema = match required.is_empty() {
            true => json!({"type": ["object", "null"], "properties": properties}),
            false => json!({"type": "object", "properties": properties, "required": required}),
        };
        if S::EXTENSIONS {
            schema["patternProperties"] = json!({(format!("^{EXTENSION}")): {}});
        }
        schema["additionalProperties"] = json!(false);
        schema
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
                None if S::EXTENSIONS && entry.name.starts_with(EXTENSION) => {}
                None => {
                    let advice = advice(entry.name, &keys);
                    let name = quoted(entry.name);
                    problems.report(entry.key.at, format_args!("unknown key {name}; {advice}"));
                }
            }
        }
        for key in required::<S>() {
            if !entries.iter().any(|entry| entry.name == key) {
                problems.report(node.at, format_args!("the key `{key}` is missing"));
            }
        }
        Some(section)
    }
}

fn required<S: Section>() -> impl Iterator<Item = &'static str> {
    let required = S::FIELDS.iter().filter(|field| matches!(field.preset, Preset::Required));
    required.map(|field| field.key)
}
