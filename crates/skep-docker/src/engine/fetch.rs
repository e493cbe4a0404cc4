//! Is there a web server behind an address and a port?

use std::net::SocketAddrV4;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper::StatusCode;
use skep_sys::Dial;
use tokio::time::Instant;

use super::http;

/// How soon another connection is begun while none has answered, and how long each may take.
const ANOTHER: Duration = Duration::from_millis(200);
const EACH: Duration = Duration::from_secs(6);

/// How much of an answer is read.
const LIMIT: usize = 64 << 10;

/// Fetches a page from a web server and returns the body.
///
/// # Errors
///
/// If nothing answers within `limit`, or what answers is not a page.
async fn fetch(
    dialer: &dyn Dial,
    from: SocketAddrV4,
    path: &str,
    limit: Duration,
) -> std::io::Result<String> {
    let exchange = async {
        let stream = dialer.dial(from).await?;
        http::get(stream, &from.to_string(), path, LIMIT).await
    };
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    let (status, body) = tokio::time::timeout(limit, exchange).await.map_err(late)??;
    match status {
        StatusCode::OK => Ok(String::from_utf8_lossy(&body).into_owned()),
        status => {
            let answer = format!("the answer is {status}");
            Err(std::io::Error::new(std::io::ErrorKind::InvalidData, answer))
        }
    }
}

/// Fetches `/` from a web server that may not be there yet, for `limit` at most.
///
/// What is sent before there is a way to the server is dropped without a word, and a connection tries
/// again after 1, 3 and 7 s only. So another one is begun every [`ANOTHER`], and the first answer
/// counts.
///
/// # Errors
///
/// If no connection brought an answer; the last one's error.
pub async fn fetch_soon(
    dialer: &dyn Dial,
    from: SocketAddrV4,
    limit: Duration,
) -> std::io::Result<String> {
    let end = Instant::now() + limit;
    let mut open = FuturesUnordered::new();
    // wait: for the next try, as what is dropped announces nothing.
    let mut another = tokio::time::interval(ANOTHER);
    let mut last = std::io::Error::from(std::io::ErrorKind::TimedOut);
    loop {
        tokio::select! {
            // wait: for the caller's limit.
            () = tokio::time::sleep_until(end) => return Err(last),
            _ = another.tick() => open.push(fetch(dialer, from, "/", EACH)),
            Some(answer) = open.next() => match answer {
                Ok(page) => return Ok(page),
                Err(error) => last = error,
            },
        }
    }
}

/// Fetches what a probe service's task tells of the others.
///
/// # Errors
///
/// If nothing answers within `limit`, or what answers is not a page.
pub async fn fetch_peers(
    dialer: &dyn Dial,
    from: SocketAddrV4,
    limit: Duration,
) -> std::io::Result<String> {
    fetch(dialer, from, super::probe::PEERS, limit).await
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use skep_sys::HostDialer;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn answered(answer: &'static str) -> std::io::Result<String> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        tokio::join!(
            server,
            fetch(
                &HostDialer,
                SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
                "/",
                Duration::from_secs(5)
            )
        )
        .1
    }

    #[tokio::test]
    async fn a_page_is_told_from_anything_else() {
        assert_eq!(answered("HTTP/1.1 200 OK\r\nX: y\r\n\r\nhello").await.unwrap(), "hello");
        let error = answered("HTTP/1.1 404 Not Found\r\n\r\nno").await.unwrap_err();
        assert_eq!(error.to_string(), "the answer is 404 Not Found");
        for other in ["", "SSH-2.0-OpenSSH\r\n"] {
            assert!(answered(other).await.is_err(), "{other}");
        }
    }

    #[tokio::test]
    async fn a_server_that_comes_later_is_found() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // The first connection is never answered, the second is.
        let server = tokio::spawn(async move {
            let silent = listener.accept().await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            // A connection that is closed with something unread is reset.
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhere").await.unwrap();
            drop(silent);
        });
        let page = fetch_soon(
            &HostDialer,
            SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
            Duration::from_secs(5),
        )
        .await
        .unwrap();
        assert_eq!(page, "here");
        server.await.unwrap();
        let gone = fetch_soon(
            &HostDialer,
            SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
            Duration::from_millis(50),
        )
        .await;
        assert_eq!(gone.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_at_once() {
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let error = fetch(
            &HostDialer,
            SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
            "/",
            Duration::from_secs(5),
        )
        .await
        .unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
