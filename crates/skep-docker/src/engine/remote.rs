//! An engine by its URL, as docker-machine looks at it: does TLS work, and which version is it?
//!
//! The texts of the errors are those of Go's libraries, which scripts have seen until now.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use rustls::CertificateError;
use rustls_pki_types::ServerName;
use serde_json::Value;

use skep_store::dm::reason;
use skep_store::pki::Credentials;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tls::{self, Files, tls_config};
use super::{Error, http};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(20);

/// How long an engine may take to tell its version.
const ANSWER: Duration = Duration::from_secs(30);

/// How much of an answer is read.
const LIMIT: usize = 1 << 20;

/// Why an engine cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Nobody listens.
    #[error("dial tcp {0}: connect: connection refused")]
    Refused(String),
    /// A certificate or key cannot be used.
    #[error("{0}")]
    Files(String),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

/// Tells whether something takes connections at an address within a time.
pub async fn answers(host: &str, port: u16, limit: Duration) -> bool {
    matches!(timeout(limit, TcpStream::connect((host, port))).await, Ok(Ok(_)))
}

/// Opens a TLS connection to `HOST:PORT` and closes it again.
///
/// # Errors
///
/// If a certificate cannot be read, nobody listens, or who listens is not trusted.
pub async fn check(address: &str, credentials: &Credentials) -> Result<(), RemoteError> {
    connect(address, credentials).await.map(drop)
}

/// Asks the engine at `HOST:PORT` for its version.
///
/// # Errors
///
/// As [`check`], and if the engine refuses or does not answer in time.
pub async fn version(address: &str, credentials: &Credentials) -> Result<String, RemoteError> {
    let exchange = async {
        let stream = connect(address, credentials).await?;
        // The path has no version, so that engines which have given up the old ones answer too.
        let answer = http::get(stream, address, "/version", LIMIT).await;
        let (status, body) = answer.map_err(|error| described(address, &error))?;
        parse(status, &String::from_utf8_lossy(&body))
    };
    let late = |_| RemoteError::Other(format!("dial tcp {address}: i/o timeout"));
    timeout(ANSWER, exchange).await.map_err(late)?
}

fn parse(status: StatusCode, body: &str) -> Result<String, RemoteError> {
    if status != StatusCode::OK {
        return Err(RemoteError::Other(format!("{status}: {}", body.trim_end())));
    }
    let document: Option<Value> = serde_json::from_str(body).ok();
    let version = document.as_ref().and_then(|it| it.get("Version")).and_then(Value::as_str);
    match version {
        Some(version) => Ok(version.chars().filter(|letter| !letter.is_control()).collect()),
        None => Err(RemoteError::Other("the answer has no version".to_owned())),
    }
}

async fn connect(
    address: &str,
    credentials: &Credentials,
) -> Result<TlsStream<TcpStream>, RemoteError> {
    let config =
        Files::of(credentials).and_then(|files| tls_config(&files)).map_err(
            |error| match error {
                Error::File(error) => RemoteError::Files(format!(
                    "open {}: {}",
                    error.path.display(),
                    reason(&error.source)
                )),
                other => RemoteError::Files(skep_sys::chain(&other)),
            },
        )?;
    if address.is_empty() {
        return Err(RemoteError::Other("dial tcp: missing address".to_owned()));
    }
    if !address.ends_with(|c: char| c.is_ascii_digit()) || !address.contains(':') {
        return Err(RemoteError::Other(format!(
            "dial tcp: address {address}: missing port in address"
        )));
    }
    let host = host_of(address);
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| RemoteError::Other(format!("dial tcp: lookup {host}: no such host")))?;
    let handshake = async {
        let stream = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    };
    match timeout(CONNECT, handshake).await {
        Ok(connected) => connected.map_err(|error| described(address, &error)),
        Err(_) => Err(RemoteError::Other(format!("dial tcp {address}: i/o timeout"))),
    }
}

fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn described(address: &str, error: &std::io::Error) -> RemoteError {
    let host = host_of(address);
    let text = match (tls::held_by(error), error.kind()) {
        (Some(rustls::Error::InvalidCertificate(problem)), _) => match problem {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "x509: certificate signed by unknown authority".to_owned()
            }
            problem if tls::is_of_time(problem) => {
                "x509: certificate has expired or is not yet valid".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("x509: certificate is not valid for {host}")
            }
            other => format!("x509: {other}"),
        },
        (Some(problem), _) => format!("remote error: tls: {problem}"),
        (None, ErrorKind::ConnectionRefused) => return RemoteError::Refused(address.to_owned()),
        (None, ErrorKind::UnexpectedEof) => "EOF".to_owned(),
        (None, _) => format!("dial tcp {address}: {}", reason(error)),
    };
    RemoteError::Other(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_an_answer() {
        let version = parse(StatusCode::OK, "{\"Version\": \"27.1\\n\"}");
        assert_eq!(version.unwrap(), "27.1");
        let error = parse(StatusCode::BAD_REQUEST, "too old\n").unwrap_err();
        assert_eq!(error.to_string(), "400 Bad Request: too old");
        assert!(parse(StatusCode::OK, "[]").is_err());
        assert!(parse(StatusCode::OK, "").is_err());
    }

    #[test]
    fn a_host_may_be_an_address_in_brackets() {
        assert_eq!((host_of("[::1]:2376"), host_of("a.b:1"), host_of("x")), ("::1", "a.b", "x"));
    }

    #[tokio::test]
    async fn nobody_there_and_no_certificate_are_told_apart() {
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        assert!(!answers("127.0.0.1", port, Duration::from_secs(5)).await);
        let dir = tempfile::tempdir().unwrap();
        let error = check(&format!("127.0.0.1:{port}"), &Credentials::of_store(dir.path())).await;
        let expected =
            format!("open {}/certs/ca.pem: no such file or directory", dir.path().display());
        assert_eq!(error.unwrap_err().to_string(), expected);
        let credentials = skep_store::pki::ensure_authority(dir.path(), "alice").unwrap();
        let error = check(&format!("127.0.0.1:{port}"), &credentials).await.unwrap_err();
        assert!(matches!(error, RemoteError::Refused(_)), "{error}");
    }
}
