//! The docker command's context of a cluster, in that command's own store of them.
//!
//! ```text
//! CONFIG/contexts/meta/DIGEST/meta.json     DIGEST is the SHA-256 of the context's name
//! CONFIG/contexts/tls/DIGEST/docker/        ca.pem cert.pem key.pem
//! ```
//!
//! Made and removed by the docker command itself, read here. The description carries the cluster's mark: what
//! has another one is somebody else's, and is never touched.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use skep_core::model::ClusterName;
use skep_core::observed::ContextState;
use thiserror::Error;

use skep_store::Owner;
use skep_store::pki::Credentials;
use skep_sys::{Cmd, CmdError, FileError};

/// How long the docker command may take: it touches files only.
const LIMIT: Duration = Duration::from_secs(30);

/// The port of every engine, as docker-machine has it.
const PORT: u16 = 2376;

/// What went wrong with a context.
#[derive(Debug, Error)]
pub enum Error {
    /// The docker command failed.
    #[error(transparent)]
    Cmd(#[from] CmdError),
    /// A file could not be removed.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no docker command to make one with.
    #[error("the docker command is not installed on this host any more")]
    NoDocker,
}

/// Returns the name of a cluster's context.
#[must_use]
pub fn name(cluster: &ClusterName) -> String {
    format!("skep-{cluster}")
}

fn meta_dir(config: &Path, name: &str) -> PathBuf {
    config.join("contexts/meta").join(digest(name))
}

fn tls_dir(config: &Path, name: &str) -> PathBuf {
    config.join("contexts/tls").join(digest(name))
}

fn digest(name: &str) -> String {
    skep_sys::hex(&Sha256::digest(name))
}

/// Looks at a cluster's context; changes nothing. What cannot be read is somebody else's.
#[must_use]
pub fn look(config: &Path, owner: &Owner, credentials: &Credentials) -> ContextState {
    let name = name(&owner.cluster);
    let meta = meta_dir(config, &name);
    if !meta.exists() {
        return ContextState::Missing;
    }
    let Some(meta) = std::fs::read(meta.join("meta.json")).ok().and_then(|text| parse(&text))
    else {
        return ContextState::Others;
    };
    if !owner.owns(&meta.metadata.description) {
        return ContextState::Others;
    }
    let host = meta.endpoints.docker.host;
    let address = host.strip_prefix("tcp://").and_then(|host| host.rsplit_once(':'));
    let tls = tls_dir(config, &name).join("docker");
    let files = [
        (&credentials.ca, "ca.pem"),
        (&credentials.cert, "cert.pem"),
        (&credentials.key, "key.pem"),
    ];
    let same = |(own, copy): &(&PathBuf, &str)| {
        std::fs::read(own).is_ok_and(|own| std::fs::read(tls.join(copy)).is_ok_and(|it| it == own))
    };
    ContextState::Ours {
        address: address.and_then(|(address, _)| address.parse().ok()),
        current: files.iter().all(same),
    }
}

/// Returns the docker command's current context; none for the default. `chosen` is `DOCKER_CONTEXT`.
#[must_use]
pub fn current(config: &Path, chosen: Option<&str>) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Chosen {
        current_context: Option<String>,
    }
    let written = || {
        let text = std::fs::read(config.join("config.json")).ok()?;
        serde_json::from_slice::<Chosen>(&text).ok()?.current_context
    };
    let name = chosen.map(str::to_owned).or_else(written);
    name.filter(|name| !name.is_empty() && name != "default")
}

/// Tells whether the docker command would speak to one of skep's clusters, by its current context; see [`current`].
#[must_use]
pub fn is_current(config: &Path, chosen: Option<&str>) -> bool {
    let Some(name) = current(config, chosen) else { return false };
    let meta = std::fs::read(meta_dir(config, &name).join("meta.json")).ok();
    let meta = meta.and_then(|text| parse(&text));
    meta.is_some_and(|meta| Owner::is_mark(&meta.metadata.description))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    #[serde(default)]
    metadata: Metadata,
    endpoints: Endpoints,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    #[serde(default)]
    description: String,
}

#[derive(Debug, Deserialize)]
struct Endpoints {
    docker: Endpoint,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    #[serde(default)]
    host: String,
}

fn parse(text: &[u8]) -> Option<Meta> {
    serde_json::from_slice(text).ok()
}

/// Makes a cluster's context, or makes one that is there speak to this address.
///
/// # Errors
///
/// If there is no docker command, or it refuses, as where somebody else has the name.
pub async fn ensure(
    docker: Option<&Path>,
    config: &Path,
    owner: &Owner,
    to: Ipv4Addr,
    credentials: &Credentials,
) -> Result<(), Error> {
    let docker = docker.ok_or(Error::NoDocker)?;
    let Credentials { ca, cert, key } = credentials;
    let verb = match look(config, owner, credentials) {
        ContextState::Ours { .. } => "update",
        _ => "create",
    };
    let endpoint = endpoint(to, [("ca", ca), ("cert", cert), ("key", key)]);
    command(docker, config)
        .args(["context", verb, &name(&owner.cluster), "--description", &owner.mark()])
        .args(["--docker", &endpoint])
        .run()
        .await?;
    Ok(())
}

