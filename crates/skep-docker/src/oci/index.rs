//! What is in an archive, from the small files in it: a pure function.
//!
//! The sources of facts are Docker's Image Specification 1.2 (manifest.json) and OCI's Image Layout
//! 1.1 (index.json).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use skep_core::model::ContainerImage;

use skep_sys::hex;

/// In Docker's form of an archive, says what is in it.
pub(super) const MANIFEST: &str = "manifest.json";

/// In OCI's form.
pub(super) const INDEX: &str = "index.json";

/// How deep indexes may lie in one another.
const DEPTH: usize = 4;

/// How many links may lead to one another.
const LINKS: usize = 8;

/// What is in an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The images.
    pub images: Vec<Image>,
}

/// One image of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest of its configuration.
    pub id: String,
    /// Its names, as engines list them.
    pub names: Vec<String>,
    /// The file of its configuration.
    pub config: String,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The digest of what it unpacks to.
    pub diff_id: String,
    /// Its file in the archive.
    pub file: String,
    /// The file's size in bytes; 0 where that is not known before it is read.
    pub size: u64,
}

impl Contents {
    /// Returns which images these are.
    #[must_use]
    pub fn ids(&self) -> Vec<ContainerImage> {
        let image = |it: &Image| ContainerImage { id: it.id.clone(), names: it.names.clone() };
        self.images.iter().map(image).collect()
    }

    /// Returns the sizes of all files of layers.
    #[must_use]
    pub fn files(&self) -> BTreeMap<&str, u64> {
        let layers = self.images.iter().flat_map(|image| &image.layers);
        layers.map(|layer| (layer.file.as_str(), layer.size)).collect()
    }

    /// Returns the files of layers that an engine needs none of, as it has images with these layers.
    ///
    /// An engine keeps a layer by all that lies below it, so a layer counts only as the next one of a
    /// chain that the engine has from its lowest on.
    #[must_use]
    pub fn spare_files(&self, there: &[Vec<String>]) -> BTreeSet<String> {
        let has = |image: &Image, upto: usize| {
            let mut chains = there.iter().filter(|chain| chain.len() >= upto);
            chains
                .any(|chain| chain.iter().zip(&image.layers[..upto]).all(|(a, b)| *a == b.diff_id))
        };
        let (mut spare, mut needed) = (BTreeSet::new(), BTreeSet::new());
        for image in &self.images {
            for (place, layer) in image.layers.iter().enumerate() {
                let files = if has(image, place + 1) { &mut spare } else { &mut needed };
                files.insert(layer.file.clone());
            }
        }
        &spare - &needed
    }
}

/// The small files of an archive, and the sizes of all.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Those that may be JSON.
    pub texts: BTreeMap<String, Vec<u8>>,
    /// The sizes of all regular files.
    pub sizes: BTreeMap<String, u64>,
    /// Links, with the files that they stand for: docker 24 and older save a layer that an image has twice as one.
    pub links: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

/// An index, or a manifest: which of them it is, only what is in it tells for certain.
#[derive(Deserialize)]
struct Oci {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

impl Files {
    /// Returns what is in the archive.
    ///
    /// # Errors
    ///
    /// What is missing or wrong, in words.
    pub fn contents(&self) -> Result<Contents, String> {
        let images = if self.texts.contains_key(MANIFEST) {
            self.docker_images()?
        } else if self.texts.contains_key(INDEX) {
            let mut images = Vec::new();
            self.oci_images(INDEX, &[], DEPTH, &mut images)?;
            images
        } else {
            return Err(format!("it has neither {MANIFEST} nor {INDEX}"));
        };
        match images.is_empty() {
            true => Err("there is no image for linux/amd64 in it".to_owned()),
            false => Ok(Contents { images }),
        }
    }

    fn docker_images(&self) -> Result<Vec<Image>, String> {
        let images: Vec<DockerImage> = self.parse(MANIFEST)?;
        let image = |image: DockerImage| {
            self.image(image.config, image.layers, image.repo_tags.unwrap_or_default())
        };
        images.into_iter().map(image).collect()
    }

    fn oci_images(
        &self,
        file: &str,
        names: &[String],
        depth: usize,
        found: &mut Vec<Image>,
    ) -> Result<(), String> {
        if depth == 0 {
            return Err("its indexes lie too deep in one another".to_owned());
        }
        let node: Oci = self.parse(file)?;
        if let Some(config) = node.config {
            let layers =
                node.layers.iter().map(|layer| blob(&layer.digest)).collect::<Result<_, _>>()?;
            found.push(self.image(blob(&config.digest)?, layers, names.to_vec())?);
            return Ok(());
        }
        for manifest in node.manifests {
            // Others are for other machines, or say something of an image: `unknown/unknown`.
            let fits = manifest.platform.as_ref().is_none_or(|platform| {
                (platform.os.as_str(), platform.architecture.as_str()) == ("linux", "amd64")
            });
            if fits {
                let own: Vec<_> = name_in(&manifest.annotations).into_iter().collect();
                let names = if own.is_empty() { names } else { &own[..] };
                self.oci_images(&blob(&manifest.digest)?, names, depth - 1, found)?;
            }
        }
        Ok(())
    }

