//! `cinder-progress check` finds what an operator gets wrong, says what to do, and touches nothing.
//!
//! It is run on nodes that work, beside a daemon and a cinder-volume that must not notice.

use lapin::types::AMQPValue;

use crate::support::broker::{SharedBroker, free_port};
use crate::support::cinder_volume::CinderVolume;
use crate::support::command::{Said, run, run_as_nobody};
use crate::support::copy::{GIB, Volume};
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::listing::Listing;
use crate::support::recorder::{Queues, Recorder};
use crate::support::service::Service;
use crate::support::tls::{Authority, listen};

fn configuration(url: &str, service: &Service, progress: &str) -> String {
    format!(
        "[DEFAULT]\ntransport_url = {url}\nhost = {}\nenabled_backends = lvm\n\
         [progress]\nstate_file =\n{progress}\n",
        service.host
    )
}

async fn check(service: &Service, progress: &str) -> Said {
    let url = SharedBroker::transport_url();
    run(&configuration(&url, service, progress), &["check"]).await
}

/// There is a line for `what` that says `words`, with this verdict.
#[track_caller]
fn assert_line(said: &Said, verdict: &str, what: &str, words: &str) {
    let begins = |line: &str| {
        let mut parts = line.split_whitespace();
        (parts.next(), parts.next()) == (Some(verdict), Some(what))
    };
    let found = said
        .out
        .lines()
        .any(|line| begins(line) && line.contains(words));
    assert!(
        found,
        "no line {verdict} {what} {words:?} in:\n{}",
        said.out
    );
}

/// Each failure is followed by what to do, and lines are aligned.
#[track_caller]
fn assert_advice(said: &Said) {
    let lines: Vec<&str> = said.out.lines().collect();
    for (line, next) in lines.iter().zip(lines[1..].iter().chain([&""])) {
        if line.starts_with("FAIL") || line.starts_with("warn") {
            assert!(next.trim_start().starts_with("-> "), "{}", said.out);
        } else {
            assert!(
                line.starts_with("ok    ") || line.starts_with(&" ".repeat(24)),
                "{line}"
            );
        }
    }
    assert!(!said.out.contains("guest:guest"), "{}", said.out);
}

#[tokio::test]
async fn all_is_well_beside_cinder_volume_and_nobody_notices() {
    let service = Service::unique();
    let url = SharedBroker::transport_url();
    let _cinder_volume = CinderVolume::start(Release::Latest, &url, &service).await;
    let daemon = Daemon::beside(&service).await;
    let volume = Volume::unique();
    let copy = volume.copy();
    copy.hold_beyond(GIB / 4).await;

    let before = Listing::now().await.of(&service);
    let log = daemon.process.stderr.len();
    let said = check(&service, "").await;
    assert_eq!(said.status, 0, "{said:?}");
    assert!(!said.out.contains("FAIL"), "{}", said.out);
    let (topic, queue) = (service.topic(), service.server_queue());
    for (what, words) in [
        ("settings", "cinder.conf"),
        ("transport_url", "guest@127.0.0.1:"),
        ("control_exchange", "openstack (built-in default)"),
        ("host", "cinder.conf:3)"),
        ("enabled_backends", "lvm ("),
        ("topic", &topic),
        ("mode", "sidecar"),
        ("broker", "logged in as guest"),
        ("queue", &format!("{topic}: 2 consumers, 0 messages wait")),
        ("queue", &format!("{queue}: 2 consumers, 0 messages wait")),
        ("daemon", &queue),
        ("proc", "positions of root's processes can be read"),
        ("user", "has CAP_SYS_PTRACE"),
        ("state_file", "nothing is kept"),
        ("copies", volume.argument()["id"].as_str().unwrap()),
    ] {
        assert_line(&said, "ok", what, words);
    }
    assert_eq!(Listing::now().await.of(&service), before);
    assert_eq!(daemon.process.stderr.len(), log, "{}", daemon.log());
}

