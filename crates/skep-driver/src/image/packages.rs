//! Which packages a suite has. What an image is made from is compared with that before anything is built, and the engine
//! comes in the packages that the suite has for it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use skep_core::model::ImageSpec;
use skep_sys::{Cmd, FileError, write_atomic};

use super::Error;
use super::recipe::PACKAGES;

/// The mirror if none is given; mmdebstrap(1) has the same.
const MIRROR: &str = "http://deb.debian.org/debian";

/// The suites that are looked through for what another one lacks, each with an engine of its own.
const SUITES: &[&str] = &["bookworm", "trixie", "sid"];

/// What Debian's engine comes in. Its client is a package of its own since trixie.
const DEBIAN_ENGINE: &[&str] = &["docker.io", CLIENT, "containerd"];
const CLIENT: &str = "docker-cli";

/// What Docker's own engine comes in (docs.docker.com/engine/install/debian).
const DOCKER_ENGINE: &[&str] = &["docker-ce", "docker-ce-cli", "containerd.io"];

/// How long the lists may take: they have 9 MB for a suite.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Returns the packages of an image. The default image's are known to be there; the suite is asked for any other's.
///
/// # Errors
///
/// If the suite and the further sources lack one, with the suites that have it, or cannot be read.
pub(super) async fn choose(spec: &ImageSpec, dir: &Path) -> Result<Vec<String>, Error> {
    let usual = ImageSpec { mirror: spec.mirror.clone(), ..ImageSpec::default() };
    // In the place of a mirror mmdebstrap takes a whole source too, with its own key: apt alone judges that.
    let is_source = spec.mirror.as_ref().is_some_and(|mirror| mirror.starts_with("deb "));
    if *spec == usual || is_source {
        let named = spec.packages.iter().map(String::as_str);
        return Ok(PACKAGES.iter().copied().chain(named).map(str::to_owned).collect());
    }
    let sources = super::build::extra_sources(spec);
    let names = names(&spec.suite, spec, &sources, &dir.join("lists")).await?;
    let (packages, missing) = judge(spec, &names);
    if missing.is_empty() {
        return Ok(packages);
    }
    let mut elsewhere = Vec::new();
    for suite in SUITES.iter().filter(|suite| **suite != spec.suite) {
        // A mirror need not have all suites: what cannot be read is no place to advise.
        let lists = dir.join(format!("lists-{suite}"));
        if let Ok(names) = self::names(suite, spec, "", &lists).await
            && missing.iter().all(|name| names.contains(name))
        {
            elsewhere.push((*suite).to_owned());
        }
    }
    Err(Error::Lacks { suite: spec.suite.clone(), missing, elsewhere })
}

/// Returns the packages that are wanted, and those of them that are not there.
fn judge(spec: &ImageSpec, names: &BTreeSet<String>) -> (Vec<String>, Vec<String>) {
    // apt-get(8) takes `NAME=VERSION` and `NAME/RELEASE` too.
    let bare = |name: &str| name.split(['=', '/', ':']).next().unwrap_or(name).to_owned();
    let named: BTreeSet<_> = spec.packages.iter().map(|name| bare(name)).collect();
    let is_dockers = DOCKER_ENGINE.iter().any(|name| named.contains(*name));
    let engine = if is_dockers { DOCKER_ENGINE } else { DEBIAN_ENGINE };
    let others = PACKAGES.iter().filter(|name| !DEBIAN_ENGINE.contains(name));
    let packages: BTreeSet<_> = others
        .chain(engine)
        .filter(|name| **name != CLIENT || names.contains(CLIENT))
        .filter(|name| !named.contains(**name))
        .map(|&name| name.to_owned())
        .chain(spec.packages.iter().cloned())
        .collect();
    let missing = packages.iter().filter(|name| !names.contains(&bare(name))).cloned().collect();
    (packages.into_iter().collect(), missing)
}

