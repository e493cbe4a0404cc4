//! OCI's image layout: a directory of blobs with an index.

use std::path::Path;

use super::archive::{put_end, put_file, put_path};
use super::index::{Contents, Files, INDEX, MANIFEST, render_manifest};
use super::{Error, Put, not_images, read_error};

/// The largest blob that is looked into: manifests and configurations are far smaller.
const TEXT: u64 = 1 << 20;

/// Looks at what is in a layout.
pub(super) fn contents(dir: &Path) -> Result<Contents, Error> {
    let name = dir.display();
    let fail = |source| read_error(&name, source);
    let mut files = Files::default();
    if !dir.join(INDEX).is_file() {
        return Err(not_images(&name, format!("the directory has no {INDEX}")));
    }
    let index = std::fs::read(dir.join(INDEX)).map_err(fail)?;
    files.texts.insert(INDEX.to_owned(), index);
    for kind in std::fs::read_dir(dir.join("blobs")).map_err(fail)?.flatten() {
        for blob in std::fs::read_dir(kind.path()).map_err(fail)?.flatten() {
            let (kind, hex) = (kind.file_name(), blob.file_name());
            let file = format!("blobs/{}/{}", kind.to_string_lossy(), hex.to_string_lossy());
            let size = blob.metadata().map_err(fail)?.len();
            if size <= TEXT {
                let text = std::fs::read(blob.path()).map_err(fail)?;
                if matches!(text.first(), Some(b'{')) {
                    files.texts.insert(file.clone(), text);
                }
            }
            files.sizes.insert(file, size);
        }
    }
    files.contents().map_err(|why| not_images(&name, why))
}

/// Streams what engines need of a layout as an archive.
pub(super) fn stream(dir: &Path, put: Put<'_>) -> Result<Contents, Error> {
    let contents = contents(dir)?;
    let mut all = || -> std::io::Result<()> {
        for image in &contents.images {
            put_file(&image.config, &std::fs::read(dir.join(&image.config))?, put)?;
        }
        for (file, size) in contents.files() {
            put_path(file, &dir.join(file), size, put)?;
        }
        put_file(MANIFEST, &render_manifest(&contents), put)?;
        put_end(put)
    };
    all().map_err(|source| read_error(dir.display(), source))?;
    Ok(contents)
}
