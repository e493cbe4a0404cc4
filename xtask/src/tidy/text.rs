//! Rules for every text file: hosts that are named, paths of one person's machine, the changelog.

use std::path::Path;

use super::Violation;

/// Hosts that may be named: public addresses that stay true for everyone. A mirror or a registry
/// that only some machines reach belongs in their settings.
const HOSTS: [&str; 16] = [
    "crates.io",
    "deb.debian.org",
    "docker.com",
    "docker.io",
    "docs.rs",
    "example.com",
    "example.org",
    "fedoraproject.org",
    "github.com",
    "json-schema.org",
    "keepachangelog.com",
    "localhost",
    "opensource.org",
    "rust-lang.org",
    "semver.org",
    "www.apache.org",
];

/// How a test that was skipped is seen in the output, and the one file that prints it.
const SKIPPED: &str = "SKIPPED";
const SKIP: &str = "crates/test-skip/src/lib.rs";

/// Returns the lines of a file that name what only exists on some machines.
pub fn check(path: &str, text: &str, root: &Path) -> Vec<Violation> {
    // The rules name what they look for.
    if path == "xtask/src/tidy/text.rs" {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut report = |line, rule| found.push(Violation::new(path, line, rule));
    for (index, line) in text.lines().enumerate() {
        for host in hosts(line).filter(|host| !is_public(host)) {
            let rule = format!("{host}: not among the hosts that xtask/src/tidy/text.rs allows");
            report(index + 1, rule);
        }
        if path.ends_with(".rs") && path != SKIP && line.contains(SKIPPED) {
            let rule = "a test that cannot run here says so with test_skip::skip, which fails where it must run";
            report(index + 1, rule.to_owned());
        }
        if let Some(home) = home_path(line, root) {
            report(index + 1, format!("{home}: a path of one machine, which others do not have"));
        }
    }
    found
}

/// Returns what is wrong with the changelog.
pub fn check_changelog(text: &str) -> Option<Violation> {
    let unreleased = text.lines().any(|line| line.trim_end() == "## [Unreleased]");
    let rule = "has no `## [Unreleased]` section";
    (!unreleased).then(|| Violation::new("CHANGELOG.md", 1, rule))
}

fn hosts(line: &str) -> impl Iterator<Item = &str> {
    let starts =
        line.match_indices("://").map(|(at, mark)| (&line[..at], &line[at + mark.len()..]));
    starts
        .filter(|(before, _)| ["http", "https", "git", "ssh"].iter().any(|s| before.ends_with(s)))
        .map(|(_, rest)| {
            let rest = rest.split_once('@').filter(|(user, _)| is_host(user)).map_or(rest, |r| r.1);
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !".-_".contains(c));
            &rest[..end.unwrap_or(rest.len())]
        })
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
}

fn is_public(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    // An address, a name without a dot, or a place to be filled in.
    let local = !host.contains('.') || host.parse::<std::net::Ipv4Addr>().is_ok();
    let reserved = [".example", ".test", ".invalid", ".localhost"];
    let below = |known: &str| host == known || host.ends_with(&format!(".{known}"));
    local
        || reserved.iter().any(|end| host.ends_with(end))
        || HOSTS.iter().any(|known| below(known))
}

fn home_path(line: &str, root: &Path) -> Option<String> {
    let root = root.to_string_lossy();
    // A short root such as `/src` may stand in a path that has nothing to do with it.
    if root.matches('/').count() > 1 && line.contains(&*root) {
        return Some(root.into_owned());
    }
    for private in
        ["/root/.cargo", "/root/.cache", "/root/.config", "/root/.local", "/root/.rustup"]
    {
        if line.contains(private) {
            return Some(private.to_owned());
        }
    }
    for homes in ["/home/", "/Users/"] {
        for (at, _) in line.match_indices(homes) {
            // `/srv/home/` is no home, and `$HOME/home/` neither.
            let inside = line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}~".contains(c));
            let rest = &line[at + homes.len()..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c));
            let user = &rest[..end.unwrap_or(rest.len())];
            // The guest's own user is the same everywhere.
            if !inside && !user.is_empty() && user != "docker" {
                return Some(format!("{homes}{user}"));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(line: &str) -> Vec<String> {
        let found = check("README.md", line, Path::new("/srv/checkout"));
        found.into_iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn a_test_skips_in_one_way() {
        let line = format!("eprintln!(\"{SKIPPED}: no reason\");");
        let found = |path: &str| check(path, &line, Path::new("/srv/checkout")).len();
        assert_eq!(
            [found("crates/skep/tests/a.rs"), found(SKIP), found("scripts/test")],
            [1, 0, 0]
        );
    }

    #[test]
    fn only_public_hosts_are_named() {
        for fine in [
            "see https://docs.docker.com/engine and http://deb.debian.org/debian",
            "http://127.0.0.1:8080 http://localhost:80 http://node0:8080 http://${host}/ http://{a}/",
            "source = \"registry+https://github.com/rust-lang/crates.io-index\"",
            "ssh://git@github.com/a/b https://my-node.example",
        ] {
            assert_eq!(rules(fine), [""; 0], "{fine}");
        }
        for (line, host) in [
            ("a http://mirror.corp.lan/debian", "mirror.corp.lan"),
            ("https://user@cache.internal.net:8443/x", "cache.internal.net"),
            ("https://evil-github.com", "evil-github.com"),
        ] {
            let rule = format!("{host}: not among the hosts that xtask/src/tidy/text.rs allows");
            assert_eq!(rules(line), [rule]);
        }
    }

    #[test]
    fn no_path_of_one_machine_is_named() {
        for (line, named) in [
            ("cd /home/alice/skep", "/home/alice"),
            ("PATH=/root/.cargo/bin", "/root/.cargo"),
            ("at /srv/checkout/target", "/srv/checkout"),
        ] {
            assert_eq!(
                rules(line),
                [format!("{named}: a path of one machine, which others do not have")]
            );
        }
        for fine in ["/home/docker/.ssh", "$HOME/home/x", "/srv/home/x", "/root"] {
            assert_eq!(rules(fine), [""; 0], "{fine}");
        }
    }

    #[test]
    fn the_changelog_has_a_place_for_the_next_change() {
        assert!(check_changelog("# Changelog\n\n## [Unreleased]\n").is_none());
        assert!(check_changelog("# Changelog\n\n## [1.0.0]\n").is_some());
        assert!(check_changelog("").is_some());
    }
}
