//! A test that a document names as its proof exists.
//!
//! Documents write `FILE.rs::TEST`, where FILE is the end of a path in this repository.

use super::Violation;

/// Returns the tests that a document names and that no file has. `files` are paths, each with its text.
pub fn check(path: &str, text: &str, files: &[(String, String)]) -> Vec<Violation> {
    if !path.ends_with(".md") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (file, test) in line.split('`').skip(1).step_by(2).filter_map(named) {
            let is_file = |at: &str| at == file || at.ends_with(&format!("/{file}"));
            let declared = format!("fn {test}(");
            if !files.iter().any(|(at, text)| is_file(at) && text.contains(&declared)) {
                let rule = format!("{file} has no test {test}");
                found.push(Violation::new(path, index + 1, rule));
            }
        }
    }
    found
}

fn named(code: &str) -> Option<(&str, &str)> {
    let (file, test) = code.split_once("::")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (file.ends_with(".rs") && !test.is_empty() && test.chars().all(is_name)).then_some((file, test))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_test_is_there() {
        let files = [(
            "crates/skep/tests/ports.rs".to_owned(),
            "#[tokio::test]\nasync fn a_port_is_free() {}".to_owned(),
        )];
        let rules = |line: &str| -> Vec<String> {
            check("docs/x.md", line, &files).into_iter().map(|it| it.rule).collect()
        };
        for fine in [
            "`ports.rs::a_port_is_free`, and `tests/ports.rs::a_port_is_free`",
            "`std::fs` and `skep_sys` are no files",
        ] {
            assert_eq!(rules(fine), [""; 0], "{fine}");
        }
        for (line, rule) in [
            ("`ports.rs::a_port`", "ports.rs has no test a_port"),
            ("| x | `other.rs::a_port_is_free` |", "other.rs has no test a_port_is_free"),
        ] {
            assert_eq!(rules(line), [rule]);
        }
        assert_eq!(check("src/x.rs", "`ports.rs::gone`", &files), []);
    }
}