#[tokio::test]
async fn all_is_well_alone() {
    let service = Service::unique();
    let daemon = Daemon::alone(&service, "").await;
    let said = check(&service, "mode = standalone").await;
    assert_eq!(said.status, 0, "{said:?}");
    assert_line(&said, "ok", "queue", "1 consumer, 0 messages wait");
    assert_line(&said, "ok", "mode", "standalone");
    drop(daemon);
}

#[tokio::test]
async fn the_type_of_a_queue_is_told_and_nothing_is_declared() {
    let text = |value: &str| AMQPValue::LongString(value.into());
    for (queues, told) in [
        (Queues::transient(), "(classic, transient)"),
        (Queues::durable(), "(classic, durable)"),
        (
            Queues::durable().with("x-queue-type", text("classic")),
            "(classic, durable)",
        ),
        (Queues::quorum(), "(quorum, durable)"),
        (Queues::auto_delete(), "(classic, transient)"),
        (
            Queues::quorum()
                .with("x-max-in-memory-length", AMQPValue::LongInt(10))
                .with("x-max-in-memory-bytes", AMQPValue::LongInt(1 << 20))
                .with("x-delivery-limit", AMQPValue::LongInt(5)),
            "(quorum, durable)",
        ),
        (
            Queues::durable()
                .with("x-expires", AMQPValue::LongInt(600_000))
                .with("x-overflow", text("drop-head")),
            "(classic, durable)",
        ),
    ] {
        let service = Service::unique();
        let recorder = Recorder::start(&SharedBroker::amqp_uri(), &service, queues).await;
        let before = Listing::now().await.of(&service);
        let said = check(&service, "").await;
        for queue in [service.topic(), service.server_queue()] {
            assert_line(&said, "ok", "queue", &format!("{queue}: 1 consumer"));
            assert_line(&said, "ok", "queue", told);
        }
        assert_eq!(Listing::now().await.of(&service), before);
        drop(recorder);
    }
}

#[tokio::test]
async fn one_service_or_both_do_not_run() {
    let service = Service::unique();
    let url = SharedBroker::transport_url();
    let said = check(&service, "").await;
    assert_eq!(said.status, 1, "{said:?}");
    for queue in [service.topic(), service.server_queue()] {
        assert_line(&said, "FAIL", "queue", &format!("{queue} is missing"));
    }
    assert_line(&said, "FAIL", "daemon", "no cinder-progress serves");
    assert_advice(&said);
    let nothing = Listing::now().await.of(&service);
    assert!(nothing.is_empty(), "declared by check: {nothing:?}");

    let cinder_volume = CinderVolume::start(Release::Latest, &url, &service).await;
    let said = check(&service, "").await;
    assert_eq!(said.status, 1, "{said:?}");
    for queue in [service.topic(), service.server_queue()] {
        assert_line(&said, "ok", "queue", &queue);
    }
    assert_line(&said, "FAIL", "daemon", "no cinder-progress serves");
    let said = check(&service, "mode = standalone").await;
    assert_line(&said, "FAIL", "queue", "2 consumers");
    assert!(
        said.out.contains("set [progress] mode = sidecar"),
        "{}",
        said.out
    );

    cinder_volume.stop().await;
    let daemon = Daemon::start(&url, &service, "");
    daemon.wait_for_log("standing aside").await;
    let said = check(&service, "").await;
    assert_eq!(said.status, 1, "{said:?}");
    assert_line(
        &said,
        "FAIL",
        "queue",
        &format!("{}: 0 consumers", service.topic()),
    );
    assert_line(&said, "ok", "daemon", &service.server_queue());
    assert_advice(&said);
}

#[tokio::test]
async fn strangers_consume() {
    let service = Service::unique();
    let url = SharedBroker::transport_url();
    let _one = CinderVolume::start_with(Release::Latest, &url, &service, &["--backend-only"]).await;
    let _two = CinderVolume::start_with(Release::Zed, &url, &service, &["--backend-only"]).await;
    let said = check(&service, "").await;
    assert_line(
        &said,
        "warn",
        "queue",
        &format!("{}: 2 consumers", service.server_queue()),
    );
    assert!(said.out.contains("does another node"), "{}", said.out);
}

