//! A topic queue that is missing, full or without a consumer costs time, never an operation.
//!
//! The worst place for a hand-over to fail: a transaction acknowledges the original even when the
//! other queue did not take the copy.

use lapin::options::QueueDeleteOptions;

use crate::support::broker::SharedBroker;
use crate::support::daemon::Daemon;
use crate::support::load::{properties, publish, publisher};
use crate::support::operation;
use crate::support::proxy::{Proxy, Step};
use crate::support::recorder::{Queues, Recorder, Via};
use crate::support::service::Service;
use crate::support::trial::Trial;
use crate::support::wait::{in_time, until};

/// Between two faults.
const OPERATIONS: u64 = 100;

const ROUNDS: usize = 5;

/// The most operations of one transaction.
const ONE_TRANSACTION: usize = 16;

async fn start(queues: Queues) -> (Trial, Daemon) {
    let service = Service::unique();
    let trial = Trial::start(&SharedBroker::amqp_uri(), &service, queues).await;
    let daemon = Daemon::start(&SharedBroker::transport_url(), &service, "");
    trial.recorder.wait_for_one_via(Via::Topic).await;
    (trial, daemon)
}

/// Deleted under load, so some hand-overs hit the very instant. What is on its way to a queue that is
/// being deleted the broker confirms and forgets, whoever published it: no more than one transaction
/// each time.
#[tokio::test]
async fn it_is_deleted_and_comes_back() {
    let (trial, _daemon) = start(Queues::durable()).await;
    for _ in 0..ROUNDS {
        trial.load.wait_for_more(OPERATIONS).await;
        delete_topic(&trial.service).await;
        trial.recorder.wait_for_one_via(Via::Topic).await;
    }
    let verdict = trial.finish().await;
    assert!(verdict.doubled.is_empty(), "{verdict:?}");
    assert!(
        verdict.lost.len() <= ROUNDS * ONE_TRANSACTION,
        "{verdict:?}"
    );
}

/// Missing from the start: nothing is on its way to it, and nothing is lost.
#[tokio::test]
async fn it_is_missing() {
    let service = Service::unique();
    let trial = Trial::start(&SharedBroker::amqp_uri(), &service, Queues::durable()).await;
    delete_topic(&service).await;
    let daemon = Daemon::start(&SharedBroker::transport_url(), &service, "");
    trial.recorder.wait_for_one_via(Via::Topic).await;
    trial.finish().await.assert_exact();
    drop(daemon);
}

/// It vanishes between the last look and the commit, and then the broker falls silent: it has acknowledged the
/// operation, has returned it, and never answers the commit. The daemon is the only one who has it.
#[tokio::test]
async fn what_it_returns_is_kept_though_the_commit_is_never_answered() {
    let (service, uri) = (Service::unique(), SharedBroker::amqp_uri());
    let mut recorder = Recorder::start(&uri, &service, Queues::durable()).await;
    let proxy = Proxy::start(&SharedBroker::transport_url()).await;
    let more = "[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 2";
    let daemon = Daemon::start_with(&proxy.transport_url(), &service, "", more);
    daemon.wait_for_log("serving beside").await;

    let (commits, go) = proxy.delay_commit();
    let (_connection, channel) = publisher(&uri).await.unwrap();
    let operation = operation::cast(1);
    let server = service.server_queue();
    publish(&channel, &server, &operation, properties())
        .await
        .unwrap();
    in_time("the daemon commits", commits).await.unwrap();
    // Nobody declares it again.
    recorder.stop().await;
    delete_topic(&service).await;
    let from = daemon.process.stderr.len();
    let silent = proxy.hold_at(Step::BeforeCommitOk, 0);
    go.send(()).unwrap();
    in_time("the broker answers", silent).await.unwrap();
    daemon.wait_for_log_from(from, "not connected").await;
    proxy.cut();

    daemon
        .wait_for_log_from(from, "returned messages are back on their queue")
        .await;
    recorder.start_again().await;
    until("the operation comes", async || {
        (!recorder.records().is_empty()).then_some(())
    })
    .await;
    let numbers: Vec<_> = recorder.records().iter().map(|one| one.number).collect();
    assert_eq!(numbers, [Some(1)]);
}

/// Nobody takes anything from T: its consumer holds one message and T is full. What the daemon
/// cannot hand over cinder-volume gets from Q when it comes to itself.
#[tokio::test]
async fn it_is_full_and_its_consumer_stuck() {
    let (trial, daemon) = start(Queues::durable().topic_limited_to(40)).await;
    for _ in 0..2 {
        let from = daemon.process.stderr.len();
        trial.recorder.stuck(true);
        daemon.wait_for_log_from(from, "standing aside").await;
        trial.load.wait_for_more(OPERATIONS).await;
        let from = daemon.process.stderr.len();
        trial.recorder.stuck(false);
        // What comes by way of T at first is only what was left there.
        daemon.wait_for_log_from(from, "serving beside").await;
    }
    trial.finish().await.assert_exact();
}

/// A quorum queue that refuses does not say so: the broker answers the commit as if all were well.
/// So the daemon hands over only while it sees nothing wait there.
#[tokio::test]
async fn it_is_a_quorum_queue_full_and_its_consumer_stuck() {
    for limit in [1, 5] {
        let (trial, daemon) = start(Queues::quorum().topic_limited_to(limit)).await;
        for _ in 0..2 {
            let from = daemon.process.stderr.len();
            trial.recorder.stuck(true);
            daemon.wait_for_log_from(from, "standing aside").await;
            trial.load.wait_for_more(OPERATIONS).await;
            trial.recorder.stuck(false);
            trial.recorder.wait_for_one_via(Via::Topic).await;
            trial.load.wait_for_more(OPERATIONS).await;
        }
        trial.finish().await.assert_exact();
    }
}

/// A limit below what the daemon hands over at once: the broker then carries out a part of a
/// transaction and does not say which. No more than that one is in doubt, and it is said aloud.
#[tokio::test]
async fn it_holds_fewer_than_the_daemon_hands_over_at_once() {
    let (trial, daemon) = start(Queues::durable().topic_limited_to(1)).await;
    let from = daemon.process.stderr.len();
    trial.recorder.stuck(true);
    daemon.wait_for_log_from(from, "standing aside").await;
    trial.load.wait_for_more(OPERATIONS).await;
    trial.recorder.stuck(false);
    trial.recorder.wait_for_one_via(Via::Topic).await;
    let verdict = trial.finish().await;
    assert!(verdict.doubled.is_empty(), "{verdict:?}");
    assert!(verdict.lost.len() < ONE_TRANSACTION, "{verdict:?}");
    let said = daemon.log().contains("operations that never started");
    assert!(said || verdict.lost.is_empty(), "{verdict:?}");
}

async fn delete_topic(service: &Service) {
    let (_connection, channel) = publisher(&SharedBroker::amqp_uri()).await.unwrap();
    let queue = service.topic();
    let deleted = channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default());
    deleted.await.unwrap();
}
