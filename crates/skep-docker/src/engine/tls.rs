//! The connection: HTTP over mutual TLS, trusting the cluster's own authority and nobody else.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::{BollardRequest, ClientVersion, Docker};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use hyper::Response;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use skep_store::pki::Credentials;
use skep_sys::{Dialer, FileError, read};
use tokio::sync::OnceCell;

use super::api::ApiEngine;
use super::connector::ToNode;
use super::response_limit::Limited;
use super::{Engine, Engines, Error, PORT};

/// How long a connection that nobody uses is kept: a handshake takes long under emulation.
const KEEP: Duration = Duration::from_secs(10);

/// What tells connections apart: an address, and a digest of the credentials.
type Way = (Ipv4Addr, [u8; 32]);

/// Engines over mutual TLS. Their connections are kept for a while.
pub struct TlsEngines {
    dialer: Dialer,
    open: Mutex<HashMap<Way, Arc<Connection>>>,
}

/// Sends a request.
type Send = Arc<dyn Fn(BollardRequest) -> Answer + std::marker::Send + Sync>;

/// The answer to a request, when it is there.
pub(super) type Answer =
    BoxFuture<'static, Result<Response<Incoming>, hyper_util::client::legacy::Error>>;

/// A way to an engine.
pub(super) struct Connection {
    /// The engine's API, in the version of [`FIRST_VERSION`].
    pub docker: Docker,
    /// The same in the newest version that both sides know, once they have agreed.
    pub agreed: OnceCell<Docker>,
    /// Sends plain requests on the same connections.
    pub send: Send,
    /// Sends requests whose answers have no end, on connections without a bound.
    pub send_endless: Send,
}

impl TlsEngines {
    /// Returns the engines that a dialer reaches.
    #[must_use]
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer, open: Mutex::default() }
    }
}

impl Engines for TlsEngines {
    fn engine(
        &self,
        address: Ipv4Addr,
        credentials: &Credentials,
        patience: Duration,
    ) -> Result<Box<dyn Engine>, Error> {
        let files = Files::of(credentials)?;
        // Credentials that were made anew make another connection.
        let id = (address, files.digest());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = match open.get(&id) {
            Some(connection) => Arc::clone(connection),
            None => {
                let connection = Arc::new(connect(self.dialer.clone(), address, &files)?);
                open.insert(id, Arc::clone(&connection));
                connection
            }
        };
        Ok(Box::new(ApiEngine::new(connection, address, patience)))
    }
}

/// The content of the credentials' files.
pub(super) struct Files<'a> {
    credentials: &'a Credentials,
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl<'a> Files<'a> {
    pub(super) fn of(credentials: &'a Credentials) -> Result<Self, Error> {
        let [ca, cert, key] =
            [&credentials.ca, &credentials.cert, &credentials.key].map(|it| read(it));
        Ok(Self { credentials, ca: ca?, cert: cert?, key: key? })
    }

    fn digest(&self) -> [u8; 32] {
        let parts = [&self.ca, &self.cert, &self.key];
        Sha256::digest(parts.map(|part| part.as_slice()).concat()).into()
    }
}

/// Where the talk about the version of the API begins: the first that all engines from Docker 25 to
/// 29 know. Older ones are met further down.
pub(super) const FIRST_VERSION: ClientVersion =
    ClientVersion { major_version: 1, minor_version: 44 };

fn connect(dialer: Dialer, address: Ipv4Addr, files: &Files<'_>) -> Result<Connection, Error> {
    let https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls_config(files)?)
        .https_only()
        .enable_http1()
        .wrap_connector(ToNode(dialer));
    let endless =
        Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(https.clone());
    let send_endless: Send = Arc::new(move |request| endless.request(request).boxed());
    let client =
        Client::builder(TokioExecutor::new()).pool_idle_timeout(KEEP).build(Limited(https));
    let send: Send = Arc::new(move |request| client.request(request).boxed());
    let sender = Arc::clone(&send);
    let transport = move |request| sender(request).map_err(bollard::errors::Error::from);
    let url = format!("https://{address}:{PORT}");
    // Each call has a bound of its own, which is shorter.
    let docker = Docker::connect_with_custom_transport(transport, Some(url), 3600, &FIRST_VERSION)
        .map_err(|error| Error::Garbled(Box::new(error)))?;
    Ok(Connection { docker, agreed: OnceCell::new(), send, send_endless })
}

/// Returns what went wrong with TLS, which an error of the transport holds and does not give for its source.
pub(super) fn held_by(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Tells whether a certificate is not valid yet, or no longer.
pub(super) const fn is_of_time(problem: &CertificateError) -> bool {
    matches!(
        problem,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

pub(super) fn tls_config(files: &Files<'_>) -> Result<rustls::ClientConfig, Error> {
    let credentials = files.credentials;
    let unusable = |path: &std::path::Path, error: rustls_pki_types::pem::Error| {
        FileError::new("use", path, std::io::Error::other(error.to_string()))
    };
    let certificates = |path: &std::path::Path, text: &[u8]| -> Result<Vec<_>, Error> {
        let list = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
        Ok(list.map_err(|error| unusable(path, error))?)
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(&credentials.ca, &files.ca)?);
    let key = PrivateKeyDer::from_pem_slice(&files.key)
        .map_err(|error| unusable(&credentials.key, error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Credentials)?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&credentials.cert, &files.cert)?, key)
        .map_err(Error::Credentials)
}

#[cfg(test)]
mod tests {
    use rustls::AlertDescription;

    use super::*;

    #[test]
    fn a_certificate_out_of_time_is_known_from_other_failures() {
        let is_refused = |problem: rustls::Error| {
            let source = Box::new(std::io::Error::other(problem));
            let address = "10.193.0.2".parse().unwrap();
            Error::Unreachable { address, source }.is_refused_certificate()
        };
        assert!(is_refused(rustls::Error::InvalidCertificate(CertificateError::NotValidYet)));
        assert!(is_refused(rustls::Error::InvalidCertificate(CertificateError::Expired)));
        assert!(is_refused(rustls::Error::AlertReceived(AlertDescription::CertificateExpired)));
        assert!(!is_refused(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)));
        assert!(!is_refused(rustls::Error::AlertReceived(AlertDescription::UnknownCA)));
    }
}
