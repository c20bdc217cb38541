//! cinder-volume may stop, start, be away, never have been there or declare its queues anew.
//!
//! The daemon declares nothing of cinder's, so it has to notice, let go and come back by itself.
//! Meanwhile operations wait on Q, as they would without it.

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;

use crate::support::broker::SharedBroker;
use crate::support::cinder_volume::CinderVolume;
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::load::{Load, STEADY, publisher};
use crate::support::recorder::{Queues, Recorder, Via};
use crate::support::service::Service;
use crate::support::trial::Trial;

/// Between two faults.
const OPERATIONS: u64 = 50;

const ROUNDS: usize = 3;

/// What may be under way between a look at T and the next.
const ONE_TRANSACTION: usize = 16;

async fn start(queues: Queues) -> (Trial, Daemon) {
    let service = Service::unique();
    let trial = Trial::start(&SharedBroker::amqp_uri(), &service, queues).await;
    let daemon = Daemon::start(&SharedBroker::transport_url(), &service, "");
    trial.recorder.wait_for_one_via(Via::Topic).await;
    (trial, daemon)
}

#[tokio::test]
async fn it_restarts() {
    let (mut trial, _daemon) = start(Queues::durable()).await;
    for _ in 0..ROUNDS {
        trial.load.wait_for_more(OPERATIONS).await;
        trial.recorder.stop().await;
        trial.recorder.start_again().await;
        trial.recorder.wait_for_one_via(Via::Topic).await;
    }
    trial.finish().await.assert_exact();
}

/// What was sent meanwhile waits, most of it on Q: the daemon hands nothing to nobody.
#[tokio::test]
async fn it_is_down_for_a_while() {
    let (mut trial, daemon) = start(Queues::durable()).await;
    let from = daemon.process.stderr.len();
    trial.recorder.stop().await;
    daemon.wait_for_log_from(from, "standing aside").await;
    trial.load.wait_for_more(OPERATIONS * 4).await;
    trial.recorder.start_again().await;
    trial.recorder.wait_for_one_via(Via::Topic).await;
    trial.finish().await.assert_exact();
}

/// cinder-volume has two consumers on T and ends them one after the other. What reaches the second
/// in between is at risk, on T as on Q: none of it gets there.
#[tokio::test]
async fn what_comes_while_it_goes_is_kept() {
    let service = Service::unique();
    let uri = SharedBroker::amqp_uri();
    let mut goes_first = Recorder::start(&uri, &service, Queues::durable()).await;
    let mut trial = Trial::start(&uri, &service, Queues::durable()).await;
    let _daemon = Daemon::start(&SharedBroker::transport_url(), &service, "");
    goes_first.wait_for_one_via(Via::Topic).await;
    trial.recorder.wait_for_one_via(Via::Topic).await;

    goes_first.stop().await;
    let before = trial.recorder.records().len();
    trial.load.wait_for_more(OPERATIONS * 2).await;
    let meanwhile = trial.recorder.records().len() - before;
    assert!(
        meanwhile <= ONE_TRANSACTION,
        "{meanwhile} came all the same"
    );

    trial.recorder.stop().await;
    trial.recorder.start_again().await;
    trial.recorder.wait_for_one_via(Via::Topic).await;
    trial.finish_with(&[&goes_first]).await.assert_exact();
}

/// One of its two connections is lost and comes back: operations wait a moment, and go on.
#[tokio::test]
async fn one_of_its_consumers_comes_back() {
    let service = Service::unique();
    let uri = SharedBroker::amqp_uri();
    let mut other = Recorder::start(&uri, &service, Queues::durable()).await;
    let daemon = Daemon::start(&SharedBroker::transport_url(), &service, "");
    let trial = Trial::start(&uri, &service, Queues::durable()).await;
    other.wait_for_one_via(Via::Topic).await;
    trial.recorder.wait_for_one_via(Via::Topic).await;

    let from = daemon.process.stderr.len();
    other.stop().await;
    other.start_again().await;
    daemon.wait_for_log_from(from, "has left").await;
    trial.recorder.wait_for_one_via(Via::Topic).await;
    other.stop().await;
    trial.finish_with(&[&other]).await.assert_exact();
}

