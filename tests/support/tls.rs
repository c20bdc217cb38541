//! A broker's TLS listeners with options of their own, and certificates of every sort.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

use super::broker::{SharedBroker, free_port};
use super::service::unique_name;

/// An authority and all it has issued, in a folder of its own.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// A certificate and its key, as PEM files.
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Authority {
    /// One that nobody trusts yet.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// Its own certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A broker's certificate for these names and addresses.
    pub fn server(&self, common_name: &str, names: &[&str]) -> Identity {
        self.issue(
            common_name,
            names,
            ExtendedKeyUsagePurpose::ServerAuth,
            2100,
        )
    }

    /// The same, but it has expired.
    pub fn expired(&self, common_name: &str, names: &[&str]) -> Identity {
        self.issue(
            common_name,
            names,
            ExtendedKeyUsagePurpose::ServerAuth,
            2020,
        )
    }

    /// A client's certificate.
    pub fn client(&self, common_name: &str) -> Identity {
        self.issue(common_name, &[], ExtendedKeyUsagePurpose::ClientAuth, 2100)
    }

    fn issue(
        &self,
        common_name: &str,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        ends: i32,
    ) -> Identity {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        params.not_after = date_time_ymd(ends, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = |kind: &str| self.folder.path().join(unique_name(kind));
        let identity = Identity {
            certificate: file("certificate"),
            key: file("key"),
        };
        std::fs::write(&identity.certificate, certificate.pem()).unwrap();
        std::fs::write(&identity.key, key.serialize_pem()).unwrap();
        identity
    }
}

/// Opens a TLS listener of the shared broker and returns its port; `more` are further options of
/// Erlang's `ssl`, such as `"{verify, verify_peer}"`.
pub async fn listen(authority: &Authority, identity: &Identity, more: &[&str]) -> u16 {
    let port = free_port();
    let mut options = vec![
        format!("{{cacertfile, {}}}", erlang(&authority.file())),
        format!("{{certfile, {}}}", erlang(&identity.certificate)),
        format!("{{keyfile, {}}}", erlang(&identity.key)),
    ];
    options.extend(more.iter().map(|&option| option.to_owned()));
    let options = options.join(", ");
    let started = SharedBroker::ctl(&[
        "eval",
        &format!(
            "rabbit_networking:ensure_ssl(), \
             rabbit_networking:start_ssl_listener({{\"127.0.0.1\", {port}}}, [{options}], 2)."
        ),
    ])
    .await;
    assert!(started.contains("ok"), "{started}");
    port
}

fn erlang(path: &Path) -> String {
    format!("\"{}\"", path.display())
}
