//! A topic queue that is missing, full or without a consumer costs time, never an operation.
//!
//! The worst place for a hand-over to fail: a transaction acknowledges the original even when the
//! other queue did not take the copy.

use std::ops::Range;

use lapin::options::{BasicPublishOptions, QueueDeleteOptions};
use lapin::{Channel, Connection, ConnectionProperties};

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

/// So many that several are in the daemon's hands at once.
const BURST: u64 = 64;

async fn start(queues: Queues) -> (Trial, Daemon) {
    let service = Service::unique();
    let trial = Trial::start(&SharedBroker::amqp_uri(), &service, queues).await;
    let daemon = Daemon::start(&SharedBroker::transport_url(), &service, "");
    trial.recorder.wait_for_one_via(Via::Topic).await;
    (trial, daemon)
}

/// Deleted under load, so some hand-overs hit the very instant. What is on its way to a queue that is
/// being deleted the broker confirms and forgets, whoever published it: no more than one transaction
/// each time, and nothing that had come before or was sent when the queue was gone.
#[tokio::test]
async fn it_is_deleted_and_comes_back() {
    let (trial, _daemon) = start(Queues::durable()).await;
    let (_connection, channel) = publisher(&SharedBroker::amqp_uri()).await.unwrap();
    let mut on_their_way = Vec::new();
    for _ in 0..ROUNDS {
        let begun = trial.load.count();
        trial.load.wait_for_more(OPERATIONS).await;
        // What was returned the last time is before these in the queue.
        until("the operations of this round come", async || {
            (trial.recorder.highest() > begun).then_some(())
        })
        .await;
        let come = trial.recorder.highest();
        delete(&channel, &trial.service).await;
        // One more may be published and not yet confirmed.
        on_their_way.push(come + 1..=trial.load.count());
        trial.recorder.wait_for_one_via(Via::Topic).await;
    }
    let verdict = trial.finish().await;
    assert!(verdict.doubled.is_empty(), "{verdict:?}");
    let was_on_its_way = |number: &u64| on_their_way.iter().any(|those| those.contains(number));
    let (lost, few) = (&verdict.lost, ROUNDS * ONE_TRANSACTION);
    assert!(
        lost.iter().all(was_on_its_way) && lost.len() <= few,
        "{lost:?} of {on_their_way:?}"
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

/// It vanishes between the last look and the commit, and then the connection ends: the broker has acknowledged
/// the operation, has returned it, and never answers the commit. The daemon is the only one who has it.
#[tokio::test]
async fn what_it_returns_is_kept_though_the_commit_is_never_answered() {
    let (service, uri) = (Service::unique(), SharedBroker::amqp_uri());
    let mut recorder = Recorder::start(&uri, &service, Queues::durable()).await;
    let proxy = Proxy::start(&SharedBroker::transport_url()).await;
    let daemon = Daemon::start(&proxy.transport_url(), &service, "");
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
    let back = "returned messages are back on their queue";
    tokio::select! {
        held = in_time("the broker answers", silent) => {
            held.unwrap();
            proxy.cut();
            daemon.wait_for_log_from(from, back).await;
        }
        // RabbitMQ 4.0 does not return it: it answers that it could not commit all.
        _ = daemon.wait_for_log_from(from, back) => {}
        // RabbitMQ 4.3 ends the connection, and has acknowledged nothing.
        _ = daemon.wait_for_log_from(from, "not connected") => {}
    }
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
    let (service, uri) = (Service::unique(), SharedBroker::amqp_uri());
    let queues = Queues::durable().topic_limited_to(1);
    let recorder = Recorder::start(&uri, &service, queues).await;
    let daemon = Daemon::start(&SharedBroker::transport_url(), &service, "");
    daemon.wait_for_log("serving beside").await;
    let connection = Connection::connect(&uri, ConnectionProperties::default());
    let channel = connection.await.unwrap().create_channel().await.unwrap();
    channel.tx_select().await.unwrap();

    // What the daemon takes one by one is handed over one by one, so there may have to be several bursts.
    let mut sent = 0;
    until("a transaction is refused", async || {
        let burst = sent..sent + BURST;
        for number in burst.clone() {
            let body = operation::cast(number);
            let queue = service.server_queue();
            let options = BasicPublishOptions::default();
            let publishing =
                channel.basic_publish("".into(), queue.into(), options, &body, properties());
            drop(publishing.await.unwrap());
        }
        channel.tx_commit().await.unwrap();
        sent = burst.end;
        until("the burst is over", async || {
            let missing = missing(&recorder, burst.clone());
            (missing.is_empty() || is_said(&daemon)).then_some(())
        })
        .await;
        is_said(&daemon).then_some(())
    })
    .await;

    let mut missing_still = missing(&recorder, 0..sent);
    until("all come but for one transaction", async || {
        missing_still = missing(&recorder, 0..sent);
        (missing_still.len() < ONE_TRANSACTION).then_some(())
    })
    .await;
    let last = missing_still.first().map_or(0, |first| sent - first);
    assert!(last <= BURST, "{missing_still:?} of {sent}");
    let mut numbers: Vec<_> = recorder.records().iter().map(|one| one.number).collect();
    let all = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), all, "some came twice");
}

/// The operations that have not come.
fn missing(recorder: &Recorder, numbers: Range<u64>) -> Vec<u64> {
    let records = recorder.records();
    let came = |number: &u64| records.iter().any(|record| record.number == Some(*number));
    numbers.filter(|number| !came(number)).collect()
}

/// Whether the daemon has said that some operations are in doubt.
fn is_said(daemon: &Daemon) -> bool {
    daemon.log().contains("operations that never started")
}

async fn delete_topic(service: &Service) {
    let (_connection, channel) = publisher(&SharedBroker::amqp_uri()).await.unwrap();
    delete(&channel, service).await;
}

async fn delete(channel: &Channel, service: &Service) {
    let queue = service.topic();
    let deleted = channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default());
    deleted.await.unwrap();
}
