//! The cache of images.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde::Serialize;
use skep_core::model::ImageSpec;
use skep_store::{Entries, Entry, Kind, Note};
use skep_sys::{Lock, read_own};

use super::{Error, Image, Images, Manifest, Progress, build, image_id, verified};

/// The number of the manifest's format.
pub(super) const FORMAT: u32 = 1;

/// A directory of images.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    /// Keep those that this process uses from being removed.
    used: Arc<Mutex<BTreeMap<String, Lock>>>,
}

/// One entry of the cache, for a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CachedImage {
    /// Its address.
    pub id: String,
    /// The suite that it is made of; none if the image is damaged or only a part of one.
    pub suite: Option<String>,
    /// What it takes on disk, in bytes.
    pub bytes: u64,
    /// Its directory.
    #[serde(skip)]
    pub dir: PathBuf,
}

impl Cache {
    /// Creates a cache in a directory, which need not exist yet.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root, used: Arc::default() }
    }

    /// Returns the cache's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the image if it is there and whole.
    ///
    /// # Errors
    ///
    /// If the key of an apt source cannot be read.
    pub fn find(&self, spec: &ImageSpec) -> Result<Option<Image>, Error> {
        let id = image_id(spec)?;
        Ok(self.images().of(&id).iter().rev().find_map(|dir| open(dir)))
    }

    /// Lists what is in the cache, parts of interrupted builds included.
    ///
    /// # Errors
    ///
    /// If the cache cannot be read.
    pub fn list(&self) -> Result<Vec<CachedImage>, Error> {
        Ok(self.images().list()?.into_iter().map(CachedImage::of).collect())
    }

    /// Removes all images but those in `keep` and those in use, and what interrupted builds left.
    /// Returns what was removed.
    ///
    /// # Errors
    ///
    /// If the cache cannot be read or an image cannot be removed.
    pub fn prune(&self, keep: &[String]) -> Result<Vec<CachedImage>, Error> {
        // What they are is known only before they are removed.
        let known = self.list()?;
        let removed = self.images().prune::<Error>(keep)?;
        let removed = removed.into_iter().map(|entry| entry.id);
        Ok(removed.filter_map(|id| known.iter().find(|image| image.id == id).cloned()).collect())
    }

    fn images(&self) -> Entries {
        Entries::new(self.root.join("images"))
    }
}

impl CachedImage {
    fn of(entry: Entry) -> Self {
        let suite = open(&entry.dir).map(|image| image.manifest.spec.suite);
        Self { id: entry.id, suite, bytes: entry.bytes, dir: entry.dir }
    }
}

/// The making of one image.
struct Making<'a> {
    spec: &'a ImageSpec,
    progress: Progress<'a>,
}

impl Kind for Making<'_> {
    type Entry = Image;
    type Error = Error;

    async fn read(&self, dir: &Path) -> Option<Image> {
        open(dir)
    }

    async fn open(&self, dir: &Path) -> Option<Image> {
        let image = open(dir)?;
        let (dir, checksums) = (dir.to_owned(), image.manifest.checksums.clone());
        let whole = tokio::task::spawn_blocking(move || verified::is_whole(&dir, &checksums));
        whole.await.ok()?.then_some(image)
    }

    async fn make(&self, dir: &Path) -> Result<(), Error> {
        build::build(self.spec, dir, self.progress).await
    }

    fn note(&self, note: Note) {
        (self.progress)(&match note {
            Note::Elsewhere(holder) => format!("waiting for {holder}, which builds this image"),
            Note::Damaged => "the cached image is damaged and another one is built".to_owned(),
        });
    }
}

#[async_trait]
impl Images for Cache {
    async fn ensure(&self, spec: &ImageSpec, progress: Progress<'_>) -> Result<Image, Error> {
        let id = image_id(spec)?;
        let making = Making { spec, progress };
        let (image, lock) = self.images().ensure(&id, &making).await?;
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(id, lock);
        Ok(image)
    }

    fn with_root_disk(&self, root_disk: &Path) -> Result<Image, Error> {
        let gone = || Error::Gone(root_disk.to_owned());
        let dir = root_disk.parent().ok_or_else(gone)?;
        open(dir).ok_or_else(gone)
    }
}

