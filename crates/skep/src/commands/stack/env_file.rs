//! Files of variables, as Compose's users know them. The docker command reads none for a stack, so they
//! are read here. A crate would be welcome; those that there are refuse values with blanks, which these
//! files have everywhere.

use std::collections::BTreeMap;
use std::path::Path;

use super::interpolation::{Part, parts, split_name};
use crate::error::CliError;

/// Reads files of variables; later ones go before earlier ones, and the environment before all.
///
/// # Errors
///
/// If one cannot be read, or has a line that is none.
pub(super) fn read(
    files: &[impl AsRef<Path>],
    environment: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, CliError> {
    let mut all = BTreeMap::new();
    for path in files {
        let path = path.as_ref();
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| CliError::usage(format!("cannot read {name}: {error}")))?;
        // Editors of another system put a byte order mark first.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        for (number, line) in text.lines().enumerate() {
            let known = |key: &str| environment(key).or_else(|| all.get(key).cloned());
            let entry = entry(line, known)
                .map_err(|what| CliError::usage(format!("{name}:{}: {what}", number + 1)))?;
            all.extend(entry);
        }
    }
    all.retain(|key, _| environment(key).is_none());
    Ok(all)
}

type Entry = Option<(String, String)>;

fn entry(line: &str, known: impl Fn(&str) -> Option<String>) -> Result<Entry, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (key, value) =
        line.split_once('=').ok_or_else(|| "write KEY=VALUE, or # and a comment".to_owned())?;
    let key = key.trim();
    let first = key.chars().next();
    let named = first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if !named {
        return Err(format!("`{key}` is not a variable name"));
    }
    Ok(Some((key.to_owned(), read_value(value, &known)?)))
}

fn read_value(text: &str, known: &impl Fn(&str) -> Option<String>) -> Result<String, String> {
    // A comment begins behind a blank, which may be the value's first character.
    let comment = text
        .char_indices()
        .zip(text.chars().skip(1))
        .find_map(|((at, letter), next)| (letter.is_whitespace() && next == '#').then_some(at));
    let unquoted = text[..comment.unwrap_or(text.len())].trim();
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('\'') {
        let (value, rest) = rest.split_once('\'').ok_or("a quote is not closed")?;
        return nothing_after(rest).map(|()| value.to_owned());
    }
    if let Some(rest) = text.strip_prefix('"') {
        let end = end_of_quoted(rest).ok_or("a quote is not closed")?;
        nothing_after(&rest[end + 1..])?;
        return expand(&unescaped(&rest[..end]), known);
    }
    expand(unquoted, known)
}

fn nothing_after(rest: &str) -> Result<(), String> {
    let rest = rest.trim_start();
    match rest.is_empty() || rest.starts_with('#') {
        true => Ok(()),
        false => Err(format!("`{rest}` stands after the quotes")),
    }
}

fn end_of_quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, letter)| {
        let ends = letter == '"' && !escaped;
        escaped = letter == '\\' && !escaped;
        ends.then_some(at)
    })
}

fn unescaped(text: &str) -> String {
    let mut value = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('n') => value.push('\n'),
                Some('r') => value.push('\r'),
                Some('t') => value.push('\t'),
                // Kept for the expansion, which must not see it as the start of a variable.
                Some('$') => value.push_str("$$"),
                Some(other) => value.push(other),
                None => value.push('\\'),
            },
            other => value.push(other),
        }
    }
    value
}

/// Puts values in the place of `$NAME` and `${NAME}`, the latter with `:-DEFAULT`, `:?MESSAGE` or `:+INSTEAD`, where
/// without the colon an empty value counts as one; `$$` is a dollar.
fn expand(text: &str, known: &impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut value = String::new();
    for part in parts(text) {
        match part {
            Part::Text(text) => value.push_str(text),
            Part::Named(name) => value.push_str(&known(name).unwrap_or_default()),
            Part::Braced(inside) => value.push_str(&braced_value(inside, known)?),
            Part::Unclosed => return Err("`${` is not closed".to_owned()),
        }
    }
    Ok(value)
}

/// Returns what stands for `${inside}`.
fn braced_value(inside: &str, known: &impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let (name, rule) = split_name(inside);
    let (wants_some, rule) = match rule.strip_prefix(':') {
        Some(rule) => (true, rule),
        None => (false, rule),
    };
    let found = known(name).filter(|value| !wants_some || !value.is_empty());
    let Some(kind) = rule.chars().next() else { return Ok(found.unwrap_or_default()) };
    let word = &rule[kind.len_utf8()..];
    match (kind, found) {
        ('-', found) => Ok(found.unwrap_or_else(|| word.to_owned())),
        ('+', found) => Ok(found.map(|_| word.to_owned()).unwrap_or_default()),
        ('?', Some(value)) => Ok(value),
        ('?', None) => Err(format!("variable {name} is not set: {word}")),
        _ => Err(format!("`${{{inside}}}` is not understood")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let environment = |key: &str| (key == "FROM_OUTSIDE").then(|| "outside".to_owned());
        read(&[file.path()], environment)
            .map_err(|error| error.message.replace(&file.path().display().to_string(), "FILE"))
    }

    #[test]
    fn values_are_what_compose_takes_them_for() {
        let text = "\
# a comment
A=1
export B = two words # not this
C='$A # all of it'
D=\"a \\\"b\\\"\\n\\$A $A\"
E=${A}-${NONE:-x}${NONE-y}$NONE.$$
F=a#b
G=
FROM_OUTSIDE=inside
H=$FROM_OUTSIDE
I= # none
J=\t# none
K=${A:?wanted}${A:+set}${G+empty}${G:+not}${NONE+not}
";
        let found = parse(&format!("\u{feff}{text}")).unwrap();
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "$A # all of it"),
            ("D", "a \"b\"\n$A 1"),
            ("E", "1-xy.$"),
            ("F", "a#b"),
            ("G", ""),
            ("H", "outside"),
            ("I", ""),
            ("J", ""),
            ("K", "1setempty"),
        ];
        let expected: BTreeMap<_, _> =
            expected.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        assert_eq!(parse("A=1\nB\n").unwrap_err(), "FILE:2: write KEY=VALUE, or # and a comment");
        assert_eq!(parse("1A=1").unwrap_err(), "FILE:1: `1A` is not a variable name");
        assert_eq!(parse("A=\"x").unwrap_err(), "FILE:1: a quote is not closed");
        let wanted = "FILE:2: variable NOPE is not set: say it";
        assert_eq!(parse("A=1\nB=${NOPE:?say it}").unwrap_err(), wanted);
        assert_eq!(parse("A='x' y").unwrap_err(), "FILE:1: `y` stands after the quotes");
    }
}
