//! Where variables stand in a text, as the docker command and Compose have them.

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// Text that stays; `$$` is the text `$`.
    Text(&'a str),
    /// `$NAME`. The name has letters, digits and underscores.
    Named(&'a str),
    /// What is between the braces of `${…}`.
    Braced(&'a str),
    /// A `${` without its end.
    Unclosed,
}

/// Returns a text in its parts.
pub(super) fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        parts.push(Part::Text(&rest[..at]));
        let behind = &rest[at + 1..];
        if let Some(inside) = behind.strip_prefix('{') {
            let (part, after) = match inside.split_once('}') {
                Some((inside, after)) => (Part::Braced(inside), after),
                None => (Part::Unclosed, inside),
            };
            parts.push(part);
            rest = after;
        } else if let Some(after) = behind.strip_prefix('$') {
            parts.push(Part::Text("$"));
            rest = after;
        } else {
            let (name, after) = split_name(behind);
            parts.push(if name.is_empty() { Part::Text("$") } else { Part::Named(name) });
            rest = after;
        }
    }
    parts.push(Part::Text(rest));
    parts
}

/// Takes the letters, digits and underscores at the beginning of a text from the rest.
pub(super) fn split_name(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    text.split_at(end.unwrap_or(text.len()))
}
