//! `eq`, `ne`, `lt` and the like. Only what is of one kind can be compared.

use std::cmp::Ordering;

use super::value::Value;

const BAD_TYPE: &str = "invalid type for comparison";
const BAD_PAIR: &str = "incompatible types for comparison";

/// Returns whether the first equals one of the others.
pub(super) fn equal(args: &[Value]) -> Result<bool, String> {
    let Some((first, others)) = args.split_first() else { return Err(missing()) };
    if others.is_empty() {
        return Err(missing());
    }
    for other in others {
        if pair(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn missing() -> String {
    "missing argument for comparison".to_owned()
}

fn pair(a: &Value, b: &Value) -> Result<bool, String> {
    let empty =
        |value: &Value| matches!(value, Value::Missing | Value::Null | Value::NullPointer(_));
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Int(a) | Value::Word(_, a, _), Value::Int(b) | Value::Word(_, b, _)) => Ok(a == b),
        #[allow(clippy::float_cmp)] // The language compares floats just so.
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::Text(a), Value::Text(b)) => Ok(a == b),
        (a, b) if empty(a) || empty(b) => Ok(empty(a) && empty(b)),
        (Value::List(_) | Value::Map(_) | Value::TextMap(_) | Value::Struct(_), _)
        | (_, Value::List(_) | Value::Map(_) | Value::TextMap(_) | Value::Struct(_)) => {
            Err(format!("uncomparable type {}: {}", a.type_name(), super::print::plain(a)))
        }
        _ => Err(BAD_PAIR.to_owned()),
    }
}

/// Returns the order of two values.
pub(super) fn order(a: &Value, b: &Value) -> Result<Option<Ordering>, String> {
    match (a, b) {
        (Value::Int(a) | Value::Word(_, a, _), Value::Int(b) | Value::Word(_, b, _)) => {
            Ok(Some(a.cmp(b)))
        }
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b)),
        (Value::Text(a), Value::Text(b)) => Ok(Some(a.cmp(b))),
        (Value::Bool(_), _) | (_, Value::Bool(_)) => Err(BAD_TYPE.to_owned()),
        (
            Value::Int(_) | Value::Word(..) | Value::Float(_) | Value::Text(_),
            Value::Int(_) | Value::Word(..) | Value::Float(_) | Value::Text(_),
        ) => Err(BAD_PAIR.to_owned()),
        _ => Err(BAD_TYPE.to_owned()),
    }
}
