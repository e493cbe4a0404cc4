//! What crates leave to skep-sys. Which crate may use which, Cargo knows.

use super::Violation;
use super::source::{Name, Source};

/// Returns the names in a file that only skep-sys may use.
pub fn check(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    let krate = source.krate();
    let product = source.path.starts_with("crates/") && source.path.contains("/src/");
    // A checkpoint's process is started stopped, under ptrace, which nothing else needs.
    if product && !["skep-sys", "qemu-checkpoint", "skep-testkit"].contains(&krate) {
        for name in source.names.iter().filter(|name| !name.test) {
            if let Some(rule) = belongs_in_sys(name) {
                found.push(Violation::new(&source.path, name.line, rule));
            }
        }
        for pair in source.tokens.windows(2).filter(|pair| !pair[0].test) {
            let method = pair[1].text.as_str();
            if pair[0].text == "." && ["persist", "lock_shared", "lock_exclusive"].contains(&method)
            {
                let rule = format!(".{method}(): only skep_sys renames and locks files");
                found.push(Violation::new(&source.path, pair[1].line, rule));
            }
        }
    }
    found
}

fn belongs_in_sys(name: &Name) -> Option<String> {
    let rule = if name.has("process", &["Command", "Child", "CommandExt", "*"])
        || name.begins(&["tokio", "process"])
    {
        "only skep_sys runs programs"
    } else if name.parts.windows(2).any(|pair| pair[0] == "fs" && pair[1].starts_with("rename")) {
        "only skep_sys renames files"
    } else if name.parts.iter().any(|part| part == "flock" || part == "FlockOperation")
        || name.has("File", &["lock", "try_lock", "lock_shared", "try_lock_shared"])
    {
        "only skep_sys locks files"
    } else {
        return None;
    };
    Some(format!("{}: {rule}", name.text()))
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
    fn programs_are_run_in_one_place() {
        let text = "use std::process::{Command, exit};";
        let rule = "1: std::process::Command: only skep_sys runs programs";
        assert_eq!(rules("crates/skep/src/main.rs", text), [rule]);
        assert_eq!(rules("crates/skep-store/src/pki.rs", text), [rule]);
        assert_eq!(
            rules("crates/skep/src/main.rs", "use tokio::process;"),
            ["1: tokio::process: only skep_sys runs programs"]
        );
        assert!(rules("crates/skep-sys/src/cmd.rs", text).is_empty());
        assert!(rules("crates/skep/tests/e2e.rs", text).is_empty());
        assert!(rules("crates/skep/src/main.rs", "use std::process::ExitCode;").is_empty());
        let in_tests = format!("#[cfg(test)] mod tests {{ {text} }}");
        assert!(rules("crates/skep-store/src/pki.rs", &in_tests).is_empty());
    }

    #[test]
    fn files_are_renamed_and_locked_in_one_place() {
        let path = "crates/skep-store/src/lib.rs";
        for text in ["std::fs::rename(a, b);", "rustix::fs::renameat2();", "file.persist(path)"] {
            assert_eq!(rules(path, text).len(), 1, "{text}");
        }
        for text in ["rustix::fs::flock(a);", "File::try_lock(&file)", "file.lock_shared()"] {
            assert_eq!(rules(path, text).len(), 1, "{text}");
        }
        assert!(rules(path, "mutex.lock(); fs::read(rename);").is_empty());
    }
}
