//! Packages come over verified signatures only: a repository that was tampered with, at any of its
//! places, makes no image. Built by the very code that builds images, on a small repository in a directory.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use skep_core::model::ImageSpec;
use skep_driver::image::{Cache, Images as _};
use skep_sys::chain;
use skep_testkit::host::can_run_machines;

/// A repository of one package, and the keys that sign it.
struct Repository {
    dir: tempfile::TempDir,
}

impl Repository {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // apt reads as a user of its own.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let repository = Self { dir };
        for name in ["trusted", "foreign"] {
            repository.gpg(&["--quick-gen-key", &format!("{name}@example.org"), "default", "sign"]);
        }
        repository.gpg(&["--armor", "--output", "key.asc", "--export", "trusted@example.org"]);
        repository.write(
            "tiny/DEBIAN/control",
            concat!(
                "Package: tiny\nVersion: 1\nArchitecture: amd64\nEssential: yes\n",
                "Maintainer: Nobody <nobody@example.org>\nDescription: nothing\n",
            ),
        );
        repository.run("dpkg-deb", &["--build", "--root-owner-group", "tiny", "pool/tiny_1.deb"]);
        repository.index();
        repository.sign("trusted");
        repository
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::create_dir_all(self.path("pool")).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        let mut command = Command::new(program);
        let home = self.path("gnupg");
        let output =
            command.args(args).env("GNUPGHOME", home).current_dir(self.dir.path()).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program} {args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn gpg(&self, args: &[&str]) {
        let home = self.path("gnupg");
        std::fs::create_dir_all(&home).unwrap();
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).unwrap();
        let usual =
            ["--batch", "--yes", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""];
        self.run("gpg", &[&usual, args].concat());
    }

    /// Writes the list of packages, and what vouches for it.
    fn index(&self) {
        let control = std::fs::read_to_string(self.path("tiny/DEBIAN/control")).unwrap();
        let (size, sum) = self.measure("pool/tiny_1.deb");
        let packages = format!("{control}Filename: pool/tiny_1.deb\nSize: {size}\nSHA256: {sum}\n");
        self.write("dists/stable/main/binary-amd64/Packages", &packages);
        let (size, sum) = self.measure("dists/stable/main/binary-amd64/Packages");
        let release = format!(
            "Origin: test\nSuite: stable\nCodename: stable\nArchitectures: amd64\n\
             Components: main\nDate: Sat, 01 Aug 2026 00:00:00 UTC\n\
             SHA256:\n {sum} {size} main/binary-amd64/Packages\n"
        );
        self.write("dists/stable/Release", &release);
    }

    fn measure(&self, name: &str) -> (u64, String) {
        let sum = self.run("sha256sum", &[name]);
        (self.path(name).metadata().unwrap().len(), sum[..64].to_owned())
    }

    fn sign(&self, by: &str) {
        let (user, output) = (format!("{by}@example.org"), "dists/stable/InRelease");
        let release = "dists/stable/Release";
        self.gpg(&["--local-user", &user, "--output", output, "--clearsign", release]);
        std::fs::remove_file(self.path(release)).unwrap();
    }

    /// Puts other words into one of its files.
    fn tamper(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read(self.path(name)).unwrap();
        let at =
            text.windows(from.len()).position(|it| it == from.as_bytes()).expect("it is there");
        let text = [&text[..at], to.as_bytes(), &text[at + from.len()..]].concat();
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Builds an image from it, which cannot come to an end, and tells why.
    async fn build(&self) -> String {
        let mirror = format!(
            "deb [signed-by={}] copy://{} stable main",
            self.path("key.asc").display(),
            self.dir.path().display()
        );
        let spec =
            ImageSpec { suite: "stable".into(), mirror: Some(mirror), ..ImageSpec::default() };
        let cache = tempfile::tempdir().unwrap();
        let built = Cache::new(cache.path().to_owned()).ensure(&spec, &|_| ()).await;
        let images = entries(cache.path());
        assert!(!images.iter().any(|it| it.contains("manifest.json")), "{images:?}");
        chain(&built.expect_err("a repository of one package makes no image"))
    }
}

fn entries(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        all.push(entry.path().display().to_string());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(entries(&entry.path()));
        }
    }
    all
}

#[tokio::test]
async fn a_repository_that_was_tampered_with_makes_no_image() {
    if !can_run_machines() {
        return;
    }
    // As it was signed, it is believed, and lacks nearly all that a node needs.
    let said = Repository::new().build().await;
    assert!(said.contains("nable to locate package") || said.contains("dpkg"), "{said}");
    assert!(!says_no(&said), "{said}");

    let tampered: [(&str, Tamper<'_>); 6] = [
        ("the release", &|it| it.tamper("dists/stable/InRelease", "Origin: test", "Origin: evil")),
        ("the list of packages", &|it| {
            it.tamper("dists/stable/main/binary-amd64/Packages", "nothing", "mal1ce!");
        }),
        ("the package", &|it| it.tamper("pool/tiny_1.deb", "debian-binary", "debian-b1nary")),
        ("all but the signature", &|it| {
            it.tamper("tiny/DEBIAN/control", "nothing", "mal1ce!");
            it.index();
        }),
        ("the signature, by another key", &|it| {
            it.index();
            it.sign("foreign");
        }),
        ("the signature, which is gone", &|it| {
            it.index();
            std::fs::remove_file(it.path("dists/stable/InRelease")).unwrap();
        }),
    ];
    for (what, tamper) in tampered {
        let repository = Repository::new();
        tamper(&repository);
        let said = repository.build().await;
        assert!(says_no(&said), "{what}: {said}");
    }
}

/// What is done to a repository.
type Tamper<'a> = &'a dyn Fn(&Repository);

/// Tells whether apt has refused what it got.
fn says_no(said: &str) -> bool {
    let words = [
        "not signed",
        "signature",
        "NO_PUBKEY",
        "Hash Sum",
        "Hashes of expected",
        "unexpected size",
        "BADSIG",
    ];
    words.iter().any(|word| said.contains(word))
}
