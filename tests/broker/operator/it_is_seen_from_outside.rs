//! Metrics and health tell what the daemon does, as it does it.
//!
//! They are what an operator's alarms stand on: a number that does not move is worse than none.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::broker::{Broker, SharedBroker};
use crate::support::caller::{Call, Caller};
use crate::support::copy::{GIB, Volume};
use crate::support::daemon::Daemon;
use crate::support::environment::{Release, repository};
use crate::support::recorder::{Queues, Via};
use crate::support::scrape::{self, METRICS, Scrape, get, until_at_least};
use crate::support::service::Service;
use crate::support::trial::Trial;
use crate::support::wait::{in_time, until};

#[tokio::test]
async fn calls_and_copies_are_counted() {
    let service = Service::unique();
    let daemon = Daemon::alone(&service, METRICS).await;
    let address = scrape::address(&daemon).await;
    let caller = Caller::start(Release::Latest, &SharedBroker::transport_url()).await;
    let before = Scrape::of(&address).await;
    let answered = r#"cinder_progress_calls_total{outcome="answered"}"#;
    assert_eq!(before.value(answered), 0.0);
    assert_eq!(before.value(&serving(&service)), 1.0);

    let volume = Volume::unique();
    let copy = volume.copy();
    let position = copy.hold_beyond(GIB / 2).await;
    let call = Call::progress(&service, &volume.argument());
    caller.call(&call).await.unwrap();
    let bad = Call::progress(&service, &json!({"id": "x", "size": "?"}));
    caller.call(&bad).await.unwrap_err();
    let other = Call::to(&service, "create_volume");
    caller.call(&other).await.unwrap_err();

    let after = until_at_least(&address, "cinder_progress_replies_total", 3.0).await;
    assert_eq!(after.value(answered), 1.0);
    for outcome in ["invalid_volume", "no_such_method"] {
        let series = format!("cinder_progress_calls_total{{outcome=\"{outcome}\"}}");
        assert_eq!(after.value(&series), 1.0, "{outcome}");
    }
    assert_eq!(
        after.value("cinder_progress_answer_duration_seconds_count"),
        1.0
    );
    assert_eq!(
        after.value(r#"cinder_progress_answer_duration_seconds_bucket{le="+Inf"}"#),
        1.0
    );
    assert!(after.value("cinder_progress_scan_duration_seconds_count") > 0.0);

    let id = format!("volume_id=\"{}\"", volume.id());
    let of_copy = |scrape: &Scrape, name: &str| scrape.with(&[name, &id]);
    let seen = of_copy(&after, "cinder_progress_copy_position_bytes");
    assert_eq!(seen, Some(position as f64));
    let size = of_copy(&after, "cinder_progress_copy_size_bytes").unwrap();
    let ratio = of_copy(&after, "cinder_progress_copy_ratio").unwrap();
    assert!((ratio - position as f64 / size).abs() < 1e-9, "{ratio}");
    assert_eq!(of_copy(&after, "cinder_progress_copy_info"), Some(1.0));

    drop(copy);
    until("the series of the copy vanish", async || {
        let scrape = Scrape::of(&address).await;
        scrape.with(&[&id]).is_none().then_some(())
    })
    .await;
}

/// A metric that was renamed would leave an alarm silent for ever.
#[tokio::test]
async fn dashboard_alerts_and_page_name_what_there_is() {
    let service = Service::unique();
    let daemon = Daemon::start(&SharedBroker::transport_url(), &service, METRICS);
    let address = scrape::address(&daemon).await;
    let volume = Volume::unique();
    let copy = volume.copy();
    copy.hold_beyond(GIB / 100).await;
    let scrape = until("the copy is shown", async || {
        let scrape = Scrape::of(&address).await;
        let shown = scrape.with(&["copy_position_bytes", volume.id()]);
        shown.map(|_| scrape)
    })
    .await;
    let shown = scrape.names();
    for file in [
        "packaging/grafana/cinder-progress.json",
        "packaging/prometheus/cinder-progress.rules.yml",
        "docs/metrics.md",
    ] {
        let text = std::fs::read_to_string(repository().join(file)).unwrap();
        let named: Vec<&str> = metrics(&text).collect();
        assert!(!named.is_empty(), "{file}");
        for name in named {
            let parts = ["", "_count"].map(|part| format!("{name}{part}"));
            let there = parts.iter().any(|part| shown.contains(part.as_str()));
            assert!(there, "{file} names {name}");
        }
    }
    let page = std::fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    for name in shown {
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|part| name.strip_suffix(part))
            .unwrap_or(name);
        assert!(page.contains(&format!("| `{family}` |")), "{family}");
    }
}

/// What looks like a metric of the daemon's.
fn metrics(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| {
            word.starts_with("cinder_progress_") || *word == "process_start_time_seconds"
        })
}

