//! A node's part of registries: serving the cluster's own, and trusting it and those that are there already.
//!
//! An engine reads whom it trusts at every pull, so it is not started anew for it, nor for the mirrors,
//! which it reads anew when it is told to.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde_json::{Map, Value};
use skep_core::model::{NodeName, Registries, RegistryPart, TrustedRegistry};
use skep_driver::ssh;
use skep_sys::shell::NodeShell;

use super::{Error, StepContext};

const SCRIPT: &str = include_str!("registry.sh");

/// Where a virtual machine has the certificate of the cluster's authority.
const CA: &str = "/etc/docker/tls/ca.pem";

/// The engine's own file of options.
const DAEMON_FILE: &str = "/etc/docker/daemon.json";

/// How long a registry may take to answer on hardware virtualization.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

impl StepContext<'_> {
    /// Lets a node have its part of the registries, or none.
    pub(super) async fn set_registry(
        &self,
        node: &NodeName,
        registries: &Registries,
    ) -> Result<(), Error> {
        let part = registries.own.as_ref();
        let machine = self.machine(node)?;
        let shell = self.driver.shell(&machine);
        let answer = self.limit(Some(node), ANSWER_LIMIT);
        let is_host = machine.record.spec.is_host();
        // What mirrors a host's engine asks is its owner's.
        let daemon = match is_host {
            true => String::new(),
            false => self.engine_options(&*shell, registries, answer).await?.unwrap_or_default(),
        };
        let ca = if is_host { format!("{}/ca.pem", ssh::CERTS) } else { CA.to_owned() };
        let wanted = registries.to_string();
        let at = part.map(|part| part.at.to_string()).unwrap_or_default();
        let mirror = part.and_then(|part| part.mirror.clone()).unwrap_or_default();
        let seconds = answer.as_secs().to_string();
        let argv = ["sh", "-c", SCRIPT, "sh", &wanted, &at, &mirror, &ca, &daemon, &seconds];
        // Each of two registries may take that long, and the rest as long again.
        let trusted = authorities(&registries.trusted);
        shell.succeed("the set-up of the registry", &argv, trusted.as_bytes(), 3 * answer).await?;
        match part {
            Some(part) if *part.at.ip() == machine.record.address && !is_host => {
                Ok(self.network.forward_port(&self.network_record()?, part.at).await?)
            }
            _ => Ok(()),
        }
    }

    /// Returns what the engine's own file is to say, if it says something else.
    async fn engine_options(
        &self,
        shell: &dyn NodeShell,
        registries: &Registries,
        limit: Duration,
    ) -> Result<Option<String>, Error> {
        let read = ["/bin/cat", DAEMON_FILE];
        let text = shell.succeed("the look at the engine's options", &read, b"", limit).await?;
        let daemon: Map<String, Value> = serde_json::from_slice(&text.stdout)
            .map_err(|source| Error::Guest { file: DAEMON_FILE, source })?;
        let own = registries.own.as_ref();
        let mirror = own.and_then(RegistryPart::mirror_at).map(|at| format!("https://{at}"));
        let mirrored = with_mirror(&daemon, mirror, self.network_record()?.subnet);
        let wanted = with_unverified(mirrored.as_ref().unwrap_or(&daemon), &registries.trusted);
        let changed = wanted.or(mirrored);
        Ok(changed.map(|it| serde_json::to_string_pretty(&it).expect("a map has only text keys")))
    }
}

/// Returns the engine's options with this mirror in the place of any other in the cluster's subnet, if
/// that changes anything.
fn with_mirror(
    daemon: &Map<String, Value>,
    mirror: Option<String>,
    subnet: Ipv4Net,
) -> Option<Map<String, Value>> {
    const KEY: &str = "registry-mirrors";
    let is_ours = |value: &Value| {
        let address = value.as_str().and_then(|url| url.strip_prefix("https://"));
        let host = address.and_then(|rest| rest.split([':', '/']).next());
        let host = host.and_then(|host| host.parse::<Ipv4Addr>().ok());
        host.is_some_and(|address| subnet.contains(&address))
    };
    let before = daemon.get(KEY).and_then(Value::as_array).cloned().unwrap_or_default();
    let others = before.iter().filter(|value| !is_ours(value)).cloned();
    with_list(daemon, KEY, mirror.into_iter().map(Value::from).chain(others).collect())
}

