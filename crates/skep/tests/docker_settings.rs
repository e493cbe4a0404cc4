//! Whatever the user's settings for the docker command are, skep reads this host's images.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use skep_testkit::home::{Home, Said, finish};

const SKEP: &str = env!("CARGO_BIN_EXE_skep");

/// A docker command that has the image only where `$EXPECTED` says that it should ask.
const DOCKER: &str = r#"#!/bin/sh
asked="${DOCKER_HOST-none} ${DOCKER_CONTEXT-none} ${DOCKER_CERT_PATH-none} ${DOCKER_API_VERSION-none}"
if [ "$asked" != "$EXPECTED" ]; then
	echo "asked $asked" >&2
	exit 1
fi
echo '{"Id": "sha256:c0", "GraphDriver": {"Data": {"UpperDir": "/x"}}, "RootFS": {"Layers": ["sha256:1"]}}'
"#;

fn program(dir: &Path, name: &str, text: &str) {
    fs::create_dir_all(dir).unwrap();
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A home with a cluster file that wants an image of this host, and the docker command in front of all others.
struct Settings {
    home: Home,
    file: PathBuf,
}

impl Settings {
    fn new() -> Self {
        let home = Home::new(SKEP);
        let file = home.path().join("demo.yaml");
        fs::write(&file, "name: demo\nimages: [web:9]\nsubnet: 10.5.0.0/24\n").unwrap();
        program(&home.path().join("bin"), "docker", DOCKER);
        // What the tests' host has of podman must not answer in its place.
        program(
            &home.path().join("bin"),
            "podman",
            "#!/bin/sh\necho 'no podman here' >&2\nexit 1\n",
        );
        Self { home, file }
    }

    fn dry_run(&self, dirs: &[&str], expected: &str, set: &[(&str, &str)]) -> Said {
        let mut up = self.home.command(["up", "--dry-run", "-f"]);
        up.arg(&self.file).env("EXPECTED", expected);
        for name in ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_API_VERSION"] {
            up.env_remove(name);
        }
        let dirs = dirs.iter().map(|dir| self.home.path().join(dir));
        let usual = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
        let path = std::env::join_paths(dirs.chain(usual)).unwrap();
        finish(up.env("PATH", path).envs(set.iter().copied()))
    }
}

#[test]
fn a_node_that_the_settings_lead_to_is_not_asked_for_this_hosts_images() {
    let settings = Settings::new();
    let expect = |expected: &str, set: &[(&str, &str)]| {
        let said = settings.dry_run(&["bin"], expected, set);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.stdout.contains("web:9"), "{said:?}");
    };
    expect("none none none none", &[]);
    // An engine answers in the version that it has, whatever fitted another one.
    expect("none none none none", &[("DOCKER_API_VERSION", "1.99")]);

    let keys = settings.home.path().join("machines/node0");
    fs::create_dir_all(&keys).unwrap();
    let (host, keys) = ("tcp://10.193.0.2:2376", keys.to_str().unwrap());
    let set = [("DOCKER_HOST", host), ("DOCKER_CERT_PATH", keys)];
    // An engine that somebody set up, as in a pipeline with Docker beside it, is where the images are.
    expect(&format!("{host} none {keys} none"), &set);
    fs::write(Path::new(keys).join("config.json"), r#"{"DriverName": "kvm"}"#).unwrap();
    expect("none default none none", &set);
}

#[test]
fn an_image_that_is_missing_is_told_with_the_engine_that_was_asked() {
    let settings = Settings::new();
    let missing = |set: &[(&str, &str)]| {
        let said = settings.dry_run(&["bin"], "nobody has it", set);
        assert_eq!(said.code, 2, "{said:?}");
        said.stderr
    };
    let said = missing(&[]);
    assert!(
        !said.contains("docker was asked") && said.contains("try: docker pull web:9"),
        "{said}"
    );
    let said = missing(&[("DOCKER_HOST", "tcp://192.0.2.9:2375")]);
    assert!(said.contains("docker was asked as DOCKER_HOST=tcp://192.0.2.9:2375 has it"), "{said}");
    let said = missing(&[("DOCKER_CONTEXT", "far")]);
    assert!(said.contains("docker was asked as the docker context far has it"), "{said}");

    let keys = settings.home.path().join("machines/node0");
    fs::create_dir_all(&keys).unwrap();
    fs::write(keys.join("config.json"), r#"{"DriverName": "kvm"}"#).unwrap();
    let keys = keys.to_str().unwrap();
    let said = missing(&[("DOCKER_HOST", "tcp://10.193.0.2:2376"), ("DOCKER_CERT_PATH", keys)]);
    // What is typed next must not get the image on the node.
    assert!(said.contains("skep env --unset") && !said.contains("docker was asked"), "{said}");
}

#[test]
fn podman_under_dockers_name_is_no_docker() {
    let settings = Settings::new();
    program(
        &settings.home.path().join("podman-docker"),
        "docker",
        "#!/bin/sh\nexec podman \"$@\"\n",
    );
    let said = settings.dry_run(&["podman-docker", "bin"], "none none none none", &[]);
    assert_eq!(said.code, 0, "{said:?}");
    fs::remove_file(settings.home.path().join("bin/docker")).unwrap();
    let said = settings.dry_run(&["podman-docker", "bin"], "none none none none", &[]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains("podman: no podman here"), "{said:?}");
}

#[test]
fn an_image_by_its_digest_is_refused_with_what_works() {
    let settings = Settings::new();
    let digest = format!("sha256:{}", "0".repeat(64));
    fs::write(&settings.file, format!("images: ['hub.example:5000/web:9@{digest}']\n")).unwrap();
    let said = settings.dry_run(&["bin"], "none none none none", &[]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains("an archive has no place for the digest"), "{said:?}");
    assert!(
        said.stderr.contains(&format!(
            "docker tag hub.example:5000/web:9@{digest} hub.example:5000/web:pinned"
        )),
        "{said:?}"
    );
}
