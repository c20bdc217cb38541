//! A daemon that would share its queues with somebody it must not share them with waits, says for
//! whom and what to do, and serves when it may.
//!
//! Two daemons would answer in turns, and a standalone one beside a cinder-volume would take half
//! of its operations. Ending instead of waiting was wrong: after a power failure the claim of the
//! daemon before stands for minutes, and a service manager gives up on who ends too often.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, ExchangeKind};
use tokio::time::timeout;

use crate::support::broker::SharedBroker;
use crate::support::cinder_volume::CinderVolume;
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::load::publisher;
use crate::support::recorder::{Queues, Recorder};
use crate::support::service::{Service, unique_name};

/// Both have asked by then: they began to wait in the same second.
const ASKING: Duration = Duration::from_secs(5);

/// How long a daemon waits for a sign of life.
const UNSEEN: Duration = Duration::from_secs(10);

const TAKEN: &str = "another cinder-progress serves";

#[tokio::test]
async fn a_second_daemon_alone() {
    let service = Service::unique();
    a_second_waits(&service, "mode = standalone", "serving alone").await;
}

#[tokio::test]
async fn a_second_daemon_beside_cinder_volume() {
    let service = Service::unique();
    let _cinder_volume =
        Recorder::start(&SharedBroker::amqp_uri(), &service, Queues::transient()).await;
    a_second_waits(&service, "mode = sidecar", "serving beside").await;
}

async fn a_second_waits(service: &Service, mode: &str, serves: &str) {
    let url = SharedBroker::transport_url();
    let mut first = Daemon::start(&url, service, mode);
    first.wait_for_log(serves).await;
    let mut second = Daemon::start(&url, service, mode);
    second.wait_for_log(TAKEN).await;
    assert!(!first.log().contains("waiting"), "{}", first.log());
    assert!(!second.log().contains(serves), "{}", second.log());

    first.process.kill().await;
    second.wait_for_log(serves).await;
    second.process.signal("TERM").await;
    assert!(second.process.wait_for_exit().await.success());
}

/// Claims the queue as a daemon does.
async fn claim(channel: &Channel, service: &Service) {
    let claim = format!("cinder-progress.{}", service.server_queue());
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let claimed = channel.queue_declare(claim.into(), exclusive, FieldTable::default());
    claimed.await.unwrap();
}

/// Declares an exchange as cinder does. Without it no daemon could ask.
async fn exchange(channel: &Channel) -> String {
    let exchange = unique_name("cinder");
    let declared = channel.exchange_declare(
        exchange.as_str().into(),
        ExchangeKind::Topic,
        ExchangeDeclareOptions {
            durable: true,
            auto_delete: true,
            ..ExchangeDeclareOptions::default()
        },
        FieldTable::default(),
    );
    declared.await.unwrap();
    exchange
}

/// The claim is there, but whoever serves would be seen on the queue: as after the death of the broker
/// node on which the daemon before had its connection, from RabbitMQ 4.2 on.
#[tokio::test]
async fn but_not_for_a_claim_whose_daemon_is_dead() {
    let service = Service::unique();
    let _cinder_volume =
        Recorder::start(&SharedBroker::amqp_uri(), &service, Queues::transient()).await;
    let (_connection, channel) = publisher(&SharedBroker::amqp_uri()).await.unwrap();
    claim(&channel, &service).await;

    let daemon = Daemon::start(&SharedBroker::transport_url(), &service, "");
    daemon.wait_for_log(TAKEN).await;
    daemon.wait_for_log("shows no sign of life").await;
    daemon.wait_for_log("serving beside").await;
}

/// Each of them answers questions while it waits, and so could keep the other from serving.
#[tokio::test]
async fn of_two_that_wait_for_a_dead_one_a_single_one_serves() {
    let service = Service::unique();
    let (amqp, url) = (SharedBroker::amqp_uri(), SharedBroker::transport_url());
    let _cinder_volume = Recorder::start(&amqp, &service, Queues::transient()).await;
    let (_connection, channel) = publisher(&amqp).await.unwrap();
    let exchange = exchange(&channel).await;
    claim(&channel, &service).await;

    let start = || {
        let exchange = format!("[DEFAULT]\ncontrol_exchange = {exchange}");
        Daemon::start_with(&url, &service, "", &exchange)
    };
    let mut daemons = [start(), start()];
    for daemon in &daemons {
        daemon.wait_for_log("serving the own topic").await;
        daemon.wait_for_log(TAKEN).await;
    }
    let serving = {
        let [one, other] = &daemons;
        tokio::select! {
            _ = one.wait_for_log("serving beside") => 0,
            _ = other.wait_for_log("serving beside") => 1,
        }
    };
    let other = &daemons[1 - serving];
    let both = timeout(ASKING, other.wait_for_log("serving beside")).await;
    assert!(both.is_err(), "{}", other.log());
    daemons[serving].process.kill().await;
    daemons[1 - serving].wait_for_log("serving beside").await;
}

