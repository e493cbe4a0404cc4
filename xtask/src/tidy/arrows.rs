//! Which module of skep-host may use which, and what each crate leaves to another.

use super::Violation;
use super::source::{Name, Source};

/// The modules of skep-host, lowest first. Each may use those before it.
const ORDER: [&str; 23] = [
    "sys",
    "bundle",
    "store",
    "pki",
    "host_firewall",
    "firewall",
    "forwarder",
    "net",
    "hosts",
    "contexts",
    "privileged_helper",
    "setup",
    "image",
    "shell",
    "netcheck",
    "oci",
    "engine",
    "userns",
    "stack",
    "driver",
    "preflight",
    "observe",
    "converge",
];

/// Pairs that stand side by side: the first may not use the second though it comes later.
const APART: [(&str, &str); 2] = [("hosts", "net"), ("hosts", "firewall")];

/// Returns the names in a file that lead where its module or crate may not go.
pub fn check(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    if source.krate() == "skep-host" {
        check_order(source, &mut found);
    }
    let sys = source.path.starts_with("crates/skep-host/src/sys/");
    let product = source.path.contains("/src/") && source.krate().starts_with("skep");
    if product && !sys && source.krate() != "skep-testkit" {
        for name in source.names.iter().filter(|name| !name.test) {
            if let Some(rule) = belongs_in_sys(name) {
                found.push(Violation::new(&source.path, name.line, rule));
            }
        }
        for pair in source.tokens.windows(2).filter(|pair| !pair[0].test) {
            let method = pair[1].text.as_str();
            if pair[0].text == "." && ["persist", "lock_shared", "lock_exclusive"].contains(&method)
            {
                let rule = format!(".{method}(): only skep_host::sys renames and locks files");
                found.push(Violation::new(&source.path, pair[1].line, rule));
            }
        }
    }
    found
}

fn check_order(source: &Source, found: &mut Vec<Violation>) {
    let Some(module) = source.module() else { return };
    // The crate's root names them all.
    let Some(own) = module.first() else { return };
    let Some(rank) = rank(own) else {
        let rule = format!("module {own} has no place in the order; see xtask/src/tidy/arrows.rs");
        found.push(Violation::new(&source.path, 1, rule));
        return;
    };
    for name in &source.names {
        let Some(path) = source.in_crate(name) else { continue };
        let Some(other) = path.first().map(String::as_str) else { continue };
        let rule = if other == "*" {
            "crate::*: name the module that is used".to_owned()
        } else if APART.contains(&(own, other)) {
            format!("crate::{other}: {own} and {other} do not use each other")
        } else if self::rank(other).is_some_and(|other| other > rank) {
            format!("crate::{other}: {own} is below {other} and may not use it")
        } else {
            continue;
        };
        found.push(Violation::new(&source.path, name.line, rule));
    }
}

fn rank(module: &str) -> Option<usize> {
    ORDER.iter().position(|other| *other == module)
}

fn belongs_in_sys(name: &Name) -> Option<String> {
    let rule = if name.has("process", &["Command", "Child", "CommandExt", "*"])
        || name.begins(&["tokio", "process"])
    {
        "only skep_host::sys runs programs"
    } else if name.parts.windows(2).any(|pair| pair[0] == "fs" && pair[1].starts_with("rename")) {
        "only skep_host::sys renames files"
    } else if name.parts.iter().any(|part| part == "flock" || part == "FlockOperation")
        || name.has("File", &["lock", "try_lock", "lock_shared", "try_lock_shared"])
    {
        "only skep_host::sys locks files"
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
    fn a_module_uses_only_lower_ones() {
        let path = "crates/skep-host/src/store/mod.rs";
        assert!(rules(path, "use crate::sys::{Cmd, self}; use super::sys::Lock;").is_empty());
        let expected = ["1: crate::driver: store is below driver and may not use it"];
        assert_eq!(rules(path, "use crate::{sys, driver::Driver};"), expected);
        assert_eq!(rules(path, "fn f() { super::driver::g() }"), expected);
        assert_eq!(rules(path, "mod m { fn f() { m!(crate::driver::g()) } }"), expected);
        assert_eq!(rules(path, "use crate::*;"), ["1: crate::*: name the module that is used"]);
        assert!(rules("crates/skep-host/src/lib.rs", "pub use crate::converge::run;").is_empty());
    }

    #[test]
    fn net_may_use_firewall_and_hosts_neither() {
        assert!(
            rules("crates/skep-host/src/net/link.rs", "use crate::firewall::apply;").is_empty()
        );
        assert_eq!(
            rules("crates/skep-host/src/firewall.rs", "use crate::net::up;"),
            ["1: crate::net: firewall is below net and may not use it"]
        );
        assert_eq!(
            rules("crates/skep-host/src/hosts.rs", "\nuse crate::net::up;"),
            ["2: crate::net: hosts and net do not use each other"]
        );
    }

    #[test]
    fn an_unknown_module_must_find_its_place() {
        let found = rules("crates/skep-host/src/misc.rs", "");
        assert_eq!(
            found,
            ["1: module misc has no place in the order; see xtask/src/tidy/arrows.rs"]
        );
    }

    #[test]
    fn programs_are_run_in_one_place() {
        let text = "use std::process::{Command, exit};";
        let rule = "1: std::process::Command: only skep_host::sys runs programs";
        assert_eq!(rules("crates/skep/src/main.rs", text), [rule]);
        assert_eq!(rules("crates/skep-host/src/pki.rs", text), [rule]);
        assert_eq!(
            rules("crates/skep/src/main.rs", "use tokio::process;"),
            ["1: tokio::process: only skep_host::sys runs programs"]
        );
        assert!(rules("crates/skep-host/src/sys/cmd.rs", text).is_empty());
        assert!(rules("crates/skep/tests/e2e.rs", text).is_empty());
        assert!(rules("crates/skep/src/main.rs", "use std::process::ExitCode;").is_empty());
        let in_tests = format!("#[cfg(test)] mod tests {{ {text} }}");
        assert!(rules("crates/skep-host/src/pki.rs", &in_tests).is_empty());
    }

    #[test]
    fn files_are_renamed_and_locked_in_one_place() {
        let path = "crates/skep-host/src/store/mod.rs";
        for text in ["std::fs::rename(a, b);", "rustix::fs::renameat2();", "file.persist(path)"] {
            assert_eq!(rules(path, text).len(), 1, "{text}");
        }
        for text in ["rustix::fs::flock(a);", "File::try_lock(&file)", "file.lock_shared()"] {
            assert_eq!(rules(path, text).len(), 1, "{text}");
        }
        assert!(rules(path, "mutex.lock(); fs::read(rename);").is_empty());
    }
}
