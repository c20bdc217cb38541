//! However the daemon ends, and however often, no operation is lost or executed twice.
//!
//! An operator must be able to restart, upgrade or kill it in the middle of the day.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::support::broker::SharedBroker;
use crate::support::caller::{Call, Caller};
use crate::support::cinder_volume::CinderVolume;
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::proxy::Proxy;
use crate::support::recorder::{Queues, Via};
use crate::support::service::Service;
use crate::support::trial::Trial;
use crate::support::wait::in_time;

/// Between two faults.
const OPERATIONS: u64 = 50;

/// The daemon's own promise.
const STOPS_WITHIN: Duration = Duration::from_secs(5);

const ROUNDS: usize = 10;

async fn start() -> (Trial, Daemon) {
    let service = Service::unique();
    let trial = Trial::start(&SharedBroker::amqp_uri(), &service, Queues::durable()).await;
    // Heartbeats as short as AMQP allows, for the one that is stopped.
    let more = "[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 2";
    let daemon = Daemon::start_with(&SharedBroker::transport_url(), &service, "", more);
    trial.recorder.wait_for_one_via(Via::Topic).await;
    (trial, daemon)
}

#[tokio::test]
async fn told_to_stop_it_ends_in_time() {
    let (trial, mut daemon) = start().await;
    trial.load.wait_for_more(OPERATIONS).await;

    let since = Instant::now();
    daemon.process.signal("TERM").await;
    let status = daemon.process.wait_for_exit().await;
    assert!(status.success(), "{status}: {}", daemon.log());
    assert!(since.elapsed() < STOPS_WITHIN, "{:?}", since.elapsed());

    trial.recorder.wait_for_one_via(Via::Server).await;
    trial.finish().await.assert_exact_and_in_order();
}

/// A broker that has got all but the commit, as one whose queue has no leader, may have carried out a half of it.
#[tokio::test]
async fn told_to_stop_in_the_middle_of_a_commit_it_waits_for_the_end_of_it() {
    let service = Service::unique();
    let trial = Trial::start(&SharedBroker::amqp_uri(), &service, Queues::durable()).await;
    let proxy = Proxy::start(&SharedBroker::transport_url()).await;
    let mut daemon = Daemon::start(&proxy.transport_url(), &service, "");
    trial.recorder.wait_for_one_via(Via::Topic).await;
    let (held, go) = proxy.delay_commit();
    in_time("a commit is held back", held).await.unwrap();

    daemon.process.signal("TERM").await;
    let early = timeout(STOPS_WITHIN, daemon.process.wait_for_exit()).await;
    assert!(early.is_err(), "{early:?}: {}", daemon.log());
    go.send(()).unwrap();
    let status = daemon.process.wait_for_exit().await;
    assert!(status.success(), "{status}: {}", daemon.log());

    trial.recorder.wait_for_one_via(Via::Server).await;
    trial.finish().await.assert_exact_and_in_order();
}

#[tokio::test]
async fn killed_it_leaves_everything_to_cinder_volume() {
    let (trial, mut daemon) = start().await;
    trial.load.wait_for_more(OPERATIONS).await;

    daemon.process.kill().await;

    trial.recorder.wait_for_one_via(Via::Server).await;
    trial.finish().await.assert_exact_and_in_order();
}

#[tokio::test]
async fn it_comes_and_goes_ten_times() {
    let (trial, mut daemon) = start().await;
    for round in 0..ROUNDS {
        trial.load.wait_for_more(OPERATIONS).await;
        if round % 2 == 0 {
            daemon.process.signal("TERM").await;
            daemon.process.wait_for_exit().await;
        } else {
            daemon.process.kill().await;
        }
        daemon.start_again();
        trial.recorder.wait_for_one_via(Via::Topic).await;
    }
    trial.finish().await.assert_exact_and_in_order();
}

/// Stopped for longer than its heartbeats allow: the broker takes back what it held.
#[tokio::test]
async fn stopped_by_a_signal_it_holds_up_no_more_than_it_has_in_hand() {
    let (trial, daemon) = start().await;
    trial.load.wait_for_more(OPERATIONS).await;

    daemon.process.signal("STOP").await;
    let before = trial.load.count();
    // Those that it cannot hold go past it all the while.
    trial.recorder.wait_for_one_via(Via::Server).await;
    trial.recorder.wait_for_one_given_back(Via::Server).await;
    assert!(trial.load.count() > before + OPERATIONS);
    daemon.process.signal("CONT").await;

    trial.recorder.wait_for_one_via(Via::Topic).await;
    trial.load.wait_for_more(OPERATIONS).await;
    trial.finish().await.assert_exact();
}

#[tokio::test]
async fn calls_get_their_real_results_while_it_is_killed() {
    for release in [Release::Latest, Release::Ocata] {
        if release.available() {
            calls_are_answered(release).await;
        }
    }
}

async fn calls_are_answered(release: Release) {
    let url = SharedBroker::transport_url();
    let service = Service::unique();
    let cinder_volume = CinderVolume::start(release, &url, &service).await;
    let caller = Caller::start(release, &url).await;
    let mut daemon = Daemon::start(&url, &service, "");
    daemon.wait_for_log("serving beside").await;

    let (calls, rounds) = (20, 5);
    let call = Call::to(&service, "operation");
    for round in 0..rounds {
        let (outcomes, ()) = tokio::join!(caller.burst(&call, calls, Some("number")), async {
            cinder_volume.wait_for_executed(round * calls + 1).await;
            daemon.process.kill().await;
            daemon.start_again();
        });
        for (number, outcome) in outcomes.into_iter().enumerate() {
            assert_eq!(outcome.unwrap()["done"], number);
        }
        daemon.wait_for_log("serving beside").await;
    }
    assert_eq!(cinder_volume.numbers().len(), calls * rounds);
}
