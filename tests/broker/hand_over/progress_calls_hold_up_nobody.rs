//! Whatever progress calls do, operations pass at their usual speed.
//!
//! The progress path may hang in the kernel, be flooded, or answer to nobody; it shares nothing with
//! the hand-over but the moment in which a message is judged.

use std::time::Duration;

use tokio::process::Command;

use crate::support::broker::SharedBroker;
use crate::support::daemon::Daemon;
use crate::support::load::{STEADY, properties, publish, publisher};
use crate::support::operation;
use crate::support::recorder::{Queues, Via};
use crate::support::scrape::{self, METRICS, Scrape};
use crate::support::service::{Service, unique_name};
use crate::support::trial::Trial;
use crate::support::verdict::Verdict;
use crate::support::wait::until;

/// Measured at first without any progress call, and then with them.
const OPERATIONS: u64 = 200;

/// How much longer an operation may take on a machine that is busy with the rest.
const FACTOR: u32 = 10;

/// Below this a delay is no sign of waiting for a call.
const NOTHING: Duration = Duration::from_millis(500);

/// The same in a flood, whose calls stand in the same line before an operation.
const IN_LINE: Duration = Duration::from_secs(3);

const FLOOD: usize = 10_000;

/// Hangs, or answers to nobody: some of each are enough.
const CALLS: usize = 100;

/// A load beside the daemon, and what delays there were before any progress call.
async fn measured(progress: &str) -> (Trial, Daemon, Duration) {
    let service = Service::unique();
    let progress = format!("{METRICS}\n{progress}");
    let daemon = Daemon::start(&SharedBroker::transport_url(), &service, &progress);
    let baseline = loaded(&service, async |_| {}).await;
    baseline.assert_exact_and_in_order();
    let trial = Trial::start(&SharedBroker::amqp_uri(), &service, Queues::durable()).await;
    trial.recorder.wait_for_one_via(Via::Topic).await;
    (trial, daemon, baseline.longest_delay)
}

async fn loaded(service: &Service, meanwhile: impl AsyncFnOnce(&Trial)) -> Verdict {
    let uri = SharedBroker::amqp_uri();
    let trial = Trial::start_at(&uri, service, Queues::durable(), STEADY).await;
    trial.recorder.wait_for_one_via(Via::Topic).await;
    meanwhile(&trial).await;
    trial.load.wait_for_more(OPERATIONS).await;
    trial.finish().await
}

/// Asks `count` times and waits for no answer.
async fn ask(service: &Service, reply_queue: &str, count: usize) {
    let (_connection, channel) = publisher(&SharedBroker::amqp_uri()).await.unwrap();
    for _ in 0..count {
        let call = operation::progress_call(service, &unique_name("call"), reply_queue);
        let sent = publish(&channel, &service.server_queue(), &call, properties()).await;
        assert!(sent.is_some());
    }
}

/// Waits until the daemon has taken so many calls, whatever became of them, and tells how many had this outcome.
async fn taken(daemon: &Daemon, least: usize, outcome: &str) -> f64 {
    let address = scrape::address(daemon).await;
    let of = |scrape: &Scrape, outcome: &str| {
        scrape.value(&format!(
            "cinder_progress_calls_total{{outcome=\"{outcome}\"}}"
        ))
    };
    let scrape = until("the calls are taken", async || {
        let scrape = Scrape::of(&address).await;
        let outcomes = ["answered", "timed_out", "failed", "overloaded"];
        let taken: f64 = outcomes.iter().map(|outcome| of(&scrape, outcome)).sum();
        (taken >= least as f64).then_some(scrape)
    });
    of(&scrape.await, outcome)
}

async fn is_as_fast_as_ever(trial: Trial, usual: Duration, nothing: Duration) {
    trial.load.wait_for_more(OPERATIONS).await;
    let verdict = trial.finish().await;
    verdict.assert_exact_and_in_order();
    let limit = nothing.max(usual * FACTOR);
    assert!(
        verdict.longest_delay < limit,
        "usually {usual:?}: {verdict:?}"
    );
}

/// A process whose files are FIFOs: whoever reads them waits for ever.
#[tokio::test]
async fn when_a_look_at_a_process_hangs() {
    let proc_root = tempfile::tempdir().unwrap();
    let process = proc_root.path().join("4711");
    std::fs::create_dir(&process).unwrap();
    std::fs::write(process.join("comm"), "dd\n").unwrap();
    for file in ["stat", "cmdline"] {
        let made = Command::new("mkfifo").arg(process.join(file)).status();
        assert!(made.await.unwrap().success());
    }
    let progress = format!("proc_root = {}", proc_root.path().display());
    let (trial, daemon, usual) = measured(&progress).await;
    ask(&trial.service, &unique_name("nobody"), CALLS).await;
    is_as_fast_as_ever(trial, usual, NOTHING).await;
    daemon.wait_for_log("a read about this process hangs").await;
    assert_eq!(taken(&daemon, 1, "answered").await, 0.0);
}

#[tokio::test]
async fn in_a_flood_of_them() {
    let (trial, daemon, usual) = measured("").await;
    ask(&trial.service, &unique_name("nobody"), FLOOD).await;
    is_as_fast_as_ever(trial, usual, IN_LINE).await;
    assert!(taken(&daemon, FLOOD / 2, "answered").await > 0.0);
}

#[tokio::test]
async fn when_the_callers_are_gone() {
    let (trial, daemon, usual) = measured("").await;
    for _ in 0..CALLS {
        ask(&trial.service, &unique_name("nobody"), 1).await;
    }
    is_as_fast_as_ever(trial, usual, NOTHING).await;
    assert!(taken(&daemon, CALLS / 2, "answered").await > 0.0);
}
