//! The broker's certificate: checked as the settings say, described for people, and remembered.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Version};

/// A version of TLS, as it is written.
type VersionName = &'static str;

/// How much of the certificate is checked.
#[derive(Debug, Clone)]
pub enum Check {
    /// Chain, dates and name. A certificate that is itself in `ssl_ca_file` needs no chain.
    All(Arc<WebPkiServerVerifier>, Vec<CertificateDer<'static>>),
    /// Chain and dates: `ssl_enforce_hostname_verification` is off.
    AllButName(Arc<WebPkiServerVerifier>, Vec<CertificateDer<'static>>),
    /// Nothing: `[progress] tls_verify` is off.
    Nothing,
}

/// What was seen of a broker in a handshake.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// `TLS 1.2` or `TLS 1.3`; empty when the handshake did not come that far.
    pub version: VersionName,
    /// Its certificate.
    pub certificate: Certificate,
    /// Why the certificate was refused, and what to do.
    pub refused: Option<String>,
}

/// What people want to know of a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Its subject.
    pub subject: String,
    /// The authority that signed it.
    pub issuer: String,
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    /// When it expires.
    pub ends: String,
}

impl Certificate {
    /// Reads as much as can be read; a certificate that cannot be read says so in `subject`.
    fn of(der: &CertificateDer<'_>) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return Self {
                subject: "unreadable".to_owned(),
                ..Self::default()
            };
        };
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names);
        Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names: names.filter_map(name).collect(),
            ends: certificate.validity().not_after.to_string(),
        }
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = match self.names.as_slice() {
            [] => "no name (a common name does not count)".to_owned(),
            names => names.join(", "),
        };
        let Self {
            subject, issuer, ..
        } = self;
        write!(f, "{subject}, for {names}, issued by {issuer}")
    }
}

/// Whether a certificate is neither too young nor too old.
fn valid_on(der: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() {
        Err(Error::InvalidCertificate(CertificateError::NotValidYet))
    } else if now > validity.not_after.timestamp() {
        Err(Error::InvalidCertificate(CertificateError::Expired))
    } else {
        Ok(())
    }
}

/// Whether a certificate is of version 3, the only one in use for decades.
fn is_of_version_3(der: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(der)
        .is_ok_and(|(_, certificate)| certificate.version() == X509Version::V3)
}

/// A name of the kinds that are compared with a broker's name.
fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
            _ => {
                let bytes: [u8; 16] = (*bytes).try_into().ok()?;
                Some(IpAddr::from(bytes).to_string())
            }
        },
        _ => None,
    }
}

/// Checks the certificate of one handshake, and remembers what it has seen.
#[derive(Debug)]
pub struct RecordingVerifier {
    check: Check,
    provider: Arc<CryptoProvider>,
    /// Where the authorities come from, for the error.
    authorities: String,
    seen: Mutex<Option<Peer>>,
}

impl RecordingVerifier {
    /// A verifier that checks that much. `authorities` names the source of those that are trusted.
    pub fn new(check: Check, provider: Arc<CryptoProvider>, authorities: String) -> Self {
        Self {
            check,
            provider,
            authorities,
            seen: Mutex::default(),
        }
    }

    /// What was seen; `None` when no certificate came.
    pub fn seen(&self) -> Option<Peer> {
        self.seen.lock().clone()
    }

    /// The broker speaks this version, and has proved that the certificate is its own, or why not.
    fn proved<T>(
        &self,
        version: VersionName,
        der: &CertificateDer<'_>,
        proof: Result<T, Error>,
    ) -> Result<T, Error> {
        if let Some(peer) = &mut *self.seen.lock() {
            peer.version = version;
            if let Err(error) = &proof {
                peer.refused = Some(self.refusal(der, &peer.certificate, "this broker", error));
            }
        }
        proof
    }

    /// What is wrong with a certificate, with the name or option that would correct it.
    fn refusal(
        &self,
        der: &CertificateDer<'_>,
        certificate: &Certificate,
        host: &str,
        error: &Error,
    ) -> String {
        let ends = &certificate.ends;
        let (what, remedy) = match error {
            Error::InvalidCertificate(error) => match error {
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => (
                    format!("is not for {host}, the name in transport_url"),
                    "write a name there that it is for, or give the broker another certificate; \
                     ssl_enforce_hostname_verification = false does without the name",
                ),
                CertificateError::UnknownIssuer => (
                    format!("is not of an authority in {}", self.authorities),
                    "ssl_ca_file has to name the PEM file of the authority that issued it",
                ),
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
                    format!("has expired on {ends}"),
                    "renew it on the broker (or set this node's clock)",
                ),
                CertificateError::UnsupportedSignatureAlgorithmContext { .. }
                | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => (
                    "is signed in a way that is not spoken here, such as with SHA-1 or by a P-521 key".to_owned(),
                    "it and its authority need keys that are RSA, P-256, P-384 or Ed25519, and SHA-2",
                ),
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
                    "is not valid yet".to_owned(),
                    "set the clock of this node or of whoever issued it",
                ),
                _ if !is_of_version_3(der) => (
                    "is of version 1, as openssl x509 -req makes it without -extfile".to_owned(),
                    "issue it with an -extfile that says subjectAltName = DNS:NAME",
                ),
                other => (
                    format!("does not pass: {other}"),
                    "give the broker another one",
                ),
            },
            other => (
                format!("does not pass: {other}"),
                "give the broker another one",
            ),
        };
        format!("the broker's certificate ({certificate}) {what}: {remedy}")
    }
}

impl ServerCertVerifier for RecordingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = match &self.check {
            // The broker also proves that it has the key, whatever the certificate says of itself. A certificate that
            // `openssl req -x509` made is an authority's, in which no chain may end.
            Check::All(_, named) | Check::AllButName(_, named) if named.contains(end_entity) => {
                valid_on(end_entity, now)
                    .and_then(|()| {
                        let certificate = ParsedCertificate::try_from(end_entity)?;
                        verify_server_name(&certificate, server_name)
                    })
                    .map(|()| ServerCertVerified::assertion())
            }
            Check::All(verifier, _) | Check::AllButName(verifier, _) => verifier
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            Check::Nothing => Ok(ServerCertVerified::assertion()),
        };
        let verdict = match verdict {
            // The name is checked last: the rest is valid.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if matches!(self.check, Check::AllButName(..)) => {
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        };
        let certificate = Certificate::of(end_entity);
        let refused = verdict.as_ref().err();
        let refused = refused
            .map(|error| self.refusal(end_entity, &certificate, &server_name.to_str(), error));
        *self.seen.lock() = Some(Peer {
            version: "",
            certificate,
            refused,
        });
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let proof = verify_tls12_signature(message, cert, dss, algorithms);
        self.proved("TLS 1.2", cert, proof)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let proof = verify_tls13_signature(message, cert, dss, algorithms);
        self.proved("TLS 1.3", cert, proof)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
