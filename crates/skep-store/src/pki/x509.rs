//! X.509 certificates: what docker-machine makes, but for ECDSA keys on P-256 in the place of RSA:
//! they are cheaper to make and to use, which counts on an emulated processor.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use skep_core::model::NodeName;
use skep_sys::{read_own, write_atomic};
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

use super::survey::{self, AUTHORITY, CLIENT, Certificate};
use super::{Credentials, Error, certs_dir, copy_clients, key, machine_dir, rotation};

/// How long a certificate is valid.
const VALIDITY: Duration = Duration::days(1080);

/// Makes a store's certificate authority and client certificate, if they are not there.
///
/// # Errors
///
/// If one is there and not valid now, a key is missing beside its certificate, or a file cannot be written.
pub fn ensure_authority(store: &Path, user: &str) -> Result<Credentials, Error> {
    let certs = certs_dir(store);
    skep_sys::make_private_dir(&certs)?;
    let ca = Pair::authority(&certs);
    if !ca.is_complete()? {
        make_authority(&ca, user)?;
    }
    if !Pair::client(&certs).is_complete()? {
        make_client(&certs, user)?;
    }
    check_clients(&certs)?;
    Ok(Credentials::of_store(store))
}

/// Fails unless what clients go by is valid now.
pub(super) fn check_clients(certs: &Path) -> Result<(), Error> {
    check_time(&Pair::authority(certs).cert, AUTHORITY)?;
    check_time(&Pair::client(certs).cert, CLIENT)
}

/// Fails unless a certificate is valid now.
fn check_time(path: &Path, whose: &'static str) -> Result<(), Error> {
    let now = OffsetDateTime::now_utc();
    let Certificate { begins, ends, .. } = survey::certificate(whose, path)?;
    match begins <= now && now < ends {
        true => Ok(()),
        false => Err(Error::OutOfTime { whose, path: path.to_owned(), begins, ends, now }),
    }
}

/// Makes an authority in the place of what is there.
pub(super) fn make_authority(ca: &Pair, user: &str) -> Result<(), Error> {
    let key = KeyPair::generate()?;
    let mut params = params(user);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = [SERVER_USES, &[KeyUsagePurpose::KeyCertSign]].concat();
    ca.write(&params.self_signed(&key)?.pem(), &key)
}

/// Makes a client's certificate in the place of what is there.
pub(super) fn make_client(certs: &Path, user: &str) -> Result<(), Error> {
    let key = KeyPair::generate()?;
    let mut params = leaf_params(&format!("{user}.<bootstrap>"));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let issuer = Pair::authority(certs).valid_issuer()?;
    Pair::client(certs).write(&params.signed_by(&key, &issuer)?.pem(), &key)
}

/// What a server's key is for.
const SERVER_USES: &[KeyUsagePurpose] = &[
    KeyUsagePurpose::DigitalSignature,
    KeyUsagePurpose::KeyEncipherment,
    KeyUsagePurpose::KeyAgreement,
];

/// Makes a node's server certificate, if it has none that fits, and copies what its clients need
/// into its directory.
///
/// # Errors
///
/// If the authority is missing or damaged, or a file cannot be written.
pub fn ensure_server(
    store: &Path,
    node: &NodeName,
    address: Ipv4Addr,
    user: &str,
    extra_names: &[String],
) -> Result<(), Error> {
    let server = Pair::server(&machine_dir(store, node));
    let ca = Pair::authority(&certs_dir(store));
    if server.fits(&ca, &names(node, address, extra_names)) {
        return give_clients(store, node);
    }
    make_server(store, node, address, user, extra_names)
}

