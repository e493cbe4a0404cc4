//! Images on their way to an engine that dies, hangs or has no room: the client that is used on real
//! machines, and a server that speaks just enough of the API.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use skep_core::model::NodeName;
use skep_docker::engine::{Engine, Engines, Error, PORT, TlsEngines, Upload};
use skep_store::pki::{self, Credentials};
use skep_sys::HostDialer;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

const MIB: usize = 1 << 20;

/// How much an engine takes before anything happens, and how much there is to take.
const TAKEN: usize = MIB;
const WHOLE: usize = 32 * MIB;

/// How long an engine may say nothing.
const SILENCE: Duration = Duration::from_secs(1);

const FULL: &str = "write /big: no space left on device";

/// What an engine does when it has taken a part of an archive.
#[derive(Debug, Clone, Copy)]
enum Then {
    TakesAll,
    Closes,
    Hangs,
    HangsAfterAll,
    DripsAfterAll,
    Refuses,
    RefusesInTheAnswer,
    BreaksOffTheAnswer,
}

/// An engine at an address of its own, and what its clients need.
struct FakeServer {
    store: TempDir,
    address: Ipv4Addr,
}

impl FakeServer {
    async fn start(number: u8, then: Then) -> Self {
        let [high, low] = (std::process::id() as u16).to_be_bytes();
        let address = Ipv4Addr::new(127, 100 + number, high, low);
        let store = tempfile::tempdir().unwrap();
        pki::ensure_authority(store.path(), "tester").unwrap();
        for key in ["id_rsa", "id_rsa.pub"] {
            std::fs::write(store.path().join("certs").join(key), "none").unwrap();
        }
        std::fs::create_dir_all(store.path().join("machines/node0")).unwrap();
        let node = NodeName::numbered(0);
        pki::ensure_server(store.path(), &node, address, "tester", &[]).unwrap();
        let certs = store.path().join("machines/node0");
        let acceptor = acceptor(&certs);
        let listener = TcpListener::bind((address, PORT)).await.unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    // The client may be gone at any time.
                    let _ = serve(stream, then).await;
                });
            }
        });
        Self { store, address }
    }

    /// Sends it an archive, and tells what came of it.
    async fn load(&self) -> Result<(), Error> {
        let credentials = Credentials::of_store(self.store.path());
        let engine: Box<dyn Engine> = TlsEngines::new(Arc::new(HostDialer))
            .engine(self.address, &credentials, 5 * SILENCE)
            .unwrap();
        let (parts, received) = mpsc::channel(4);
        let sending = tokio::spawn(async move {
            let part = Bytes::from(vec![0; MIB / 4]);
            for _ in 0..WHOLE / part.len() {
                if parts.send(Ok(part.clone())).await.is_err() {
                    return;
                }
            }
        });
        let began = Instant::now();
        let result = engine.load(Upload { parts: received, silence: SILENCE }, &|_| ()).await;
        assert!(began.elapsed() < 30 * SILENCE, "it took {:?}", began.elapsed());
        // Other engines get the same parts, and must not wait for this one any longer.
        timeout(SILENCE, sending).await.expect("who sends is let go").unwrap();
        result
    }
}

fn acceptor(certs: &std::path::Path) -> TlsAcceptor {
    let cert = CertificateDer::from_pem_file(certs.join("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(certs.join("server-key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    then: Then,
) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        if !head.contains("/images/load") {
            assert!(head.contains("/_ping"), "{head}");
            let body = if head.starts_with("HEAD") { "" } else { "OK" };
            let answer = "HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\nContent-Length: 2\r\n\r\n";
            stream.write_all(format!("{answer}{body}").as_bytes()).await?;
            continue;
        }
        let taken = match then {
            // The chunks' own lengths make it a little more.
            Then::TakesAll
            | Then::HangsAfterAll
            | Then::DripsAfterAll
            | Then::BreaksOffTheAnswer => WHOLE,
            _ => TAKEN,
        };
        let mut buffer = vec![0; 64 << 10];
        let mut left = taken;
        while left > 0 {
            left = left.saturating_sub(stream.read(&mut buffer).await?);
        }
        return act(stream, then).await;
    }
}

