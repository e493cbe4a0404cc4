//! The least of HTTP: is there a web server behind an address and a port?

use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use skep_sys::dial;

/// How soon another connection is begun while none has answered, and how long each may take.
const ANOTHER: Duration = Duration::from_millis(200);
const EACH: Duration = Duration::from_secs(6);

/// How much of an answer is read.
const LIMIT: u64 = 64 << 10;

/// Fetches a page from a web server and returns the body (HTTP/1.0, RFC 1945).
///
/// # Errors
///
/// If nothing answers within `limit`, or what answers is not a page.
async fn fetch(
    address: Ipv4Addr,
    port: u16,
    path: &str,
    limit: Duration,
) -> std::io::Result<String> {
    let exchange = async {
        let mut stream = dial(address, port).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}:{port}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(LIMIT).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    let answer = tokio::time::timeout(limit, exchange).await.map_err(late)??;
    parse(&String::from_utf8_lossy(&answer))
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
pub async fn fetch_soon(address: Ipv4Addr, port: u16, limit: Duration) -> std::io::Result<String> {
    let end = Instant::now() + limit;
    let mut open = FuturesUnordered::new();
    // wait: for the next try, as what is dropped announces nothing.
    let mut another = tokio::time::interval(ANOTHER);
    let mut last = std::io::Error::from(std::io::ErrorKind::TimedOut);
    loop {
        tokio::select! {
            // wait: for the caller's limit.
            () = tokio::time::sleep_until(end) => return Err(last),
            _ = another.tick() => open.push(fetch(address, port, "/", EACH)),
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
pub async fn fetch_peers(address: Ipv4Addr, port: u16, limit: Duration) -> std::io::Result<String> {
    fetch(address, port, super::probe::PEERS, limit).await
}

fn parse(answer: &str) -> std::io::Result<String> {
    let not_a_page = || {
        let line = answer.lines().next().unwrap_or("nothing");
        std::io::Error::new(std::io::ErrorKind::InvalidData, format!("the answer is {line}"))
    };
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(not_a_page)?;
    let status = head.split_whitespace().nth(1).ok_or_else(not_a_page)?;
    if status == "200" { Ok(body.to_owned()) } else { Err(not_a_page()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_told_from_anything_else() {
        assert_eq!(parse("HTTP/1.1 200 OK\r\nX: y\r\n\r\nhello").unwrap(), "hello");
        for other in ["", "HTTP/1.1 404 Not Found\r\n\r\nno", "SSH-2.0-OpenSSH\r\n"] {
            assert!(parse(other).is_err(), "{other}");
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
        let page = fetch_soon(Ipv4Addr::LOCALHOST, port, Duration::from_secs(5)).await.unwrap();
        assert_eq!(page, "here");
        server.await.unwrap();
        let gone = fetch_soon(Ipv4Addr::LOCALHOST, port, Duration::from_millis(50)).await;
        assert_eq!(gone.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_at_once() {
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let error =
            fetch(Ipv4Addr::LOCALHOST, port, "/", Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
