//! TLS to the broker: whom to trust, who we are, which versions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lapin::tcp::RustlsConnector;
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use tracing::warn;

use super::certificate::{Check, Witness};
use super::pem;
use crate::config::{Tls, TlsVersion};

/// Why TLS cannot even be tried. Each names the option that is to blame.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read or holds no PEM of the wanted kind.
    #[error("{option} = {}: {cause}", path.display())]
    File {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// Certificate and key do not fit together, or a kind of key that is not known.
    #[error("ssl_cert_file and ssl_key_file: {0}")]
    Identity(String),
    /// The files could not be read in time.
    #[error("{0} cannot be read in time: is the file system there?")]
    Slow(String),
    /// The versions asked for cannot be had.
    #[error("ssl_version: {0}")]
    Version(rustls::Error),
    /// The authorities are no good.
    #[error("ssl_ca_file: {0}")]
    Authorities(#[from] VerifierBuilderError),
    /// No CA of the system could be found, and none was named.
    #[error("ssl_ca_file is not set and the system has no certificate authorities")]
    NoAuthorities,
}

/// Makes a connector from the settings, for one handshake, and the witness of it.
///
/// The files are read anew each time, so that a renewed certificate counts from the next
/// connection on. As in Python's `ssl`, a CA file replaces the system's authorities.
///
/// # Errors
///
/// What is wrong, and with which option.
pub fn connector(tls: &Tls) -> Result<(RustlsConnector, Arc<Witness>), TlsError> {
    let (config, witness) = client(tls)?;
    Ok((Arc::new(config).into(), witness))
}

fn client(tls: &Tls) -> Result<(ClientConfig, Arc<Witness>), TlsError> {
    let provider = Arc::new(ring::default_provider());
    let versions: &[_] = match tls.version {
        TlsVersion::Negotiated => rustls::ALL_VERSIONS,
        TlsVersion::Tls12 => &[&rustls::version::TLS12],
    };
    let check = if tls.verify {
        let (roots, named) = authorities(tls)?;
        let roots = Arc::new(roots);
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?;
        if tls.verify_name {
            Check::All(verifier, named)
        } else {
            Check::AllButName(verifier, named)
        }
    } else {
        // The way out for clouds whose brokers have no certificate that can be checked, as
        // oslo.messaging takes it by itself when no CA file is named.
        warn!("the broker's certificate is not checked ([progress] tls_verify is off)");
        Check::Nothing
    };
    let authorities = match &tls.ca_file {
        Some(path) => format!("{} (ssl_ca_file)", path.display()),
        None => "the system's store (ssl_ca_file is not set)".to_owned(),
    };
    let witness = Arc::new(Witness::new(check, Arc::clone(&provider), authorities));
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(TlsError::Version)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&witness) as _);
    let config = match &tls.cert_file {
        Some(cert) => {
            let certificates = certificates("ssl_cert_file", cert)?;
            let strange = certificates.first().and_then(pem::strange_key);
            // As in Python, the key may stand beside its certificate.
            let (option, file) = match &tls.key_file {
                Some(key) => ("ssl_key_file", key),
                None => ("ssl_cert_file", cert),
            };
            let key = pem::key(&read(option, file)?).map_err(|cause| match &tls.key_file {
                Some(_) => unusable(option, file, cause),
                None => unusable(
                    option,
                    file,
                    format!("{cause}; ssl_key_file, which would name another file, is not set"),
                ),
            })?;
            config
                .with_client_auth_cert(certificates, key)
                .map_err(|error| TlsError::Identity(unfit(&error, strange)))?
        }
        None => config.with_no_client_auth(),
    };
    Ok((config, witness))
}

