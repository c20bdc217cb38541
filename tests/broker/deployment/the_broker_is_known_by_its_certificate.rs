//! Over TLS the daemon's password goes to nobody but the broker, and what is wrong is said so that it
//! can be mended: which certificate, which name, which option.

use std::fmt::Write;
use std::path::Path;

use crate::support::broker::SharedBroker;
use crate::support::caller::{Call, Caller};
use crate::support::command::run;
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::service::Service;
use crate::support::tls::{Authority, Identity, listen};

const BOTH: &[&str] = &["localhost", "127.0.0.1"];

/// What the daemon is told of TLS.
struct Trust(String);

impl Trust {
    fn nobody() -> Self {
        Self("[oslo_messaging_rabbit]\nssl = true\n".to_owned())
    }

    fn in_(authority: &Authority) -> Self {
        Self::nobody().with("ssl_ca_file", &authority.file())
    }

    fn with(mut self, option: &str, value: &Path) -> Self {
        writeln!(self.0, "{option} = {}", value.display()).unwrap();
        self
    }

    fn as_(self, identity: &Identity) -> Self {
        self.with("ssl_cert_file", &identity.certificate)
            .with("ssl_key_file", &identity.key)
    }

    fn and(mut self, line: &str) -> Self {
        writeln!(self.0, "{line}").unwrap();
        self
    }
}

/// Whether a connection and a login come about; else what is said. Asks nobody's progress.
async fn reaches(host: &str, port: u16, trust: &Trust) -> Result<String, String> {
    let url = format!("rabbit://guest:guest@{host}:{port}//");
    let configuration = format!("[DEFAULT]\ntransport_url = {url}\n{}", trust.0);
    let nobody = Service::unique().name();
    let arguments = ["call", "--host", &nobody, "--volume-id", "v", "--size", "1"];
    let said = run(&configuration, &arguments).await;
    assert_eq!(said.status, 1, "{said:?}");
    if said.err.contains("no broker of transport_url") {
        Err(said.err)
    } else {
        assert!(said.err.contains("nobody serves") || said.err.contains("there is no exchange"));
        Ok(said.err)
    }
}

async fn refused(host: &str, port: u16, trust: &Trust, words: &[&str]) {
    let said = reaches(host, port, trust).await.unwrap_err();
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
}

#[tokio::test]
async fn by_name_and_by_address_in_each_version_of_tls() {
    let authority = Authority::new("Our Authority");
    let broker = authority.server("broker", BOTH);
    let (old, new) = tokio::join!(
        listen(&authority, &broker, &["{versions, ['tlsv1.2']}"]),
        listen(&authority, &broker, &["{versions, ['tlsv1.3']}"]),
    );
    let trust = Trust::in_(&authority);
    for port in [old, new] {
        for host in BOTH {
            reaches(host, port, &trust).await.unwrap();
        }
    }
    let trust = trust.and("ssl_version = TLSv1_2");
    reaches("localhost", old, &trust).await.unwrap();
    refused("localhost", new, &trust, &["ssl_version"]).await;
}

#[tokio::test]
async fn and_by_no_other_name() {
    let authority = Authority::new("Our Authority");
    let elsewhere = authority.server("elsewhere", &["broker.example", "192.0.2.7"]);
    let nameless = authority.server("localhost", &[]);
    let (elsewhere, nameless) = tokio::join!(
        listen(&authority, &elsewhere, &[]),
        listen(&authority, &nameless, &[]),
    );
    let trust = Trust::in_(&authority);
    for host in BOTH {
        let words = [
            "CN=elsewhere, for broker.example, 192.0.2.7, issued by CN=Our Authority",
            &format!("is not for {host}, the name in transport_url"),
            "ssl_enforce_hostname_verification",
        ];
        refused(host, elsewhere, &trust, &words).await;
    }
    let words = ["CN=localhost, for no name (a common name does not count)"];
    refused("localhost", nameless, &trust, &words).await;

    let trust = trust.and("ssl_enforce_hostname_verification = false");
    for port in [elsewhere, nameless] {
        reaches("localhost", port, &trust).await.unwrap();
    }
}

#[tokio::test]
async fn whose_authority_is_trusted_and_which_has_not_expired() {
    let (ours, theirs) = (Authority::new("Our Authority"), Authority::new("Another"));
    let expired = ours.expired("broker", BOTH);
    let (foreign, expired) = tokio::join!(
        async {
            let broker = theirs.server("broker", BOTH);
            listen(&theirs, &broker, &[]).await
        },
        listen(&ours, &expired, &[]),
    );
    // Whoever forgoes the name still asks for the rest.
    for trust in [
        Trust::in_(&ours),
        Trust::in_(&ours).and("ssl_enforce_hostname_verification = false"),
    ] {
        let file = ours.file().display().to_string();
        let words = ["issued by CN=Another", "is not of an authority in", &file];
        refused("localhost", foreign, &trust, &words).await;
        let words = [
            "(CN=broker, for localhost",
            "has expired on",
            "2020",
            "renew it",
        ];
        refused("localhost", expired, &trust, &words).await;
    }
    let words = ["CN=Another", "the system's store (ssl_ca_file is not set)"];
    refused("localhost", foreign, &Trust::nobody(), &words).await;

    let blind = Trust::nobody().and("[progress]\ntls_verify = false");
    for port in [foreign, expired] {
        let said = reaches("localhost", port, &blind).await.unwrap();
        assert!(said.contains("is not checked ([progress] tls_verify is off)"));
    }
}

