//! Certificates and keys from PEM files, as OpenSSL takes them. The error about a file that only OpenSSL takes says
//! how to convert it.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The kinds of keys that are supported, for error texts.
pub(super) const KEYS: &str = "RSA (2048 to 4096 bits), P-256, P-384 or Ed25519";

/// Older names of a certificate's section, by OpenSSL's `PEM_read_bio_X509_AUX`. What follows the certificate in a
/// trusted one is OpenSSL's own remark on it.
const OLDER: [&str; 2] = ["X509 CERTIFICATE", "TRUSTED CERTIFICATE"];

/// All certificates in the file, in their order. Comments and sections of other kinds are passed over.
///
/// # Errors
///
/// Why there is none.
pub(super) fn certificates(file: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut text = String::from_utf8_lossy(file).into_owned();
    for older in OLDER {
        for mark in ["BEGIN", "END"] {
            let (from, to) = (
                format!("-----{mark} {older}"),
                format!("-----{mark} CERTIFICATE"),
            );
            text = text.replace(&from, &to);
        }
    }
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes())
        .map(|certificate| certificate.map(without_remark))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|cause| format!("damaged PEM: {cause}"))?;
    if certificates.is_empty() {
        return Err(format!("no certificate in it{}", what_else(file, &text)));
    }
    Ok(certificates)
}

/// The first private key in the file.
///
/// # Errors
///
/// Why there is none.
pub(super) fn key(file: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let text = String::from_utf8_lossy(file);
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
    {
        return Err(
            "the key in it is encrypted, and nobody is here to type a passphrase: \
             write it in the clear, openssl pkey -in THIS -out NEW"
                .to_owned(),
        );
    }
    PrivateKeyDer::from_pem_slice(file).map_err(|cause| match cause {
        rustls::pki_types::pem::Error::NoItemsFound => {
            format!("no private key in it{}", what_else(file, &text))
        }
        cause => format!("damaged PEM: {cause}"),
    })
}

/// What the file holds instead, and how to convert it.
fn what_else(file: &[u8], text: &str) -> &'static str {
    // A SEQUENCE, with which every DER file begins.
    if file.first() == Some(&0x30) {
        return ": it is DER, not PEM: openssl x509 -inform der -in THIS -out NEW \
                (pkey for a key, pkcs12 -nodes for a .p12)";
    }
    if text.contains("-----BEGIN PKCS7") {
        return ": it is PKCS #7: openssl pkcs7 -print_certs -in THIS -out NEW";
    }
    if text.contains("-----BEGIN DSA PRIVATE KEY") {
        return " that is spoken here: DSA is not";
    }
    if text.contains("-----BEGIN CERTIFICATE") {
        return ", only a certificate";
    }
    if text.contains("PRIVATE KEY-----") {
        return ", only a private key";
    }
    if text.trim().is_empty() {
        return ": it is empty";
    }
    ""
}

