//! Images that are made of nothing.

use std::path::Path;

use async_trait::async_trait;
use skep_core::model::ImageSpec;
use skep_driver::image::{Error, Image, Images, Manifest, Progress};

use super::{FakeHost, file_error};

fn injected() -> Error {
    Error::File(file_error())
}

fn image(dir: &Path) -> Image {
    let manifest = Manifest {
        format: 1,
        spec: ImageSpec::default(),
        probe_image: "sha256:0".to_owned(),
        packages: Vec::new(),
        files: Vec::new(),
        checksums: Vec::new(),
    };
    Image { id: "0123456789abcdef".to_owned(), dir: dir.to_owned(), manifest }
}

#[async_trait]
impl Images for FakeHost {
    async fn ensure(&self, _spec: &ImageSpec, progress: Progress<'_>) -> Result<Image, Error> {
        progress("making nothing");
        self.act(injected, |_| Ok(image(&self.dir.path().join("image"))))
    }

    fn with_root_disk(&self, root_disk: &Path) -> Result<Image, Error> {
        let gone = || Error::Gone(root_disk.to_owned());
        self.act(injected, |_| Ok(image(root_disk.parent().ok_or_else(gone)?)))
    }
}
