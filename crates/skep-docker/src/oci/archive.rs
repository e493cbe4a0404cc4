//! Archives of images: a tar stream, perhaps compressed.

use std::io::{BufReader, Cursor, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tar::{Archive, Entry, EntryType, Header};

use super::index::{Contents, Files, MANIFEST, render_manifest};
use super::{Error, Input, Piece, Put, not_images, read_error};

/// The size of a piece.
const PIECE: usize = 256 << 10;

/// How much of one file is kept to look into, and of all. Manifests and configurations are far
/// smaller; a layer may begin like one, which is forgotten when it is larger.
const TEXT: u64 = 1 << 20;
const TEXTS: usize = 16 << 20;

/// What files begin with that are compressed (RFC 1952, RFC 8878, and those of bzip2 and xz).
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const OTHERS: [(&[u8], &str); 2] = [(b"BZh", "bzip2"), (&[0xfd, b'7', b'z', b'X', b'Z'], "xz")];

/// What ends a tar stream: two empty blocks.
const END: [u8; 1024] = [0; 1024];

/// Opens an archive's file.
pub(super) fn open(path: &Path) -> Result<Input, Error> {
    let file = std::fs::File::open(path).map_err(|source| read_error(path.display(), source))?;
    Ok(Box::new(file))
}

/// Looks at what is in an archive.
pub(super) fn contents(name: &str, input: Input) -> Result<Contents, Error> {
    let mut files = Files::default();
    each_entry(name, input, |entry| {
        files.links.extend(link_of(&entry));
        if let Some((path, size)) = regular(&entry) {
            files.sizes.insert(path.clone(), size);
            let mut text = Vec::new();
            if size <= TEXT && begins_as_json(entry, &mut text)? {
                files.keep(path, text);
            }
        }
        Ok(())
    })?;
    files.contents().map_err(|why| not_images(name, why))
}

/// Streams an archive; one that has no manifest.json gets one.
pub(super) fn stream(name: &str, input: Input, put: Put<'_>) -> Result<Contents, Error> {
    let mut files = Files::default();
    each_entry(name, input, |mut entry| {
        let Some(header) = header_of(&entry)? else { return Ok(()) };
        files.links.extend(link_of(&entry));
        let path = path_of(&entry);
        let file: Arc<str> = path.as_str().into();
        let size = entry.size();
        put(Piece { file: file.clone(), bytes: header.into() })?;
        let mut text = Vec::new();
        let mut left = size;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let mut bytes = vec![0; wanted];
            entry.read_exact(&mut bytes)?;
            if size <= TEXT {
                text.extend_from_slice(&bytes);
            }
            put(Piece { file: file.clone(), bytes: bytes.into() })?;
            left -= wanted as u64;
        }
        if let Some(padding) = padding(size) {
            put(Piece { file, bytes: padding })?;
        }
        if entry.header().entry_type().is_file() {
            files.sizes.insert(path.clone(), size);
            if is_json(&text) {
                files.keep(path, text);
            }
        }
        Ok(())
    })?;
    let contents = files.contents().map_err(|why| not_images(name, why))?;
    let mut end = || -> std::io::Result<()> {
        if !files.texts.contains_key(MANIFEST) {
            put_file(MANIFEST, &render_manifest(&contents), put)?;
        }
        put(Piece { file: "".into(), bytes: Bytes::from_static(&END) })
    };
    end().map_err(|source| read_error(name, source))?;
    Ok(contents)
}

impl Files {
    fn keep(&mut self, path: String, text: Vec<u8>) {
        let kept: usize = self.texts.values().map(Vec::len).sum();
        if kept + text.len() <= TEXTS {
            self.texts.insert(path, text);
        }
    }
}

/// Puts a whole small file into a stream.
pub(super) fn put_file(name: &str, content: &[u8], put: Put<'_>) -> std::io::Result<()> {
    put_header(name, content.len() as u64, put)?;
    put(Piece { file: name.into(), bytes: Bytes::copy_from_slice(content) })?;
    if let Some(padding) = padding(content.len() as u64) {
        put(Piece { file: name.into(), bytes: padding })?;
    }
    Ok(())
}

/// Puts a file of the host into a stream.
pub(super) fn put_path(name: &str, path: &Path, size: u64, put: Put<'_>) -> std::io::Result<()> {
    put_header(name, size, put)?;
    let file: Arc<str> = name.into();
    let mut from = std::fs::File::open(path)?;
    let mut left = size;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let mut bytes = vec![0; wanted];
        from.read_exact(&mut bytes)?;
        put(Piece { file: file.clone(), bytes: bytes.into() })?;
        left -= wanted as u64;
    }
    match padding(size) {
        Some(padding) => put(Piece { file, bytes: padding }),
        None => Ok(()),
    }
}

