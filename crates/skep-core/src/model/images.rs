//! Container images that the engines of a cluster are to have.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Where container images come from, and which they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSet {
    /// A reference in the host's own store of images, or the absolute path of an archive or layout.
    pub source: String,
    /// The images that were in it when it was looked at; none if that cannot be told before it is
    /// read, as of a pipe.
    #[serde(default)]
    pub images: Vec<ContainerImage>,
}

/// One container image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerImage {
    /// Its ID: the digest of its configuration (OCI Image Specification 1.1), such as `sha256:…`.
    pub id: String,
    /// The names with tags that it gets, as engines list them.
    #[serde(default)]
    pub names: Vec<String>,
}

/// The images that an engine has: their names by their IDs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineImages(pub BTreeMap<String, BTreeSet<String>>);

impl EngineImages {
    /// Returns what an engine has that has these images and no others.
    #[must_use]
    pub fn of(sets: &[ImageSet]) -> Self {
        let mut own = Self::default();
        sets.iter().for_each(|set| own.add(set));
        own
    }

    /// Adds the images of a set; a name that another image had becomes the new one's.
    pub fn add(&mut self, set: &ImageSet) {
        for image in &set.images {
            for names in self.0.values_mut() {
                names.retain(|name| !image.names.contains(name));
            }
            self.0.entry(image.id.clone()).or_default().extend(image.names.iter().cloned());
        }
    }

    /// Tells whether the engine has an image under all of its names.
    #[must_use]
    pub fn has(&self, image: &ContainerImage) -> bool {
        let names = self.0.get(&image.id);
        names.is_some_and(|names| image.names.iter().all(|name| names.contains(name)))
    }

    /// Tells whether the engine has all images of a set. What is in one that was not looked into is
    /// not known, so it never has that.
    #[must_use]
    pub fn has_all(&self, set: &ImageSet) -> bool {
        !set.images.is_empty() && set.images.iter().all(|image| self.has(image))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_has_an_image_only_under_all_its_names() {
        let image = |names: &[&str]| ContainerImage {
            id: "sha256:a".into(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let engine = EngineImages([("sha256:a".to_owned(), ["web:1".to_owned()].into())].into());
        assert!(engine.has(&image(&[])) && engine.has(&image(&["web:1"])));
        assert!(!engine.has(&image(&["web:1", "web:2"])));
        assert!(!EngineImages::default().has(&image(&[])));
        let set = |images| ImageSet { source: "-".into(), images };
        assert!(engine.has_all(&set(vec![image(&["web:1"])])));
        assert!(!engine.has_all(&set(vec![])), "what is in a pipe is not known");
    }
}
