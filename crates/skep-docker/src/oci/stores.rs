//! The host's own stores of images: docker's and podman's, through their commands.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use skep_sys::{Cmd, CmdError, ProgramOutput, search_path};

use super::index::{Contents, Image, Layer, familiar};
use super::{Error, Input, archive, read_error};
use crate::program::{self, Kind};

/// How long a store may take to tell of an image.
const LOOK: Duration = Duration::from_secs(20);

/// What a store tells of an image (Docker Engine API 1.41, podman-image-inspect(1)).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    graph_driver: GraphDriver,
    #[serde(rename = "RootFS", default)]
    root_fs: RootFs,
    #[serde(default)]
    manifest_type: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GraphDriver {
    #[serde(default)]
    data: Option<serde_json::Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Looks at what an archive of the image will have in it.
pub(super) async fn contents(reference: &str) -> Result<Contents, Error> {
    let mut tried = Vec::new();
    for store in [Store::Docker, Store::Podman] {
        match inspect(store, reference).await {
            Ok(found) if store == Store::Docker && found.graph_driver.data.is_some() => {
                return Ok(predicted(reference, found));
            }
            // The ID of what other stores write is known only from what they write.
            Ok(_) => return written(reference).await,
            Err(CmdError::NotFound { program }) => {
                tried.push(format!("{program} is not installed"))
            }
            Err(CmdError::Failed { tail, .. }) => tried.push(format!("{}: {tail}", store.name())),
            Err(error) => tried.push(format!("{}: {error}", store.name())),
        }
    }
    Err(Error::NoSuchImage { reference: reference.to_owned(), tried: tried.join("; ") })
}

/// A store of images on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Store {
    Docker,
    Podman,
}

impl Store {
    fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    /// Returns its command; docker's name may be podman's.
    fn program(self) -> Result<PathBuf, CmdError> {
        match self {
            Self::Podman => Ok(self.name().into()),
            Self::Docker => program::find(&search_path(), &[Kind::Docker, Kind::Snap])
                .ok_or_else(|| CmdError::NotFound { program: self.name().to_owned() }),
        }
    }
}

async fn inspect(store: Store, reference: &str) -> Result<Inspected, CmdError> {
    let cmd = Cmd::new(store.program()?);
    let cmd = cmd.args(["image", "inspect", "--format", "{{json .}}", "--", reference]);
    let store = store.name();
    let output = cmd.timeout(LOOK).run().await?;
    serde_json::from_slice(&output.stdout).map_err(|error| CmdError::Start {
        command: format!("{store} image inspect {reference}"),
        source: std::io::Error::other(format!("its answer cannot be understood: {error}")),
    })
}

/// Returns what Docker's own store, which keeps layers unpacked, will write: each layer is a file by
/// its digest (since 25.0; before, its file has another name, and is always sent).
fn predicted(reference: &str, found: Inspected) -> Contents {
    let layers = found.root_fs.layers.unwrap_or_default().into_iter().map(|diff_id| {
        let file = format!("blobs/{}", diff_id.replace(':', "/"));
        Layer { diff_id, file, size: 0 }
    });
    // One that is asked for by its ID comes without a name.
    let by_id = reference.starts_with("sha256:")
        || found.id.strip_prefix("sha256:").is_some_and(|id| id.starts_with(reference));
    let names = if by_id { Vec::new() } else { vec![familiar(reference)] };
    let image = Image {
        config: format!("blobs/{}", found.id.replace(':', "/")),
        id: found.id,
        names,
        layers: layers.collect(),
    };
    Contents { images: vec![image] }
}

async fn written(reference: &str) -> Result<Contents, Error> {
    let name = reference.to_owned();
    let looked = tokio::task::spawn_blocking(move || archive::contents(&name, open(&name)?));
    looked.await.expect("the look does not panic")
}

/// Opens the archive that a store writes of an image.
pub(super) fn open(reference: &str) -> Result<Input, Error> {
    let (store, found) = store_of(reference)?;
    let arguments = match store {
        Store::Docker => vec!["save", "--", reference],
        // In the image's own form: to make another one of it would give it another ID.
        Store::Podman if found.manifest_type.contains("vnd.oci") => {
            vec!["save", "--format", "oci-archive", reference]
        }
        Store::Podman => vec!["save", "--format", "docker-archive", reference],
    };
    let output = ProgramOutput::of(&store.program()?, &arguments);
    Ok(Box::new(output.map_err(|source| read_error(reference, source))?))
}

fn store_of(reference: &str) -> Result<(Store, Inspected), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| read_error(reference, source))?;
    runtime.block_on(async {
        match inspect(Store::Docker, reference).await {
            Ok(found) => Ok((Store::Docker, found)),
            Err(_) => Ok((Store::Podman, inspect(Store::Podman, reference).await?)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_will_write_is_known_from_what_it_tells() {
        let text = r#"{"Id": "sha256:c0", "GraphDriver": {"Data": {"UpperDir": "/x"}, "Name": "overlay2"},
            "RootFS": {"Type": "layers", "Layers": ["sha256:1", "sha256:2"]}}"#;
        let inspected = || serde_json::from_str::<Inspected>(text).unwrap();
        let contents = predicted("docker.io/library/web", inspected());
        let image = &contents.images[0];
        assert_eq!(
            (image.id.as_str(), &*image.names),
            ("sha256:c0", &["web:latest".to_owned()][..])
        );
        let files: Vec<_> = image.layers.iter().map(|layer| layer.file.as_str()).collect();
        assert_eq!(files, ["blobs/sha256/1", "blobs/sha256/2"]);
        assert_eq!(predicted("sha256:c0", inspected()).images[0].names, [""; 0]);
        assert_eq!(predicted("c0", inspected()).images[0].names, [""; 0]);
    }

    #[tokio::test]
    async fn an_image_that_is_nowhere_is_told_with_what_was_tried() {
        let error = contents("no.such.registry.example/nothing:1").await.unwrap_err().to_string();
        assert!(
            error.starts_with("no such image on this host: no.such.registry.example"),
            "{error}"
        );
        assert!(error.contains("docker") && error.contains("podman"), "{error}");
    }
}