/// Makes a node's server certificate in the place of what is there, and copies what its clients need
/// into its directory.
///
/// # Errors
///
/// If the authority is missing or damaged, or a file cannot be written.
pub fn make_server(
    store: &Path,
    node: &NodeName,
    address: Ipv4Addr,
    user: &str,
    extra_names: &[String],
) -> Result<(), Error> {
    give_clients(store, node)?;
    let ca = Pair::authority(&certs_dir(store));
    let names = names(node, address, extra_names);
    let key = KeyPair::generate()?;
    let mut params = leaf_params(&format!("{user}.{node}"));
    params.subject_alt_names = names.iter().map(|name| san(name)).collect::<Result<_, _>>()?;
    params.key_usages = SERVER_USES.to_vec();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server = Pair::server(&machine_dir(store, node));
    server.write(&params.signed_by(&key, &ca.valid_issuer()?)?.pem(), &key)
}

fn give_clients(store: &Path, node: &NodeName) -> Result<(), Error> {
    copy_clients(&certs_dir(store), &machine_dir(store, node))?;
    rotation::write_admitted(store, node)
}

/// Returns when a certificate ceases to be valid.
///
/// # Errors
///
/// If the file cannot be read or is no certificate.
pub fn expiry(path: &Path) -> Result<OffsetDateTime, Error> {
    Ok(survey::certificate("", path)?.ends)
}

fn names(node: &NodeName, address: Ipv4Addr, extra: &[String]) -> Vec<String> {
    let own = [node.to_string(), "localhost".into(), address.to_string(), "127.0.0.1".into()];
    extra.iter().cloned().chain(own).collect()
}

pub(super) fn san(name: &str) -> Result<SanType, rcgen::Error> {
    match name.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => Ok(SanType::DnsName(name.try_into()?)),
    }
}

pub(super) fn params(organization: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, organization);
    params.distinguished_name = subject;
    // Clocks differ; seconds are of no use.
    let start = OffsetDateTime::now_utc() - Duration::minutes(5);
    let cut = start.replace_second(0).and_then(|time| time.replace_nanosecond(0));
    params.not_before = cut.unwrap_or(start);
    params.not_after = params.not_before + VALIDITY;
    params
}

pub(super) fn leaf_params(organization: &str) -> CertificateParams {
    let mut params = params(organization);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params
}

/// A certificate and its key.
pub(super) struct Pair {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

impl Pair {
    pub(super) fn authority(certs: &Path) -> Self {
        Self { cert: certs.join("ca.pem"), key: certs.join("ca-key.pem") }
    }

    fn client(certs: &Path) -> Self {
        Self { cert: certs.join("cert.pem"), key: certs.join("key.pem") }
    }

    fn server(dir: &Path) -> Self {
        Self { cert: dir.join("server.pem"), key: dir.join("server-key.pem") }
    }

    fn is_complete(&self) -> Result<bool, Error> {
        match (self.cert.exists(), self.key.exists()) {
            (true, true) => Ok(true),
            // The key is written first, so a key alone is what an interrupted run left.
            (false, _) => Ok(false),
            (true, false) => {
                Err(Error::Half { present: self.cert.clone(), missing: self.key.clone() })
            }
        }
    }

    fn write(&self, certificate: &str, key: &KeyPair) -> Result<(), Error> {
        write_atomic(&self.key, 0o600, key.serialize_pem().as_bytes())?;
        Ok(write_atomic(&self.cert, 0o644, certificate.as_bytes())?)
    }

    pub(super) fn issuer(&self) -> Result<Issuer<'static, KeyPair>, Error> {
        let damaged = |path: &Path, error: rcgen::Error| Error::Damaged {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let key = key::load(&self.key)?;
        let certificate = String::from_utf8_lossy(&read_own(&self.cert)?).into_owned();
        Issuer::from_ca_cert_pem(&certificate, key).map_err(|error| damaged(&self.cert, error))
    }

    /// Returns the authority, whose certificates nobody takes before it begins or after its end.
    fn valid_issuer(&self) -> Result<Issuer<'static, KeyPair>, Error> {
        check_time(&self.cert, AUTHORITY)?;
        self.issuer()
    }