/// Removes a cluster's context; one that is not there, or somebody else's, is left alone. Who had chosen it gets
/// the default.
///
/// # Errors
///
/// If it cannot be removed.
pub async fn remove(
    docker: Option<&Path>,
    config: &Path,
    owner: &Owner,
    credentials: &Credentials,
) -> Result<(), Error> {
    if !matches!(look(config, owner, credentials), ContextState::Ours { .. }) {
        return Ok(());
    }
    let name = name(&owner.cluster);
    if let Some(docker) = docker {
        command(docker, config).args(["context", "rm", "-f", &name]).run().await?;
        return Ok(());
    }
    // The docker command is gone since; nobody reads what it left.
    for dir in [tls_dir(config, &name), meta_dir(config, &name)] {
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(FileError::new("remove", &dir, error).into());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns a description of an endpoint, which the docker command reads as a line of CSV (RFC 4180).
fn endpoint(to: Ipv4Addr, files: [(&str, &PathBuf); 3]) -> String {
    let files = files.iter().map(|(key, path)| {
        let field = format!("{key}={}", path.display());
        match field.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", field.replace('"', "\"\"")),
            false => field,
        }
    });
    let fields: Vec<_> = std::iter::once(format!("host=tcp://{to}:{PORT}")).chain(files).collect();
    fields.join(",")
}

fn command(docker: &Path, config: &Path) -> Cmd {
    // A user's choice of a host or context is about what they do next, not about this.
    Cmd::new(docker)
        .env("DOCKER_HOST", "")
        .env("DOCKER_CONTEXT", "")
        .arg("--config")
        .arg(config)
        .timeout(LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { cluster: "demo".parse().unwrap(), store: "/store".into(), user: 0 }
    }

    fn credentials(dir: &Path) -> Credentials {
        let write = |name: &str| {
            let path = dir.join(name);
            std::fs::write(&path, name).unwrap();
            path
        };
        Credentials { ca: write("ca"), cert: write("cert"), key: write("key") }
    }

    fn write_context(config: &Path, description: &str) {
        let meta = meta_dir(config, "skep-demo");
        std::fs::create_dir_all(&meta).unwrap();
        let text = format!(
            r#"{{"Name":"skep-demo","Metadata":{{"Description":"{description}"}},
                "Endpoints":{{"docker":{{"Host":"tcp://10.193.0.2:2376","SkipTLSVerify":false}}}}}}"#
        );
        std::fs::write(meta.join("meta.json"), text).unwrap();
        let tls = tls_dir(config, "skep-demo").join("docker");
        std::fs::create_dir_all(&tls).unwrap();
        for name in ["ca", "cert", "key"] {
            std::fs::write(tls.join(format!("{name}.pem")), name).unwrap();
        }
    }

    #[test]
    fn a_cluster_is_spoken_to_by_the_context_in_use() {
        let config = tempfile::tempdir().unwrap();
        assert!(!is_current(config.path(), None) && !is_current(config.path(), Some("skep-demo")));
        write_context(config.path(), &owner().mark());
        assert!(!is_current(config.path(), None), "another one is in use");
        assert!(is_current(config.path(), Some("skep-demo")));
        let chosen = r#"{"auths": {}, "currentContext": "skep-demo"}"#;
        std::fs::write(config.path().join("config.json"), chosen).unwrap();
        assert!(is_current(config.path(), None));
        assert!(!is_current(config.path(), Some("default")), "the variable wins");
        write_context(config.path(), "the one of the data centre");
        assert!(!is_current(config.path(), None), "somebody else's");
    }

    #[test]
    fn any_path_is_one_field_of_an_endpoint() {
        let to = Ipv4Addr::new(10, 193, 0, 2);
        let of = |path: &str| {
            let path = PathBuf::from(path);
            endpoint(to, ["ca", "cert", "key"].map(|key| (key, &path)))
        };
        let host = "host=tcp://10.193.0.2:2376";
        assert_eq!(of("/a b"), format!("{host},ca=/a b,cert=/a b,key=/a b"));
        assert_eq!(
            of("/a,\"b\""),
            format!("{host},\"ca=/a,\"\"b\"\"\",\"cert=/a,\"\"b\"\"\",\"key=/a,\"\"b\"\"\"")
        );
    }

    #[tokio::test]
    async fn a_context_is_ours_by_its_mark_and_removed_without_docker_too() {
        let dir = tempfile::tempdir().unwrap();
        let (config, credentials) = (dir.path().join("docker"), credentials(dir.path()));
        assert_eq!(look(&config, &owner(), &credentials), ContextState::Missing);

        write_context(&config, "my own");
        assert_eq!(look(&config, &owner(), &credentials), ContextState::Others);
        remove(None, &config, &owner(), &credentials).await.unwrap();
        assert_eq!(look(&config, &owner(), &credentials), ContextState::Others, "it stays");

        write_context(&config, &owner().mark());
        let address = Some(Ipv4Addr::new(10, 193, 0, 2));
        let ours = |current| ContextState::Ours { address, current };
        assert_eq!(look(&config, &owner(), &credentials), ours(true));
        std::fs::write(&credentials.cert, "renewed").unwrap();
        assert_eq!(look(&config, &owner(), &credentials), ours(false));
        remove(None, &config, &owner(), &credentials).await.unwrap();
        assert_eq!(look(&config, &owner(), &credentials), ContextState::Missing);
    }
}