#[tokio::test]
async fn it_was_never_there() {
    let service = Service::unique();
    let daemon = Daemon::start(&SharedBroker::transport_url(), &service, "");
    daemon.wait_for_log("is missing").await;
    for queue in [service.topic(), service.server_queue()] {
        assert!(!exists(&queue).await, "the daemon has declared {queue}");
    }
    let trial = Trial::start(&SharedBroker::amqp_uri(), &service, Queues::durable()).await;
    trial.recorder.wait_for_one_via(Via::Topic).await;
    trial.finish().await.assert_exact_and_in_order();
}

/// An upgrade to other kinds of queues: deleted while cinder-volume is down, then declared differently.
#[tokio::test]
async fn it_declares_its_queues_anew() {
    let (mut trial, daemon) = start(Queues::transient()).await;
    let uri = SharedBroker::amqp_uri();
    for queues in [Queues::quorum(), Queues::durable()] {
        trial.load.wait_for_more(OPERATIONS).await;
        let service = trial.service.clone();
        trial.finish().await.assert_exact_and_in_order();
        let from = daemon.process.stderr.len();
        for queue in [service.topic(), service.server_queue()] {
            delete(&queue).await;
        }
        daemon.wait_for_log_from(from, "standing aside").await;
        trial = Trial::start(&uri, &service, queues).await;
        trial.recorder.wait_for_one_via(Via::Topic).await;
    }
    trial.finish().await.assert_exact_and_in_order();
}

/// With `amqp_auto_delete` T goes with its last consumer, and Q with the daemon that stands aside.
/// What is sent while nobody is there is lost as ever; nothing else is.
#[tokio::test]
async fn its_queues_vanish_with_it() {
    let (mut trial, daemon) = start(Queues::auto_delete()).await;
    trial.load.wait_for_more(OPERATIONS).await;
    let from = daemon.process.stderr.len();
    trial.recorder.stop().await;
    let last_executed = trial.recorder.highest();
    daemon.wait_for_log_from(from, "is missing").await;
    trial.recorder.start_again().await;
    let back_at = trial.load.count();
    trial.recorder.wait_for_one_via(Via::Topic).await;
    trial.load.wait_for_more(OPERATIONS).await;

    let mut verdict = trial.finish().await;
    verdict
        .lost
        .retain(|number| !(last_executed..=back_at).contains(number));
    verdict.assert_exact();
}

/// The real one, of the oldest and the newest release. It has nothing to do when it stops: what
/// comes while it stops oslo.messaging 18.3 loses by itself.
#[tokio::test]
async fn the_real_one_is_down_for_a_while() {
    for release in [Release::Latest, Release::Ocata] {
        if release.available() {
            the_real_one_restarts(release).await;
        }
    }
}

async fn the_real_one_restarts(release: Release) {
    let url = SharedBroker::transport_url();
    let service = Service::unique();
    let mut cinder_volume = CinderVolume::start(release, &url, &service).await;
    let daemon = Daemon::start(&url, &service, "");
    daemon.wait_for_log("serving beside").await;
    let uri = SharedBroker::amqp_uri();
    let load = || Load::start(&uri, &service, STEADY);

    let first = load();
    first.wait_for_more(OPERATIONS).await;
    let sent = first.finish().await;
    cinder_volume.wait_for_executed(sent.accepted.len()).await;
    assert_eq!(cinder_volume.stop().await.len(), sent.accepted.len());

    let second = load();
    second.wait_for_more(OPERATIONS).await;
    let from = daemon.process.stderr.len();
    cinder_volume = CinderVolume::start(release, &url, &service).await;
    daemon.wait_for_log_from(from, "serving beside").await;
    second.wait_for_more(OPERATIONS).await;
    let sent = second.finish().await;
    cinder_volume.wait_for_executed(sent.accepted.len()).await;
    let executed = cinder_volume.stop().await;
    let numbers = executed.iter().filter_map(|done| done.executed.as_u64());
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    assert_eq!(numbers, sent.accepted.into_keys().collect::<Vec<_>>());
}

async fn exists(queue: &str) -> bool {
    let (_connection, channel) = publisher(&SharedBroker::amqp_uri()).await.unwrap();
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(queue.into(), passive, FieldTable::default());
    declared.await.is_ok()
}

async fn delete(queue: &str) {
    let (_connection, channel) = publisher(&SharedBroker::amqp_uri()).await.unwrap();
    let deleted = channel.queue_delete(queue.into(), QueueDeleteOptions::default());
    deleted.await.unwrap();
}
