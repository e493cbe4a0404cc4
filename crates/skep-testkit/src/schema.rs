//! JSON documents against the schemas in docs/schemas.

use std::path::PathBuf;

use boon::{Compiler, Schemas};
use serde_json::Value;

/// Returns where the schemas are.
#[must_use]
pub fn dir() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schemas"))
}

/// Checks what a command printed against the schema of that name, by which a key that the schema does not describe
/// is a fault; other readers ignore it.
///
/// # Panics
///
/// If the schema does not fit, cannot be read, or the text is no JSON.
pub fn assert_described(name: &str, text: &str) -> Value {
    let document: Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
    let path = dir().join(format!("{name}.json"));
    let schema = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let schema = serde_json::from_slice(&schema)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_fits(strict(schema), &document);
    document
}

/// Checks a document against a schema.
///
/// # Panics
///
/// If it does not fit, or the schema is none.
pub fn assert_fits(schema: Value, document: &Value) {
    let id = schema["$id"].as_str().expect("a schema has an $id").to_owned();
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource(&id, schema).unwrap_or_else(|error| panic!("{id}: {error:#}"));
    let index = compiler.compile(&id, &mut schemas);
    let index = index.unwrap_or_else(|error| panic!("{id}: {error:#}"));
    if let Err(error) = schemas.validate(document, index) {
        panic!("{id}: {error:#}\n{document:#}");
    }
}

/// Lets a schema refuse keys that it does not describe.
fn strict(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(keys) => {
            for value in keys.values_mut() {
                *value = strict(value.take());
            }
            if keys.get("properties").is_some_and(Value::is_object) && keys.contains_key("type") {
                keys.entry("additionalProperties").or_insert(Value::Bool(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = strict(item.take())),
        _ => {}
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"format": 1, "stacks": [{"name": "a", "services": 1, "converged": 1}]}"#;

    #[test]
    fn what_fits_is_let_through() {
        assert_eq!(assert_described("stack-ls", GOOD)["format"], 1);
    }

    #[test]
    #[should_panic(expected = "additionalProperties")]
    fn a_key_that_is_not_described_is_a_fault() {
        assert_described("stack-ls", &GOOD.replace("\"name\"", "\"more\": 1, \"name\""));
    }

    #[test]
    #[should_panic(expected = "missing properties")]
    fn a_key_that_is_missing_is_a_fault() {
        assert_described("stack-ls", &GOOD.replace(", \"converged\": 1", ""));
    }

    #[test]
    #[should_panic(expected = "format")]
    fn another_version_is_a_fault() {
        assert_described("stack-ls", &GOOD.replace("\"format\": 1", "\"format\": 2"));
    }
}
