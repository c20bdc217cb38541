//! A broker that restarts, dies, runs out of memory or turns the daemon away harms no operation.
//!
//! Queues are durable and messages persistent, as a cloud has them that wants to survive this.
//! The bare cinder-volume comes back after each fault as the real one does, and so must the daemon.

use std::time::Duration;

use crate::support::broker::Broker;
use crate::support::daemon::Daemon;
use crate::support::recorder::{Queues, Via};
use crate::support::service::Service;
use crate::support::trial::Trial;
use crate::support::wait::until;

/// Between two faults.
const OPERATIONS: u64 = 50;

/// A load that sends nothing for so long is blocked.
const BLOCKED: Duration = Duration::from_millis(500);

/// The most operations of one transaction.
const ONE_TRANSACTION: usize = 16;

/// Reconnects at once and notices a silent broker soon.
const IMPATIENT: &str =
    "[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 4\nrabbit_retry_backoff = 0";

struct Bench {
    broker: Broker,
    trial: Trial,
    daemon: Daemon,
}

/// Lets the broker wait for it while it is stopped.
const PATIENT: &str = "[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 60";

impl Bench {
    async fn start(queues: Queues) -> Self {
        Self::start_with(queues, IMPATIENT).await
    }

    async fn start_with(queues: Queues, more: &str) -> Self {
        let broker = Broker::start().await;
        let service = Service::unique();
        let trial = Trial::start(&broker.amqp_uri(), &service, queues).await;
        let daemon = Daemon::start_with(&broker.transport_url(), &service, "", more);
        let bench = Self {
            broker,
            trial,
            daemon,
        };
        bench.is_handing_over().await;
        bench
    }

    async fn is_handing_over(&self) {
        self.trial.recorder.wait_for_one_via(Via::Topic).await;
        self.trial.load.wait_for_more(OPERATIONS).await;
    }

    /// Ends the connection of this purpose, and says how many there were.
    async fn close_connections(&self, purpose: &str) -> usize {
        let list = self
            .broker
            .ctl(&[
                "list_connections",
                "pid",
                "client_properties",
                "--no-table-headers",
            ])
            .await;
        let ours = list.lines().filter(|line| line.contains(purpose));
        let pids: Vec<&str> = ours.filter_map(|line| line.split('\t').next()).collect();
        for pid in &pids {
            self.broker
                .ctl(&["close_connection", pid, "on purpose"])
                .await;
        }
        pids.len()
    }
}

#[tokio::test]
async fn it_is_restarted_with_classic_queues() {
    it_is_restarted(Queues::durable()).await;
}

#[tokio::test]
async fn it_is_restarted_with_quorum_queues() {
    it_is_restarted(Queues::quorum()).await;
}

async fn it_is_restarted(queues: Queues) {
    let bench = Bench::start(queues).await;
    bench.broker.restart().await;
    bench.is_handing_over().await;
    bench.trial.finish().await.assert_exact();
}

/// A node that dies in the middle of a commit may have written one half of it: the one window that
/// no transaction closes, and it is one transaction wide. Quorum queues are not tried: those of a
/// single node that was killed answer nobody after its start, with or without the daemon.
#[tokio::test]
async fn it_is_killed() {
    let bench = Bench::start(Queues::durable()).await;
    bench.broker.kill().await;
    bench.broker.start_again().await;
    bench.is_handing_over().await;
    let verdict = bench.trial.finish().await;
    let harmed = verdict.lost.len() + verdict.doubled.len();
    assert!(harmed <= ONE_TRANSACTION, "{verdict:?}");
}

#[tokio::test]
async fn it_closes_the_connections() {
    let bench = Bench::start(Queues::durable()).await;
    for _ in 0..3 {
        assert_eq!(bench.close_connections(":intake").await, 1);
        bench.is_handing_over().await;
        assert_eq!(bench.close_connections(":replies").await, 1);
        bench.is_handing_over().await;
    }
    bench.trial.finish().await.assert_exact_and_in_order();
}

/// An alarm blocks whoever publishes: the load, like every caller in the cloud, and the daemon.
///
/// The daemon is stopped meanwhile, so that it has something to publish afterwards: the load is
/// blocked before it can send more.
#[tokio::test]
async fn it_is_short_of_memory() {
    let bench = Bench::start_with(Queues::durable(), PATIENT).await;
    let from = bench.daemon.process.stderr.len();
    bench.daemon.process.signal("STOP").await;
    bench.trial.load.wait_for_more(OPERATIONS).await;
    bench
        .broker
        .ctl(&["set_vm_memory_high_watermark", "0.0000001"])
        .await;
    bench.daemon.process.signal("CONT").await;
    // Stopped while it waited for an answer, it takes the broker for slow and has given back what it
    // had to publish.
    let notices = |line: &str| {
        let noticed = line.contains("short of resources") || line.contains("standing aside");
        noticed.then_some(())
    };
    let log = &bench.daemon.process.stderr;
    log.find("a line that says so", from, notices).await;
    until("the load is blocked", async || {
        let before = bench.trial.load.count();
        tokio::time::sleep(BLOCKED).await;
        (bench.trial.load.count() == before).then_some(())
    })
    .await;
    bench
        .broker
        .ctl(&["set_vm_memory_high_watermark", "0.4"])
        .await;
    bench.is_handing_over().await;
    bench.trial.finish().await.assert_exact_and_in_order();
}

/// The daemon has an account of its own here, so that its password alone can be changed.
#[tokio::test]
async fn it_refuses_the_password_for_a_while() {
    let bench = Bench::start(Queues::durable()).await;
    bench.broker.ctl(&["add_user", "progress", "right"]).await;
    bench
        .broker
        .ctl(&["set_permissions", "progress", "", ".*", ".*"])
        .await;
    let url = bench.broker.transport_url();
    let url = url.replace("guest:guest", "progress:right");
    drop(bench.daemon);
    let daemon = Daemon::start_with(&url, &bench.trial.service, "", IMPATIENT);
    daemon.wait_for_log("serving beside").await;

    bench
        .broker
        .ctl(&["change_password", "progress", "wrong"])
        .await;
    bench
        .broker
        .ctl(&["close_all_user_connections", "progress", "on purpose"])
        .await;
    daemon.wait_for_log("ACCESS_REFUSED").await;
    bench.trial.recorder.wait_for_one_via(Via::Server).await;
    bench
        .broker
        .ctl(&["change_password", "progress", "right"])
        .await;

    bench.trial.recorder.wait_for_one_via(Via::Topic).await;
    bench.trial.finish().await.assert_exact_and_in_order();
}
