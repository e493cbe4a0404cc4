//! The build of an image: mmdebstrap(1), then a page of shell, then mke2fs(8).

use std::path::Path;
use std::time::Duration;

use skep_core::model::ImageSpec;
use skep_guest::PROGRAMS;
use skep_sys::{Cmd, CmdError, FileError, checksum, shell_quoted, write_atomic};

use super::recipe::{EXCLUDED, GUEST_FILES};
use super::{Error, Manifest, Progress, cache::FORMAT, packages, probe_image};

/// What a build takes at its peak: the tree, and the disk made of it.
const ROOM_MIB: u64 = 2560;

/// How long the download and unpacking of packages may take.
const INSTALL_LIMIT: Duration = Duration::from_secs(30 * 60);

/// The root disk's smallest size; nodes grow their own copies of it.
const ROOT_MIB: u64 = 2048;

pub(super) async fn build(
    spec: &ImageSpec,
    dir: &Path,
    progress: Progress<'_>,
) -> Result<(), Error> {
    preflight(dir).await?;
    let files = dir.join("files");
    write_guest_files(&files)?;
    let tree = dir.join("tree");

    progress("looking for the packages");
    let packages = packages::choose(spec, dir).await?;
    progress("installing packages");
    install(spec, &packages, &tree, progress).await?;
    progress("making it a node");
    // The files' modes are the guest's: whoever builds it may have any umask.
    let finish = Cmd::new("sh").args(["-c", r#"umask 022; exec sh "$@""#, "sh"]);
    let finish = finish.arg(files.join("finish.sh")).arg(&tree).arg(&files).arg(dir);
    run(finish.timeout(INSTALL_LIMIT)).await?;
    progress("making the root disk");
    make_root_disk(&tree, &dir.join("root.img")).await?;
    skep_sys::remove_tree(&tree)?;
    skep_sys::remove_tree(&files)?;
    write_manifest(spec, dir)
}

async fn preflight(dir: &Path) -> Result<(), Error> {
    // Files of the tree have many owners. An ordinary user has them in a namespace only.
    Cmd::new("true").contained_root().run().await.map_err(Error::NoOwners)?;
    for program in ["mmdebstrap", "mke2fs", "xz"] {
        if let Err(CmdError::NotFound { program }) = Cmd::new(program).arg("--version").run().await
        {
            return Err(Error::Missing(program));
        }
    }
    let free_mib = skep_sys::free_space(dir)? >> 20;
    if free_mib < ROOM_MIB {
        let path = dir.to_owned();
        return Err(Error::NoSpace { path, free_mib, needed_mib: ROOM_MIB });
    }
    Ok(())
}

fn write_guest_files(dir: &Path) -> Result<(), Error> {
    std::fs::create_dir(dir).map_err(|source| FileError::new("make", dir, source))?;
    for (name, content) in GUEST_FILES {
        write_atomic(&dir.join(name), 0o644, content.as_bytes())?;
    }
    for (name, program) in PROGRAMS {
        write_atomic(&dir.join(name), 0o755, program)?;
    }
    Ok(())
}

async fn install(
    spec: &ImageSpec,
    packages: &[String],
    tree: &Path,
    progress: Progress<'_>,
) -> Result<(), Error> {
    // What it keeps while it runs goes with the build, however that ends.
    let scratch = tree.with_file_name("scratch");
    std::fs::create_dir(&scratch).map_err(|source| FileError::new("make", &scratch, source))?;
    let mut command = Cmd::new("mmdebstrap")
        .env("TMPDIR", &scratch)
        .args(["--variant=essential", "--mode=root", "--format=directory"])
        .arg(format!("--include={}", packages.join(",")))
        .timeout(INSTALL_LIMIT)
        .contained_root();
    for pattern in EXCLUDED {
        command = command.arg(format!("--dpkgopt=path-exclude={pattern}"));
    }
    let extra = tree.with_file_name("skep.list");
    if !spec.sources.is_empty() {
        write_atomic(&extra, 0o644, extra_sources(spec).as_bytes())?;
        let hook = format!(
            "--setup-hook=copy-in {} /etc/apt/sources.list.d/",
            shell_quoted(&extra.to_string_lossy())
        );
        command = command.arg(hook);
    }
    command = command.arg(&spec.suite).arg(tree).args(&spec.mirror);
    // mmdebstrap says in lines that begin with `I: ` what it is at.
    let mut on_line = |line: &str| {
        if let Some(stage) = line.strip_prefix("I: ") {
            progress(stage);
        }
    };
    command.run_lines(&mut on_line).await.map_err(Error::Build)?;
    Ok(skep_sys::remove_tree(&scratch)?)
}

/// Returns the further apt sources, each with the key that signs it (sources.list(5)).
pub(super) fn extra_sources(spec: &ImageSpec) -> String {
    let mut text = String::new();
    for source in &spec.sources {
        let line = match (&source.key, source.line.trim().strip_prefix("deb ")) {
            (Some(key), Some(rest)) => match rest.trim_start().strip_prefix('[') {
                Some(options) => format!("deb [signed-by={key} {options}"),
                None => format!("deb [signed-by={key}] {rest}"),
            },
            _ => source.line.clone(),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

async fn make_root_disk(tree: &Path, disk: &Path) -> Result<(), Error> {
    let used = run(Cmd::new("du").args(["-sm", "--"]).arg(tree)).await?;
    let used_mib: u64 = used.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let size_mib = ROOT_MIB.max(used_mib * 3 / 2 + 256);
    // The file is made sparse, and the tables in it stay holes.
    let make = Cmd::new("mke2fs")
        .args(["-q", "-t", "ext4", "-L", "skep", "-m", "1", "-E", "lazy_itable_init=1", "-d"])
        .arg(tree)
        .arg(disk)
        .arg(format!("{size_mib}M"));
    run(make.timeout(INSTALL_LIMIT)).await?;
    Ok(())
}

async fn run(command: Cmd) -> Result<String, Error> {
    Ok(command.contained_root().run().await.map_err(Error::Build)?.text())
}

fn write_manifest(spec: &ImageSpec, dir: &Path) -> Result<(), Error> {
    let fail = |path: &Path, source| FileError::new("read", path, source);
    let busybox = dir.join("busybox");
    let program = std::fs::read(&busybox).map_err(|source| fail(&busybox, source))?;
    let (archive, probe_image) = probe_image::archive(&program).map_err(|e| fail(&busybox, e))?;
    write_atomic(&dir.join("probe.tar"), 0o644, &archive)?;

    let list = dir.join("packages");
    let text = std::fs::read_to_string(&list).map_err(|source| fail(&list, source))?;
    let packages = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .collect();
    let (mut files, mut checksums) = (Vec::new(), Vec::new());
    for name in ["kernel", "initrd", "root.img", "busybox", "docker", "probe.tar"] {
        let path = dir.join(name);
        let file = std::fs::File::open(&path).map_err(|source| fail(&path, source))?;
        // What the manifest vouches for has to be on the disk before it.
        let found = file.sync_all().and_then(|()| file.metadata());
        files.push((name.to_owned(), found.map_err(|source| fail(&path, source))?.len()));
        checksums.push((name.to_owned(), checksum(&path)?));
    }
    std::fs::remove_file(&list).map_err(|source| fail(&list, source))?;
    let spec = spec.clone();
    let manifest = Manifest { format: FORMAT, spec, probe_image, packages, files, checksums };
    let text = serde_json::to_vec_pretty(&manifest).expect("a manifest has only text keys");
    Ok(write_atomic(&dir.join("manifest.json"), 0o644, &text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_core::model::AptSource;

    #[test]
    fn a_source_is_trusted_through_its_own_key_only() {
        let source = |line: &str, key: Option<&str>| AptSource {
            line: line.into(),
            key: key.map(str::to_owned),
        };
        let spec = ImageSpec {
            sources: vec![
                source("deb https://a.example trixie stable", Some("/keys/a.asc")),
                source("deb [arch=amd64] https://b.example trixie stable", Some("/keys/b.asc")),
                source("deb https://c.example trixie main", None),
            ],
            ..ImageSpec::default()
        };
        let expected = "deb [signed-by=/keys/a.asc] https://a.example trixie stable\n\
                        deb [signed-by=/keys/b.asc arch=amd64] https://b.example trixie stable\n\
                        deb https://c.example trixie main\n";
        assert_eq!(extra_sources(&spec), expected);
    }
}
