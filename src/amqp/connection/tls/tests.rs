//! Which certificates and keys are good, and what is said of the others.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConnection, ServerConfig, ServerConnection};

use super::*;
use crate::config::Origin;

type Authority = CertifiedIssuer<'static, KeyPair>;

/// What a broker or a client shows, and its key.
struct ShownCertificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl ShownCertificate {
    /// A certificate that it has signed itself, as `openssl req -x509` makes it: an authority's.
    fn signed_by_itself(until: i32) -> Self {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        Self::of(params.self_signed(&key).unwrap().der(), &key)
    }

    fn signed_by(authority: &Authority) -> Self {
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        Self::of(params.signed_by(&key, authority).unwrap().der(), &key)
    }

    fn of(certificate: &CertificateDer<'static>, key: &KeyPair) -> Self {
        Self {
            chain: vec![certificate.clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    fn fixtures(certificate: &str, key: &str) -> Self {
        let read = |name| std::fs::read(fixture(name)).unwrap();
        Self {
            chain: pem::certificates(&read(certificate)).unwrap(),
            key: pem::key(&read(key)).unwrap(),
        }
    }

    /// After its own certificate those of `others`.
    fn with(mut self, others: &[&Authority]) -> Self {
        let others = others.iter().map(|other| other.der().clone());
        self.chain.extend(others);
        self
    }

    /// The file that holds the certificates, and another with the key.
    fn written(&self, folder: &Path) -> [PathBuf; 2] {
        let [certificates, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        let sections = self.chain.iter().map(|der| section("CERTIFICATE", der));
        std::fs::write(&certificates, sections.collect::<String>()).unwrap();
        std::fs::write(&key, section("PRIVATE KEY", self.key.secret_der())).unwrap();
        [certificates, key]
    }
}

fn section(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

fn authority(name: &str, above: Option<&Authority>) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    match above {
        Some(above) => CertifiedIssuer::signed_by(params, key, above),
        None => CertifiedIssuer::self_signed(params, key),
    }
    .unwrap()
}

fn named(path: &Path) -> TlsFile {
    TlsFile {
        path: path.to_owned(),
        origin: Origin::CommandLine,
    }
}

fn trusting(ca_file: &Path) -> Tls {
    Tls {
        ca_file: Some(named(ca_file)),
        cert_file: None,
        key_file: None,
        version: TlsVersion::Negotiated,
        verify: true,
        verify_name: true,
    }
}

/// That certificate, in a file of its own.
fn trusting_only(folder: &Path, certificate: &CertificateDer<'_>) -> Tls {
    let file = folder.join("ca.pem");
    std::fs::write(&file, section("CERTIFICATE", certificate)).unwrap();
    trusting(&file)
}

fn fixture(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls");
    Path::new(folder).join(name)
}

/// A handshake with a broker that shows this; why it failed, in the words of the broker's certificate where that is
/// to blame.
fn handshake(tls: &Tls, broker: ShownCertificate, name: &str) -> Result<(), String> {
    handshake_where(tls, broker, None, name)
}

/// The same with a broker that asks for a certificate of one of these.
fn handshake_where(
    tls: &Tls,
    broker: ShownCertificate,
    clients_of: Option<&Authority>,
    name: &str,
) -> Result<(), String> {
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let server = match clients_of {
        None => server.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            server.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    // Whatever is wrong with it: finding that is the client's part.
    let key = ring::sign::any_supported_type(&broker.key).unwrap();
    let shown = SingleCertAndKey::from(CertifiedKey::new(broker.chain, key));
    let server = server.with_cert_resolver(Arc::new(shown));
    let (config, verifier) = client(tls).map_err(|error| error.to_string())?;
    let name = name.to_owned().try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        match server.read_tls(&mut &bytes[..]) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
            _ => server
                .process_new_packets()
                .map_err(|error| error.to_string())?,
        };
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut &bytes[..]).unwrap();
        if let Err(error) = client.process_new_packets() {
            let refused = verifier.seen().and_then(|peer| peer.refused);
            return Err(refused.unwrap_or_else(|| error.to_string()));
        }
    }
    Ok(())
}

#[test]
fn a_certificate_that_is_itself_in_ssl_ca_file_is_good_for_its_time_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let broker = || ShownCertificate::fixtures("rsa.crt", "rsa.key");
    let old = ShownCertificate::signed_by_itself(2000);
    let all = std::fs::read_to_string(fixture("rsa.crt")).unwrap();
    std::fs::write(&file, all + &section("CERTIFICATE", &old.chain[0])).unwrap();
    let old = || ShownCertificate {
        chain: old.chain.clone(),
        key: old.key.clone_key(),
    };
    let other = || ShownCertificate::signed_by_itself(4000);
    let tls = trusting(&file);
    assert_eq!(handshake(&tls, broker(), "localhost"), Ok(()));
    let refused = handshake(&tls, broker(), "elsewhere").unwrap_err();
    assert!(refused.contains("is not for elsewhere"), "{refused}");
    let refused = handshake(&tls, old(), "localhost").unwrap_err();
    assert!(refused.contains("has expired on"), "{refused}");
    handshake(&tls, other(), "localhost").unwrap_err();

    let without_name = Tls {
        verify_name: false,
        ..tls
    };
    assert_eq!(handshake(&without_name, broker(), "elsewhere"), Ok(()));
    let refused = handshake(&without_name, old(), "elsewhere").unwrap_err();
    assert!(refused.contains("has expired on"), "{refused}");
    handshake(&without_name, other(), "localhost").unwrap_err();
}

#[test]
fn without_tls_verify_any_certificate_passes_and_with_it_none_of_these() {
    let tls = trusting(&fixture("p256.crt"));
    let unchecked = Tls {
        verify: false,
        ..tls.clone()
    };
    for until in [2000, 4000] {
        let broker = || ShownCertificate::signed_by_itself(until);
        assert_eq!(handshake(&unchecked, broker(), "elsewhere"), Ok(()));
        handshake(&tls, broker(), "localhost").unwrap_err();
    }
}

#[test]
fn a_chain_may_come_in_odd_order_and_any_authority_in_it_may_be_the_trusted_one() {
    let folder = tempfile::tempdir().unwrap();
    let root = authority("Root", None);
    let upper = authority("Upper", Some(&root));
    let lower = authority("Lower", Some(&upper));
    for trusted in [&root, &upper, &lower] {
        let tls = trusting_only(folder.path(), trusted.der());
        for others in [
            [&lower, &upper, &root],
            [&root, &upper, &lower],
            [&upper, &lower, &upper],
        ] {
            let broker = ShownCertificate::signed_by(&lower).with(&others);
            assert_eq!(handshake(&tls, broker, "localhost"), Ok(()));
        }
    }
    // Where a link of the chain is missing it is said what is.
    let tls = trusting_only(folder.path(), root.der());
    let refused = handshake(&tls, ShownCertificate::signed_by(&lower), "localhost").unwrap_err();
    for word in [
        "issued by CN=Lower",
        "is not of an authority in ssl_ca_file = ",
    ] {
        assert!(refused.contains(word), "{refused}");
    }
}

#[test]
fn our_own_certificate_may_bring_its_chain() {
    let folder = tempfile::tempdir().unwrap();
    let root = authority("Root", None);
    let upper = authority("Upper", Some(&root));
    let mut tls = trusting(&fixture("rsa.crt"));
    for (shown, accepted) in [
        (ShownCertificate::signed_by(&upper).with(&[&upper]), true),
        (ShownCertificate::signed_by(&upper), false),
    ] {
        let [certificates, key] = shown.written(folder.path());
        (tls.cert_file, tls.key_file) = (Some(named(&certificates)), Some(named(&key)));
        let broker = ShownCertificate::fixtures("rsa.crt", "rsa.key");
        let reached = handshake_where(&tls, broker, Some(&root), "localhost");
        assert_eq!(reached.is_ok(), accepted, "{reached:?}");
    }
}

#[test]
fn an_authority_may_be_of_version_1_and_a_broker_may_not() {
    let tls = trusting(&fixture("v1.crt"));
    let broker = ShownCertificate::fixtures("v3-of-v1.crt", "p256.key");
    assert_eq!(handshake(&tls, broker, "localhost"), Ok(()));
    for (ca_file, verify, verify_name) in [
        ("v1.crt", true, true),
        ("v1.crt", true, false),
        ("v1leaf.crt", true, true),
        ("v1leaf.crt", true, false),
        ("v1.crt", false, false),
    ] {
        let tls = Tls {
            verify,
            verify_name,
            ..trusting(&fixture(ca_file))
        };
        let broker = ShownCertificate::fixtures("v1leaf.crt", "p256.key");
        let refused = handshake(&tls, broker, "localhost").unwrap_err();
        for word in ["of version 1", "-extfile", "subjectAltName"] {
            assert!(refused.contains(word), "{refused}");
        }
    }
}

#[test]
fn a_path_that_is_not_here_may_be_a_containers() {
    let error = client(&trusting(Path::new("/no/such/ca.pem"))).unwrap_err();
    let said = error.to_string();
    for word in [
        "ssl_ca_file = /no/such/ca.pem (command line): ",
        "container",
        "[oslo_messaging_rabbit]",
    ] {
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn the_key_may_stand_beside_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("both.pem");
    let text = |name: &str| std::fs::read_to_string(fixture(name)).unwrap();
    let mut tls = trusting(&fixture("p256.crt"));
    for kind in ["p256", "rsa"] {
        let text = text(&format!("{kind}.crt")) + &text(&format!("{kind}.key"));
        std::fs::write(&file, text).unwrap();
        tls.cert_file = Some(named(&file));
        assert!(
            client(&tls)
                .unwrap()
                .0
                .client_auth_cert_resolver
                .has_certs()
        );
    }
    tls.cert_file = Some(named(&fixture("p256.crt")));
    let error = client(&tls).unwrap_err().to_string();
    for word in ["ssl_cert_file", "only a certificate", "ssl_key_file"] {
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_key_that_does_not_fit_or_is_not_spoken_says_what_would() {
    for (certificate, key, words) in [
        ("p521.crt", "p521.key", "(P-521) is not spoken here"),
        ("p256.crt", "p521.key", "the key has to be RSA"),
        ("p256.crt", "encrypted.key", "ssl_key_file = "),
        ("p256.crt", "rsa.key", "not that of the first certificate"),
    ] {
        let mut tls = trusting(&fixture("p256.crt"));
        tls.cert_file = Some(named(&fixture(certificate)));
        tls.key_file = Some(named(&fixture(key)));
        let error = client(&tls).unwrap_err().to_string();
        let where_from = format!("{} (command line)", fixture(key).display());
        for words in [words, &where_from] {
            assert!(error.contains(words), "{error}");
        }
    }
}

#[test]
fn a_broker_with_nothing_in_common_is_not_said_to_want_a_client_certificate() {
    let tls = trusting(&fixture("p256.crt"));
    for alert in [
        AlertDescription::HandshakeFailure,
        AlertDescription::InsufficientSecurity,
    ] {
        let error = rustls::Error::AlertReceived(alert);
        let said = meaning(&error, &tls, false).unwrap();
        for word in ["DHE and CBC", "ssl_options.ciphers", "P-521"] {
            assert!(said.contains(word), "{said}");
        }
        assert!(!said.contains("client certificate"), "{said}");
    }
    let error = rustls::Error::AlertReceived(AlertDescription::HandshakeFailure);
    let said = meaning(&error, &tls, true).unwrap();
    assert!(said.contains("client certificate"), "{said}");
}

#[test]
fn a_broker_with_old_versions_only_is_told_by_its_option() {
    let error = rustls::Error::AlertReceived(AlertDescription::ProtocolVersion);
    let said = meaning(&error, &trusting(&fixture("p256.crt")), false).unwrap();
    for words in ["TLS 1.2", "1.3", "ssl_options.versions"] {
        assert!(said.contains(words), "{said}");
    }
}
