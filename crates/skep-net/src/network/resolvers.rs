//! The host's DNS servers (resolv.conf(5)), for the guests.

use std::net::Ipv4Addr;
use std::path::Path;

/// How many servers a resolver asks (resolv.conf(5), MAXNS).
const MOST: usize = 3;

/// Where the servers behind a local stub are written down: systemd-resolved, NetworkManager.
const BEHIND_STUBS: &[&str] =
    &["run/systemd/resolve/resolv.conf", "run/NetworkManager/no-stub-resolv.conf"];

/// Returns the host's real DNS servers: a stub that listens on the loopback interface serves the
/// host alone. `root` is the directory that stands for `/`.
///
/// The list is empty if none can be found.
#[must_use]
pub fn resolvers(root: &Path) -> Vec<Ipv4Addr> {
    let files = std::iter::once("etc/resolv.conf").chain(BEHIND_STUBS.iter().copied());
    files
        .map(|file| servers(&std::fs::read_to_string(root.join(file)).unwrap_or_default()))
        .find(|servers| !servers.is_empty())
        .unwrap_or_default()
}

fn servers(text: &str) -> Vec<Ipv4Addr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok())?
    };
    text.lines().filter_map(server).filter(|it: &Ipv4Addr| !it.is_loopback()).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        dir
    }

    #[test]
    fn plain_servers_are_taken_as_they_are() {
        let text = "# comment\nsearch example\nnameserver 192.0.2.1\nnameserver fd00::1\n\
                    nameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n";
        let dir = root(&[("etc/resolv.conf", text)]);
        let found: Vec<_> = resolvers(dir.path()).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    }

    #[test]
    fn the_servers_behind_a_stub_are_found() {
        let dir = root(&[
            ("etc/resolv.conf", "nameserver 127.0.0.53\noptions edns0\n"),
            ("run/systemd/resolve/resolv.conf", "nameserver 198.51.100.7\n"),
        ]);
        assert_eq!(resolvers(dir.path()), ["198.51.100.7".parse::<Ipv4Addr>().unwrap()]);
    }

    #[test]
    fn a_host_without_servers_has_none() {
        assert!(resolvers(root(&[]).path()).is_empty());
    }
}
