//! Killed before, between and after the words of a transaction, the daemon loses and doubles nothing.
//!
//! The heart of the promise. A proxy in front of the broker reads the daemon's frames, holds them
//! at the step in question, and the daemon is killed there: by design, not by chance.

use std::time::Duration;

use crate::support::broker::SharedBroker;
use crate::support::daemon::Daemon;
use crate::support::proxy::{Proxy, Step};
use crate::support::recorder::{Queues, Via};
use crate::support::service::Service;
use crate::support::trial::Trial;
use crate::support::wait::in_time;

/// Kills at each step.
const KILLS: usize = 10;

/// Kills at any time.
const RANDOM_KILLS: usize = 50;

/// Transactions that pass before the next kill, at most.
const SKIPPED: usize = 12;

/// A daemon lives at most so long after its first hand-over when it is killed at random.
const LIFE: Duration = Duration::from_millis(60);

struct Victim {
    trial: Trial,
    proxy: Proxy,
    daemon: Daemon,
}

impl Victim {
    async fn start(queues: Queues) -> Self {
        let service = Service::unique();
        let trial = Trial::start(&SharedBroker::amqp_uri(), &service, queues).await;
        let proxy = Proxy::start(&SharedBroker::transport_url()).await;
        let daemon = Daemon::start(&proxy.transport_url(), &service, "");
        Self {
            trial,
            proxy,
            daemon,
        }
    }

    /// Kills it where it is held, and lets the next one begin.
    async fn kill(&mut self) {
        self.daemon.process.kill().await;
        self.proxy.cut();
        self.daemon.start_again();
    }

    async fn kill_at(&mut self, step: Step) {
        let skipped = fastrand::usize(0..=SKIPPED);
        let held = self.proxy.hold_at(step, skipped);
        let what = format!("the daemon comes to {step:?}");
        in_time(&what, held).await.unwrap();
        self.kill().await;
    }

    async fn assert_harmless(self) {
        self.trial.recorder.wait_for_one_via(Via::Topic).await;
        let verdict = self.trial.finish().await;
        verdict.assert_exact_and_in_order();
        drop(self.daemon);
    }
}

/// Expands to one test per step and kind of queue.
macro_rules! at {
    ($($name:ident: $step:ident),* $(,)?) => {
        mod transient { $( #[tokio::test] async fn $name() { super::at_each(super::Step::$step, super::Queues::transient()).await; } )* }
        mod quorum { $( #[tokio::test] async fn $name() { super::at_each(super::Step::$step, super::Queues::quorum()).await; } )* }
    };
}

at! {
    before_publish: BeforePublish,
    before_ack: BeforeAck,
    before_commit: BeforeCommit,
    after_commit: AfterCommit,
    before_commit_ok: BeforeCommitOk,
    after_commit_ok: AfterCommitOk,
}

async fn at_each(step: Step, queues: Queues) {
    let mut victim = Victim::start(queues).await;
    for _ in 0..KILLS {
        victim.kill_at(step).await;
    }
    victim.assert_harmless().await;
}

#[tokio::test]
async fn at_random() {
    let mut victim = Victim::start(Queues::durable()).await;
    for _ in 0..RANDOM_KILLS {
        victim.trial.recorder.wait_for_one_via(Via::Topic).await;
        tokio::time::sleep(LIFE.mul_f64(fastrand::f64())).await;
        victim.kill().await;
    }
    victim.assert_harmless().await;
}
