//! Clients and engines as they would meet: a handshake of TLS in memory, at every step of a change.

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::*;
use crate::pki::{ensure_authority, ensure_server, make_server};

const NODES: [&str; 2] = ["node0", "node1"];

/// What a client or an engine holds: whom it trusts, its certificate, its key.
#[derive(Clone)]
struct Party {
    trusts: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Party {
    fn client(dir: &Path) -> Self {
        let file = |name: &str| read_own(&dir.join(name)).unwrap();
        Self { trusts: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem") }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let (_, bad) = roots.add_parsable_certificates(
            CertificateDer::pem_slice_iter(&self.trusts).map(|it| it.unwrap()),
        );
        assert_eq!(bad, 0);
        Arc::new(roots)
    }

    fn identity(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let cert = CertificateDer::pem_slice_iter(&self.cert).map(|it| it.unwrap()).collect();
        (cert, PrivateKeyDer::from_pem_slice(&self.key).unwrap())
    }
}

/// A cluster's directory, and what each of its nodes was given last.
struct Cluster {
    dir: tempfile::TempDir,
    given: Vec<Party>,
}

impl Cluster {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        ensure_authority(dir.path(), "alice").unwrap();
        let mut cluster = Self { dir, given: Vec::new() };
        for node in NODES {
            std::fs::create_dir_all(machine_dir(cluster.store(), &node.parse().unwrap())).unwrap();
        }
        for index in 0..NODES.len() {
            let party = cluster.keys(index);
            cluster.given.push(party);
        }
        cluster
    }

    fn store(&self) -> &Path {
        self.dir.path()
    }

    /// Makes what a node is to get.
    fn keys(&self, index: usize) -> Party {
        let name: NodeName = NODES[index].parse().unwrap();
        let address = "10.193.0.2".parse().unwrap();
        ensure_server(self.store(), &name, address, "alice", &[]).unwrap();
        let dir = machine_dir(self.store(), &name);
        let file = |name: &str| read_own(&dir.join(name)).unwrap();
        let trusts = admitted(&dir).unwrap();
        Party { trusts, cert: file("server.pem"), key: file("server-key.pem") }
    }

    /// The steps of a change in the order of its plan.
    fn step(&mut self, number: usize) {
        match number {
            0 => prepare(self.store(), "alice").unwrap(),
            1 | 2 => self.given[number - 1] = self.keys(number - 1),
            3 => switch(self.store()).unwrap(),
            4 | 5 => self.given[number - 4] = self.keys(number - 4),
            _ => withdraw(self.store()).unwrap(),
        }
    }

    /// Goes on from where a change was cut off, as the plan does.
    fn finish(&mut self) {
        let first = if stage(self.store()).unwrap() == Rotation::Withdrawing { 3 } else { 0 };
        (first..STEPS).for_each(|number| self.step(number));
    }

    /// Every client of this host gets an answer of every node.
    fn assert_all_answer(&self, when: &str) {
        let copies = NODES.iter().map(|node| self.store().join("machines").join(node));
        for dir in copies.chain([certs_dir(self.store())]) {
            for (node, given) in NODES.iter().zip(&self.given) {
                let met = meet(&Party::client(&dir), given, node);
                assert_eq!(met, Ok(()), "{when}: {} and {node}", dir.display());
            }
        }
    }
}

const STEPS: usize = 7;

