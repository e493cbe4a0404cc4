//! Variables of compose files that nobody has set. The docker command puts nothing in their place, without a word.

use std::collections::BTreeSet;

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

/// Returns the names in `$NAME` and `${NAME}`; `$$` is a dollar, and what has a rule such as `:-` is taken care of.
fn names(line: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let (braced, word) = match rest.strip_prefix('{') {
            Some(word) => (true, word),
            None => (false, rest),
        };
        let end = word.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, after) = word.split_at(end.unwrap_or(word.len()));
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if is_name && (!braced || after.starts_with('}')) {
            names.push(name);
        }
        rest = after;
    }
    names
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
