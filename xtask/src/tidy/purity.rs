//! What a crate does without. skep-core does without the machine; whole modules and `async` are no matter of
//! clippy's. What the others do without is in their clippy.toml, and here only that they turn those lints on.

use super::source::{Name, Source};
use super::{HOST, Violation};

/// What turns them on, in each crate's `lib.rs`.
const LINTS: [&str; 2] = [
    "#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]",
    "#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]",
];

/// Returns what a crate's own code uses and may not. Tests are free.
pub fn check(source: &Source) -> Vec<Violation> {
    let krate = source.krate();
    if source.path == format!("crates/{krate}/src/lib.rs")
        && (krate == "skep" || HOST.contains(&krate))
    {
        let off = LINTS.iter().filter(|lint| !source.lines.iter().any(|line| line == *lint));
        let report = |lint: &&str| Violation::new(&source.path, 1, format!("{lint} is missing"));
        return off.map(report).collect();
    }
    if krate != "skep-core" || !source.path.contains("/src/") {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut report = |line, what: &str, rule: &str| {
        found.push(Violation::new(&source.path, line, format!("{what}: {rule}")));
    };
    for name in source.names.iter().filter(|name| !name.test) {
        if let Some(rule) = core_name(name) {
            report(name.line, &name.text(), rule);
        }
    }
    for (index, token) in source.tokens.iter().enumerate().filter(|(_, token)| !token.test) {
        let is_macro = source.tokens.get(index + 1).is_some_and(|next| next.text == "!");
        match token.text.as_str() {
            "print" | "println" | "eprint" | "eprintln" if is_macro => {
                report(token.line, &token.text, "only the skep command prints");
            }
            "async" | "await" => report(token.line, &token.text, "skep-core is synchronous"),
            _ => {}
        }
    }
    found
}

fn core_name(name: &Name) -> Option<&'static str> {
    let has = |first, second: &[&str]| name.has(first, second);
    if has("std", &["fs", "os"]) {
        Some("skep-core is pure, it has no files")
    } else if has("std", &["env", "process", "thread", "io"]) {
        Some("skep-core is pure, it does not know the machine")
    } else if has("net", &["TcpListener", "TcpStream", "UdpSocket", "ToSocketAddrs", "*"]) {
        Some("skep-core is pure, it has no sockets")
    } else if has("time", &["Instant", "SystemTime", "*"])
        || has("Instant", &["now"])
        || has("SystemTime", &["now"])
    {
        Some("skep-core is pure, it has no clock")
    } else if has("collections", &["HashMap", "HashSet", "*"]) || has("hash", &["RandomState"]) {
        Some("skep-core is pure, and hash tables are in random order; use a BTreeMap")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(krate: &str, text: &str) -> Vec<String> {
        let path = format!("crates/{krate}/src/a.rs");
        let found = check(&Source::parse(&path, text).unwrap());
        found.into_iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn the_core_has_no_machine() {
        for impure in [
            "use std::fs;",
            "use std::{fmt, env};",
            "fn f() { std::thread::spawn(g) }",
            "use std::net::{Ipv4Addr, TcpStream};",
            "use std::time::{Duration, Instant};",
            "fn f() { m!(std::time::SystemTime::now()) }",
            "async fn f() {}",
            "fn f() { println!(\"x\") }",
            "use std::collections::HashMap;",
        ] {
            assert_eq!(rules("skep-core", impure).len(), 1, "{impure}");
            let in_tests = format!("#[cfg(test)] mod tests {{ {impure} }}");
            assert!(rules("skep-core", &in_tests).is_empty(), "{impure}");
        }
        let pure = "use std::net::Ipv4Addr; use std::time::Duration; /// fs: println!(async)\n\
                    fn f() -> &'static str { \"std::fs\" }";
        assert!(rules("skep-core", pure).is_empty());
    }

    #[test]
    fn a_crate_turns_the_lints_on() {
        let on = format!("//! It.\n\n{}\n", LINTS.join("\n"));
        let check = |path: &str, text: &str| check(&Source::parse(path, text).unwrap()).len();
        for krate in ["skep", "skep-net"] {
            let path = format!("crates/{krate}/src/lib.rs");
            assert_eq!((check(&path, &on), check(&path, "//! It.\n")), (0, 2), "{krate}");
        }
        assert_eq!(check("crates/skep-net/src/other.rs", "//! It.\n"), 0);
        assert_eq!(check("crates/skep-testkit/src/lib.rs", "//! It.\n"), 0);
    }
}