/// The broker deletes the dead one's claim when its node is back, and then the claim is free.
#[tokio::test]
async fn for_one_that_serves_without_a_claim() {
    let service = Service::unique();
    let (amqp, url) = (SharedBroker::amqp_uri(), SharedBroker::transport_url());
    let mut cinder_volume = Recorder::start(&amqp, &service, Queues::transient()).await;
    let (connection, channel) = publisher(&amqp).await.unwrap();
    let exchange = exchange(&channel).await;
    let (dead, claiming) = publisher(&amqp).await.unwrap();
    claim(&claiming, &service).await;
    let start = || {
        let exchange = format!("[DEFAULT]\ncontrol_exchange = {exchange}");
        Daemon::start_with(&url, &service, "", &exchange)
    };
    let mut first = start();
    first.wait_for_log("serving the own topic").await;
    first.wait_for_log("serving beside").await;
    let second = start();
    second.wait_for_log(TAKEN).await;

    dead.close(200, "".into()).await.unwrap();
    let both = timeout(ASKING, second.wait_for_log("serving beside")).await;
    assert!(both.is_err(), "{}", second.log());
    // It consumes nothing for a while, which is no sign of its end.
    let from = first.process.stderr.len();
    cinder_volume.stop().await;
    first.wait_for_log_from(from, "standing aside").await;
    let both = timeout(ASKING, second.wait_for_log("serving beside")).await;
    assert!(both.is_err(), "{}", second.log());
    cinder_volume.start_again().await;
    first.wait_for_log_from(from, "serving beside").await;
    let both = timeout(ASKING, second.wait_for_log("serving beside")).await;
    assert!(both.is_err(), "{}", second.log());

    first.process.kill().await;
    second.wait_for_log("serving beside").await;
    drop(connection);
}

/// The dead one's claim says nothing about the other queue.
#[tokio::test]
async fn a_second_daemon_with_two_backends_one_of_them_claimed_by_a_dead_one() {
    let host = unique_name("node");
    let [service, other, both] = ["a", "b", "a, b"].map(|backend| Service {
        host: host.clone(),
        backend: Some(backend.to_owned()),
    });
    let (amqp, url) = (SharedBroker::amqp_uri(), SharedBroker::transport_url());
    let _cinder_volume = Recorder::start(&amqp, &service, Queues::transient()).await;
    let _other_cinder_volume = Recorder::start(&amqp, &other, Queues::transient()).await;
    let mut first = Daemon::start(&url, &other, "");
    first.wait_for_log("serving beside").await;
    let (_connection, channel) = publisher(&amqp).await.unwrap();
    claim(&channel, &service).await;

    let second = Daemon::start(&url, &both, "");
    second.wait_for_log(TAKEN).await;
    let serves = timeout(UNSEEN + ASKING, second.wait_for_log("serving beside")).await;
    assert!(serves.is_err(), "{}", second.log());
    first.process.kill().await;
    second.wait_for_log("serving beside").await;
}

/// While cinder-volume is away the first consumes nothing that it could be seen by, and answers all the same.
#[tokio::test]
async fn a_second_daemon_while_the_first_stands_aside() {
    let service = Service::unique();
    let (amqp, url) = (SharedBroker::amqp_uri(), SharedBroker::transport_url());
    let (_connection, channel) = publisher(&amqp).await.unwrap();
    let exchange = exchange(&channel).await;
    let mut cinder_volume = Recorder::start(&amqp, &service, Queues::transient()).await;
    let start = || {
        let exchange = format!("[DEFAULT]\ncontrol_exchange = {exchange}");
        Daemon::start_with(&url, &service, "", &exchange)
    };
    let mut first = start();
    first.wait_for_log("serving the own topic").await;
    first.wait_for_log("serving beside").await;
    cinder_volume.stop().await;
    first.wait_for_log("standing aside").await;

    let second = start();
    second.wait_for_log(TAKEN).await;
    second.wait_for_log("answers on its own topic").await;
    assert!(
        !second.log().contains("shows no sign of life"),
        "{}",
        second.log()
    );
    first.process.kill().await;
    cinder_volume.start_again().await;
    second.wait_for_log("serving beside").await;
    assert!(
        !second.log().contains("shows no sign of life"),
        "{}",
        second.log()
    );
}

/// With the same state file they meet on the node already.
#[tokio::test]
async fn a_second_one_with_the_same_files() {
    let service = Service::unique();
    let first = Daemon::alone(&service, "").await;
    let mut second = first.another();
    second
        .wait_for_log("another cinder-progress on this node")
        .await;
    second.process.signal("TERM").await;
    assert!(second.process.wait_for_exit().await.success());
}

#[tokio::test]
async fn a_standalone_daemon_beside_cinder_volume() {
    let service = Service::unique();
    let url = SharedBroker::transport_url();
    let cinder_volume = CinderVolume::start(Release::Latest, &url, &service).await;
    let daemon = Daemon::start(&url, &service, "mode = standalone");
    daemon.wait_for_log("set mode = sidecar").await;
    assert!(!daemon.log().contains("serving alone"), "{}", daemon.log());
    cinder_volume.stop().await;
    daemon.wait_for_log("serving alone").await;
}

#[tokio::test]
async fn but_not_the_successor_of_one_that_was_killed() {
    let service = Service::unique();
    let url = SharedBroker::transport_url();
    let mut daemon = Daemon::start(&url, &service, "mode = standalone");
    daemon.wait_for_log("serving alone").await;
    daemon.process.kill().await;
    daemon.start_again();
    daemon.wait_for_log("serving alone").await;
}
