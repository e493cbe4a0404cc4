//! What a crate does without: skep-core without the machine, what touches the machine without terminal and flags,
//! the command without state of its own.

use super::source::{Name, Source};
use super::{HOST, Violation};

const PRINT: [&str; 4] = ["print", "println", "eprint", "eprintln"];

/// Returns what a crate's own code uses and may not. Tests are free.
pub fn check(source: &Source) -> Vec<Violation> {
    let krate = source.krate();
    let known = ["skep-core", "skep"].contains(&krate) || HOST.contains(&krate);
    if !source.path.contains("/src/") || !known {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut report = |line, what: &str, rule: &str| {
        found.push(Violation::new(&source.path, line, format!("{what}: {rule}")));
    };
    for name in source.names.iter().filter(|name| !name.test) {
        let rule = match krate {
            "skep-core" => core_name(name),
            "skep" => command_name(name),
            _ => host_name(name),
        };
        if let Some(rule) = rule {
            report(name.line, &name.text(), rule);
        }
    }
    for (index, token) in source.tokens.iter().enumerate().filter(|(_, token)| !token.test) {
        let is_macro = source.tokens.get(index + 1).is_some_and(|next| next.text == "!");
        let word = token.text.as_str();
        if is_macro && PRINT.contains(&word) && krate != "skep" {
            report(token.line, word, "only the skep command prints");
        } else if krate == "skep-core" && matches!(word, "async" | "await") {
            report(token.line, word, "skep-core is synchronous");
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

fn host_name(name: &Name) -> Option<&'static str> {
    let from_environment = [
        "var",
        "var_os",
        "vars",
        "vars_os",
        "args",
        "args_os",
        "home_dir",
        "temp_dir",
        "set_var",
        "remove_var",
        "*",
    ];
    if name.has("env", &from_environment) {
        Some("only the command reads the environment; the caller hands on what is needed")
    } else if name.has("io", &["stdout", "stderr", "stdin"]) {
        Some("only the command has a terminal; report an event")
    } else {
        None
    }
}

fn command_name(name: &Name) -> Option<&'static str> {
    let writing = [
        "write",
        "create_dir",
        "create_dir_all",
        "copy",
        "hard_link",
        "remove_file",
        "remove_dir",
        "remove_dir_all",
        "set_permissions",
        "OpenOptions",
    ];
    if name.has("fs", &writing) || name.has("File", &["create", "create_new", "options"]) {
        Some("the skep command writes no state; skep-sys does")
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
    fn crates_of_the_host_have_no_terminal_and_no_environment() {
        for wrong in [
            "fn f() { eprintln!() }",
            "fn f() { std::env::var(\"HOME\") }",
            "use std::env::home_dir;",
            "fn f() { std::io::stdout() }",
        ] {
            assert_eq!(rules("skep-net", wrong).len(), 1, "{wrong}");
        }
        assert!(rules("skep-net", "fn f() { std::env::current_exe() } async fn g() {}").is_empty());
    }

    #[test]
    fn the_command_prints_and_writes_no_state() {
        assert!(
            rules("skep", "fn f() { println!(); std::env::var(\"HOME\"); fs::read(a) }").is_empty()
        );
        let rule = "std::fs::write: the skep command writes no state; skep-sys does";
        assert_eq!(rules("skep", "fn f() { std::fs::write(a, b) }"), [rule]);
    }
}
