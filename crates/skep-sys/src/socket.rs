//! Unix sockets whose paths may be longer than a socket address can hold.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

/// Connects to a socket in a directory.
///
/// A socket address holds 107 bytes of path (unix(7)), and a store may lie deeper than that; so the
/// directory is opened first and the socket named relative to it.
///
/// # Errors
///
/// If the directory or the socket does not exist, or nobody listens.
pub async fn connect_in(dir: &Path, name: &str) -> std::io::Result<UnixStream> {
    let (_held, address) = socket_in(dir, name)?;
    UnixStream::connect(address).await
}

/// Returns the address of a socket in a directory, which is good for as long as the handle is held.
///
/// Where an older skep has started a machine its sockets are in the directory itself.
///
/// # Errors
///
/// If the directory does not exist.
pub fn socket_in(dir: &Path, name: &str) -> std::io::Result<(File, PathBuf)> {
    let old = Path::new(name)
        .file_name()
        .map(Path::new)
        .filter(|old| !dir.join(name).exists() && dir.join(old).exists());
    let handle = File::open(dir)?;
    let place = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
    let address = place.join(old.unwrap_or(Path::new(name)));
    Ok((handle, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deep_directory_is_reached() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&dir).unwrap();
        let handle = std::fs::File::open(&dir).unwrap();
        let path = format!("/proc/self/fd/{}/socket", handle.as_raw_fd());
        let _listener = tokio::net::UnixListener::bind(path).unwrap();
        connect_in(&dir, "socket").await.unwrap();
        assert!(connect_in(&dir, "other").await.is_err());
        connect_in(&dir, "run/socket").await.expect("an older skep's is where it was");
        std::fs::create_dir(dir.join("run")).unwrap();
        std::fs::write(dir.join("run/socket"), "").unwrap();
        assert!(connect_in(&dir, "run/socket").await.is_err());
    }
}