#[tokio::test]
async fn and_may_ask_for_ours() {
    let (authority, another) = (Authority::new("Our Authority"), Authority::new("Another"));
    let broker = authority.server("broker", BOTH);
    let (ours, foreign) = (authority.client("storage1"), another.client("storage1"));
    for version in ["{versions, ['tlsv1.2']}", "{versions, ['tlsv1.3']}"] {
        let strict = [
            "{verify, verify_peer}",
            "{fail_if_no_peer_cert, true}",
            version,
        ];
        let port = listen(&authority, &broker, &strict).await;
        reaches("localhost", port, &Trust::in_(&authority).as_(&ours))
            .await
            .unwrap();
        let words = [
            "client certificate",
            "ssl_cert_file and ssl_key_file are not set",
        ];
        refused("localhost", port, &Trust::in_(&authority), &words).await;
        let file = foreign.certificate.display().to_string();
        let words = ["client certificate", "ssl_cert_file = ", &file];
        refused(
            "localhost",
            port,
            &Trust::in_(&authority).as_(&foreign),
            &words,
        )
        .await;
    }
}

#[tokio::test]
async fn unless_one_side_does_not_speak_tls() {
    let authority = Authority::new("Our Authority");
    let broker = authority.server("broker", BOTH);
    let port = listen(&authority, &broker, &[]).await;
    let plain = SharedBroker::transport_url();
    let plain: u16 = plain
        .trim_end_matches('/')
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    refused(
        "127.0.0.1",
        plain,
        &Trust::in_(&authority),
        &["does not speak TLS", "5671"],
    )
    .await;
    refused("localhost", port, &Trust(String::new()), &["TLS"]).await;
    // The line of the settings that names it.
    let words = ["ssl_ca_file = /nowhere.pem (", ".conf:"];
    let trust = Trust::nobody().and("ssl_ca_file = /nowhere.pem");
    refused("localhost", port, &trust, &words).await;
}

/// The daemon and a caller of oslo.messaging, both over TLS, told by the URL as openstack-ansible does.
#[tokio::test]
async fn a_call_goes_all_the_way() {
    let authority = Authority::new("Our Authority");
    let broker = authority.server("broker", BOTH);
    let port = listen(&authority, &broker, &[]).await;
    let file = authority.file();
    let url = format!(
        "rabbit://guest:guest@localhost:{port}//?ssl=1&ssl_ca_file={}",
        file.display()
    );
    let service = Service::unique();
    let daemon = Daemon::start(&url, &service, "mode = standalone");
    daemon.wait_for_log("serving alone").await;
    let volume = serde_json::json!({"id": "v", "size": 1, "migration_status": "migrating"});
    for release in [Release::Latest, Release::Zed] {
        let caller = Caller::start(release, &url).await;
        let answer = caller.call(&Call::progress(&service, &volume)).await;
        assert_eq!(answer.unwrap(), "0");
    }
    assert!(!daemon.log().contains("not checked"), "{}", daemon.log());
}

/// Each connection anew: nobody shall forget it.
#[tokio::test]
async fn what_is_not_checked_is_warned_of_at_each_connection() {
    let authority = Authority::new("Our Authority");
    let broker = authority.server("broker", BOTH);
    let port = listen(&authority, &broker, &[]).await;
    let url = format!("rabbit://guest:guest@localhost:{port}//?ssl=1");
    let service = Service::unique();
    let daemon = Daemon::start(&url, &service, "mode = standalone\ntls_verify = false");
    daemon.wait_for_log("serving alone").await;
    daemon.wait_for_log(":replies").await;
    daemon.wait_for_log(":own topics").await;
    let warnings = daemon.log().matches("is not checked").count();
    assert_eq!(warnings, 3, "{}", daemon.log());
}

/// Neither is spoken by the library that the daemon has, and Python's takes both.
#[tokio::test]
async fn a_broker_with_nothing_in_common_is_told_what_it_lacks() {
    let authority = Authority::new("Our Authority");
    let broker = authority.server("broker", BOTH);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
    let p521 = Identity {
        certificate: fixtures.join("p521.crt"),
        key: fixtures.join("p521.key"),
    };
    let rsa = Identity {
        certificate: fixtures.join("rsa.crt"),
        key: fixtures.join("rsa.key"),
    };
    let only = |what: &str| {
        format!(
            "{{ciphers, ssl:filter_cipher_suites(ssl:cipher_suites(all, 'tlsv1.2'), [{{{what} end}}])}}"
        )
    };
    let cbc = only("cipher, fun(C) -> C =:= aes_128_cbc");
    let dhe = only("key_exchange, fun(K) -> K =:= dhe_rsa");
    let (cbc, dhe) = (
        ["{versions, ['tlsv1.2']}", &cbc],
        ["{versions, ['tlsv1.2']}", &dhe],
    );
    let (cbc, dhe, p521) = tokio::join!(
        listen(&authority, &broker, &cbc),
        listen(&authority, &rsa, &dhe),
        listen(&authority, &p521, &[]),
    );
    let trust = Trust::in_(&authority);
    for port in [cbc, dhe, p521] {
        let words = ["DHE and CBC", "ssl_options.ciphers", "P-521"];
        refused("localhost", port, &trust, &words).await;
    }
}

/// As `openssl req -x509` makes it in one go, and as it is mostly trusted: by itself.
#[tokio::test]
async fn a_certificate_that_the_broker_has_signed_itself_is_trusted_by_itself() {
    let broker = Authority::new("localhost");
    let named = broker.own(BOTH);
    let port = listen(&broker, &named, &[]).await;
    let trust = Trust::nobody().with("ssl_ca_file", &named.certificate);
    for host in BOTH {
        reaches(host, port, &trust).await.unwrap();
    }
    let other = broker.own(BOTH);
    let trust = Trust::nobody().with("ssl_ca_file", &other.certificate);
    refused("localhost", port, &trust, &["the broker's certificate"]).await;
}