/// The files that are read for a connection, as the options name them.
#[must_use]
pub fn files(tls: &Tls) -> String {
    let named = [
        ("ssl_ca_file", tls.ca_file.as_ref().filter(|_| tls.verify)),
        ("ssl_cert_file", tls.cert_file.as_ref()),
        ("ssl_key_file", tls.key_file.as_ref()),
    ];
    let named: Vec<String> = named
        .into_iter()
        .filter_map(|(option, path)| Some(format!("{option} = {}", path?.display())))
        .collect();
    if named.is_empty() {
        "the system's certificate authorities".to_owned()
    } else {
        named.join(", ")
    }
}

/// Why certificate and key cannot be used, and what would be right.
fn unfit(error: &rustls::Error, strange: Option<&str>) -> String {
    match (error, strange) {
        (_, Some(strange)) => format!(
            "a key of this kind ({strange}) is not spoken here: it has to be {}, such as one by \
             openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
            pem::KEYS
        ),
        (rustls::Error::InconsistentKeys(_), None) => {
            "the key is not that of the first certificate in the file".to_owned()
        }
        (error, None) => format!("{error}; the key has to be {}", pem::KEYS),
    }
}

/// What a failed handshake means, in the words of the options, where it can be told. `met`: whether the broker has
/// shown its certificate, which it does before it asks for one.
#[must_use]
pub fn meaning(error: &rustls::Error, tls: &Tls, met: bool) -> Option<String> {
    use AlertDescription as Alert;
    let another = another_client(tls);
    Some(match error {
        rustls::Error::AlertReceived(alert) => match alert {
            Alert::HandshakeFailure | Alert::InsufficientSecurity | Alert::IllegalParameter
                if !met =>
            {
                format!("the broker ends the handshake ({alert:?}): {}", nothing_in_common())
            }
            Alert::CertificateRequired
            | Alert::HandshakeFailure
            | Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnsupportedCertificate
            | Alert::AccessDenied
            | Alert::UnknownCA => format!("the broker ends the handshake ({alert:?}): {another}"),
            Alert::ProtocolVersion => {
                "the broker speaks no version of TLS that we do (1.2 and 1.3, or what ssl_version says)"
                    .to_owned()
            }
            other => format!("the broker ends the handshake: {other:?}"),
        },
        rustls::Error::InvalidMessage(_) => {
            "what answers at that port does not speak TLS: ssl is on, but RabbitMQ's port for it mostly is 5671"
                .to_owned()
        }
        _ => return None,
    })
}

/// What a broker lacks that ends the handshake before it has shown its certificate.
#[must_use]
pub fn nothing_in_common() -> String {
    format!(
        "it has no cipher suite or no kind of key in common with us: it has to offer TLS 1.3, or TLS 1.2 with ECDHE and \
         AES-GCM or ChaCha20-Poly1305 (DHE and CBC are not spoken: ssl_options.ciphers in rabbitmq.conf), and its key \
         has to be {} (not P-521)",
        pem::KEYS
    )
}

/// What a broker may have against us that ends the connection.
#[must_use]
pub fn another_client(tls: &Tls) -> String {
    let own = match &tls.cert_file {
        None => "ssl_cert_file and ssl_key_file are not set".to_owned(),
        Some(path) => format!("ssl_cert_file = {}", path.display()),
    };
    format!("it may demand another client certificate ({own})")
}

/// Who is trusted, and the certificates as they stand in `ssl_ca_file`.
fn authorities(tls: &Tls) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &tls.ca_file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return if roots.is_empty() {
            Err(TlsError::NoAuthorities)
        } else {
            Ok((roots, Vec::new()))
        };
    };
    let named = certificates("ssl_ca_file", path)?;
    let mut refused = None;
    for certificate in &named {
        // One odd authority among many good ones is no reason to trust none of them.
        if let Err(cause) = roots.add(certificate.clone()) {
            warn!(path = %path.display(), %cause, "a certificate in ssl_ca_file is of no use");
            refused = Some(cause);
        }
    }
    match refused {
        Some(cause) if roots.is_empty() => Err(unusable("ssl_ca_file", path, cause.to_string())),
        _ => Ok((roots, named)),
    }
}

