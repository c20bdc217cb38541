//! Silence in one or both directions, cuts and delays between daemon and broker harm no operation.
//!
//! A network seldom fails by closing connections. What is in the daemon's hands stays there until
//! the broker misses its heartbeats; the rest goes past it, and none of it is lost or doubled.

use std::time::Duration;

use crate::support::broker::SharedBroker;
use crate::support::daemon::Daemon;
use crate::support::proxy::{Flow, Proxy};
use crate::support::recorder::{Queues, Recorder, Via};
use crate::support::service::Service;
use crate::support::trial::Trial;

/// Between two faults.
const OPERATIONS: u64 = 50;

const CUTS: usize = 5;

/// A long way to the broker, each way, and one that is too long.
const FAR: Flow = Flow::Slow(Duration::from_millis(100));
const TOO_FAR: Flow = Flow::Slow(Duration::from_millis(600));
const MUCH_TOO_FAR: Flow = Flow::Slow(Duration::from_millis(1500));

struct Bench {
    trial: Trial,
    proxy: Proxy,
    daemon: Daemon,
}

async fn start(first: Flow) -> Bench {
    let service = Service::unique();
    let trial = Trial::start(&SharedBroker::amqp_uri(), &service, Queues::durable()).await;
    let proxy = Proxy::start(&SharedBroker::transport_url()).await;
    proxy.flow(first, first);
    let more = "[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 2\nrabbit_retry_backoff = 0";
    let daemon = Daemon::start_with(&proxy.transport_url(), &service, "", more);
    trial.recorder.wait_for_one_via(Via::Topic).await;
    Bench {
        trial,
        proxy,
        daemon,
    }
}

impl Bench {
    /// Silent until the broker has taken back what the daemon had in hand.
    async fn silence(&self, to_broker: Flow, to_client: Flow) {
        self.trial.load.wait_for_more(OPERATIONS).await;
        self.proxy.flow(to_broker, to_client);
        self.trial.recorder.wait_for_one_via(Via::Server).await;
        let broker = self.trial.recorder.wait_for_one_given_back(Via::Server);
        let daemon = self.daemon.wait_for_log("not connected");
        tokio::join!(broker, daemon);
        self.proxy.flow(Flow::Free, Flow::Free);
        self.trial.recorder.wait_for_one_via(Via::Topic).await;
    }
}

#[tokio::test]
async fn silence_in_both_directions() {
    let bench = start(Flow::Free).await;
    bench.silence(Flow::Stalled, Flow::Stalled).await;
    bench.trial.finish().await.assert_exact();
}

#[tokio::test]
async fn silence_towards_the_broker() {
    let bench = start(Flow::Free).await;
    bench.silence(Flow::Stalled, Flow::Free).await;
    bench.trial.finish().await.assert_exact();
}

#[tokio::test]
async fn silence_towards_the_daemon() {
    let bench = start(Flow::Free).await;
    bench.silence(Flow::Free, Flow::Stalled).await;
    bench.trial.finish().await.assert_exact();
}

#[tokio::test]
async fn cuts() {
    let bench = start(Flow::Free).await;
    for _ in 0..CUTS {
        bench.trial.load.wait_for_more(OPERATIONS).await;
        bench.proxy.cut();
        bench.trial.recorder.wait_for_one_via(Via::Server).await;
        bench.trial.recorder.wait_for_one_via(Via::Topic).await;
    }
    bench.trial.finish().await.assert_exact_and_in_order();
}

#[tokio::test]
async fn a_broker_that_is_far_away() {
    let bench = start(FAR).await;
    // What cannot be handed over soon does not wait for it.
    let given_back = bench.daemon.wait_for_log("for a broker as slow as this");
    given_back.await;
    bench.trial.load.wait_for_more(OPERATIONS * 10).await;
    bench.trial.finish().await.assert_exact_and_in_order();
}

/// The connection for answers is away and stays so: who asks then is told by cinder-volume that it does not know, and
/// does not wait for a minute.
#[tokio::test]
async fn answers_cannot_leave() {
    let bench = start(Flow::Free).await;
    bench.proxy.transactions_only(true);
    bench
        .daemon
        .wait_for_log("handed a call over to cinder-volume")
        .await;
    bench.trial.load.wait_for_more(OPERATIONS).await;
    bench.proxy.transactions_only(false);
    // Those that were taken before wait for the connection to come back.
    let verdict = bench.trial.finish_answered().await;
    verdict.assert_exact_and_in_order();
    assert_eq!(verdict.progress.unanswered, 0, "{verdict:?}");
    assert!(verdict.progress.refused > 0, "{verdict:?}");
}

/// What is handed over waits for two answers; nothing need wait that long.
#[tokio::test]
async fn a_broker_that_is_too_far_away() {
    let bench = start(Flow::Free).await;
    bench.trial.load.wait_for_more(OPERATIONS).await;
    bench.proxy.flow(TOO_FAR, TOO_FAR);
    bench.daemon.wait_for_log("takes more than 1s").await;
    // Come back, it does not even begin.
    bench.daemon.wait_for_log("takes more than 300ms").await;
    bench.trial.recorder.wait_for_one_via(Via::Server).await;
    let handed_over = bench.trial.recorder.count(Via::Topic);
    bench.trial.load.wait_for_more(OPERATIONS * 10).await;
    assert_eq!(bench.trial.recorder.count(Via::Topic), handed_over);

    bench.proxy.flow(Flow::Free, Flow::Free);
    bench.trial.recorder.wait_for_one_via(Via::Topic).await;
    bench.trial.finish().await.assert_exact_and_in_order();
}

/// What comes next would wait in its hands for the broker.
#[tokio::test]
async fn a_broker_that_is_too_far_away_while_nothing_comes() {
    let service = Service::unique();
    let broker = SharedBroker::amqp_uri();
    let _cinder_volume = Recorder::start(&broker, &service, Queues::durable()).await;
    let proxy = Proxy::start(&SharedBroker::transport_url()).await;
    let daemon = Daemon::start(&proxy.transport_url(), &service, "");
    daemon.wait_for_log("serving beside").await;
    proxy.flow(MUCH_TOO_FAR, MUCH_TOO_FAR);
    daemon.wait_for_log("takes more than 2s").await;
    let from = daemon.process.stderr.len();
    proxy.flow(Flow::Free, Flow::Free);
    daemon.wait_for_log_from(from, "serving beside").await;
}
