//! One request over a connection that is there already.

use std::error::Error as _;
use std::io::{Error, ErrorKind};
use std::pin::pin;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Fetches a path from a server, and returns the status and at most `limit` bytes of the body.
///
/// A server that ends the connection without a word, as many do over TLS, has ended the body, too.
///
/// # Errors
///
/// What ended the connection; [`ErrorKind::InvalidData`] if the server does not speak HTTP.
pub(super) async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    path: &str,
    limit: usize,
) -> Result<(StatusCode, Vec<u8>), Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(told)?;
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Error::new(ErrorKind::InvalidInput, error))?;
    let exchange = pin!(async {
        let answer = sender.send_request(request).await.map_err(told)?;
        let status = answer.status();
        read(answer, limit).await.map(|body| (status, body))
    });
    // The exchange goes on only as long as the connection is driven, and may end after it.
    let driven = pin!(async {
        let _ = connection.await;
        std::future::pending().await
    });
    tokio::select! {
        result = exchange => result,
        never = driven => never,
    }
}

async fn read(answer: Response<Incoming>, limit: usize) -> Result<Vec<u8>, Error> {
    let mut body = answer.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = match frame.map_err(told) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof && !bytes.is_empty() => break,
            frame => frame?,
        };
        let data = frame.into_data().unwrap_or_default();
        bytes.extend_from_slice(&data[..data.len().min(limit - bytes.len())]);
        if bytes.len() == limit {
            break;
        }
    }
    Ok(bytes)
}

/// Returns the error of the connection, which holds that of TLS, or what is wrong with the answer.
fn told(error: hyper::Error) -> Error {
    let kind = match () {
        () if error.is_incomplete_message() || error.is_closed() => ErrorKind::UnexpectedEof,
        () if error.is_parse() => ErrorKind::InvalidData,
        () => ErrorKind::Other,
    };
    let of_connection = error.source().and_then(|source| source.downcast_ref::<Error>());
    match of_connection {
        Some(source) => match source.get_ref().and_then(|it| it.downcast_ref::<rustls::Error>()) {
            Some(problem) => Error::new(source.kind(), problem.clone()),
            None => match source.raw_os_error() {
                Some(code) => Error::from_raw_os_error(code),
                None => Error::new(source.kind(), source.to_string()),
            },
        },
        None => Error::new(kind, error),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn ask(answer: &'static str, limit: usize) -> Result<(StatusCode, Vec<u8>), Error> {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let server = async move {
            let mut request = vec![0; 1024];
            let length = far.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
            assert!(request.starts_with("get /a http/1.1\r\nhost: h:1\r\n"), "{request}");
            far.write_all(answer.as_bytes()).await.unwrap();
        };
        tokio::join!(server, get(near, "h:1", "/a", limit)).1
    }

    #[tokio::test]
    async fn bodies_end_by_length_by_chunks_and_with_the_connection() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\nhello",
            // The rest is missing.
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        ] {
            let (status, body) = ask(answer, 1000).await.unwrap();
            assert_eq!((status, &body[..]), (StatusCode::OK, &b"hello"[..]), "{answer}");
        }
        let long = ask("HTTP/1.0 404 Not Found\r\n\r\nhello", 4).await.unwrap();
        assert_eq!(long, (StatusCode::NOT_FOUND, b"hell".to_vec()));
    }

    #[tokio::test]
    async fn what_is_no_answer_is_an_error() {
        assert_eq!(ask("", 9).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(ask("SSH-2.0-OpenSSH\r\n", 9).await.unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