async fn act<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, then: Then) -> std::io::Result<()> {
    let chunk = |text: String| format!("{:x}\r\n{text}\r\n", text.len());
    let begin = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()
        + &chunk(r#"{"status":"Loading layer","progressDetail":{"current":1}}"#.to_owned());
    let answer = match then {
        Then::Closes => return Ok(()),
        Then::DripsAfterAll => {
            stream.write_all(begin.as_bytes()).await?;
            let line =
                chunk(r#"{"status":"Loading layer","progressDetail":{"current":1}}"#.to_owned());
            loop {
                stream.write_all(line.as_bytes()).await?;
                stream.flush().await?;
                // wait: as an engine does that wants to be waited for.
                tokio::time::sleep(SILENCE / 4).await;
            }
        }
        Then::Hangs | Then::HangsAfterAll => String::new(),
        Then::TakesAll => begin + "0\r\n\r\n",
        Then::BreaksOffTheAnswer => {
            stream.write_all(begin.as_bytes()).await?;
            return stream.flush().await;
        }
        Then::Refuses => {
            let body = format!(r#"{{"message":"{FULL}"}}"#);
            format!(
                "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
        }
        Then::RefusesInTheAnswer => {
            let error = format!(r#"{{"errorDetail":{{"message":"{FULL}"}},"error":"{FULL}"}}"#);
            begin + &chunk(error + "\r\n") + "0\r\n\r\n"
        }
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.flush().await?;
    if matches!(then, Then::Refuses | Then::RefusesInTheAnswer) {
        // As Go's server does, which reads no more of what is still being sent.
        stream.shutdown().await?;
        // wait: closed at once, the answer could be lost with what was not read (net/http, rstAvoidanceDelay).
        tokio::time::sleep(Duration::from_millis(500)).await;
        return Ok(());
    }
    std::future::pending().await
}

#[tokio::test]
async fn an_engine_that_takes_all_has_it() {
    FakeServer::start(0, Then::TakesAll).await.load().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_breaks_is_told_at_once() {
    for (number, then) in [(1, Then::Closes), (2, Then::BreaksOffTheAnswer)] {
        let error = FakeServer::start(number, then).await.load().await.unwrap_err();
        assert!(matches!(error, Error::BrokenOff { .. }), "{then:?}: {error:?}");
    }
}

#[tokio::test]
async fn an_engine_that_hangs_is_left_when_it_was_silent_for_too_long() {
    for (number, then) in [(3, Then::Hangs), (4, Then::HangsAfterAll)] {
        let error = FakeServer::start(number, then).await.load().await.unwrap_err();
        assert!(
            matches!(error, Error::Silent { limit } if limit == SILENCE),
            "{then:?}: {error:?}"
        );
    }
}

#[tokio::test]
async fn an_engine_that_only_seems_to_go_on_is_left_in_the_end() {
    let server = FakeServer::start(7, Then::DripsAfterAll).await;
    let error = timeout(25 * SILENCE, server.load()).await.expect("it has a bound").unwrap_err();
    // 4 times the silence, and once more for each 2 MiB.
    assert!(matches!(error, Error::Slow { mib: 32, limit } if limit == 20 * SILENCE), "{error:?}");
}

#[tokio::test]
async fn an_engine_without_room_tells_so_in_the_midst_of_what_it_is_sent() {
    for (number, then) in [(5, Then::Refuses), (6, Then::RefusesInTheAnswer)] {
        let error = FakeServer::start(number, then).await.load().await.unwrap_err();
        assert!(error.is_full() && error.to_string().contains(FULL), "{then:?}: {error:?}");
    }
}
