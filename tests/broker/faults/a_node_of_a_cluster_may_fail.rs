//! In a cluster of three with quorum queues a node that dies, hangs or leaves costs no operation.
//!
//! What was under way when the connection of the daemon or of cinder-volume ended may come again, as it does
//! without the daemon: the broker redelivers what was not acknowledged.

use std::time::Duration;

use crate::support::broker::Broker;
use crate::support::cluster::Cluster;
use crate::support::daemon::Daemon;
use crate::support::recorder::{Queues, Via};
use crate::support::service::Service;
use crate::support::trial::Trial;
use crate::support::wait::PATIENCE;

/// Between two faults.
const OPERATIONS: u64 = 20;

/// Between two operations: three nodes need what processors there are for themselves.
const PAUSE: Duration = Duration::from_millis(20);

/// Notices a silent node soon, comes back at once.
const IMPATIENT: &str =
    "[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 4\nrabbit_retry_backoff = 0";

struct Bench {
    trial: Trial,
    daemon: Daemon,
    cluster: Cluster,
}

impl Bench {
    async fn start() -> Self {
        let cluster = Cluster::start().await;
        let service = Service::unique();
        let uri = cluster.of_queues.amqp_uri();
        let trial = Trial::start_at(&uri, &service, Queues::quorum(), PAUSE).await;
        let url = cluster.transport_url_beside_queues();
        let daemon = Daemon::start_with(&url, &service, "", IMPATIENT);
        let bench = Self {
            trial,
            daemon,
            cluster,
        };
        bench.is_handing_over().await;
        bench
    }

    async fn is_handing_over(&self) {
        let handed_over = async {
            self.trial.recorder.wait_for_one_via(Via::Topic).await;
            self.trial.load.wait_for_more(OPERATIONS).await;
        };
        // Sooner than the waits themselves give up, because the log says more than they could.
        let handed_over = tokio::time::timeout(PATIENCE.mul_f64(0.9), handed_over).await;
        assert!(handed_over.is_ok(), "{}", self.daemon.log());
    }

    /// The node to which the daemon hands over, which may change with each fault.
    fn of_daemon(&self) -> &Broker {
        let log = self.daemon.log();
        let is_latest = |line: &&str| line.contains(" connected ") && line.contains(":intake ");
        let latest = log.lines().rev().find(is_latest).unwrap();
        let mut nodes = self.cluster.nodes().into_iter();
        nodes.find(|node| latest.contains(&node.address())).unwrap()
    }

    async fn finish(self) {
        let verdict = self.trial.finish().await;
        assert!(verdict.lost.is_empty(), "{verdict:?}");
        assert!(verdict.unanswered.is_empty(), "{verdict:?}");
    }
}

/// One cluster for all of it: starting three nodes takes longer than the faults. A node starts again while the daemon
/// comes back on another one.
#[tokio::test]
async fn it_is_killed_leaves_restarts_and_hangs() {
    let bench = Bench::start().await;
    let node = bench.of_daemon();
    node.kill().await;
    tokio::join!(bench.is_handing_over(), node.start_again());

    let node = bench.of_daemon();
    node.ctl(&["stop_app"]).await;
    bench.is_handing_over().await;
    node.ctl(&["start_app"]).await;

    // Stopped cleanly, as a rolling upgrade does it.
    let node = bench.of_daemon();
    node.stop().await;
    tokio::join!(bench.is_handing_over(), node.start_again());

    let node = bench.of_daemon();
    node.signal("STOP").await;
    bench.is_handing_over().await;
    node.signal("CONT").await;
    bench.is_handing_over().await;
    bench.finish().await;
}
