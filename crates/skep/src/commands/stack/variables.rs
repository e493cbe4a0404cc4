//! Variables of compose files that nobody has set. The docker command puts nothing in their place, without a word.

use std::collections::BTreeSet;

use super::interpolation::{Part, parts, split_name};

/// Returns the variables of a compose file that have no default, and of which `is_set` knows nothing.
pub(super) fn unset(text: &str, is_set: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let names = text.lines().flat_map(|line| names(without_comment(line)));
    names.filter(|name| !is_set(name)).map(str::to_owned).collect()
}

/// Leaves out the comment of a line of YAML. A number sign in quotes behind a blank is taken for one: a warning
/// less is no harm.
fn without_comment(line: &str) -> &str {
    match line.trim_start().starts_with('#') {
        true => "",
        false => line.split(" #").next().unwrap_or(line),
    }
}

/// Returns the names in `$NAME` and `${NAME}`; what has a rule such as `:-` is taken care of.
fn names(line: &str) -> impl Iterator<Item = &str> {
    parts(line).into_iter().filter_map(|part| match part {
        Part::Named(name) | Part::Braced(name) => Some(name).filter(|name| is_name(name)),
        Part::Text(_) | Part::Unclosed => None,
    })
}

fn is_name(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && split_name(text).1.is_empty()
}

#[cfg(test)]
mod tests {
    use super::unset;

    #[test]
    fn variables_without_a_value_or_a_default_are_found() {
        let text = "\
# $COMMENT
services:
  web:
    image: ${IMAGE}:$TAG # $REMARK
    environment: {A: \"$$PLAIN ${WITH:-x} ${HAS-y} ${MUST:?z}\", B: '${NOT_SET}', C: $SET, D: $1}
";
        let found = unset(text, |name| name == "SET");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["IMAGE", "NOT_SET", "TAG"]);
    }
}