    fn image(
        &self,
        config: String,
        layers: Vec<String>,
        names: Vec<String>,
    ) -> Result<Image, String> {
        let text = self.texts.get(&config).ok_or_else(|| format!("{config} is not in it"))?;
        let id = format!("sha256:{}", hex(&Sha256::digest(text)));
        let Config { rootfs } = self.parse(&config)?;
        if rootfs.diff_ids.len() != layers.len() {
            let (told, there) = (rootfs.diff_ids.len(), layers.len());
            return Err(format!("{config} tells of {told} layers, and {there} are listed"));
        }
        let layers = rootfs.diff_ids.into_iter().zip(layers);
        let layers = layers.map(|(diff_id, file)| {
            // What is sent and what is not goes by the file with the content. Links are always sent.
            let file = self.target(&file).to_owned();
            let size = *self.sizes.get(&file).ok_or_else(|| format!("{file} is not in it"))?;
            Ok::<_, String>(Layer { diff_id, file, size })
        });
        Ok(Image { id, names, config, layers: layers.collect::<Result<_, _>>()? })
    }

    /// Returns the file that a path stands for.
    fn target<'a>(&'a self, path: &'a str) -> &'a str {
        let mut path = path;
        for _ in 0..LINKS {
            match self.links.get(path) {
                Some(target) => path = target,
                None => break,
            }
        }
        path
    }