/// Returns the engine's options with just these registries as those that it does not verify, if that
/// changes anything: a virtual machine's file is ours.
fn with_unverified(
    daemon: &Map<String, Value>,
    trusted: &[TrustedRegistry],
) -> Option<Map<String, Value>> {
    const KEY: &str = "insecure-registries";
    let unverified = trusted.iter().filter(|it| it.ca.is_none());
    with_list(daemon, KEY, unverified.map(|it| Value::from(it.at.as_str())).collect())
}

/// Returns the engine's options with that list under that key, if it is another one than before. One that
/// becomes empty stays as that: an engine that is told to read its options anew keeps to those that are
/// not there any more (seen with Docker 26.1).
fn with_list(
    daemon: &Map<String, Value>,
    key: &str,
    after: Vec<Value>,
) -> Option<Map<String, Value>> {
    let before = daemon.get(key).and_then(Value::as_array);
    if before.map_or(&[][..], Vec::as_slice) == after {
        return None;
    }
    let mut daemon = daemon.clone();
    daemon.insert(key.to_owned(), Value::from(after));
    Some(daemon)
}

/// Returns registries with their authorities, for the script's standard input: a line with an equals sign
/// before the name, which no line of PEM begins with, and then the certificates.
fn authorities(trusted: &[TrustedRegistry]) -> String {
    let verified = trusted.iter().filter_map(|it| Some((&it.at, it.ca.as_ref()?)));
    verified.map(|(at, ca)| format!("={at}\n{}\n", ca.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_of_others_stay() {
        let subnet = "10.83.4.0/24".parse().unwrap();
        let parse = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let plain = parse(r#"{"log-driver": "local"}"#);
        assert_eq!(with_mirror(&plain, None, subnet), None);
        let ours = || Some("https://10.83.4.2:5001".to_owned());
        let with = with_mirror(&plain, ours(), subnet).unwrap();
        assert_eq!(with["registry-mirrors"], serde_json::json!(["https://10.83.4.2:5001"]));
        assert_eq!(with_mirror(&with, ours(), subnet), None);
        let empty = with_mirror(&with, None, subnet).unwrap();
        assert_eq!(empty["registry-mirrors"], serde_json::json!([]));
        assert_eq!(with_mirror(&empty, None, subnet), None);
        let theirs = parse(
            r#"{"registry-mirrors": ["https://m.example", "https://10.83.4.9:1", "https://10.1.1.1"]}"#,
        );
        let without = with_mirror(&theirs, None, subnet).unwrap();
        let left = serde_json::json!(["https://m.example", "https://10.1.1.1"]);
        assert_eq!(without["registry-mirrors"], left);
    }

    #[test]
    fn what_is_not_verified_is_an_option_and_what_is_has_its_authority() {
        let registry = |at: &str, ca: Option<&str>| TrustedRegistry {
            at: at.to_owned(),
            ca: ca.map(str::to_owned),
        };
        let plain = Map::new();
        let trusted = [registry("hub:1", None), registry("hub:2", Some("-----BEGIN\nx\n"))];
        let with = with_unverified(&plain, &trusted).unwrap();
        assert_eq!(with["insecure-registries"], serde_json::json!(["hub:1"]));
        assert_eq!(with_unverified(&with, &trusted), None);
        let without = with_unverified(&with, &[]).unwrap();
        assert_eq!(without["insecure-registries"], serde_json::json!([]));
        assert_eq!(with_unverified(&without, &[]), None);
        assert_eq!(authorities(&trusted), "=hub:2\n-----BEGIN\nx\n");
    }

    #[test]
    fn the_script_is_sound_shell() {
        let mut shell = std::process::Command::new("sh");
        let shell = shell.arg("-n").stdin(std::process::Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let mut input = shell.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, SCRIPT.as_bytes()).unwrap();
        drop(input);
        assert!(shell.wait().unwrap().success());
    }
}