/// Returns the names of all packages of a suite and of further sources (apt-cache(8)).
async fn names(
    suite: &str,
    spec: &ImageSpec,
    sources: &str,
    dir: &Path,
) -> Result<BTreeSet<String>, Error> {
    for part in ["state/lists/partial", "cache/archives/partial"] {
        let path = dir.join(part);
        std::fs::create_dir_all(&path).map_err(|source| FileError::new("make", &path, source))?;
    }
    let mirror = spec.mirror.as_deref().unwrap_or(MIRROR);
    let list = format!("deb {mirror} {suite} main\n{sources}");
    write_atomic(&dir.join("sources.list"), 0o644, list.as_bytes())?;
    write_atomic(&dir.join("status"), 0o644, b"")?;
    write_atomic(&dir.join("apt.conf"), 0o644, configuration(dir).as_bytes())?;
    let apt = |program| Cmd::new(program).env("APT_CONFIG", dir.join("apt.conf")).timeout(LIMIT);
    apt("apt-get").args(["update", "-q"]).run().await.map_err(Error::Build)?;
    let listed = apt("apt-cache").arg("pkgnames").run().await.map_err(Error::Build)?.text();
    Ok(listed.lines().map(str::to_owned).collect())
}

/// Returns what keeps apt to a directory of its own (apt.conf(5)). Its proxies stay the host's.
fn configuration(dir: &Path) -> String {
    let quoted = |part: &str| format!("{:?}", dir.join(part).display().to_string());
    let lines = [
        ("Dir::State", quoted("state")),
        ("Dir::State::status", quoted("status")),
        ("Dir::Cache", quoted("cache")),
        ("Dir::Etc::SourceList", quoted("sources.list")),
        ("Dir::Etc::SourceParts", "\"/dev/null\"".to_owned()),
        ("Dir::Etc::TrustedParts", "\"/usr/share/keyrings\"".to_owned()),
        ("APT::Architecture", "\"amd64\"".to_owned()),
        ("APT::Architectures", "{ \"amd64\"; }".to_owned()),
        // A list that could not be fetched would look like packages that are not there.
        ("APT::Update::Error-Mode", "\"any\"".to_owned()),
        // It runs as whoever builds: another user could not read the directory.
        ("APT::Sandbox::User", "\"\"".to_owned()),
        ("Acquire::Languages", "\"none\"".to_owned()),
    ];
    lines.iter().map(|(key, value)| format!("{key} {value};\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(more: &[&str]) -> BTreeSet<String> {
        let usual = PACKAGES.iter().filter(|name| **name != CLIENT);
        usual.chain(more).map(|&name| name.to_owned()).collect()
    }

    fn of(packages: &[&str]) -> ImageSpec {
        let packages = packages.iter().map(|&name| name.to_owned()).collect();
        ImageSpec { suite: "other".to_owned(), packages, ..ImageSpec::default() }
    }

    #[test]
    fn the_client_is_asked_for_where_it_is_a_package_of_its_own() {
        let has = |names: &BTreeSet<String>| {
            let (packages, missing) = judge(&of(&[]), names);
            assert_eq!(missing, [""; 0]);
            assert!(packages.contains(&"docker.io".to_owned()));
            packages.contains(&CLIENT.to_owned())
        };
        assert_eq!((has(&names(&[])), has(&names(&[CLIENT]))), (false, true));
    }

    #[test]
    fn dockers_own_engine_takes_the_place_of_debians() {
        let spec = of(&["docker-ce=5:28.5.1-1~debian.13~trixie"]);
        let (packages, missing) = judge(&spec, &names(&["docker-ce", "containerd.io"]));
        assert_eq!(missing, ["docker-ce-cli"]);
        assert!(
            packages.iter().all(|name| !DEBIAN_ENGINE.contains(&name.as_str())),
            "{packages:?}"
        );
    }

    #[test]
    fn what_a_suite_lacks_is_named() {
        let (_, missing) = judge(&of(&["strace", "nosuch", "curl/stable"]), &names(&["strace"]));
        assert_eq!(missing, ["nosuch"]);
    }

    #[test]
    fn the_usual_image_asks_nobody() {
        let spec =
            ImageSpec { mirror: Some("http://192.0.2.1/none".into()), ..ImageSpec::default() };
        let chosen = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(choose(&spec, Path::new("/nowhere")));
        assert_eq!(chosen.unwrap(), PACKAGES);
    }
}