/// Puts the end of a stream.
pub(super) fn put_end(put: Put<'_>) -> std::io::Result<()> {
    put(Piece { file: "".into(), bytes: Bytes::from_static(&END) })
}

fn put_header(name: &str, size: u64, put: Put<'_>) -> std::io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(size);
    let bytes = rendered(&mut header, Path::new(name), None)?;
    put(Piece { file: name.into(), bytes: bytes.into() })
}

/// Calls a function for each entry of an archive.
fn each_entry(
    name: &str,
    input: Input,
    mut each: impl FnMut(Entry<'_, Input>) -> std::io::Result<()>,
) -> Result<(), Error> {
    let mut archive = Archive::new(decompressed(name, input)?);
    let mut found = false;
    let broken = |source: std::io::Error, found: bool| match source.kind() {
        ErrorKind::BrokenPipe => read_error(name, source),
        // What the tar library says of a file that is none tells nobody anything.
        ErrorKind::UnexpectedEof => not_images(name, "it ends in the midst of a file"),
        _ if !found => not_images(name, "it is no tar file"),
        ErrorKind::Other if source.to_string().contains("unexpected EOF") => {
            not_images(name, "it ends in the midst of a file")
        }
        _ => read_error(name, source),
    };
    for entry in archive.entries().map_err(|source| broken(source, found))? {
        let entry = entry.map_err(|source| broken(source, found))?;
        found = true;
        each(entry).map_err(|source| broken(source, found))?;
    }
    let mut rest = archive.into_inner();
    // What writes into a pipe fails if nobody reads what it fills its last block with; what failed
    // itself says so at the end.
    std::io::copy(&mut rest, &mut std::io::sink()).map_err(|source| read_error(name, source))?;
    if found { Ok(()) } else { Err(not_images(name, "it is empty")) }
}

/// Returns what an archive's stream is when it is not compressed.
fn decompressed(name: &str, mut input: Input) -> Result<Input, Error> {
    let mut magic = Vec::new();
    let begun = input.by_ref().take(6).read_to_end(&mut magic);
    begun.map_err(|source| read_error(name, source))?;
    if let Some((_, kind)) = OTHERS.iter().find(|(begin, _)| magic.starts_with(begin)) {
        return Err(not_images(name, format!("it is compressed with {kind}; take gzip or zstd")));
    }
    let is = |begin: &[u8]| magic.starts_with(begin);
    let (gzip, zstd) = (is(GZIP), is(ZSTD));
    let whole = Cursor::new(magic).chain(input);
    if gzip {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(whole))));
    }
    if zstd {
        let decoder = ruzstd::decoding::StreamingDecoder::new(BufReader::new(whole));
        return Ok(Box::new(decoder.map_err(|error| not_images(name, error))?));
    }
    Ok(Box::new(whole))
}

fn regular(entry: &Entry<'_, Input>) -> Option<(String, u64)> {
    entry.header().entry_type().is_file().then(|| (path_of(entry), entry.size()))
}

fn path_of(entry: &Entry<'_, Input>) -> String {
    let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    path.strip_prefix("./").map(str::to_owned).unwrap_or(path)
}

/// Returns a link and the path in the archive that it stands for.
fn link_of(entry: &Entry<'_, Input>) -> Option<(String, String)> {
    let kind = entry.header().entry_type();
    let path = path_of(entry);
    let target = String::from_utf8_lossy(&entry.link_name_bytes()?).into_owned();
    let mut parts: Vec<&str> = Vec::new();
    // A symbolic link begins where it is, a hard link at the archive's root.
    if kind.is_symlink() {
        parts.extend(path.rsplit_once('/').map_or("", |(dir, _)| dir).split('/'));
    } else if !kind.is_hard_link() {
        return None;
    }
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.retain(|part| !part.is_empty());
    let target = parts.join("/");
    Some((path, target))
}

/// Reads a file that begins like JSON; returns whether it does.
fn begins_as_json(mut entry: Entry<'_, Input>, text: &mut Vec<u8>) -> std::io::Result<bool> {
    entry.by_ref().take(1).read_to_end(text)?;
    if !is_json(text) {
        return Ok(false);
    }
    entry.read_to_end(text)?;
    Ok(true)
}

