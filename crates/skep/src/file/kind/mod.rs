//! What may stand in a cluster file: how it is read, and how an editor is told of it.
//!
//! Each [`Kind`] does both, so that the parser and the schema cannot disagree.

mod collection;
mod name;
mod number;
mod text;

pub use collection::{ListOf, MapOf, OneOrMore, entries};
pub use name::Driver;
pub use number::{Flag, SizeFrom, Version, Whole};
pub use text::{
    AptLine, FilePath, ImageName, LabelKey, LabelValue, RegistryName, Time, Url, User, Word,
};

use serde_json::Value as Json;

use super::problem::{Problems, quoted, shortened};
use super::tree::{Node, Scalar, Value};

/// What may stand somewhere in a cluster file.
pub trait Kind {
    /// What it is read into.
    type Value;

    /// Returns the JSON Schema of it.
    fn schema() -> Json;

    /// Reads it, or reports why not.
    fn read(node: &Node, problems: &mut Problems) -> Option<Self::Value>;
}

/// What a scalar is by YAML's core schema (YAML 1.2.2, 10.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resolved {
    Null,
    Bool,
    Number,
    Text,
}

fn resolve(scalar: &Scalar) -> Resolved {
    if !scalar.plain {
        return Resolved::Text;
    }
    match scalar.text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => return Resolved::Bool,
        _ => {}
    }
    let unsigned = scalar.text.strip_prefix(['-', '+']).unwrap_or(&scalar.text);
    let special = ["inf", "Inf", "INF", "nan", "NaN", "NAN"];
    let based = |prefix, base| {
        let digits = unsigned.strip_prefix(prefix);
        digits.is_some_and(|digits: &str| digits.chars().all(|c| c.is_digit(base)))
    };
    let decimal = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.parse::<f64>().is_ok();
    let special = unsigned.strip_prefix('.').is_some_and(|word| special.contains(&word));
    match decimal || special || based("0x", 16) || based("0o", 8) {
        true => Resolved::Number,
        false => Resolved::Text,
    }
}

/// Returns the scalar of a node if it is of the kind.
fn scalar(node: &Node, kind: Resolved) -> Option<&str> {
    match &node.value {
        Value::Scalar(scalar) if resolve(scalar) == kind => Some(&scalar.text),
        _ => None,
    }
}

/// Returns the text of a node, or reports that it is something else.
pub fn text<'a>(node: &'a Node, expected: &str, problems: &mut Problems) -> Option<&'a str> {
    let text = scalar(node, Resolved::Text);
    if text.is_none() {
        let written = scalar(node, Resolved::Number).or(scalar(node, Resolved::Bool));
        match written {
            Some(written) => {
                let found = describe(node);
                let message =
                    format_args!("expected {expected}, found {found}; write \"{written}\"");
                problems.report(node.at, message);
            }
            None => report_other(node, expected, problems),
        }
    }
    text
}

/// Returns whether a node says nothing: `null`, or a key without a value.
pub fn is_null(node: &Node) -> bool {
    scalar(node, Resolved::Null).is_some()
}

/// Reports that a node is not what is expected there.
fn report_other(node: &Node, expected: &str, problems: &mut Problems) {
    problems.report(node.at, format_args!("expected {expected}, found {}", describe(node)));
}

fn describe(node: &Node) -> String {
    let scalar = match &node.value {
        Value::List(_) => return "a list".to_owned(),
        Value::Map(_) => return "a map".to_owned(),
        Value::Scalar(scalar) => scalar,
    };
    let text = quoted(&scalar.text);
    match resolve(scalar) {
        Resolved::Null => "nothing".to_owned(),
        Resolved::Bool => text,
        Resolved::Number => format!("the number {text}"),
        Resolved::Text if scalar.plain => format!("the text {text}"),
        Resolved::Text => format!("the text \"{}\"", shortened(&scalar.text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_what_yaml_says() {
        let resolved = |text: &str| resolve(&Scalar { text: text.to_owned(), plain: true });
        for number in ["0", "-1", "+2.5", "1e3", ".5", "0x1F", "0o17", ".inf", "-.INF", ".nan"] {
            assert_eq!(resolved(number), Resolved::Number, "{number}");
        }
        for text in ["yes", "inf", "nan", "infinity", "1GiB", "0xyz", "10.0.0.0/24", ".", "-"] {
            assert_eq!(resolved(text), Resolved::Text, "{text}");
        }
        assert_eq!(resolved("~"), Resolved::Null);
        assert_eq!(resolved("False"), Resolved::Bool);
        let quoted = Scalar { text: "true".to_owned(), plain: false };
        assert_eq!(resolve(&quoted), Resolved::Text);
    }
}
