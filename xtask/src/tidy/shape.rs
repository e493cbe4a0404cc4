//! The shape of a file: what it begins with and how long it is.

use super::Violation;
use super::source::Source;

/// The most lines of a file, its tests not counted.
const CEILING: usize = 500;

/// Returns what is wrong with the shape of a file.
pub fn check(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    let first =
        source.lines.iter().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        found.push(Violation::new(&source.path, 1, "a file begins with `//!` and its purpose"));
    }
    let lines = if source.is_test_file() { source.lines.len() } else { source.code_lines() };
    if lines > CEILING {
        let rule =
            format!("{lines} lines without tests are over the ceiling of {CEILING}; part it");
        found.push(Violation::new(&source.path, CEILING + 1, rule));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Vec<String> {
        let found = check(&Source::parse("crates/skep/src/a.rs", text).unwrap());
        found.into_iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn a_file_says_what_it_is_for() {
        assert!(rules("//! Links.\nfn f() {}").is_empty());
        assert!(rules("#![forbid(unsafe_code)]\n\n//! Links.\n").is_empty());
        let rule = "a file begins with `//!` and its purpose";
        assert_eq!(rules("fn f() {}"), [rule]);
        assert_eq!(rules("// Links.\n//! Late.\n"), [rule]);
        assert_eq!(rules(""), [rule]);
    }

    #[test]
    fn a_file_has_a_ceiling_that_tests_do_not_count_against() {
        let long = |lines| format!("//! Long.\n{}", "fn f() {}\n".repeat(lines));
        assert!(rules(&long(CEILING - 1)).is_empty());
        assert_eq!(rules(&long(CEILING)).len(), 1);
        let with_tests = format!(
            "{}#[cfg(test)]\nmod tests {{\n{}}}\n",
            long(CEILING - 1),
            "fn g() {}\n".repeat(CEILING)
        );
        assert!(rules(&with_tests).is_empty());
    }
}
