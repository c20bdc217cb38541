//! Beside the daemon each operation is executed once, and they reach cinder-volume in order.
//!
//! The plain case without any fault, on all kinds of queues: what the other tests are measured by.

use crate::support::broker::SharedBroker;
use crate::support::daemon::Daemon;
use crate::support::recorder::{Queues, Via};
use crate::support::service::Service;
use crate::support::trial::Trial;

const OPERATIONS: u64 = 400;

#[tokio::test]
async fn on_transient_queues() {
    all_arrive_on_t(Queues::transient()).await;
}

#[tokio::test]
async fn on_durable_queues() {
    all_arrive_on_t(Queues::durable()).await;
}

#[tokio::test]
async fn on_quorum_queues() {
    all_arrive_on_t(Queues::quorum()).await;
}

async fn all_arrive_on_t(queues: Queues) {
    let service = Service::unique();
    let trial = Trial::start(&SharedBroker::amqp_uri(), &service, queues).await;
    let daemon = Daemon::start(&SharedBroker::transport_url(), &service, "");
    daemon.wait_for_log("serving beside").await;
    trial.recorder.wait_for_one_via(Via::Topic).await;
    let before = trial.recorder.count(Via::Server);

    trial.load.wait_for_more(OPERATIONS).await;

    let beside = trial.recorder.count(Via::Server) - before;
    let verdict = trial.finish().await;
    verdict.assert_exact_and_in_order();
    assert!(verdict.progress.answered > 0, "{verdict:?}");
    assert_eq!(verdict.progress.unanswered, 0, "{verdict:?}");
    // More than the daemon may have in hand flows past it; that is the exception. A broker that is
    // slow on a loaded machine is another.
    assert!(
        beside < verdict.handed_over / 2 || daemon.log().contains("standing aside"),
        "{beside} went past the daemon: {verdict:?}"
    );
}
