//! The rules of the repository, checked.
//!
//! Each rule is a function from a file's text to the places that break it, so each is tested on
//! snippets. [`check`] only finds the files and hands them round.

mod manifest;
mod named_tests;
mod purity;
mod shape;
mod source;
mod text;
mod words;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use source::Source;

/// The crates that touch the machine, and know neither command line nor terminal.
const HOST: [&str; 8] = [
    "qemu-checkpoint",
    "skep-docker",
    "skep-driver",
    "skep-guest",
    "skep-net",
    "skep-ops",
    "skep-store",
    "skep-sys",
];

/// A place that breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The file, relative to the repository.
    pub path: String,
    /// The line, counted from one.
    pub line: usize,
    /// What is wrong, and the rule.
    pub rule: String,
}

impl Violation {
    fn new(path: &str, line: usize, rule: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, rule: rule.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

/// What the checks found.
#[derive(Debug, Default)]
pub struct Report {
    /// The places that break a rule, by file and line.
    pub violations: Vec<Violation>,
    files: usize,
    /// Lines of each Rust file, without its tests.
    lengths: Vec<(usize, String)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.violations.len() {
            0 => write!(f, "{} files in order", self.files)?,
            1 => write!(f, "1 violation in {} files", self.files)?,
            count => write!(f, "{count} violations in {} files", self.files)?,
        }
        if let Some((longest, path)) = self.lengths.last() {
            let median = self.lengths[self.lengths.len() / 2].0;
            write!(f, "; lines of a Rust file: median {median}, most {longest} ({path})")?;
        }
        Ok(())
    }
}

/// Checks every file of the repository.
pub fn check(root: &Path) -> io::Result<Report> {
    let mut report = Report::default();
    let mut files = Vec::new();
    find_files(root, root, &mut files)?;
    files.sort();
    let mut texts = Vec::new();
    for path in files {
        // What is not text is no business of these rules.
        let Ok(text) = String::from_utf8(fs::read(root.join(&path))?) else { continue };
        texts.push((path, text));
    }
    for (path, text) in &texts {
        report.files += 1;
        report.violations.extend(text::check(path, text, root));
        report.violations.extend(named_tests::check(path, text, &texts));
        if path.ends_with("Cargo.toml") {
            report.violations.extend(manifest::check(path, text));
        }
        if path.ends_with(".rs") {
            check_rust(path, text, &mut report);
        }
    }
    let changelog = fs::read_to_string(root.join("CHANGELOG.md")).unwrap_or_default();
    report.violations.extend(text::check_changelog(&changelog));
    report.violations.sort();
    report.lengths.sort();
    Ok(report)
}

fn check_rust(path: &str, text: &str, report: &mut Report) {
    let source = match Source::parse(path, text) {
        Ok(source) => source,
        Err(violation) => {
            report.violations.push(violation);
            return;
        }
    };
    report.violations.extend(purity::check(&source));
    report.violations.extend(words::check(&source));
    report.violations.extend(shape::check(&source));
    if !source.is_test_file() {
        report.lengths.push((source.code_lines(), path.to_owned()));
    }
}

fn find_files(root: &Path, dir: &Path, files: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path: PathBuf = entry.path();
        let name = entry.file_name();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            // The build's own directory, and those of version control.
            if name != "target" && name != ".git" {
                find_files(root, &path, files)?;
            }
        } else if kind.is_file() && name != ".git" {
            let path = path.strip_prefix(root).expect("files are found under the root");
            files.push(path.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_checked_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n");
        write("crates/skep-core/src/lib.rs", "//! Fine.\n");
        write("target/ignored.rs", "todo!()");
        let report = check(dir.path()).unwrap();
        assert_eq!(report.violations, []);
        assert!(report.to_string().starts_with("2 files in order"), "{report}");

        write("crates/skep-core/src/lib.rs", "use std::fs;\n");
        write("crates/skep-core/src/broken.rs", "//! No Rust.\nfn (\n");
        write("crates/skep-core/Cargo.toml", "[dependencies]\ntokio = \"1\"\n");
        write("CHANGELOG.md", "# Changelog\n");
        let report = check(dir.path()).unwrap();
        let lines: Vec<_> = report.violations.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "CHANGELOG.md:1: has no `## [Unreleased]` section",
                "crates/skep-core/Cargo.toml:2: skep-core may not depend on tokio; \
                 it uses only ipnet, serde, thiserror",
                "crates/skep-core/src/broken.rs:2: cannot be read as Rust",
                "crates/skep-core/src/lib.rs:1: a file begins with `//!` and its purpose",
                "crates/skep-core/src/lib.rs:1: std::fs: skep-core is pure, it has no files",
            ]
        );
        assert!(report.to_string().starts_with("5 violations in 4 files"), "{report}");
    }
}
