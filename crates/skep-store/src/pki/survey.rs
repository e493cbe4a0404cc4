//! What certificates a cluster has, and when they end.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use skep_sys::read;
use time::{Duration, OffsetDateTime};
use x509_parser::pem::parse_x509_pem;

use super::x509::name_text;
use super::{Error, certs_dir, time_text};

/// How long before its end a certificate is worth a warning.
pub const SOON: Duration = Duration::days(30);

/// What the two that are no node's are called.
pub(super) const AUTHORITY: &str = "the certificate authority";
pub(super) const CLIENT: &str = "the client's certificate";

/// A certificate in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is: `authority`, `client`, or a node's name.
    pub of: String,
    /// The file.
    pub path: PathBuf,
    /// When it begins to be valid.
    pub begins: OffsetDateTime,
    /// When it ceases to be valid.
    pub ends: OffsetDateTime,
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    /// The kind of its key.
    pub key: &'static str,
    /// SHA-256 of the whole, in hexadecimal digits.
    pub fingerprint: String,
}

impl Certificate {
    /// Tells whether it ends soon, or has ended.
    #[must_use]
    pub fn ends_soon(&self, now: OffsetDateTime) -> bool {
        self.ends - now < SOON
    }

    /// Tells in words that it ends soon, has ended, or has not begun; none if it is well.
    #[must_use]
    pub fn warning(&self, now: OffsetDateTime) -> Option<String> {
        let date = self.ends.date();
        let whose = match self.of.as_str() {
            "authority" => AUTHORITY.to_owned(),
            "client" => CLIENT.to_owned(),
            node => format!("the certificate of {node}"),
        };
        if self.begins > now {
            let (begins, now) = (time_text(self.begins), time_text(now));
            return Some(format!(
                "{whose} is valid from {begins} on, and this host's clock says {now}"
            ));
        }
        match (self.ends - now).whole_days() {
            _ if self.ends <= now => Some(format!("{whose} ended on {date}")),
            days if self.ends_soon(now) => Some(format!("{whose} ends on {date}, in {days} days")),
            _ => None,
        }
    }
}

/// Returns the certificates of a cluster: the authority's, the client's, then the nodes'. One that
/// is not there is left out.
///
/// # Errors
///
/// If one cannot be read.
pub fn survey(store: &Path) -> Result<Vec<Certificate>, Error> {
    let mut all = Vec::new();
    let mut add = |of: &str, path: PathBuf| -> Result<(), Error> {
        if path.exists() {
            all.push(certificate(of, &path)?);
        }
        Ok(())
    };
    add("authority", certs_dir(store).join("ca.pem"))?;
    add("client", certs_dir(store).join("cert.pem"))?;
    let mut nodes: Vec<_> = std::fs::read_dir(store.join("machines"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    nodes.sort();
    for node in nodes {
        add(&node, store.join("machines").join(&node).join("server.pem"))?;
    }
    Ok(all)
}

pub(super) fn certificate(of: &str, path: &Path) -> Result<Certificate, Error> {
    let text = read(path)?;
    let damaged = |reason: String| Error::Damaged { path: path.to_owned(), reason };
    let (_, pem) = parse_x509_pem(&text).map_err(|error| damaged(error.to_string()))?;
    let found = pem.parse_x509().map_err(|error| damaged(error.to_string()))?;
    let names = found.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let key = match found.public_key().algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => "RSA",
        "1.2.840.10045.2.1" => "ECDSA",
        _ => "another",
    };
    Ok(Certificate {
        of: of.to_owned(),
        path: path.to_owned(),
        begins: found.validity().not_before.to_datetime(),
        ends: found.validity().not_after.to_datetime(),
        names: names.filter_map(name_text).collect(),
        key,
        fingerprint: Sha256::digest(&pem.contents)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_soon_is_told_with_its_date() {
        let dir = tempfile::tempdir().unwrap();
        super::super::ensure_authority(dir.path(), "alice").unwrap();
        let node = "node0".parse().unwrap();
        std::fs::create_dir_all(dir.path().join("machines/node0")).unwrap();
        let address = "10.193.0.2".parse().unwrap();
        super::super::ensure_server(dir.path(), &node, address, "alice", &[]).unwrap();
        let all = survey(dir.path()).unwrap();
        let of: Vec<_> = all.iter().map(|it| it.of.as_str()).collect();
        assert_eq!(of, ["authority", "client", "node0"]);
        assert_eq!(all[2].names, ["node0", "localhost", "10.193.0.2", "127.0.0.1"]);
        assert!(all.iter().all(|it| it.key == "ECDSA" && it.fingerprint.len() == 64));

        let server = &all[2];
        assert_eq!(server.ends - server.begins, Duration::days(1080), "as docker-machine's");
        assert_eq!(server.warning(OffsetDateTime::now_utc()), None);
        let date = server.ends.date();
        let soon = server.ends - Duration::days(3);
        assert_eq!(
            server.warning(soon).unwrap(),
            format!("the certificate of node0 ends on {date}, in 3 days")
        );
        let early = server.begins - Duration::seconds(1);
        let (begins, now) = (time_text(server.begins), time_text(early));
        assert_eq!(
            server.warning(early).unwrap(),
            format!(
                "the certificate of node0 is valid from {begins} on, and this host's clock says {now}"
            )
        );
        let told = server.warning(server.ends).unwrap();
        assert_eq!(told, format!("the certificate of node0 ended on {date}"));
    }
}
