//! Which crate may depend on which.

use super::{HOST, Violation};

/// All that skep-core may use.
const CORE: [&str; 3] = ["ipnet", "serde", "thiserror"];

/// What belongs to the command line and not to the crates that touch the machine: arguments, terminals, the user's home.
const NOT_IN_HOST: [&str; 10] = [
    "clap",
    "clap_complete",
    "indicatif",
    "comfy-table",
    "console",
    "crossterm",
    "dirs",
    "directories",
    "etcetera",
    "home",
];

/// Returns the dependencies in a manifest that their crate may not have.
pub fn check(path: &str, text: &str) -> Vec<Violation> {
    let krate = match path.split('/').collect::<Vec<_>>()[..] {
        ["crates", krate, "Cargo.toml"] => krate,
        ["xtask", "Cargo.toml"] => "xtask",
        _ => return Vec::new(),
    };
    let wrong = |dependency: &Dependency| {
        let name = dependency.name.as_str();
        let rule = if dependency.dev {
            return None;
        } else if name == "skep-testkit" {
            "only tests may: it is a dev-dependency".to_owned()
        } else if krate == "skep-core" && !CORE.contains(&name) {
            format!("it uses only {}", CORE.join(", "))
        } else if HOST.contains(&krate) && NOT_IN_HOST.contains(&name) {
            "the command line's business stays in skep".to_owned()
        } else if name == "skep" || krate == "xtask" && name.starts_with("skep") {
            "that turns the arrows between the crates round".to_owned()
        } else {
            return None;
        };
        let rule = format!("{krate} may not depend on {name}; {rule}");
        Some(Violation::new(path, dependency.line, rule))
    };
    dependencies(text).iter().filter_map(wrong).collect()
}

struct Dependency {
    name: String,
    line: usize,
    dev: bool,
}

/// Reads the dependencies of a manifest: `name = …` in a table of them, or a table of its own.
fn dependencies(text: &str) -> Vec<Dependency> {
    let mut found: Vec<Dependency> = Vec::new();
    let mut table = String::new();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = name.trim().to_owned();
            if let Some((kind, name)) = table.rsplit_once('.')
                && is_dependencies(kind)
            {
                let dev = kind.ends_with("dev-dependencies");
                found.push(Dependency { name: unquote(name), line: line_number, dev });
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let key = key.split('.').next().unwrap_or_default();
        if is_dependencies(&table) {
            let dev = table.ends_with("dev-dependencies");
            let renamed = value.split_once("package").and_then(|(_, rest)| rest.split('"').nth(1));
            let name = renamed.map_or_else(|| unquote(key), str::to_owned);
            found.push(Dependency { name, line: line_number, dev });
        } else if key.trim() == "package"
            && table.rsplit_once('.').is_some_and(|(kind, _)| is_dependencies(kind))
            && let Some(last) = found.last_mut()
        {
            last.name = unquote(value);
        }
    }
    found
}

fn is_dependencies(table: &str) -> bool {
    table == "dependencies" || table.ends_with(".dependencies") || table.ends_with("-dependencies")
}

fn unquote(text: &str) -> String {
    text.trim().trim_matches(['"', '\'']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(krate: &str, text: &str) -> Vec<String> {
        let found = check(&format!("crates/{krate}/Cargo.toml"), text);
        found
            .into_iter()
            .map(|violation| format!("{}: {}", violation.line, violation.rule))
            .collect()
    }

    #[test]
    fn the_core_has_three_dependencies() {
        let fine = "[dependencies]\nserde.workspace = true\nipnet = \"2\"\n\
                    [dev-dependencies]\nproptest = \"1\"\nskep-testkit.workspace = true\n";
        assert!(rules("skep-core", fine).is_empty());
        let rule = "skep-core may not depend on tokio; it uses only ipnet, serde, thiserror";
        for text in [
            "[dependencies]\ntokio = \"1\"",
            "[build-dependencies]\ntokio.workspace = true",
            "\n[dependencies.tokio]\nversion = \"1\"",
            "[dependencies]\nserde = { package = \"tokio\", version = \"1\" }",
            "[target.'cfg(unix)'.dependencies]\ntokio = { version = \"1\" } # why not",
        ] {
            assert_eq!(rules("skep-core", text), [format!("2: {rule}")], "{text}");
        }
    }

    #[test]
    fn crates_of_the_host_know_no_command_line() {
        assert_eq!(
            rules("skep-net", "[dependencies]\ntokio = \"1\"\nclap = \"4\""),
            ["3: skep-net may not depend on clap; the command line's business stays in skep"]
        );
        assert_eq!(
            rules("skep-net", "[dependencies]\nskep.workspace = true"),
            ["2: skep-net may not depend on skep; that turns the arrows between the crates round"]
        );
    }

    #[test]
    fn the_testkit_is_for_tests() {
        let rule = "2: skep may not depend on skep-testkit; only tests may: it is a dev-dependency";
        assert_eq!(rules("skep", "[dependencies]\nskep-testkit.workspace = true"), [rule]);
        assert!(rules("skep", "[dev-dependencies]\nskep-testkit.workspace = true").is_empty());
    }
}
