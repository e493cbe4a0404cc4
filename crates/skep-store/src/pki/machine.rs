//! Certificates as docker-machine 0.16 makes them: RSA, an organization for a name, and the files
//! where a machine's record says that they are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use skep_sys::{Lock, make_private_dir, write_atomic};
use time::OffsetDateTime;

use super::x509::{Pair, leaf_params, params, san};
use super::{Error, copy, key};
use crate::dm::AuthOptions;

/// How long another process may make the same certificates: two RSA keys take seconds on a busy host.
const MAKING: Duration = Duration::from_secs(120);

/// What is told of certificates while they are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The authority's is about to be made.
    Authority(PathBuf),
    /// The client's is about to be made.
    Client(PathBuf),
    /// The authority's has expired.
    AuthorityExpired,
    /// The client's has expired.
    ClientExpired,
}

/// Makes the authority's and the client's certificates if they are missing or have expired.
///
/// # Errors
///
/// If a key is there without its certificate, or a file cannot be written.
pub async fn bootstrap(
    auth: &AuthOptions,
    user: &str,
    tell: &mut (dyn FnMut(Step) + Send),
) -> Result<(), Error> {
    let dir = Path::new(&auth.cert_dir);
    if !dir.is_dir() {
        make_private_dir(dir)?;
    }
    let ca = pair(&auth.ca_cert_path, &auth.ca_private_key_path);
    let client = pair(&auth.client_cert_path, &auth.client_key_path);
    if is_settled(&ca) && is_settled(&client) {
        return Ok(());
    }
    // Two that began at the same time would each sign with an authority of its own.
    let lock = Lock::take_within(&dir.join(".making.lock"), MAKING).await?;
    let made = make_missing(dir, (&ca, &client), user, tell).await;
    lock.remove();
    made
}

/// Tells whether a certificate and its key are there and valid.
fn is_settled(pair: &Pair) -> bool {
    let is_valid = || super::expiry(&pair.cert).is_ok_and(|end| end > OffsetDateTime::now_utc());
    pair.key.exists() && is_valid()
}

async fn make_missing(
    dir: &Path,
    (ca, client): (&Pair, &Pair),
    user: &str,
    tell: &mut (dyn FnMut(Step) + Send),
) -> Result<(), Error> {
    let step = Step::Authority(ca.cert.clone());
    if is_wanted(ca, step, Step::AuthorityExpired, tell, "certificate authority")? {
        let (text, key) = key::make_rsa(dir).await?;
        let mut params = params(user);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = [SERVER_USES, &[KeyUsagePurpose::KeyCertSign]].concat();
        write(ca, &params.self_signed(&key)?.pem(), &text)?;
    }
    let step = Step::Client(client.cert.clone());
    if is_wanted(client, step, Step::ClientExpired, tell, "client")? {
        let (text, key) = key::make_rsa(dir).await?;
        let mut params = leaf_params(&format!("{user}.<bootstrap>"));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        write(client, &params.signed_by(&key, &ca.issuer()?)?.pem(), &text)?;
    }
    Ok(())
}

/// What a server's key is for.
const SERVER_USES: &[KeyUsagePurpose] = &[
    KeyUsagePurpose::DigitalSignature,
    KeyUsagePurpose::KeyEncipherment,
    KeyUsagePurpose::KeyAgreement,
];

/// Makes a machine's server certificate for an address if it has none that fits, and copies what its
/// clients need into its directory.
///
/// # Errors
///
/// As [`make_server`].
pub async fn ensure_server(
    auth: &AuthOptions,
    user: &str,
    name: &str,
    address: &str,
    swarm_master: bool,
) -> Result<(), Error> {
    let server = pair(&auth.server_cert_path, &auth.server_key_path);
    let ca = pair(&auth.ca_cert_path, &auth.ca_private_key_path);
    let names: Vec<_> = names(auth, address).map(str::to_owned).collect();
    if server.fits(&ca, &names) {
        return copy_clients(auth);
    }
    make_server(auth, user, name, address, swarm_master).await
}

