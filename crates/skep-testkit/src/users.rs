//! A host of a test's own, as far as users and privileges go: what is set up and who is added there
//! is gone with the test, however that ends.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::home::{Said, finish};

/// Says where the files of such a host are, to the process that is in it.
const PLACE: &str = "SKEP_TEST_PLACE";

/// A host of a test's own.
pub struct OwnHost {
    skep: PathBuf,
}

impl OwnHost {
    /// Runs a test's story in namespaces in which /etc and /home are copies, and /var/lib and /usr/local are
    /// empty; with `network`, it has a network of its own too. `test` is the name of the test that calls this.
    /// The story gets the program `skep` where all its users can run it. Returns whether this is the host itself,
    /// where the story was told by another process.
    ///
    /// # Panics
    ///
    /// If the story does.
    pub fn tell(test: &str, skep: &str, network: bool, story: impl FnOnce(&Self)) -> bool {
        if let Some(place) = std::env::var_os(PLACE) {
            story(&Self::prepare(Path::new(&place), skep, network));
            return false;
        }
        let place = tempfile::Builder::new().prefix("skep-test.").tempdir().expect("a directory");
        let mut inside = Command::new("unshare");
        inside.args(["--mount", "--propagation", "private"]);
        if network {
            inside.arg("--net");
        }
        inside.arg(std::env::current_exe().expect("a test knows its file"));
        inside.args(["--exact", test, "--nocapture"]).env(PLACE, place.path());
        let status = inside.status().expect("unshare is there");
        assert!(status.success(), "in namespaces of its own: {status}");
        true
    }

    fn prepare(place: &Path, skep: &str, network: bool) -> Self {
        for dir in ["etc", "home"] {
            std::fs::create_dir(place.join(dir)).expect("it is new");
        }
        run("cp", &["-a", "/etc/.", text(&place.join("etc"))]);
        for dir in ["etc", "home"] {
            // Whoever may not see where it really is comes this way.
            run("chmod", &["755", text(&place.join(dir))]);
            run("mount", &["--bind", text(&place.join(dir)), &format!("/{dir}")]);
        }
        // The program may be where only root gets to.
        let own = Self::home("skep");
        std::fs::copy(skep, &own).expect("there is room for it");
        for dir in ["/var/lib", "/usr/local"].iter().chain(network.then_some(&"/run")) {
            run("mount", &["-t", "tmpfs", "-o", "mode=755", "none", dir]);
        }
        if network {
            run("ip", &["link", "set", "lo", "up"]);
        }
        Self { skep: own }
    }

    /// Returns the home directory of a user.
    #[must_use]
    pub fn home(user: &str) -> PathBuf {
        Path::new("/home").join(user)
    }

    /// Adds an ordinary user.
    pub fn add_user(&self, name: &str) {
        run("useradd", &["-m", "-s", "/bin/sh", name]);
    }

    /// Returns what makes an ordinary user of root, in all groups that the user is in by now.
    #[must_use]
    pub fn becoming(user: &str) -> Vec<String> {
        let home = format!("HOME=/home/{user}");
        let words = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "env", "-i"];
        let env = [home.as_str(), "PATH=/usr/bin:/bin", "LC_ALL=C"];
        words.iter().chain(&env).map(|&word| word.to_owned()).collect()
    }

    /// Runs skep as an ordinary user, with the path that such a one has.
    #[must_use]
    pub fn skep_as(&self, user: &str, line: &str) -> Said {
        let words = Self::becoming(user);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(&self.skep).args(line.split_whitespace());
        finish(command.current_dir("/"))
    }

    /// Runs skep as root, in root's usual home.
    #[must_use]
    pub fn skep(&self, line: &str) -> Said {
        finish(Command::new(&self.skep).args(line.split_whitespace()).env_remove("SUDO_USER"))
    }

    /// Returns what of the host's own files setting up changes, as text.
    #[must_use]
    pub fn files(&self) -> String {
        let list = "cd / && for file in etc/group etc/gshadow etc/subuid etc/subgid etc/sudoers.d/*; do \
                    echo \"$file\"; cat \"$file\"; done; find usr/local var/lib -print | sort";
        let output = Command::new("sh").args(["-c", list]).output().expect("sh is there");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for OwnHost {
    /// What a story that failed left of clusters is outside of what goes with its namespaces.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for home in std::fs::read_dir("/home").into_iter().flatten().flatten() {
            let user = home.file_name().to_string_lossy().into_owned();
            let clusters = home.path().join(".local/share/skep/clusters");
            for cluster in std::fs::read_dir(clusters).into_iter().flatten().flatten() {
                let name = cluster.file_name().to_string_lossy().into_owned();
                if cluster.path().is_dir() {
                    let _ = self.skep_as(&user, &format!("down {name} -y"));
                }
            }
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary directory has a plain name")
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().expect("it is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {said}", args.join(" "));
}
