//! TLS to the broker: whom to trust, who we are, which versions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lapin::tcp::RustlsConnector;
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use tracing::warn;

use super::certificate::{Check, Witness};
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
    Identity(rustls::Error),
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
    let provider = Arc::new(ring::default_provider());
    let versions: &[_] = match tls.version {
        TlsVersion::Negotiated => rustls::ALL_VERSIONS,
        TlsVersion::Tls12 => &[&rustls::version::TLS12],
    };
    let check = if tls.verify {
        let roots = Arc::new(authorities(tls)?);
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?;
        if tls.verify_name {
            Check::All(verifier)
        } else {
            Check::AllButName(verifier)
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
    let config = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => {
            let certificates = certificates("ssl_cert_file", cert)?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|cause| unusable("ssl_key_file", key, cause.to_string()))?;
            config
                .with_client_auth_cert(certificates, key)
                .map_err(TlsError::Identity)?
        }
        _ => config.with_no_client_auth(),
    };
    Ok((Arc::new(config).into(), witness))
}

/// What a failed handshake means, in the words of the options, where it can be told.
#[must_use]
pub fn meaning(error: &rustls::Error, tls: &Tls) -> Option<String> {
    use AlertDescription as Alert;
    let another = another_client(tls);
    Some(match error {
        rustls::Error::AlertReceived(alert) => match alert {
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

/// What a broker may have against us that ends the connection.
#[must_use]
pub fn another_client(tls: &Tls) -> String {
    let own = match &tls.cert_file {
        None => "ssl_cert_file and ssl_key_file are not set".to_owned(),
        Some(path) => format!("ssl_cert_file = {}", path.display()),
    };
    format!("it may demand another client certificate ({own})")
}

fn authorities(tls: &Tls) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match &tls.ca_file {
        Some(path) => {
            for certificate in certificates("ssl_ca_file", path)? {
                roots
                    .add(certificate)
                    .map_err(|cause| unusable("ssl_ca_file", path, cause.to_string()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(TlsError::NoAuthorities);
            }
        }
    }
    Ok(roots)
}

fn certificates(
    option: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|cause| unusable(option, path, cause.to_string()))?;
    if certificates.is_empty() {
        return Err(unusable(option, path, "no certificate in it".to_owned()));
    }
    Ok(certificates)
}

fn unusable(option: &'static str, path: &Path, cause: String) -> TlsError {
    TlsError::File {
        option,
        path: path.to_owned(),
        cause,
    }
}