#[tokio::test]
async fn operations_and_the_broker_are_told() {
    let broker = Broker::start().await;
    let service = Service::unique();
    let trial = Trial::start(&broker.amqp_uri(), &service, Queues::durable()).await;
    let daemon = Daemon::start_with(
        &broker.transport_url(),
        &service,
        METRICS,
        "[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 4\nrabbit_retry_backoff = 0",
    );
    let address = scrape::address(&daemon).await;
    trial.recorder.wait_for_one_via(Via::Topic).await;
    let handed_over = "cinder_progress_handed_over_total";
    let first = until_at_least(&address, handed_over, 10.0).await;
    assert_eq!(first.value(&serving(&service)), 1.0);
    assert_eq!(first.value("cinder_progress_connections_total"), 2.0);
    for line in ["intake", "replies"] {
        assert_eq!(first.value(&of_line("connected", line)), 1.0);
        assert_eq!(first.value(&of_line("blocked", line)), 0.0);
    }
    let (status, words) = get(&address, "/healthz").await;
    assert_eq!(status, 200, "{words}");
    assert!(words.starts_with("serving 1 backend"), "{words}");

    until("the daemon is blocked", async || {
        let watermark = "set_vm_memory_high_watermark";
        broker.ctl(&[watermark, "0.0000001"]).await;
        let blocked = is_blocked(&address).await;
        if blocked {
            assert_eq!(get(&address, "/healthz").await.0, 503);
        }
        broker.ctl(&[watermark, "0.4"]).await;
        blocked.then_some(())
    })
    .await;

    broker.stop().await;
    let (status, words) = until("the daemon is not well", async || {
        let page = get(&address, "/healthz").await;
        (page.0 == 503 && page.1.contains("no connection")).then_some(page)
    })
    .await;
    assert_eq!(status, 503, "{words}");
    let lost = Scrape::of(&address).await;
    assert_eq!(lost.value(&serving(&service)), 0.0);

    broker.start_again().await;
    until("the daemon is well again", async || {
        let (status, words) = get(&address, "/healthz").await;
        (status == 200 && words.starts_with("serving")).then_some(())
    })
    .await;
    let more = lost.value(handed_over) + 10.0;
    let again = until_at_least(&address, handed_over, more).await;
    assert!(again.value("cinder_progress_connections_total") >= 4.0);
    trial.finish().await.assert_exact();
}

#[tokio::test]
async fn standing_aside_is_healthy_and_says_why() {
    let service = Service::unique();
    let daemon = Daemon::start(&SharedBroker::transport_url(), &service, METRICS);
    let address = scrape::address(&daemon).await;
    // The connection for replies may come later than the look at the queues.
    until("the daemon stands aside", async || {
        let (status, words) = get(&address, "/healthz").await;
        (status == 200 && words.contains("is missing")).then_some(())
    })
    .await;
    let missing = r#"cinder_progress_stood_aside_total{reason="missing"}"#;
    let scrape = until_at_least(&address, missing, 2.0).await;
    let labels = format!(r#"{{queue="{}",reason="missing"}}"#, service.server_queue());
    let now = format!("cinder_progress_standing_aside{labels}");
    assert_eq!(scrape.value(&now), 1.0);
    assert_eq!(scrape.value(&serving(&service)), 0.0);
}

#[tokio::test]
async fn odd_and_slow_clients_do_no_harm() {
    let service = Service::unique();
    let daemon = Daemon::start(&SharedBroker::transport_url(), &service, METRICS);
    let address = scrape::address(&daemon).await;
    assert_eq!(get(&address, "/").await.0, 404);
    assert_eq!(get(&address, "/metrics?a=b").await.0, 200);
    let posted = scrape::exchange(&address, "POST /metrics HTTP/1.1\r\n\r\n").await;
    assert!(posted.starts_with("HTTP/1.1 405"), "{posted}");
    let nonsense = scrape::exchange(&address, "\u{0}\u{1} nonsense\r\n\r\n").await;
    assert!(nonsense.starts_with("HTTP/1.1 400"), "{nonsense}");
    let long = format!(
        "GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n",
        "x".repeat(100_000)
    );
    let mut socket = TcpStream::connect(&address).await.unwrap();
    // The daemon may hang up in the middle.
    let _ = socket.write_all(long.as_bytes()).await;
    let mut refused = Vec::new();
    let _ = in_time("an end", socket.read_to_end(&mut refused)).await;
    assert!(!refused.starts_with(b"HTTP/1.1 200"));

    // More than there are places for, and none of them ever says a word.
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    until("there is a place again", async || {
        let mut socket = TcpStream::connect(&address).await.ok()?;
        let request = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n";
        socket.write_all(request).await.ok()?;
        let mut response = String::new();
        let read = socket.read_to_string(&mut response);
        tokio::time::timeout(Duration::from_secs(1), read)
            .await
            .ok()?
            .ok()?;
        response.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_place_that_is_taken_ends_it_with_a_word() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let service = Service::unique();
    let listen = format!("metrics_listen = {address}");
    let mut daemon = Daemon::start(&SharedBroker::transport_url(), &service, &listen);
    assert_eq!(daemon.process.wait_for_exit().await.code(), Some(1));
    daemon.process.stderr.wait_for_end().await;
    let log = daemon.log();
    let said = format!("cannot listen on [progress] metrics_listen = {address}");
    assert!(log.contains(&said) && log.contains("in use"), "{log}");
    assert!(!log.contains("connected"), "{log}");
}

#[tokio::test]
async fn an_address_that_is_none_is_a_mistake_in_the_settings() {
    let service = Service::unique();
    let progress = "metrics_listen = nowhere";
    let mut daemon = Daemon::start(&SharedBroker::transport_url(), &service, progress);
    assert_eq!(daemon.process.wait_for_exit().await.code(), Some(78));
    daemon.process.stderr.wait_for_end().await;
    let log = daemon.log();
    let place = format!(
        "{}:7: [progress] metrics_listen",
        daemon.config_file().display()
    );
    assert!(log.contains(&place) && log.contains("host:port"), "{log}");
}

/// Whether the daemon is told of an alarm: it is when it publishes, unless all publishers were blocked first
/// and there is nothing to hand over.
async fn is_blocked(address: &str) -> bool {
    for _ in 0..20 {
        let blocked = of_line("blocked", "intake");
        if Scrape::of(address).await.value(&blocked) == 1.0 {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

fn serving(service: &Service) -> String {
    let queue = service.server_queue();
    format!("cinder_progress_serving{{queue=\"{queue}\"}}")
}

fn of_line(what: &str, line: &str) -> String {
    format!("cinder_progress_{what}{{line=\"{line}\"}}")
}
