//! Words that do not belong in finished code: tests that do not run, sleeps, `unsafe`.
//!
//! Examples in documentation are among the tests that do not run: to build every crate once more for
//! them costs most of a minute.

use super::Violation;
use super::source::Source;

/// The files with `unsafe` blocks: skep's own one, and that of the programs in guests, which makes
/// system calls that the standard library does not have.
const UNSAFE: [&str; 3] = [
    "crates/skep-sys/src/descriptors.rs",
    "crates/qemu-checkpoint/src/filter.rs",
    "crates/skep-guest/guest/kernel.rs",
];

/// Returns the places of a file that use such a word.
pub fn check(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut report = |line, rule: String| found.push(Violation::new(&source.path, line, rule));
    for (index, token) in source.tokens.iter().enumerate() {
        match token.text.as_str() {
            "ignore" if is_in_attribute(source, index) => report(
                token.line,
                "#[ignore]: a test that cannot run here says so and returns; none is ignored"
                    .into(),
            ),
            word @ ("unsafe" | "unsafe_code") if !UNSAFE.contains(&&*source.path) => {
                report(token.line, format!("{word}: only {} may", UNSAFE.join(" and ")));
            }
            _ => {}
        }
    }
    for line in untold_examples(source) {
        report(line, "```: say what it is, such as ```text; code that runs is a test".into());
    }
    for name in &source.names {
        let sleeps = name.has("thread", &["sleep", "park_timeout"])
            || name.has("time", &["sleep", "sleep_until", "interval", "interval_at"]);
        if sleeps && name.import {
            let rule =
                format!("{}: write it out where it is used, so that it is seen", name.text());
            report(name.line, rule);
        } else if sleeps && !has_reason(source, name.line) {
            let rule = "wait for a condition, or give the reason in a comment `// wait: …`";
            report(name.line, format!("{}: {rule}", name.text()));
        }
    }
    found
}

/// Returns the lines that open a block in the documentation which would be taken for Rust.
fn untold_examples(source: &Source) -> Vec<usize> {
    let mut found = Vec::new();
    let mut open = false;
    for (index, line) in source.lines.iter().enumerate() {
        let line = line.trim_start();
        let Some(text) = line.strip_prefix("///").or(line.strip_prefix("//!")) else {
            open = false;
            continue;
        };
        if let Some(info) = text.trim().strip_prefix("```") {
            if !open && (info.is_empty() || info.starts_with("rust")) {
                found.push(index + 1);
            }
            open = !open;
        }
    }
    found
}

/// Tells whether the token is what an attribute says, alone or within `cfg_attr`.
fn is_in_attribute(source: &Source, index: usize) -> bool {
    let texts: Vec<_> =
        source.tokens[..index].iter().rev().map(|token| token.text.as_str()).collect();
    if texts.starts_with(&["[", "#"]) {
        return true;
    }
    // Back to the `#[cfg_attr(` that it may stand in, on this line or a few before.
    let line = source.tokens[index].line;
    let before = source.tokens[..index].iter().rev();
    let mut nearby = before.take_while(|token| token.line + 3 > line && token.text != "]");
    texts.first() == Some(&",") && nearby.any(|token| token.text == "cfg_attr")
}

/// Tells whether the line, or the one before it, says why it waits.
fn has_reason(source: &Source, line: usize) -> bool {
    let says = |line: usize| {
        let comment = source.lines.get(line.wrapping_sub(1)).and_then(|l| l.split_once("// wait:"));
        comment.is_some_and(|(_, reason)| !reason.trim().is_empty())
    };
    says(line) || says(line - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<String> {
        let found = check(&Source::parse(path, text).unwrap());
        found
            .into_iter()
            .map(|violation| format!("{}: {}", violation.line, violation.rule))
            .collect()
    }

    #[test]
    fn no_test_is_ignored() {
        for text in [
            "#[ignore] fn f() {}",
            "#[ignore = \"slow\"] fn f() {}",
            "#[cfg_attr(not(unix), ignore)] fn f() {}",
        ] {
            assert_eq!(rules("crates/skep/tests/e2e.rs", text).len(), 1, "{text}");
        }
        assert!(rules("a.rs", "fn f() { ignore(a, ignore) } // #[ignore]").is_empty());
    }

    #[test]
    fn a_sleep_gives_its_reason() {
        let bare = "fn f() {\n    std::thread::sleep(a);\n}";
        assert_eq!(
            rules("a.rs", bare),
            ["2: std::thread::sleep: wait for a condition, or give the reason in a comment \
              `// wait: …`"]
        );
        assert_eq!(rules("a.rs", "fn f() {\n    // wait:\n    tokio::time::sleep(a);\n}").len(), 1);
        for text in [
            "fn f() {\n    // wait: the file has no event\n    tokio::time::sleep(a);\n}",
            "fn f() { time::sleep(a) } // wait: the file has no event",
            "fn f() { tokio::time::timeout(a, b) }",
        ] {
            assert!(rules("a.rs", text).is_empty(), "{text}");
        }
        let import = "use tokio::time::{sleep, timeout}; // wait: no";
        assert_eq!(
            rules("a.rs", import),
            ["1: tokio::time::sleep: write it out where it is used, so that it is seen"]
        );
    }

    #[test]
    fn an_example_in_the_documentation_is_no_code() {
        assert!(
            rules("a.rs", "//! ```text\n//! a\n//! ```\n\n/// ```json\n/// {}\n/// ```\n")
                .is_empty()
        );
        let rule = "```: say what it is, such as ```text; code that runs is a test";
        assert_eq!(rules("a.rs", "//! A.\n//! ```\n//! f();\n//! ```\n"), [format!("2: {rule}")]);
        assert_eq!(rules("a.rs", "/// ```rust,no_run\n/// ```\nfn f() {}"), [format!("1: {rule}")]);
    }

    #[test]
    fn unsafe_has_one_place() {
        let text = "fn f() { unsafe { g() } }";
        assert_eq!(rules("crates/skep-sys/src/cmd.rs", text).len(), 1);
        assert_eq!(rules("a.rs", "#![allow(unsafe_code)]").len(), 1);
        assert!(UNSAFE.iter().all(|path| rules(path, text).is_empty()));
    }
}
