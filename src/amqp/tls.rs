//! TLS to the broker: whom to trust, who we are, which versions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lapin::tcp::RustlsConnector;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tracing::warn;

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
    /// No CA of the system could be found, and none was named.
    #[error("ssl_ca_file is not set and the system has no certificate authorities")]
    NoAuthorities,
}

/// Makes a connector from the settings.
///
/// The files are read anew each time, so that a renewed certificate counts from the next
/// connection on. As in Python's `ssl`, a CA file replaces the system's authorities.
///
/// # Errors
///
/// What is wrong, and with which option.
pub fn connector(tls: &Tls) -> Result<RustlsConnector, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let versions: &[_] = match tls.version {
        TlsVersion::Negotiated => rustls::ALL_VERSIONS,
        TlsVersion::Tls12 => &[&rustls::version::TLS12],
    };
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(TlsError::Version)?;
    let config = if tls.verify {
        config.with_root_certificates(authorities(tls)?)
    } else {
        warn!("the broker's certificate is not checked ([progress] tls_verify is off)");
        config
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unchecked(provider)))
    };
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
    Ok(Arc::new(config).into())
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

/// Takes any certificate: the way out for clouds whose brokers have none that can be checked,
/// as oslo.messaging does by default when no CA file is named.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
