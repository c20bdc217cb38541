//! A daemon that would share its queues with somebody it must not share them with waits, says for
//! whom and what to do, and serves when it may.
//!
//! Two daemons would answer in turns, and a standalone one beside a cinder-volume would take half
//! of its operations. Ending instead of waiting was wrong: after a power failure the claim of the
//! daemon before stands for minutes, and a service manager gives up on who ends too often.

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

use crate::support::broker::SharedBroker;
use crate::support::cinder_volume::CinderVolume;
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::load::publisher;
use crate::support::recorder::{Queues, Recorder};
use crate::support::service::{Service, unique_name};

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
    assert!(!first.log().contains("WARN"), "{}", first.log());
    assert!(!second.log().contains(serves), "{}", second.log());

    first.process.kill().await;
    second.wait_for_log(serves).await;
    second.process.signal("TERM").await;
    assert!(second.process.wait_for_exit().await.success());
}

/// The claim is there, but whoever serves would be seen on the queue: as after the death of the broker
/// node on which the daemon before had its connection, from RabbitMQ 4.2 on.
#[tokio::test]
async fn but_not_for_a_claim_whose_daemon_is_dead() {
    let service = Service::unique();
    let _cinder_volume =
        Recorder::start(&SharedBroker::amqp_uri(), &service, Queues::transient()).await;
    let (_connection, channel) = publisher(&SharedBroker::amqp_uri()).await.unwrap();
    let claim = format!("cinder-progress.{}", service.server_queue());
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let claimed = channel.queue_declare(claim.into(), exclusive, FieldTable::default());
    claimed.await.unwrap();

    let daemon = Daemon::start(&SharedBroker::transport_url(), &service, "");
    daemon.wait_for_log(TAKEN).await;
    daemon.wait_for_log("shows no sign of life").await;
    daemon.wait_for_log("serving beside").await;
}

/// While cinder-volume is away the first consumes nothing that it could be seen by, and answers all the same.
#[tokio::test]
async fn a_second_daemon_while_the_first_stands_aside() {
    let service = Service::unique();
    let (amqp, url) = (SharedBroker::amqp_uri(), SharedBroker::transport_url());
    let (_connection, channel) = publisher(&amqp).await.unwrap();
    // Without cinder's exchange nobody could ask.
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