/// Reads an image; none if any of it is missing or of another size than it was made with.
fn open(dir: &Path) -> Option<Image> {
    let id = dir.file_name()?.to_str()?;
    if id.starts_with('.') {
        return None;
    }
    let text = read_own(&dir.join("manifest.json")).ok()?;
    let manifest: Manifest = serde_json::from_slice(&text).ok()?;
    let whole = manifest.format == FORMAT
        && !manifest.files.is_empty()
        && manifest.files.iter().all(|(name, size)| {
            std::fs::metadata(dir.join(name)).is_ok_and(|found| found.len() == *size)
        });
    whole.then(|| Image { id: id.to_owned(), dir: dir.to_owned(), manifest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_sys::checksum;

    fn put_image(cache: &Cache, spec: &ImageSpec) -> PathBuf {
        let dir = cache.images().path(&image_id(spec).unwrap());
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("kernel"), "kernel").unwrap();
        let manifest = Manifest {
            format: FORMAT,
            spec: spec.clone(),
            probe_image: "sha256:0".into(),
            packages: Vec::new(),
            files: vec![("kernel".into(), 6)],
            checksums: vec![("kernel".into(), checksum(&dir.join("kernel")).unwrap())],
        };
        let text = serde_json::to_vec(&manifest).unwrap();
        std::fs::write(dir.join("manifest.json"), text).unwrap();
        dir
    }

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().to_owned());
        (dir, cache)
    }

    #[test]
    fn an_image_is_found_by_the_disk_that_others_stand_on() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::new(home.path().to_owned());
        let dir = put_image(&cache, &ImageSpec::default());
        let found = cache.with_root_disk(&dir.join("root.img")).unwrap();
        assert_eq!((found.kernel(), found.id.len()), (dir.join("kernel"), 16));
        std::fs::remove_file(dir.join("kernel")).unwrap();
        let error = cache.with_root_disk(&dir.join("root.img")).unwrap_err().to_string();
        assert!(error.contains("is missing or damaged"), "{error}");
    }

    #[test]
    fn a_damaged_image_is_not_found() {
        let (_dir, cache) = cache();
        let spec = ImageSpec::default();
        assert_eq!(cache.find(&spec).unwrap(), None);
        let dir = put_image(&cache, &spec);
        assert!(cache.find(&spec).unwrap().is_some());
        std::fs::write(dir.join("kernel"), "kern").unwrap();
        assert_eq!(cache.find(&spec).unwrap(), None);
        std::fs::remove_file(dir.join("kernel")).unwrap();
        assert_eq!(cache.find(&spec).unwrap(), None);
    }

    #[tokio::test]
    async fn a_flipped_bit_in_an_image_is_noticed_before_it_is_used() {
        let (_dir, cache) = cache();
        let spec = ImageSpec::default();
        let dir = put_image(&cache, &spec);
        let making = Making { spec: &spec, progress: &|_| () };
        assert!(making.open(&dir).await.is_some() && making.open(&dir).await.is_some());
        std::fs::write(dir.join("kernel"), "kernem").unwrap();
        assert!(cache.find(&spec).unwrap().is_some(), "its size is as it was");
        assert!(making.open(&dir).await.is_none());
        std::fs::write(dir.join("kernel"), "kernel").unwrap();
        assert!(making.open(&dir).await.is_some());
    }

    #[test]
    fn prune_keeps_what_is_used_and_removes_the_rest() {
        let (_dir, cache) = cache();
        let used = put_image(&cache, &ImageSpec::default());
        let spare = put_image(&cache, &ImageSpec { suite: "sid".into(), ..Default::default() });
        let partial = cache.images().path(".building-0123456789abcdef");
        std::fs::create_dir(&partial).unwrap();
        let keep = vec![image_id(&ImageSpec::default()).unwrap()];
        assert_eq!(cache.list().unwrap().len(), 3);
        assert_eq!(cache.prune(&keep).unwrap().len(), 2);
        assert!(used.exists() && !spare.exists() && !partial.exists());
    }
}
