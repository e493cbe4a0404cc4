//! What a host is told to become, as the scripts there read it.

use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use skep_docker::engine::PORT;
use skep_net::host_firewall::DETECT;
use skep_sys::shell::{self, NodeOutput, NodeShell};

const LOOK: &str = include_str!("look.sh");
pub(super) const SETUP: &str = include_str!("setup.sh");
pub(super) const RELEASE: &str = include_str!("release.sh");

/// How a host's engine is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Whose the host is, if what is done is to be taken back once.
    pub owner: Option<String>,
    /// Where an engine comes from if there is none; none for the distribution.
    pub install_url: Option<String>,
    /// What the host is called if it gets an engine; none to keep its name.
    pub hostname: Option<String>,
    /// Where certificates are there.
    pub certs: &'static str,
    /// Where the service's settings are there.
    pub settings_file: &'static str,
    /// The settings.
    pub settings: String,
}

/// Certificates and key of a host's engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificates {
    /// The certificate that clients are checked against.
    pub ca: Vec<u8>,
    /// The engine's certificate.
    pub server: Vec<u8>,
    /// The engine's private key.
    pub server_key: Vec<u8>,
}

/// Where a node of a cluster has its certificates: apart from what else may be there.
pub const CERTS: &str = "/etc/docker/skep";

/// The drop-in of a node of a cluster (systemd.unit(5)).
pub(super) const SETTINGS_FILE: &str = "/etc/systemd/system/docker.service.d/50-skep.conf";

impl Setup {
    /// Returns the set-up of a node of a cluster: the engine goes on as it was, and listens to the
    /// cluster's clients too.
    #[must_use]
    pub fn of_node(owner: &str, install_url: Option<&str>) -> Self {
        Self {
            owner: Some(owner.to_owned()),
            install_url: install_url.map(str::to_owned),
            hostname: None,
            certs: CERTS,
            settings_file: SETTINGS_FILE,
            settings: format!(
                "# Made by skep, which takes it away when the host leaves its cluster.\n[Service]\n\
                 ExecStart=\nExecStart=@EXEC@ -H tcp://0.0.0.0:{PORT} {}\n",
                tls_flags(CERTS).join(" ")
            ),
        }
    }

    /// Returns what is to be run there.
    #[must_use]
    pub fn script(&self, certificates: &Certificates) -> Script {
        let owner = self.owner.as_deref().unwrap_or_default();
        let url = self.install_url.as_deref().unwrap_or_default();
        let name = self.hostname.as_deref().unwrap_or_default();
        let args = [owner, url, name, self.certs, self.settings_file];
        Script::new(SETUP, &args, &self.input(certificates))
    }

    /// Returns what the script reads.
    fn input(&self, certificates: &Certificates) -> Vec<u8> {
        let files: [(&str, &[u8]); 4] = [
            ("ca.pem", &certificates.ca),
            ("server.pem", &certificates.server),
            ("server-key.pem", &certificates.server_key),
            ("settings", self.settings.as_bytes()),
        ];
        let mut input = Vec::new();
        for (name, content) in files {
            input.extend(format!("--- {name}\n").into_bytes());
            input.extend(content);
            if content.last().is_some_and(|last| *last != b'\n') {
                input.push(b'\n');
            }
        }
        input
    }
}

/// Returns what takes back what [`Setup::of_node`] asked for.
pub(super) fn release(owner: &str, keep_engine: bool) -> Script {
    let keep = if keep_engine { "keep" } else { "" };
    let text = format!("{}{RELEASE}", super::firewall::functions());
    Script::new(&text, &[owner, CERTS, SETTINGS_FILE, keep], b"")
}

/// Returns what prints what is known of a host.
pub(super) fn look() -> Script {
    Script::new(&format!("{LOOK}\nprintf 'firewall '\n{DETECT}"), &[], b"")
}

/// A script for a shell there: it comes on the standard input, before its own, so that lists of
/// processes stay readable and secrets out of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    pub(super) argv: Vec<String>,
    pub(super) stdin: Vec<u8>,
}

impl Script {
    pub(super) fn new(text: &str, args: &[&str], input: &[u8]) -> Self {
        // head(1) takes no more than it is asked for.
        let read = format!("script=$(head -c {}) && eval \"$script\"", text.len());
        let argv = [&["sh", "-c", &read, "skep"], args]
            .concat()
            .iter()
            .map(|it| (*it).to_owned())
            .collect();
        Self { argv, stdin: [text.as_bytes(), input].concat() }
    }

    /// Runs it as `what`; it has to succeed.
    ///
    /// # Errors
    ///
    /// As [`NodeShell::succeed`].
    pub async fn run(
        &self,
        shell: &dyn NodeShell,
        what: &str,
        limit: Duration,
    ) -> Result<NodeOutput, shell::Error> {
        let argv: Vec<&str> = self.argv.iter().map(String::as_str).collect();
        shell.succeed(what, &argv, &self.stdin, limit).await
    }
}

/// Returns the options that let an engine take only clients with a certificate of the authority's.
#[must_use]
pub fn tls_flags(certs: &str) -> Vec<String> {
    vec![
        "--tlsverify".to_owned(),
        format!("--tlscacert={certs}/ca.pem"),
        format!("--tlscert={certs}/server.pem"),
        format!("--tlskey={certs}/server-key.pem"),
    ]
}

/// Returns what a cluster is known by on its hosts: its name, and a digest of its authority's
/// certificate, as names may be given twice.
///
/// # Errors
///
/// If the certificate cannot be read.
pub fn owner(cluster: &str, ca: &Path) -> Result<String, skep_sys::FileError> {
    Ok(format!("{cluster} {}", digest(&skep_sys::read(ca)?)))
}

/// Returns enough of a digest to tell texts apart.
pub(super) fn digest(text: &[u8]) -> String {
    skep_sys::hex(&Sha256::digest(text)[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_listens_beside_what_its_engine_did_before() {
        let setup = Setup::of_node("demo 0123", None);
        insta::assert_snapshot!(setup.settings);
        let certificates = Certificates { ca: b"CA".to_vec(), ..Certificates::default() };
        let input = String::from_utf8(setup.input(&certificates)).unwrap();
        assert!(
            input.starts_with(
                "--- ca.pem\nCA\n--- server.pem\n--- server-key.pem\n--- settings\n# "
            )
        );
    }

    #[tokio::test]
    async fn a_script_leaves_its_input_to_what_it_says() {
        let script = Script::new("echo \"$1\"; cat\n", &["one two"], b"the rest\n");
        let mut cmd = skep_sys::Cmd::new(&script.argv[0]);
        cmd = cmd.args(&script.argv[1..]).stdin(script.stdin);
        assert_eq!(cmd.run().await.unwrap().text(), "one two\nthe rest");
    }

    #[test]
    fn owners_of_one_name_differ_by_their_authority() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, "one").unwrap();
        let first = owner("demo", &path).unwrap();
        std::fs::write(&path, "two").unwrap();
        assert_ne!(first, owner("demo", &path).unwrap());
        assert!(first.starts_with("demo ") && first.len() == 5 + 16);
    }
}
