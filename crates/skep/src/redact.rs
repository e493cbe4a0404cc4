//! What no text for others may have: keys, tokens, passwords.

use std::path::Path;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// What takes the place of a secret.
const GONE: &str = "[redacted]";

/// Takes secrets out of texts.
pub(crate) struct Redactor {
    /// Lines of private keys of the cluster, wherever they turn up.
    known: Vec<String>,
}

static BLOCK: LazyLock<Regex> = LazyLock::new(|| {
    // One whose end is not there, as where a log was cut off, goes to the end of the text.
    regex(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)")
});
static TOKEN: LazyLock<Regex> = LazyLock::new(|| regex(r"SWM(TKN|KEY)-1-[0-9A-Za-z+/=_-]+"));
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    regex(concat!(
        r#"(?i)([a-z0-9_.-]*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|private[_-]?key"#,
        r#"|access[_-]?key|credential|auth(?:orization)?)[a-z0-9_.-]*\\?["']?\s*[=:]\s*)"#,
        r#"(\\?"(?:[^"\\]|\\[^"])*\\?"|'[^']*'|(?:(?:bearer|basic)\s+)?[^\s,;&"'}\]\[{]+)"#,
    ))
});
static FLAG: LazyLock<Regex> = LazyLock::new(|| {
    regex(r"(?i)(--?[a-z-]*(?:password|passphrase|secret|token|api-key)[a-z-]*\s+)[^\s-]\S*")
});
static URL: LazyLock<Regex> = LazyLock::new(|| regex(r"([a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s/@]+@"));

fn regex(text: &str) -> Regex {
    Regex::new(text).expect("it is one")
}

impl Redactor {
    /// Creates one that knows the private keys in a cluster's directory too.
    pub(crate) fn of(cluster: Option<&Path>) -> Self {
        let mut known = Vec::new();
        let Some(cluster) = cluster else { return Self { known } };
        let machines = std::fs::read_dir(cluster.join("machines")).into_iter().flatten().flatten();
        let dirs = machines.map(|entry| entry.path());
        for dir in dirs.chain([cluster.join("certs"), cluster.join("certs.next")]) {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let text = std::fs::read(entry.path()).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                if text.contains("PRIVATE KEY-----") {
                    let lines = text.lines().filter(|line| !line.starts_with("-----"));
                    // The last line may be a few letters that turn up anywhere.
                    known.extend(lines.filter(|line| line.len() >= 16).map(str::to_owned));
                }
            }
        }
        known.sort();
        known.dedup();
        Self { known }
    }

    /// Returns a text without secrets.
    pub(crate) fn clean(&self, text: &str) -> String {
        let mut text = BLOCK.replace_all(text, GONE).into_owned();
        for line in self.known.iter().filter(|line| !line.is_empty()) {
            if text.contains(line.as_str()) {
                text = text.replace(line.as_str(), GONE);
            }
        }
        let text = TOKEN.replace_all(&text, GONE);
        let text = URL.replace_all(&text, |found: &Captures<'_>| format!("{}{GONE}@", &found[1]));
        let named = |found: &Captures<'_>| match found[2].trim_matches(['"', '\\', '\'']) {
            // What says that there is none is no secret, and JSON stays JSON.
            "" | "null" | "true" | "false" => found[0].to_owned(),
            _ if found[2].starts_with('"') => format!("{}\"{GONE}\"", &found[1]),
            _ => format!("{}{GONE}", &found[1]),
        };
        let text = FLAG.replace_all(&text, |found: &Captures<'_>| format!("{}{GONE}", &found[1]));
        NAMED.replace_all(&text, named).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(text: &str) -> String {
        Redactor::of(None).clean(text)
    }

    #[test]
    fn secrets_are_taken_out_in_every_form() {
        let secrets = [
            "POSTGRES_PASSWORD=hunter2",
            r#"{"password": "hunter2"}"#,
            r#"msg="db \"secret\": \"hunter2\"""#,
            "--token hunter2 --api-key=hunter2",
            "passwd: 'hunter2'",
            "Authorization: Bearer hunter2",
            "postgres://app:hunter2@db/app",
            "docker swarm join --token SWMTKN-1-hunter2hunter2-hunter2 192.0.2.1:2377",
            "unlock with SWMKEY-1-hunter2+hunter2",
            "-----BEGIN EC PRIVATE KEY-----\nhunter2\n-----END EC PRIVATE KEY-----",
            "and cut off -----BEGIN RSA PRIVATE KEY-----\nhunter2",
        ];
        for text in secrets {
            let cleaned = clean(text);
            assert!(!cleaned.contains("hunter2") && cleaned.contains(GONE), "{cleaned}");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        let texts = [
            r#"{"name": "node0", "token": "", "memory": 1024}"#,
            "node0 has 10.193.0.2/24, services start",
            "https://deb.debian.org/debian trixie",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        ];
        for text in texts {
            assert_eq!(clean(text), text);
        }
    }

    #[test]
    fn keys_of_the_cluster_are_known_by_their_lines() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("certs")).unwrap();
        let line = "MHcCAQEEIHunter2Hunter2Hunter2";
        let text =
            format!("-----BEGIN EC PRIVATE KEY-----\n{line}\n-----END EC PRIVATE KEY-----\n");
        std::fs::write(dir.path().join("certs/key.pem"), text).unwrap();
        let cleaned = Redactor::of(Some(dir.path())).clean(&format!("a log with {line} in it"));
        assert_eq!(cleaned, format!("a log with {GONE} in it"));
    }
}