fn is_json(text: &[u8]) -> bool {
    matches!(text.first(), Some(b'{' | b'['))
}

/// Returns an entry's header as it goes on; none of what has no place in an archive of images.
fn header_of(entry: &Entry<'_, Input>) -> std::io::Result<Option<Vec<u8>>> {
    let kind = entry.header().entry_type();
    if !(kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link()) {
        return Ok(None);
    }
    let mut header = Header::new_gnu();
    header.set_entry_type(if kind.is_file() { EntryType::Regular } else { kind });
    header.set_mode(entry.header().mode().unwrap_or(0o644));
    header.set_mtime(entry.header().mtime().unwrap_or(0));
    header.set_size(entry.size());
    let path = entry.path()?;
    let link = entry.link_name()?;
    rendered(&mut header, &path, link.as_deref()).map(Some)
}

/// Returns the blocks of a header; a path that is too long for one has blocks of its own before it.
fn rendered(header: &mut Header, path: &Path, link: Option<&Path>) -> std::io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    match link {
        Some(link) => builder.append_link(header, path, link)?,
        None => builder.append_data(header, path, std::io::empty())?,
    }
    let mut blocks = builder.into_inner()?;
    // Without the end of the archive that it would be.
    blocks.truncate(blocks.len() - END.len());
    Ok(blocks)
}

