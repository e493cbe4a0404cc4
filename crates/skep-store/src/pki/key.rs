//! Private keys in files: those of ours in PKCS#8, and RSA keys as docker-machine has them (PKCS#1,
//! RFC 8017), which its users' older programs read and nothing else.

use std::path::Path;

use rcgen::{KeyPair, PKCS_RSA_SHA256};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use skep_sys::{Cmd, FileError, UNFINISHED, read};

use super::Error;

/// Reads a private key.
///
/// # Errors
///
/// If it cannot be read or is none.
pub(super) fn load(path: &Path) -> Result<KeyPair, Error> {
    let text = read(path)?;
    let damaged = |reason: String| Error::Damaged { path: path.to_owned(), reason };
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| damaged(error.to_string()))?;
    let key = match &key {
        PrivateKeyDer::Pkcs1(key) => {
            let wrapped = in_pkcs8(key.secret_pkcs1_der());
            let wrapped = PrivatePkcs8KeyDer::from(wrapped.as_slice());
            KeyPair::from_pkcs8_der_and_sign_algo(&wrapped, &PKCS_RSA_SHA256)
        }
        other => KeyPair::try_from(other),
    };
    key.map_err(|error| damaged(error.to_string()))
}

/// Makes an RSA key and returns its file's text and the key. ssh-keygen(1) makes it: it is needed
/// anyway, and what is linked here makes none.
///
/// # Errors
///
/// If ssh-keygen is missing or fails.
pub(super) async fn make_rsa(dir: &Path) -> Result<(Vec<u8>, KeyPair), Error> {
    let scratch = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(dir)
        .map_err(|source| FileError::new("make a directory in", dir, source))?;
    let path = scratch.path().join("key");
    let keygen = Cmd::new("ssh-keygen").args(["-q", "-t", "rsa", "-b", "2048", "-m", "PEM"]);
    keygen.args(["-N", "", "-C", "skep", "-f"]).arg(&path).run().await?;
    Ok((read(&path)?, load(&path)?))
}

/// Wraps an RSA key in PKCS#8 (RFC 5208).
fn in_pkcs8(key: &[u8]) -> Vec<u8> {
    // Version 0, and the algorithm rsaEncryption without parameters.
    let head: &[u8] = &[
        0x02, 0x01, 0x00, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01,
        0x01, 0x05, 0x00,
    ];
    let inner = tagged(0x04, key);
    tagged(0x30, &[head, &inner].concat())
}

/// Returns a DER value (X.690): tag, length, content.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut value = vec![tag];
    if length < 0x80 {
        value.extend(u8::try_from(length));
    } else {
        let bytes = length.to_be_bytes();
        let bytes: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
        value.extend(u8::try_from(bytes.len()).map(|count| 0x80 | count));
        value.extend(bytes);
    }
    value.extend(content);
    value
}