fn without_remark(certificate: CertificateDer<'static>) -> CertificateDer<'static> {
    let length = certificate.len();
    match X509Certificate::from_der(&certificate) {
        Ok((rest, _)) if !rest.is_empty() => {
            let own = length - rest.len();
            CertificateDer::from(certificate[..own].to_vec())
        }
        _ => certificate,
    }
}

/// The kind of a certificate's key, if that kind is not supported.
pub(super) fn strange_key(certificate: &CertificateDer<'_>) -> Option<&'static str> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let algorithm = &certificate.public_key().algorithm;
    // By RFC 5480, RFC 8410 and RFC 3279.
    Some(match algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.10045.2.1" => {
            let curve = algorithm.parameters.as_ref()?.as_oid().ok()?;
            match curve.to_id_string().as_str() {
                "1.2.840.10045.3.1.7" | "1.3.132.0.34" => return None,
                "1.3.132.0.35" => "P-521",
                "1.3.132.0.10" => "secp256k1",
                _ => "another curve",
            }
        }
        "1.3.101.113" => "Ed448",
        "1.2.840.10040.4.1" => "DSA",
        "1.2.840.113549.1.1.10" => "RSA-PSS",
        "1.2.840.113549.1.1.1" => {
            let bits = match certificate.public_key().parsed().ok()? {
                x509_parser::public_key::PublicKey::RSA(key) => key.key_size(),
                _ => return None,
            };
            match bits {
                0..2048 => "RSA of less than 2048 bits",
                2048..=4096 => return None,
                _ => "RSA of more than 4096 bits",
            }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls");
        std::fs::read(std::path::Path::new(folder).join(name)).unwrap()
    }

    fn text(name: &str) -> String {
        String::from_utf8(fixture(name)).unwrap()
    }

    #[test]
    fn a_certificate_is_found_in_every_form_that_openssl_takes() {
        let plain = certificates(&fixture("p256.crt")).unwrap();
        assert_eq!(plain.len(), 1);
        let older = text("p256.crt").replace("CERTIFICATE-----", "X509 CERTIFICATE-----");
        for (form, file) in [
            (
                "older label",
                older.replace("BEGIN CERT", "BEGIN X509 CERT").into_bytes(),
            ),
            ("with OpenSSL's remark on trust", fixture("trusted.crt")),
            ("after its description", fixture("commented.crt")),
            ("CRLF", text("p256.crt").replace('\n', "\r\n").into_bytes()),
            (
                "key before it",
                [fixture("p256.key"), fixture("p256.crt")].concat(),
            ),
            (
                "words around",
                format!("# ours\n{}# end", text("p256.crt")).into_bytes(),
            ),
        ] {
            assert_eq!(certificates(&file).as_ref(), Ok(&plain), "{form}");
        }
        let several = format!("{}\n# another\n{}", text("p521.crt"), text("p256.crt"));
        let several = certificates(several.as_bytes()).unwrap();
        assert_eq!(several.len(), 2);
        assert_eq!(several[1], plain[0]);
    }

    #[test]
    fn what_holds_no_certificate_says_what_it_is_and_how_it_becomes_one() {
        for (file, words) in [
            (
                fixture("p256.der"),
                "it is DER, not PEM: openssl x509 -inform der",
            ),
            (fixture("p256.p12"), "pkcs12 -nodes"),
            (
                fixture("p256.p7"),
                "it is PKCS #7: openssl pkcs7 -print_certs",
            ),
            (
                fixture("p256.key"),
                "no certificate in it, only a private key",
            ),
            (b" \n".to_vec(), "no certificate in it: it is empty"),
            (b"words".to_vec(), "no certificate in it"),
            (
                text("p256.crt").replace("-----END", "").into_bytes(),
                "damaged PEM",
            ),
            (
                text("p256.crt").replacen("MII", "M!!", 1).into_bytes(),
                "damaged PEM",
            ),
        ] {
            let error = certificates(&file).unwrap_err();
            assert!(error.contains(words), "{words:?} is not in {error:?}");
        }
    }

    #[test]
    fn a_key_is_found_beside_its_certificate_or_says_why_it_is_none() {
        let both = [fixture("p256.crt"), fixture("p256.key")].concat();
        assert_eq!(key(&both), key(&fixture("p256.key")));
        assert!(key(&both).is_ok());
        for (file, words) in [
            (fixture("encrypted.key"), "openssl pkey -in THIS -out NEW"),
            (fixture("encrypted-old.key"), "encrypted"),
            (
                b"-----BEGIN DSA PRIVATE KEY-----\nMAA=\n-----END DSA PRIVATE KEY-----\n".to_vec(),
                "DSA is not",
            ),
            (
                fixture("p256.crt"),
                "no private key in it, only a certificate",
            ),
            (fixture("p256.der"), "it is DER"),
        ] {
            let error = key(&file).unwrap_err();
            assert!(error.contains(words), "{words:?} is not in {error:?}");
        }
    }

    #[test]
    fn a_kind_of_key_that_is_not_spoken_is_named() {
        for name in ["p256.crt", "rsa.crt"] {
            let certificates = certificates(&fixture(name)).unwrap();
            assert_eq!(strange_key(&certificates[0]), None, "{name}");
        }
        let strange = certificates(&fixture("strange.crt")).unwrap();
        assert_eq!(strange.len(), 8);
        for certificate in &strange {
            // Each is made out to its kind of key.
            let (_, read) = X509Certificate::from_der(certificate).unwrap();
            let name = read.subject().iter_common_name().next().unwrap();
            assert_eq!(strange_key(certificate), name.as_str().ok());
        }
    }
}
