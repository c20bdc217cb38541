//! TLS to the broker: the trusted authorities, the client certificate, the versions.

use std::io::ErrorKind;
use std::sync::Arc;

use lapin::tcp::RustlsConnector;
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use tracing::warn;

use super::certificate::{Check, RecordingVerifier};
use super::pem;
use crate::config::{Tls, TlsFile, TlsVersion};

/// Why TLS cannot be tried. Each names the option that is to blame.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read or holds no PEM of the wanted kind.
    #[error("{option} = {file}: {cause}")]
    File {
        /// The option that names it.
        option: &'static str,
        /// The file, and where it was named.
        file: TlsFile,
        /// What is wrong with it.
        cause: String,
    },
    /// Certificate and key do not belong together, or the key is of a kind that is not supported.
    #[error("{files}: {cause}")]
    Identity {
        /// The options, the files and where they were named.
        files: String,
        /// What is wrong with them.
        cause: String,
    },
    /// The files could not be read in time.
    #[error("{0} cannot be read in time: is the file system there?")]
    Slow(String),
    /// The versions asked for cannot be had.
    #[error("ssl_version: {0}")]
    Version(rustls::Error),
    /// The authorities are invalid.
    #[error("ssl_ca_file: {0}")]
    Authorities(#[from] VerifierBuilderError),
    /// No CA of the system could be found, and none was named.
    #[error("ssl_ca_file is not set and the system has no certificate authorities")]
    NoAuthorities,
}

/// Makes a connector from the settings, for one handshake, and the verifier of it.
///
/// The files are read anew each time, so that a renewed certificate counts from the next
/// connection on. As in Python's `ssl`, a CA file replaces the system's authorities.
///
/// # Errors
///
/// What is wrong, and with which option.
pub fn connector(tls: &Tls) -> Result<(RustlsConnector, Arc<RecordingVerifier>), TlsError> {
    let (config, verifier) = client(tls)?;
    Ok((Arc::new(config).into(), verifier))
}

fn client(tls: &Tls) -> Result<(ClientConfig, Arc<RecordingVerifier>), TlsError> {
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
        // For clouds whose brokers have no certificate that can be checked; oslo.messaging does not check
        // either when no CA file is named.
        warn!("the broker's certificate is not checked ([progress] tls_verify is off)");
        Check::Nothing
    };
    let authorities = match &tls.ca_file {
        Some(file) => format!("ssl_ca_file = {file}"),
        None => "the system's store (ssl_ca_file is not set)".to_owned(),
    };
    let verifier = Arc::new(RecordingVerifier::new(
        check,
        Arc::clone(&provider),
        authorities,
    ));
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(TlsError::Version)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as _);
    let config = match &tls.cert_file {
        Some(cert) => {
            let certificates = certificates("ssl_cert_file", cert)?;
            let strange = certificates.first().and_then(pem::strange_key);
            // As in Python, the key may be in the same file as its certificate.
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
                .map_err(|error| TlsError::Identity {
                    files: named(&[
                        ("ssl_cert_file", tls.cert_file.as_ref()),
                        ("ssl_key_file", tls.key_file.as_ref()),
                    ]),
                    cause: unfit(&error, strange),
                })?
        }
        None => config.with_no_client_auth(),
    };
    Ok((config, verifier))
}

/// The files that are read for a connection, as the options name them.
#[must_use]
pub fn files(tls: &Tls) -> String {
    let named = named(&[
        ("ssl_ca_file", tls.ca_file.as_ref().filter(|_| tls.verify)),
        ("ssl_cert_file", tls.cert_file.as_ref()),
        ("ssl_key_file", tls.key_file.as_ref()),
    ]);
    if named.is_empty() {
        "the system's certificate authorities".to_owned()
    } else {
        named
    }
}

/// Those that are set, with where.
fn named(files: &[(&str, Option<&TlsFile>)]) -> String {
    let named = files
        .iter()
        .filter_map(|(option, file)| Some(format!("{option} = {}", file.as_ref()?)));
    named.collect::<Vec<_>>().join(", ")
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

/// What a failed handshake means, in the words of the options, where that can be told. `met`: the broker has shown its
/// certificate, which it does before it asks for one.
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
                "the broker speaks neither TLS 1.2 nor 1.3, or not the one that ssl_version asks for: ssl_options.versions \
                 in rabbitmq.conf has to name it"
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

/// What a broker that ends the handshake before it has shown its certificate lacks.
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
        Some(file) => format!("ssl_cert_file = {file}"),
    };
    format!("it may demand another client certificate ({own})")
}

/// The trusted authorities, and the certificates as they stand in `ssl_ca_file`.
fn authorities(tls: &Tls) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
    let mut roots = RootCertStore::empty();
    let Some(file) = &tls.ca_file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return if roots.is_empty() {
            Err(TlsError::NoAuthorities)
        } else {
            Ok((roots, Vec::new()))
        };
    };
    let named = certificates("ssl_ca_file", file)?;
    let mut refused = None;
    for certificate in &named {
        // One invalid authority among many good ones is no reason to trust none of them.
        if let Err(cause) = roots.add(certificate.clone()) {
            warn!(path = %file.path.display(), %cause, "a certificate in ssl_ca_file is of no use");
            refused = Some(cause);
        }
    }
    match refused {
        Some(cause) if roots.is_empty() => Err(unusable("ssl_ca_file", file, cause.to_string())),
        _ => Ok((roots, named)),
    }
}

fn certificates(
    option: &'static str,
    file: &TlsFile,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    pem::certificates(&read(option, file)?).map_err(|cause| unusable(option, file, cause))
}

fn read(option: &'static str, file: &TlsFile) -> Result<Vec<u8>, TlsError> {
    std::fs::read(&file.path).map_err(|cause| {
        let inside = match cause.kind() {
            // The commonest: kolla-ansible's cinder.conf names files as the container has them.
            ErrorKind::NotFound => format!(
                "; if the settings are a container's, it is a path in there: name the file as this host has it, \
                 {option} in [oslo_messaging_rabbit] of /etc/cinder-progress/cinder-progress.conf"
            ),
            _ => String::new(),
        };
        unusable(option, file, format!("{cause}{inside}"))
    })
}

fn unusable(option: &'static str, file: &TlsFile, cause: String) -> TlsError {
    TlsError::File {
        option,
        file: file.clone(),
        cause,
    }
}

#[cfg(test)]
mod tests;