    fn parse<T: DeserializeOwned>(&self, file: &str) -> Result<T, String> {
        let text = self.texts.get(file).ok_or_else(|| format!("{file} is not in it"))?;
        serde_json::from_slice(text).map_err(|error| format!("{file}: {error}"))
    }
}

/// Returns Docker's manifest.json of what is in an archive.
pub(super) fn render_manifest(contents: &Contents) -> Vec<u8> {
    let image = |image: &Image| {
        let layers: Vec<_> = image.layers.iter().map(|layer| layer.file.as_str()).collect();
        serde_json::json!({"Config": image.config, "RepoTags": image.names, "Layers": layers})
    };
    let images: Vec<_> = contents.images.iter().map(image).collect();
    serde_json::to_vec(&images).expect("plain values")
}

/// Returns the file of a blob in OCI's layout.
fn blob(digest: &str) -> Result<String, String> {
    let parts = digest.split_once(':');
    let is_hex = |text: &str| text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match parts {
        Some((kind, hex)) if kind.bytes().all(|it| it.is_ascii_alphanumeric()) && is_hex(hex) => {
            Ok(format!("blobs/{kind}/{hex}"))
        }
        _ => Err(format!("`{digest}` is no digest")),
    }
}

/// Returns the name that an index gives an image, as engines list it. Some programs write only the
/// tag, which names nothing.
fn name_in(annotations: &BTreeMap<String, String>) -> Option<String> {
    let get = |key: &str| annotations.get(key).map(String::as_str);
    let full = get("io.containerd.image.name");
    let named = get("org.opencontainers.image.ref.name").filter(|name| name.contains([':', '/']));
    full.or(named).map(familiar)
}

/// Returns a reference as engines list it: without Docker's own registry, and with a tag.
#[must_use]
pub fn familiar(reference: &str) -> String {
    let hub = ["docker.io/", "index.docker.io/"];
    let rest = hub.iter().find_map(|registry| reference.strip_prefix(registry));
    let short = match rest {
        Some(rest) => rest.strip_prefix("library/").unwrap_or(rest),
        None => reference,
    };
    let last = short.rsplit('/').next().unwrap_or(short);
    if last.contains([':', '@']) { short.to_owned() } else { format!("{short}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn files(texts: &[(&str, serde_json::Value)], layers: &[&str]) -> Files {
        let mut files = Files::default();
        for (name, text) in texts {
            let text = text.to_string().into_bytes();
            files.sizes.insert((*name).into(), text.len() as u64);
            files.texts.insert((*name).into(), text);
        }
        files.sizes.extend(layers.iter().map(|name| ((*name).to_owned(), 100)));
        files
    }

    fn digest(letter: char) -> String {
        letter.to_string().repeat(64)
    }

    #[test]
    fn dockers_form_is_understood() {
        let config = json!({"rootfs": {"diff_ids": ["sha256:1", "sha256:2"]}});
        let manifest = json!([{
            "Config": "c.json", "RepoTags": ["web:1", "web:2"], "Layers": ["a/layer.tar", "b.tar"],
        }]);
        let files = files(&[(MANIFEST, manifest), ("c.json", config)], &["a/layer.tar", "b.tar"]);
        let contents = files.contents().unwrap();
        let image = &contents.images[0];
        assert_eq!(image.id, format!("sha256:{}", hex(&Sha256::digest(&files.texts["c.json"]))));
        assert_eq!(image.names, ["web:1", "web:2"]);
        assert_eq!(image.layers[1].diff_id, "sha256:2");
        assert_eq!(contents.files(), [("a/layer.tar", 100), ("b.tar", 100)].into());
    }

    #[test]
    fn of_an_index_the_image_for_this_kind_of_machine_is_taken() {
        let [inner, manifest, config, layer, other] = ['1', '2', '3', '4', '5'].map(digest);
        let path = |digest: &str| format!("blobs/sha256/{digest}");
        let of = |digest: &str| format!("sha256:{digest}");
        let outer = json!({"manifests": [{
            "digest": of(&inner),
            "annotations": {"io.containerd.image.name": "docker.io/library/web:1"},
        }]});
        let platform = |name: &str| json!({"os": "linux", "architecture": name});
        let inner_index = json!({"manifests": [
            {"digest": of(&other), "platform": platform("arm64")},
            {"digest": of(&manifest), "platform": platform("amd64")},
            {"digest": of(&other), "platform": {"os": "unknown", "architecture": "unknown"}},
        ]});
        let manifest_text =
            json!({"config": {"digest": of(&config)}, "layers": [{"digest": of(&layer)}]});
        let config_text = json!({"rootfs": {"diff_ids": ["sha256:x"]}});
        let texts = [
            (INDEX.to_owned(), outer),
            (path(&inner), inner_index),
            (path(&manifest), manifest_text),
            (path(&config), config_text),
        ];
        let texts: Vec<_> = texts.iter().map(|(name, text)| (&**name, text.clone())).collect();
        let found = files(&texts, &[&path(&layer)]);
        let contents = found.contents().unwrap();
        assert_eq!(contents.images.len(), 1);
        assert_eq!(contents.images[0].names, ["web:1"]);
        assert_eq!(contents.images[0].layers[0].file, path(&layer));

        // What is made of it for engines says the same.
        let mut docker =
            Files { texts: found.texts.clone(), sizes: found.sizes.clone(), ..Files::default() };
        docker.texts.insert(MANIFEST.into(), render_manifest(&contents));
        assert_eq!(docker.contents().unwrap(), contents);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let error = |texts: &[(&str, serde_json::Value)]| files(texts, &[]).contents().unwrap_err();
        assert_eq!(error(&[]), "it has neither manifest.json nor index.json");
        assert_eq!(
            error(&[(INDEX, json!({"manifests": []}))]),
            "there is no image for linux/amd64 in it"
        );
        let manifest = |layers: &[&str]| json!([{"Config": "c.json", "Layers": layers}]);
        assert_eq!(error(&[(MANIFEST, manifest(&[]))]), "c.json is not in it");
        let config = json!({"rootfs": {"diff_ids": ["sha256:1"]}});
        let both = |layers| [(MANIFEST, manifest(layers)), ("c.json", config.clone())];
        assert_eq!(error(&both(&["a.tar"])), "a.tar is not in it");
        assert_eq!(error(&both(&[])), "c.json tells of 1 layers, and 0 are listed");
        let climbing = json!({"manifests": [{"digest": "sha256:../../etc/passwd"}]});
        assert_eq!(error(&[(INDEX, climbing)]), "`sha256:../../etc/passwd` is no digest");
        let own = format!("blobs/sha256/{}", digest('1'));
        let circle = json!({"manifests": [{"digest": format!("sha256:{}", digest('1'))}]});
        let circle = error(&[(INDEX, circle.clone()), (&own, circle)]);
        assert_eq!(circle, "its indexes lie too deep in one another");
    }

    #[test]
    fn a_layer_is_spared_only_on_top_of_what_lies_below_it() {
        let image = |layers: &[&str]| Image {
            id: String::new(),
            names: Vec::new(),
            config: String::new(),
            layers: layers
                .iter()
                .map(|it| Layer { diff_id: (*it).into(), file: format!("{it}.tar"), size: 1 })
                .collect(),
        };
        let spare = |images: &[&[&str]], there: &[&[&str]]| {
            let contents = Contents { images: images.iter().map(|it| image(it)).collect() };
            let there: Vec<Vec<String>> =
                there.iter().map(|it| it.iter().map(|it| (*it).to_owned()).collect()).collect();
            contents.spare_files(&there).into_iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(spare(&[&["a", "b", "c"]], &[&["a", "b", "x"]]), "a.tar b.tar");
        assert_eq!(spare(&[&["a", "b"]], &[&["b"]]), "", "b is another layer on top of a");
        assert_eq!(spare(&[&["a"], &["b", "a"]], &[&["a"]]), "", "the second image needs it");
        assert_eq!(spare(&[&["a"], &["a", "b"]], &[&["a", "b"]]), "a.tar b.tar");
        assert_eq!(spare(&[&["a"]], &[]), "");
    }

    #[test]
    fn names_are_those_that_engines_list() {
        for (given, listed) in [
            ("nginx", "nginx:latest"),
            ("docker.io/library/nginx:1", "nginx:1"),
            ("docker.io/grafana/loki", "grafana/loki:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("ghcr.io/a/b:2", "ghcr.io/a/b:2"),
        ] {
            assert_eq!(familiar(given), listed);
        }
    }
}