/// Makes a machine's server certificate anew for an address, and copies what its clients need into
/// its directory.
///
/// # Errors
///
/// If the authority is missing or damaged, or a file cannot be written.
pub async fn make_server(
    auth: &AuthOptions,
    user: &str,
    name: &str,
    address: &str,
    swarm_master: bool,
) -> Result<(), Error> {
    copy_clients(auth)?;
    let mut params = leaf_params(&format!("{user}.{name}"));
    params.subject_alt_names = names(auth, address).map(san).collect::<Result<_, _>>()?;
    // Names before addresses, as Go writes them.
    params.subject_alt_names.sort_by_key(|name| matches!(name, SanType::IpAddress(_)));
    params.key_usages = SERVER_USES.to_vec();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if swarm_master {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    let ca = pair(&auth.ca_cert_path, &auth.ca_private_key_path);
    let (text, key) = key::make_rsa(server_dir(auth)).await?;
    let server = pair(&auth.server_cert_path, &auth.server_key_path);
    write(&server, &params.signed_by(&key, &ca.issuer()?)?.pem(), &text)
}

fn server_dir(auth: &AuthOptions) -> &Path {
    Path::new(&auth.server_cert_path).parent().unwrap_or(Path::new("."))
}

fn names<'a>(auth: &'a AuthOptions, address: &'a str) -> impl Iterator<Item = &'a str> {
    let given = auth.server_cert_sans.iter().flatten().map(String::as_str);
    given.chain([address, "localhost"]).filter(|name| !name.is_empty())
}

fn copy_clients(auth: &AuthOptions) -> Result<(), Error> {
    let files = [
        (&auth.ca_cert_path, "ca.pem", 0o644),
        (&auth.client_cert_path, "cert.pem", 0o644),
        (&auth.client_key_path, "key.pem", 0o600),
    ];
    for (from, to, mode) in files {
        copy(Path::new(from), &server_dir(auth).join(to), mode)?;
    }
    Ok(())
}

fn pair(cert: &str, key: &str) -> Pair {
    Pair { cert: cert.into(), key: key.into() }
}

/// Tells whether a certificate has to be made, removing the key of one that has expired.
fn is_wanted(
    pair: &Pair,
    making: Step,
    expired: Step,
    tell: &mut (dyn FnMut(Step) + Send),
    whose: &'static str,
) -> Result<bool, Error> {
    if !pair.cert.exists() {
        tell(making);
        return if pair.key.exists() { Err(Error::KeyAlone { whose }) } else { Ok(true) };
    }
    if super::expiry(&pair.cert)? > OffsetDateTime::now_utc() {
        return Ok(false);
    }
    tell(expired);
    tell(making);
    Ok(true)
}

fn write(pair: &Pair, certificate: &str, key: &[u8]) -> Result<(), Error> {
    write_atomic(&pair.key, 0o600, key)?;
    Ok(write_atomic(&pair.cert, 0o644, certificate.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dm::Config;
    use x509_parser::pem::parse_x509_pem;

    #[tokio::test]
    async fn certificates_are_made_once_in_docker_machines_form() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        let mut config = Config::new(&root, "box", "none");
        config.host_options.auth_options.server_cert_sans = Some(vec!["a.example".into()]);
        let auth = &config.host_options.auth_options;
        let mut steps = Vec::new();
        bootstrap(auth, "alice", &mut |step| steps.push(step)).await.unwrap();
        assert!(matches!(&steps[..], [Step::Authority(_), Step::Client(_)]), "{steps:?}");
        let key = std::fs::read_to_string(&auth.client_key_path).unwrap();
        assert!(key.starts_with("-----BEGIN RSA PRIVATE KEY-----"), "{key}");
        bootstrap(auth, "bob", &mut |step| panic!("{step:?}")).await.unwrap();

        std::fs::create_dir_all(root.join("machines/box")).unwrap();
        make_server(auth, "alice", "box", "10.0.0.2", false).await.unwrap();
        let text = std::fs::read(&auth.server_cert_path).unwrap();
        ensure_server(auth, "alice", "box", "10.0.0.2", false).await.unwrap();
        assert_eq!(std::fs::read(&auth.server_cert_path).unwrap(), text, "it fits");
        let pem = parse_x509_pem(&text).unwrap().1;
        let server = pem.parse_x509().unwrap();
        assert_eq!(server.subject().to_string(), "O=alice.box");
        assert_eq!(server.issuer().to_string(), "O=alice");
        let names = server.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 3);
        let ca = std::fs::read(&auth.ca_cert_path).unwrap();
        let ca = parse_x509_pem(&ca).unwrap().1;
        server.verify_signature(Some(ca.parse_x509().unwrap().public_key())).unwrap();
        assert!(root.join("machines/box/key.pem").exists());

        std::fs::remove_file(&auth.ca_cert_path).unwrap();
        let error = bootstrap(auth, "alice", &mut |_| ()).await.unwrap_err();
        assert_eq!(error.to_string(), "certificate authority key already exists");
    }

    #[tokio::test]
    async fn those_who_begin_at_once_share_one_authority() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new(&dir.path().join("store"), "box", "kvm");
        let auth = &config.host_options.auth_options;
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let (mut first, mut second) = (|step| one.push(step), |step| two.push(step));
        let (first, second) =
            tokio::join!(bootstrap(auth, "a", &mut first), bootstrap(auth, "b", &mut second));
        first.and(second).unwrap();
        assert_eq!(one.len() + two.len(), 2, "{one:?} {two:?}");
        let left = std::fs::read_dir(&auth.cert_dir).unwrap().count();
        assert_eq!(left, 4, "the lock is gone");
    }

    #[tokio::test]
    async fn what_has_expired_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new(&dir.path().join("store"), "box", "none");
        let auth = &config.host_options.auth_options;
        bootstrap(auth, "alice", &mut |_| ()).await.unwrap();
        let key = key::load(Path::new(&auth.ca_private_key_path)).unwrap();
        let mut past = params("alice");
        past.not_after = OffsetDateTime::now_utc() - time::Duration::days(1);
        let text = past.self_signed(&key).unwrap().pem();
        std::fs::write(&auth.ca_cert_path, text).unwrap();
        let mut steps = Vec::new();
        bootstrap(auth, "alice", &mut |step| steps.push(step)).await.unwrap();
        assert!(matches!(&steps[..], [Step::AuthorityExpired, Step::Authority(_)]), "{steps:?}");
        bootstrap(auth, "alice", &mut |step| panic!("{step:?}")).await.unwrap();
    }
}