fn certificates(
    option: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    pem::certificates(&read(option, path)?).map_err(|cause| unusable(option, path, cause))
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|cause| unusable(option, path, cause.to_string()))
}

fn unusable(option: &'static str, path: &Path, cause: String) -> TlsError {
    TlsError::File {
        option,
        path: path.to_owned(),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ClientConnection, ServerConfig, ServerConnection};

    use super::*;

    /// A broker's certificate that it has signed itself, as `openssl req -x509` makes it: an authority's.
    struct SelfSigned {
        certificate: rcgen::Certificate,
        key: KeyPair,
    }

    impl SelfSigned {
        fn until(year: i32) -> Self {
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.not_after = date_time_ymd(year, 1, 1);
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            Self { certificate, key }
        }

        fn server(&self) -> ServerConfig {
            let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
            ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![self.certificate.der().clone()], key)
                .unwrap()
        }
    }

    fn trusting(ca_file: &Path) -> Tls {
        Tls {
            ca_file: Some(ca_file.to_owned()),
            cert_file: None,
            key_file: None,
            version: TlsVersion::Negotiated,
            verify: true,
            verify_name: true,
        }
    }

    /// A handshake with a broker of that certificate.
    fn handshake(tls: &Tls, broker: &SelfSigned, name: &str) -> Result<(), String> {
        let (config, witness) = client(tls).unwrap();
        let name = name.to_owned().try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(broker.server())).unwrap();
        while client.is_handshaking() {
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
            if client.process_new_packets().is_err() {
                return Err(witness.seen().unwrap().refused.unwrap());
            }
        }
        Ok(())
    }

    #[test]
    fn a_certificate_that_is_itself_in_ssl_ca_file_is_good_for_its_time_and_names() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let (broker, other) = (SelfSigned::until(4000), SelfSigned::until(4000));
        let old = SelfSigned::until(2000);
        let all = [&broker, &old]
            .map(|broker| broker.certificate.pem())
            .concat();
        std::fs::write(&file, all).unwrap();
        let tls = trusting(&file);
        assert_eq!(handshake(&tls, &broker, "localhost"), Ok(()));
        let refused = handshake(&tls, &broker, "elsewhere").unwrap_err();
        assert!(refused.contains("is not for elsewhere"), "{refused}");
        let refused = handshake(&tls, &old, "localhost").unwrap_err();
        assert!(refused.contains("has expired on"), "{refused}");
        handshake(&tls, &other, "localhost").unwrap_err();

        let without_name = Tls {
            verify_name: false,
            ..tls
        };
        assert_eq!(handshake(&without_name, &broker, "elsewhere"), Ok(()));
        let refused = handshake(&without_name, &old, "elsewhere").unwrap_err();
        assert!(refused.contains("has expired on"), "{refused}");
        handshake(&without_name, &other, "localhost").unwrap_err();
    }

    fn fixture(name: &str) -> PathBuf {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls");
        Path::new(folder).join(name)
    }

    #[test]
    fn the_key_may_stand_beside_its_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("both.pem");
        let text = |name| std::fs::read_to_string(fixture(name)).unwrap();
        std::fs::write(&file, text("p256.crt") + &text("p256.key")).unwrap();
        let mut tls = trusting(&fixture("p256.crt"));
        tls.cert_file = Some(file);
        assert!(
            client(&tls)
                .unwrap()
                .0
                .client_auth_cert_resolver
                .has_certs()
        );
        tls.cert_file = Some(fixture("p256.crt"));
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
        ] {
            let mut tls = trusting(&fixture("p256.crt"));
            (tls.cert_file, tls.key_file) = (Some(fixture(certificate)), Some(fixture(key)));
            let error = client(&tls).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key.pem");
        std::fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let mut tls = trusting(&fixture("p256.crt"));
        (tls.cert_file, tls.key_file) = (Some(fixture("p256.crt")), Some(key));
        let error = client(&tls).unwrap_err().to_string();
        assert!(
            error.contains("not that of the first certificate"),
            "{error}"
        );
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
}