/// Returns what fills a file's last block.
fn padding(size: u64) -> Option<Bytes> {
    let over = usize::try_from(size % 512).expect("below 512");
    (over > 0).then(|| Bytes::from_static(&END[..512 - over]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write;

    use serde_json::json;
    use sha2::{Digest, Sha256};

    use super::super::index::INDEX;
    use super::*;
    use skep_sys::hex;

    /// A layer of several pieces that ends within a block.
    fn layer() -> Vec<u8> {
        (0..PIECE * 2 + 700).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn config() -> Vec<u8> {
        json!({"rootfs": {"diff_ids": ["sha256:1"]}}).to_string().into_bytes()
    }

    fn docker_archive() -> Vec<u8> {
        let manifest =
            json!([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l/layer.tar"]}]);
        let manifest = manifest.to_string();
        tar_of(&[("l/layer.tar", &layer()), ("c.json", &config()), (MANIFEST, manifest.as_bytes())])
    }

    /// An image that has one layer twice, as docker 24 saves it.
    fn archive_with_a_link() -> Vec<u8> {
        let config = json!({"rootfs": {"diff_ids": ["sha256:1", "sha256:1"]}}).to_string();
        let layers = ["l/layer.tar", "m/layer.tar"];
        let manifest = json!([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": layers}]);
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, content: &[u8]| {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, content).unwrap();
        };
        add("l/layer.tar", &layer());
        add("c.json", config.as_bytes());
        add(MANIFEST, manifest.to_string().as_bytes());
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "m/layer.tar", "../l/layer.tar").unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_layer_that_is_a_link_is_the_file_that_it_leads_to() {
        let bytes = archive_with_a_link();
        let (contents, whole, lengths) = streamed(&bytes);
        assert_eq!(super::contents("it", input(&bytes)).unwrap(), contents);
        let files: Vec<_> = contents.images[0].layers.iter().map(|it| it.file.as_str()).collect();
        assert_eq!(files, ["l/layer.tar"; 2]);
        assert!(lengths.contains_key("m/layer.tar"), "the link goes to the engine as it is");
        let mut archive = Archive::new(&whole[..]);
        let links = archive.entries().unwrap().filter(|it| {
            let entry = it.as_ref().unwrap();
            entry.header().entry_type().is_symlink() && entry.link_name().unwrap().is_some()
        });
        assert_eq!(links.count(), 1);
        // An engine that has the first layer alone still needs the file for the second.
        assert!(contents.spare_files(&[vec!["sha256:1".to_owned()]]).is_empty());
        assert_eq!(contents.spare_files(&[vec!["sha256:1".to_owned(); 2]]).len(), 1);
    }

    fn oci_archive() -> Vec<u8> {
        let digest = |bytes: &[u8]| hex(&Sha256::digest(bytes));
        let (config, layer) = (config(), layer());
        let of = |bytes: &[u8]| json!({"digest": format!("sha256:{}", digest(bytes))});
        let manifest = json!({"config": of(&config), "layers": [of(&layer)]}).to_string();
        let index = json!({"manifests": [of(manifest.as_bytes())]}).to_string();
        let blob = |bytes: &[u8]| format!("./blobs/sha256/{}", digest(bytes));
        tar_of(&[
            (INDEX, index.as_bytes()),
            (&blob(manifest.as_bytes()), manifest.as_bytes()),
            (&blob(&layer), &layer),
            (&blob(&config), &config),
        ])
    }

    fn input(bytes: &[u8]) -> Input {
        Box::new(Cursor::new(bytes.to_vec()))
    }

    /// Streams an archive; returns what was in it, the stream, and its length by files.
    fn streamed(bytes: &[u8]) -> (Contents, Vec<u8>, BTreeMap<String, usize>) {
        let (mut whole, mut lengths) = (Vec::new(), BTreeMap::new());
        let contents = stream("it", input(bytes), &mut |piece| {
            assert!(piece.bytes.len() <= PIECE.max(4096));
            *lengths.entry(piece.file.to_string()).or_default() += piece.bytes.len();
            whole.extend_from_slice(&piece.bytes);
            Ok(())
        });
        (contents.unwrap(), whole, lengths)
    }

    #[test]
    fn a_streamed_archive_says_what_the_file_says() {
        for archive in [docker_archive(), oci_archive()] {
            let expected = contents("it", input(&archive)).unwrap();
            let (told, whole, lengths) = streamed(&archive);
            assert_eq!(told, expected);
            assert_eq!(contents("it", input(&whole)).unwrap(), expected, "it can be read again");
            let layer_file = &expected.images[0].layers[0].file;
            assert!(lengths[layer_file] > layer().len());
            assert_eq!(whole.len() % 512, 0);

            // Without a file, the rest is as whole as before.
            let mut rest = Vec::new();
            stream("it", input(&archive), &mut |piece| {
                if *piece.file != **layer_file {
                    rest.extend_from_slice(&piece.bytes);
                }
                Ok(())
            })
            .unwrap();
            assert_eq!(whole.len() - rest.len(), lengths[layer_file]);
            let error = contents("it", input(&rest)).unwrap_err().to_string();
            assert!(error.ends_with(&format!("{layer_file} is not in it")), "{error}");
        }
    }

    #[test]
    fn an_oci_archive_gets_what_engines_read() {
        let (_, whole, lengths) = streamed(&oci_archive());
        assert!(lengths.contains_key(MANIFEST));
        let mut docker = Files::default();
        each_entry("it", input(&whole), |mut entry| {
            if path_of(&entry) == MANIFEST {
                let mut text = Vec::new();
                entry.read_to_end(&mut text)?;
                docker.texts.insert(MANIFEST.into(), text);
            }
            Ok(())
        })
        .unwrap();
        assert!(
            String::from_utf8_lossy(&docker.texts[MANIFEST]).contains("\"Config\":\"blobs/sha256/")
        );
    }

    #[test]
    fn compressed_archives_are_read() {
        let archive = docker_archive();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&archive).unwrap();
        let zstd = ruzstd::encoding::compress_to_vec(
            Cursor::new(&archive),
            ruzstd::encoding::CompressionLevel::Fastest,
        );
        let expected = contents("it", input(&archive)).unwrap();
        for compressed in [gzip.finish().unwrap(), zstd] {
            assert_eq!(contents("it", input(&compressed)).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_none_is_told() {
        let archive = docker_archive();
        for (bytes, why) in [
            (&b""[..], "it is empty"),
            (b"# a text that is long enough to be more than one line\n", "it is no tar file"),
            (b"BZh91AY&SY", "it is compressed with bzip2; take gzip or zstd"),
            (&archive[..archive.len() / 2], "it ends in the midst of a file"),
            (&tar_of(&[("a", b"b")]), "it has neither manifest.json nor index.json"),
        ] {
            let expected = format!("it is not an archive of container images: {why}");
            assert_eq!(contents("it", input(bytes)).unwrap_err().to_string(), expected);
            let streamed = stream("it", input(bytes), &mut |_| Ok(())).unwrap_err();
            assert_eq!(streamed.to_string(), expected);
        }
        let text = vec![b'x'; 4096];
        let error = contents("it", input(&text)).unwrap_err().to_string();
        assert_eq!(error, "it is not an archive of container images: it is no tar file");
    }

    #[test]
    fn who_does_not_listen_any_more_ends_the_stream() {
        let gone = || std::io::Error::from(ErrorKind::BrokenPipe);
        let error = stream("it", input(&docker_archive()), &mut |_| Err(gone())).unwrap_err();
        assert!(matches!(error, Error::Read { .. }), "{error}");
    }
}
