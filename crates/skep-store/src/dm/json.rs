//! JSON as Go writes it, so that a file and what is printed of it are the same, byte for byte.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// Returns JSON indented by four blanks, without a newline at the end.
#[must_use]
pub fn indented(value: &Value) -> String {
    written(value, PrettyFormatter::with_indent(b"    "))
}

/// Returns JSON without any white space.
#[must_use]
pub fn compact(value: &Value) -> String {
    written(value, CompactFormatter)
}

fn written(value: &Value, inner: impl Formatter) -> String {
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, Go(inner));
    value.serialize(&mut serializer).expect("a value has only text keys");
    String::from_utf8_lossy(&text).into_owned()
}

/// Escapes what Go's encoding/json escapes, and writes numbers as it does.
struct Go<F>(F);

macro_rules! hand_on {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        $(fn $name<W: ?Sized + Write>(&mut self, writer: &mut W, $($arg: $type),*) -> io::Result<()> {
            self.0.$name(writer, $($arg),*)
        })*
    };
}

impl<F: Formatter> Formatter for Go<F> {
    hand_on! {
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object();
        end_object();
        begin_object_key(first: bool);
        begin_object_value();
        end_object_value();
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        let special = |c: char| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
        while let Some(at) = rest.find(special) {
            writer.write_all(&rest.as_bytes()[..at])?;
            let letter = rest[at..].chars().next().unwrap_or_default();
            write!(writer, "\\u{:04x}", u32::from(letter))?;
            rest = &rest[at + letter.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        match escape {
            CharEscape::Backspace => writer.write_all(b"\\u0008"),
            CharEscape::FormFeed => writer.write_all(b"\\u000c"),
            other => self.0.write_char_escape(writer, other),
        }
    }

    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let size = value.abs();
        if size != 0.0 && !(1e-6..1e21).contains(&size) {
            let text = format!("{value:e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let sign = if exponent.starts_with('-') { '-' } else { '+' };
            return write!(writer, "{digits}e{sign}{}", exponent.trim_start_matches('-'));
        }
        write!(writer, "{value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_go_escapes_is_escaped() {
        let value = json!({"a<b": "x&y\u{2028}\u{8}\"\n"});
        assert_eq!(compact(&value), r#"{"a\u003cb":"x\u0026y\u2028\u0008\"\n"}"#);
    }

    #[test]
    fn numbers_are_written_as_go_does() {
        let value = json!([1, 1.5, 2376.0, 1e6, 1e21, 1e-7, 123_456_789.0]);
        assert_eq!(compact(&value), "[1,1.5,2376,1000000,1e+21,1e-7,123456789]");
        assert_eq!(indented(&json!({"a": [], "b": {}})), "{\n    \"a\": [],\n    \"b\": {}\n}");
    }
}