#[tokio::test]
async fn brokers_are_tried_one_by_one() {
    let service = Service::unique();
    let url = SharedBroker::transport_url();
    let port = free_port();
    let two = url.replace(
        "rabbit://",
        &format!("rabbit://guest:secret@localhost:{port},"),
    );
    let _daemon = Daemon::alone(&service, "").await;
    let said = run(
        &configuration(&two, &service, "mode = standalone"),
        &["check"],
    )
    .await;
    assert_eq!(said.status, 1, "{said:?}");
    assert_line(&said, "FAIL", "broker", &format!("localhost:{port}: "));
    assert_line(&said, "ok", "broker", "127.0.0.1:");
    assert_line(&said, "ok", "daemon", &service.server_queue());
    assert_advice(&said);
    assert!(!said.out.contains("secret"), "{}", said.out);

    for (wrong, words, advice) in [
        (
            url.replace("guest:guest", "guest:secret"),
            "ACCESS_REFUSED",
            "authenticate_user",
        ),
        (
            url.trim_end_matches('/').to_owned() + "/nowhere",
            "vhost nowhere not found",
            "list_vhosts",
        ),
    ] {
        let said = run(&configuration(&wrong, &service, ""), &["check"]).await;
        assert_eq!(said.status, 1, "{said:?}");
        assert_line(&said, "FAIL", "broker", words);
        assert_line(&said, "FAIL", "queues", "no broker accepted the login");
        assert!(said.out.contains(advice), "{}", said.out);
        assert!(!said.out.contains("secret"), "{}", said.out);
        assert_advice(&said);
    }
}

#[tokio::test]
async fn certificates_are_shown() {
    let service = Service::unique();
    let authority = Authority::new("Our Authority");
    let broker = authority.server("broker", &["localhost"]);
    let port = listen(&authority, &broker, &["{versions, ['tlsv1.3']}"]).await;
    let file = authority.file();
    let url = format!(
        "rabbit://guest:guest@localhost:{port}//?ssl=1&ssl_ca_file={}",
        file.display()
    );
    let found = "TLS 1.3, CN=broker, for localhost, issued by CN=Our Authority, until Jan  1";
    let said = run(&configuration(&url, &service, ""), &["check"]).await;
    assert_line(&said, "ok", "tls", found);
    let said = run(
        &configuration(&url, &service, "tls_verify = false"),
        &["check"],
    )
    .await;
    assert_line(&said, "warn", "tls", found);
    assert_advice(&said);
    let url = url.replace("localhost", "127.0.0.1");
    let said = run(&configuration(&url, &service, ""), &["check"]).await;
    assert_line(&said, "FAIL", "broker", "is not for 127.0.0.1");
    assert_advice(&said);
}

#[tokio::test]
async fn settings_are_wrong() {
    let said = run("[progress]\nprefecth = 1\n", &["check"]).await;
    assert_eq!(said.status, 78, "{said:?}");
    assert_line(
        &said,
        "FAIL",
        "settings",
        "cinder.conf:2: [progress] prefecth",
    );
    assert!(said.out.contains("did you mean prefetch?"), "{}", said.out);
    assert_advice(&said);
}

#[tokio::test]
async fn the_node_cannot_be_looked_at() {
    let service = Service::unique();
    let said = check(&service, "proc_root = /nowhere").await;
    assert_eq!(said.status, 1, "{said:?}");
    assert_line(&said, "FAIL", "proc", "/nowhere");
    assert_advice(&said);

    let url = SharedBroker::transport_url();
    let configuration = configuration(&url, &service, "state_file = /root/state.json");
    let said = run_as_nobody(&configuration, &["check"]).await;
    assert_eq!(said.status, 1, "{said:?}");
    assert_line(&said, "FAIL", "proc", "CAP_SYS_PTRACE");
    assert_line(&said, "FAIL", "state_file", "/root");
    assert_line(&said, "ok", "broker", "logged in");
    assert_advice(&said);
}