    /// Tells whether the certificate is the authority's, still valid, and has these names.
    pub(super) fn fits(&self, ca: &Self, names: &[String]) -> bool {
        let fits = || {
            let key = key::load(&self.key).ok()?;
            let (own, ca) = (read_own(&self.cert).ok()?, read_own(&ca.cert).ok()?);
            let (own, ca) = (parse_x509_pem(&own).ok()?.1, parse_x509_pem(&ca).ok()?.1);
            let (own, ca) = (own.parse_x509().ok()?, ca.parse_x509().ok()?);
            own.verify_signature(Some(ca.public_key())).ok()?;
            let found = own.subject_alternative_name().ok()??.value.general_names.iter();
            let mut found: Vec<String> = found.filter_map(name_text).collect();
            let mut wanted = names.to_vec();
            found.sort();
            wanted.sort();
            let same_key = *own.public_key().subject_public_key.data == *key.public_key_raw();
            Some(own.validity().is_valid() && found == wanted && same_key)
        };
        fits().unwrap_or(false)
    }
}

pub(super) fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => match <[u8; 4]>::try_from(*octets) {
            Ok(octets) => Some(Ipv4Addr::from(octets).to_string()),
            Err(_) => Some(Ipv6Addr::from(<[u8; 16]>::try_from(*octets).ok()?).to_string()),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn store() -> (tempfile::TempDir, NodeName) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("machines/node0")).unwrap();
        (dir, "node0".parse().unwrap())
    }

    fn address() -> Ipv4Addr {
        "10.193.0.2".parse().unwrap()
    }

    #[test]
    fn what_is_valid_is_kept() {
        let (dir, node) = store();
        let credentials = ensure_authority(dir.path(), "alice").unwrap();
        ensure_server(dir.path(), &node, address(), "alice", &[]).unwrap();
        let server = dir.path().join("machines/node0/server.pem");
        let before = (std::fs::read(&credentials.cert).unwrap(), std::fs::read(&server).unwrap());
        ensure_authority(dir.path(), "bob").unwrap();
        ensure_server(dir.path(), &node, address(), "bob", &[]).unwrap();
        let after = (std::fs::read(&credentials.cert).unwrap(), std::fs::read(&server).unwrap());
        assert_eq!(before, after);
        assert!(expiry(&server).unwrap() > OffsetDateTime::now_utc() + Duration::days(1000));
    }

    #[test]
    fn a_certificate_with_other_names_or_a_foreign_key_is_replaced() {
        let (dir, node) = store();
        ensure_authority(dir.path(), "alice").unwrap();
        let machine = dir.path().join("machines/node0");
        let make = |extra: &[String]| {
            ensure_server(dir.path(), &node, address(), "alice", extra).unwrap();
            std::fs::read(machine.join("server.pem")).unwrap()
        };
        let first = make(&[]);
        let second = make(&["engine.example".into()]);
        assert_ne!(first, second);
        let foreign = KeyPair::generate().unwrap().serialize_pem();
        std::fs::write(machine.join("server-key.pem"), foreign).unwrap();
        assert_ne!(second, make(&["engine.example".into()]));
    }

    #[test]
    fn an_authority_without_its_key_is_not_made_anew() {
        let (dir, _) = store();
        ensure_authority(dir.path(), "alice").unwrap();
        std::fs::remove_file(dir.path().join("certs/ca-key.pem")).unwrap();
        let error = ensure_authority(dir.path(), "alice").unwrap_err();
        assert!(matches!(error, Error::Half { .. }), "{error}");
    }

    #[test]
    fn keys_are_for_their_owner_alone() {
        let (dir, node) = store();
        ensure_authority(dir.path(), "alice").unwrap();
        ensure_server(dir.path(), &node, address(), "alice", &[]).unwrap();
        let keys = ["certs/ca-key.pem", "certs/key.pem", "machines/node0/server-key.pem"];
        for key in keys.into_iter().chain(["machines/node0/key.pem"]) {
            let mode = std::fs::metadata(dir.path().join(key)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
    }
}
