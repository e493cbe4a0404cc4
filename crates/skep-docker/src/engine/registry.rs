//! What a cluster's registry has (Docker Registry HTTP API V2).

use std::net::SocketAddrV4;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use skep_store::pki::Credentials;
use skep_sys::Dialer;

use super::Error;
use super::connector::ToNode;
use super::tls::{Files, tls_config};

/// The file in a node that has what the node was last told of a registry.
pub const REGISTRY_STATE: &str = "/var/lib/skep/registry";

/// How much of an answer is read.
const LIMIT: usize = 1 << 20;

#[derive(Deserialize)]
struct Catalog {
    repositories: Vec<String>,
}

/// Returns the names of a registry's repositories, a thousand at most.
///
/// # Errors
///
/// If it does not answer within `limit`, is not the cluster's, or says something else.
pub async fn repositories(
    dialer: Dialer,
    at: SocketAddrV4,
    credentials: &Credentials,
    limit: Duration,
) -> Result<Vec<String>, Error> {
    let unreachable =
        |source: Box<dyn std::error::Error + Send + Sync>| Error::NoRegistry { at, source };
    let https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls_config(&Files::of(credentials)?)?)
        .https_only()
        .enable_http1()
        .wrap_connector(ToNode(dialer));
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(https);
    let url = format!("https://{at}/v2/_catalog?n=1000").parse().expect("it is a URL");
    let ask = async {
        let answer = client.get(url).await?;
        if !answer.status().is_success() {
            return Err(format!("it answers {}", answer.status()).into());
        }
        let body = Limited::new(answer.into_body(), LIMIT).collect().await?.to_bytes();
        Ok(serde_json::from_slice::<Catalog>(&body)?.repositories)
    };
    match tokio::time::timeout(limit, ask).await {
        Ok(answer) => answer.map_err(unreachable),
        Err(_) => Err(unreachable(format!("no answer within {} s", limit.as_secs()).into())),
    }
}
