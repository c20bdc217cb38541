//! In a cluster of three with quorum queues a node that dies, hangs or leaves costs no operation.
//!
//! What was under way when the connection of the daemon or of cinder-volume ended may come again, as it does
//! without the daemon: the broker redelivers what was not acknowledged.

use crate::support::cluster::Cluster;
use crate::support::daemon::Daemon;
use crate::support::recorder::{Queues, Via};
use crate::support::service::Service;
use crate::support::trial::Trial;

/// Between two faults.
const OPERATIONS: u64 = 50;

/// Notices a silent node soon, comes back at once.
const IMPATIENT: &str =
    "[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 4\nrabbit_retry_backoff = 0";

struct Bench {
    trial: Trial,
    _daemon: Daemon,
    cluster: Cluster,
}

impl Bench {
    async fn start() -> Self {
        let cluster = Cluster::start().await;
        let service = Service::unique();
        let uri = cluster.of_queues.amqp_uri();
        let trial = Trial::start(&uri, &service, Queues::quorum()).await;
        let daemon = Daemon::start_with(&cluster.transport_url(), &service, "", IMPATIENT);
        let bench = Self {
            trial,
            _daemon: daemon,
            cluster,
        };
        bench.is_handing_over().await;
        bench
    }

    async fn is_handing_over(&self) {
        self.trial.recorder.wait_for_one_via(Via::Topic).await;
        self.trial.load.wait_for_more(OPERATIONS).await;
    }

    async fn finish(self) {
        let verdict = self.trial.finish().await;
        assert!(verdict.lost.is_empty(), "{verdict:?}");
        assert!(verdict.unanswered.is_empty(), "{verdict:?}");
    }
}

/// One cluster for all of it: starting three nodes takes longer than the faults.
#[tokio::test]
async fn it_is_killed_leaves_restarts_and_hangs() {
    let bench = Bench::start().await;
    let node = &bench.cluster.of_daemon;
    node.kill().await;
    bench.is_handing_over().await;
    node.start_again().await;
    bench.is_handing_over().await;

    node.ctl(&["stop_app"]).await;
    bench.is_handing_over().await;
    node.ctl(&["start_app"]).await;
    bench.is_handing_over().await;

    // Stopped cleanly, as a rolling upgrade does it.
    node.restart().await;
    bench.is_handing_over().await;

    let third = &bench.cluster.third;
    third.signal("STOP").await;
    bench.is_handing_over().await;
    third.signal("CONT").await;
    bench.is_handing_over().await;
    bench.finish().await;
}