/// Lets a client and an engine shake hands.
fn meet(client: &Party, server: &Party, name: &str) -> Result<(), String> {
    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let admits = WebPkiClientVerifier::builder_with_provider(server.roots(), provider());
    let (cert, key) = server.identity();
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(admits.build().unwrap())
        .with_single_cert(cert, key)
        .unwrap();
    let (cert, key) = client.identity();
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(client.roots())
        .with_client_auth_cert(cert, key)
        .unwrap();
    let name = name.to_owned().try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let (mut to, mut from) = (Vec::new(), Vec::new());
        while client.wants_write() {
            client.write_tls(&mut to).unwrap();
        }
        while !to.is_empty() && server.read_tls(&mut to.as_slice()).unwrap() > 0 {
            to.clear();
            server.process_new_packets().map_err(|error| error.to_string())?;
        }
        while server.wants_write() {
            server.write_tls(&mut from).unwrap();
        }
        while !from.is_empty() && client.read_tls(&mut from.as_slice()).unwrap() > 0 {
            from.clear();
            client.process_new_packets().map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

#[test]
fn clients_get_answers_wherever_a_change_is_cut_off() {
    for cut in 0..=STEPS {
        let mut cluster = Cluster::new();
        let known_by = read_own(&origin(cluster.store())).unwrap();
        let stolen = Party::client(&certs_dir(cluster.store()));
        for number in 0..cut {
            cluster.step(number);
            cluster.assert_all_answer(&format!("after step {number}"));
        }
        if cut < STEPS {
            // Whatever else runs in between leaves it as it is.
            ensure_authority(cluster.store(), "alice").unwrap();
            cluster.finish();
        }
        cluster.assert_all_answer(&format!("cut off before step {cut}, and done again"));
        assert_eq!(stage(cluster.store()).unwrap(), Rotation::Settled);
        for (node, given) in NODES.iter().zip(&cluster.given) {
            let own = Party {
                trusts: read_own(&certs_dir(cluster.store()).join("ca.pem")).unwrap(),
                ..stolen.clone()
            };
            let met = meet(&own, given, node);
            assert!(met.unwrap_err().contains("invalid peer certificate"), "a stolen one");
        }
        assert_eq!(read_own(&origin(cluster.store())).unwrap(), known_by, "hosts know it still");
        let left: Vec<_> = std::fs::read_dir(cluster.store()).unwrap().flatten().collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}

#[test]
fn what_prepare_leaves_when_it_is_cut_off_is_gone_on_with() {
    let mut cluster = Cluster::new();
    let certs = certs_dir(cluster.store());
    let old = read_own(&certs.join("ca.pem")).unwrap();
    std::fs::create_dir(cluster.store().join("certs.making")).unwrap();
    prepare(cluster.store(), "alice").unwrap();
    let new = read_own(&next_dir(cluster.store()).join("ca-key.pem")).unwrap();
    // Cut off before clients trust both.
    std::fs::write(certs.join("ca.pem"), &old).unwrap();
    cluster.assert_all_answer("cut off");
    cluster.finish();
    cluster.assert_all_answer("done again");
    assert_eq!(read_own(&certs.join("ca-key.pem")).unwrap(), new, "the one that was written down");
}

#[test]
fn a_change_can_be_made_again() {
    let mut cluster = Cluster::new();
    for _ in 0..3 {
        cluster.finish();
        cluster.assert_all_answer("changed");
    }
    let mode = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    let certs = certs_dir(cluster.store());
    assert_eq!((mode(&certs), mode(&certs.join("ca-key.pem"))), (0o700, 0o600));
}

#[test]
fn new_certificates_of_the_same_authority_meet_old_ones() {
    let mut cluster = Cluster::new();
    let old = Party::client(&certs_dir(cluster.store()));
    renew_client(cluster.store(), "alice").unwrap();
    let new = Party::client(&certs_dir(cluster.store()));
    assert!(old.cert != new.cert && old.key != new.key && old.trusts == new.trusts);
    cluster.assert_all_answer("a new client, old engines");
    let name: NodeName = NODES[0].parse().unwrap();
    let address = "10.193.0.2".parse().unwrap();
    make_server(cluster.store(), &name, address, "alice", &[]).unwrap();
    let renewed = cluster.keys(0);
    assert_ne!(renewed.cert, cluster.given[0].cert);
    cluster.given[0] = renewed;
    cluster.assert_all_answer("a new client, a new engine");
    assert_eq!(meet(&old, &cluster.given[0], NODES[0]), Ok(()), "both are valid");
}

/// Gives an authority, or the client, a certificate that is valid at other times, by the same key.
fn shift(store: &Path, by: time::Duration) {
    let ca = Pair::authority(&certs_dir(store));
    let mut params = x509::params("alice");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    params.not_before += by;
    params.not_after += by;
    let key = super::super::key::load(&ca.key).unwrap();
    std::fs::write(&ca.cert, params.self_signed(&key).unwrap().pem()).unwrap();
}

#[test]
fn an_authority_out_of_time_signs_nothing_and_another_one_takes_its_place() {
    for by in [time::Duration::days(-2000), time::Duration::days(2000)] {
        let cluster = Cluster::new();
        let (store, node) = (cluster.store(), NODES[0].parse().unwrap());
        assert!(!is_out_of_time(store).unwrap());
        shift(store, by);
        assert!(is_out_of_time(store).unwrap());
        let address = "10.193.0.2".parse().unwrap();
        let refused = [
            ensure_authority(store, "alice").map(|_| ()),
            make_server(store, &node, address, "alice", &[]),
            renew_client(store, "alice"),
        ];
        for result in refused {
            assert!(matches!(result, Err(Error::OutOfTime { .. })), "{by}: {result:?}");
        }

        // As a change of the authority goes that was cut off while a clock was wrong.
        for begun in [false, true] {
            if begun {
                prepare(store, "alice").unwrap();
                switch(store).unwrap();
                shift(store, by);
                assert_eq!(stage(store).unwrap(), Rotation::Withdrawing);
                withdraw(store).unwrap();
            }
            prepare(store, "alice").unwrap();
            switch(store).unwrap();
            assert!(!is_out_of_time(store).unwrap());
            ensure_server(store, &node, address, "alice", &[]).unwrap();
            withdraw(store).unwrap();
            assert_eq!(stage(store).unwrap(), Rotation::Settled);
            ensure_authority(store, "alice").unwrap();
        }
    }
}
