//! The functions that every template has.

use std::cmp::Ordering;
use std::fmt::Write as _;

use super::compare::{equal, order};
use super::print::{format, plain};
use super::value::Value;

/// A function of one argument.
pub type Function = fn(&Value) -> Result<Value, String>;

/// The names, with the fewest and the most arguments.
const BUILTIN: [(&str, usize, Option<usize>); 19] = [
    ("and", 1, None),
    ("or", 1, None),
    ("not", 1, Some(1)),
    ("len", 1, Some(1)),
    ("index", 1, None),
    ("slice", 1, None),
    ("print", 0, None),
    ("println", 0, None),
    ("printf", 1, None),
    ("html", 0, None),
    ("js", 0, None),
    ("urlquery", 0, None),
    ("eq", 1, None),
    ("ne", 2, Some(2)),
    ("lt", 2, Some(2)),
    ("le", 2, Some(2)),
    ("gt", 2, Some(2)),
    ("ge", 2, Some(2)),
    ("call", 1, None),
];

/// Tells whether there is such a function.
pub(super) fn is_builtin(name: &str) -> bool {
    BUILTIN.iter().any(|(other, ..)| *other == name)
}

/// Returns the fewest and the most arguments of a function.
pub(super) fn arity(name: &str) -> (usize, Option<usize>) {
    let found = BUILTIN.iter().find(|(other, ..)| *other == name);
    found.map_or((0, None), |(_, least, most)| (*least, *most))
}

/// Calls a function; the number of arguments was checked.
pub(super) fn call(name: &str, args: &[Value]) -> Result<Value, String> {
    let compared = |wanted: &[Ordering]| {
        let found = order(&args[0], &args[1])?;
        Ok(Value::Bool(found.is_some_and(|found| wanted.contains(&found))))
    };
    match name {
        "not" => Ok(Value::Bool(!args[0].truth())),
        "len" => len(&args[0]),
        "index" => index(&args[0], &args[1..]),
        "slice" => slice(&args[0], &args[1..]),
        "print" => Ok(Value::Text(spaced(args))),
        "println" => Ok(Value::Text(args.iter().map(plain).collect::<Vec<_>>().join(" ") + "\n")),
        "printf" => match &args[0] {
            Value::Text(pattern) => Ok(Value::Text(format(pattern, &args[1..]))),
            other => Err(format!("expected string; found {}", plain(other))),
        },
        "html" => Ok(Value::Text(html(&spaced(args)))),
        "js" => Ok(Value::Text(js(&spaced(args)))),
        "urlquery" => Ok(Value::Text(urlquery(&spaced(args)))),
        "eq" => Ok(Value::Bool(equal(args)?)),
        "ne" => Ok(Value::Bool(!equal(args)?)),
        "lt" => compared(&[Ordering::Less]),
        "le" => compared(&[Ordering::Less, Ordering::Equal]),
        "gt" => compared(&[Ordering::Greater]),
        "ge" => compared(&[Ordering::Greater, Ordering::Equal]),
        "call" => match &args[0] {
            Value::Missing | Value::Null => Err("call of nil".to_owned()),
            other => Err(format!("non-function of type {}", other.type_name())),
        },
        _ => Err("no such function".to_owned()),
    }
}

fn len(value: &Value) -> Result<Value, String> {
    let count = match value {
        Value::Text(text) => text.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        Value::TextMap(map) => map.len(),
        Value::Missing | Value::Null => return Err("len of untyped nil".to_owned()),
        Value::NullPointer(_) => return Err("len of nil pointer".to_owned()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(i64::try_from(count).unwrap_or(i64::MAX)))
}

fn index(value: &Value, keys: &[Value]) -> Result<Value, String> {
    let mut value = value.clone();
    for key in keys {
        value = match (&value, key) {
            (Value::Missing | Value::Null, _) => return Err("index of untyped nil".to_owned()),
            (Value::NullPointer(_), _) => return Err("index of nil pointer".to_owned()),
            (Value::List(list), key) => list[position(key, list.len(), false)?].clone(),
            (Value::Text(text), key) => {
                Value::Int(i64::from(text.as_bytes()[position(key, text.len(), false)?]))
            }
            (Value::Map(map), Value::Text(key)) => map.get(key).cloned().unwrap_or(Value::Null),
            (Value::TextMap(map), Value::Text(key)) => {
                Value::Text(map.get(key).cloned().unwrap_or_default())
            }
            (Value::Map(_) | Value::TextMap(_), key) => {
                return Err(format!("value has type {}; should be string", key.type_name()));
            }
            (other, _) => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

/// Returns a key as a place in a list; one past the end only if `past` allows it.
fn position(key: &Value, count: usize, past: bool) -> Result<usize, String> {
    let number = match key {
        Value::Int(number) | Value::Word(_, number, _) => *number,
        Value::Missing | Value::Null => {
            return Err("cannot index slice/array with nil".to_owned());
        }
        other => {
            return Err(format!("cannot index slice/array with type {}", other.type_name()));
        }
    };
    let place = usize::try_from(number).ok();
    let fits = place.filter(|place| *place < count || (past && *place == count));
    fits.ok_or_else(|| format!("index out of range: {number}"))
}

fn slice(value: &Value, keys: &[Value]) -> Result<Value, String> {
    if keys.len() > 3 {
        return Err(format!("too many slice indexes: {}", keys.len()));
    }
    let count = match value {
        Value::Text(_) if keys.len() == 3 => {
            return Err("cannot 3-index slice a string".to_owned());
        }
        Value::Text(text) => text.len(),
        Value::List(list) => list.len(),
        Value::Missing | Value::Null => return Err("slice of untyped nil".to_owned()),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let mut places = [0, count];
    for (place, key) in places.iter_mut().zip(keys) {
        *place = position(key, count, true)?;
    }
    let [from, to] = places;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match value {
        Value::Text(text) => {
            Value::Text(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned())
        }
        Value::List(list) => Value::list(list[from..to].to_vec()),
        _ => Value::Missing,
    })
}

/// Puts a blank between two values of which neither is text, as fmt.Sprint does.
fn spaced(args: &[Value]) -> String {
    let mut out = String::new();
    let mut before_is_text = true;
    for value in args {
        let is_text = matches!(value, Value::Text(_));
        if !before_is_text && !is_text {
            out.push(' ');
        }
        out.push_str(&plain(value));
        before_is_text = is_text;
    }
    out
}

fn html(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            other => out.push(other),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04X}", u32::from(letter));
            }
            other => out.push(other),
        }
    }
    out
}

fn urlquery(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}
