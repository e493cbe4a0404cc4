//! Unix sockets whose paths may be longer than a socket address can hold.

use std::os::fd::AsRawFd;
use std::path::Path;

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
    let dir = std::fs::File::open(dir)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd())).await
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
    }
}
