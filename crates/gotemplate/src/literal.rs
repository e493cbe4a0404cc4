//! Constants: numbers, characters and text.

use super::lex::{Kind, Token};
use super::value::Value;

/// Returns the value of a constant.
///
/// # Errors
///
/// If it is none; with Go's words for it.
pub(super) fn constant(token: &Token) -> Result<Value, String> {
    match token.kind {
        Kind::Bool => Ok(Value::Bool(token.text == "true")),
        Kind::Number => number(&token.text),
        Kind::Char => character(&token.text),
        _ => Ok(Value::Text(text(token)?)),
    }
}

/// Returns the text between quotes or backquotes.
///
/// # Errors
///
/// If an escape is unknown.
pub(super) fn text(token: &Token) -> Result<String, String> {
    let inner = &token.text[1..token.text.len() - 1];
    if token.kind == Kind::Raw {
        return Ok(inner.to_owned());
    }
    unescape(inner).ok_or_else(|| "invalid syntax".to_owned())
}

fn number(written: &str) -> Result<Value, String> {
    let text = written.replace('_', "");
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(&text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, plain) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] if lower.bytes().all(|digit| digit.is_ascii_digit()) => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if let Ok(number) = i64::from_str_radix(&format!("{sign}{plain}"), base) {
        return Ok(Value::Int(number));
    }
    match text.parse::<f64>() {
        Ok(number) if base == 10 && text.contains(['.', 'e', 'E']) => Ok(Value::Float(number)),
        _ => Err(format!("bad number syntax: {written:?}")),
    }
}

fn character(written: &str) -> Result<Value, String> {
    let inner = written.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    let letters: Option<Vec<char>> = inner.and_then(unescape).map(|text| text.chars().collect());
    match letters.as_deref() {
        Some([letter]) => Ok(Value::Int(i64::from(u32::from(*letter)))),
        _ => Err(format!("malformed character constant: {written}")),
    }
}

/// Resolves the escapes of a Go string.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        let kind = letters.next()?;
        let mut code = |count: usize, base: u32, first: Option<char>| {
            let digits: String = first.into_iter().chain(letters.by_ref().take(count)).collect();
            char::from_u32(u32::from_str_radix(&digits, base).ok()?)
        };
        out.push(match kind {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\\' | '"' | '\'' => kind,
            'x' => code(2, 16, None)?,
            'u' => code(4, 16, None)?,
            'U' => code(8, 16, None)?,
            '0'..='7' => code(2, 8, Some(kind))?,
            _ => return None,
        });
    }
    Some(out)
}
