//! Keys of records that this skep does not know: those of a newer one, or of somebody else.
//!
//! A file of skep's own format with such a key is refused as one of a newer format is: who does not know what it
//! means could act against it. In docker-machine's format, which other programs write too, they stay as they are.
//! Neither way are they lost when the file is written again.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use skep_sys::FileError;

/// Parses a file of skep's own that has no number of a format, or whose number was looked at: a key that this skep does
/// not know is refused, however deep it is.
///
/// # Errors
///
/// If the file is damaged, or has such a key.
pub fn parse_known<T: DeserializeOwned + Serialize>(
    path: &Path,
    text: &[u8],
) -> Result<T, FileError> {
    let damaged = |error: serde_json::Error| FileError::new("read", path, error.into());
    let value: Value = serde_json::from_slice(text).map_err(damaged)?;
    let parsed: T = serde_json::from_value(value.clone()).map_err(damaged)?;
    check_known(path, &value, &parsed)?;
    Ok(parsed)
}

/// Refuses what was read if it has a key that is not in what this skep makes of it.
///
/// # Errors
///
/// If there is one.
pub fn check_known(path: &Path, read: &Value, parsed: &impl Serialize) -> Result<(), FileError> {
    let known = serde_json::to_value(parsed).expect("a record has only text keys");
    let Some(key) = find(read, &known) else { return Ok(()) };
    let told = format!(
        "this skep does not know its key {key}; use the skep that wrote it, or a newer one"
    );
    Err(FileError::new("read", path, io::Error::other(told)))
}

/// Returns the place of a key that is in what was read and not in what this skep makes of it. What is empty is not
/// written by every version.
pub(super) fn find(read: &Value, known: &Value) -> Option<String> {
    match (read, known) {
        (Value::Object(read), Value::Object(known)) => {
            read.iter().find_map(|(key, value)| match known.get(key) {
                Some(known) => find(value, known).map(|inner| format!("{key}.{inner}")),
                None => (!is_empty(value)).then(|| key.clone()),
            })
        }
        (Value::Array(read), Value::Array(known)) => {
            read.iter().zip(known).enumerate().find_map(|(index, (read, known))| {
                find(read, known).map(|inner| format!("{index}.{inner}"))
            })
        }
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// Adds to what is going to be written the keys of what is there that this skep does not know; `known` is what it makes
/// of what is there.
pub(super) fn keep(present: &Value, known: &Value, new: &mut Map<String, Value>) {
    let none = Map::new();
    let known_keys = known.as_object().unwrap_or(&none);
    for (key, value) in present.as_object().into_iter().flatten() {
        match (known_keys.get(key), new.get_mut(key)) {
            (known, Some(Value::Object(new))) => keep(value, known.unwrap_or(&Value::Null), new),
            (None, None) => {
                new.insert(key.clone(), value.clone());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_is_found_wherever_it_is() {
        let known = json!({"a": 1, "list": [{"b": 1}], "map": {}});
        assert_eq!(find(&known, &known), None);
        assert_eq!(find(&json!({"a": 2, "empty": [], "none": null, "no": false}), &known), None);
        assert_eq!(find(&json!({"c": 1}), &known).as_deref(), Some("c"));
        let deep = json!({"a": 1, "list": [{"b": 1, "c": {"d": 1}}]});
        assert_eq!(find(&deep, &known).as_deref(), Some("list.0.c"));
    }

    #[test]
    fn what_is_not_known_stays_and_what_is_given_up_goes() {
        let present = json!({"a": 1, "own": 2, "in": {"b": 1, "own": [3]}, "gone": 4});
        let known = json!({"a": 1, "in": {"b": 1}, "gone": 4});
        let mut new = json!({"a": 5, "in": {"b": 6}});
        keep(&present, &known, new.as_object_mut().unwrap());
        assert_eq!(new, json!({"a": 5, "own": 2, "in": {"b": 6, "own": [3]}}));
    }
}
