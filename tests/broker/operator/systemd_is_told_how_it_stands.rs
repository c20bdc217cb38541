//! The service manager hears when the daemon is ready, how it stands and that it is alive, and only
//! as long as it really is: a stuck daemon is not covered by a timer.

use std::time::Duration;

use crate::support::broker::SharedBroker;
use crate::support::daemon::Daemon;
use crate::support::manager::Manager;
use crate::support::proxy::Proxy;
use crate::support::recorder::{Queues, Recorder, Via};
use crate::support::service::Service;
use crate::support::trial::Trial;
use crate::support::wait::{in_time, until};

/// Long enough for a loaded machine not to miss it.
const WATCHDOG: Duration = Duration::from_secs(2);

const ALIVE: &str = "WATCHDOG=1";

#[tokio::test]
async fn from_ready_to_stopping() {
    let manager = Manager::start();
    let service = Service::unique();
    let mut daemon = Daemon::start_in(
        &SharedBroker::transport_url(),
        &service,
        "",
        "",
        &manager.environment(WATCHDOG),
    );
    manager
        .wait_for("that it waits", 0, 1, |text| {
            text.starts_with("STATUS=waiting for cinder-volume's queues: queue cinder-volume.")
        })
        .await;
    let first = &manager.messages()[0];
    assert_eq!(first.1, "READY=1");

    let _cinder_volume =
        Recorder::start(&SharedBroker::amqp_uri(), &service, Queues::durable()).await;
    manager
        .wait_for("that it serves", 0, 1, |text| {
            text.starts_with("STATUS=serving 1 backend by way of 127.0.0.1:")
        })
        .await;
    manager
        .wait_for("signs of life", 0, 6, |text| text == ALIVE)
        .await;
    let beats: Vec<_> = manager
        .messages()
        .into_iter()
        .filter(|(_, text)| text == ALIVE)
        .collect();
    for pair in beats.windows(2) {
        let pause = pair[1].0 - pair[0].0;
        assert!(pause < WATCHDOG, "{pause:?}");
    }
    // Not more often than is of use; one that came late is followed soon.
    let all = beats[5].0 - beats[0].0;
    assert!(all > WATCHDOG * 2, "{all:?}");

    daemon.process.signal("TERM").await;
    manager
        .wait_for("that it stops", 0, 1, |text| {
            text == "STOPPING=1\nSTATUS=stopping"
        })
        .await;
    assert!(daemon.process.wait_for_exit().await.success());
}

#[tokio::test]
async fn a_broker_that_is_away_is_no_reason_to_start_again() {
    let manager = Manager::start();
    let _daemon = Daemon::start_in(
        // Port 1 is nobody's.
        "rabbit://guest:guest@127.0.0.1:1//",
        &Service::unique(),
        "",
        "",
        &manager.environment(WATCHDOG),
    );
    manager
        .wait_for("that there is no broker", 0, 1, |text| {
            text.starts_with("STATUS=no connection to 127.0.0.1:1: ")
        })
        .await;
    let from = manager.messages().len();
    manager
        .wait_for("signs of life", from, 4, |text| text == ALIVE)
        .await;
}

/// Its connection is as lively as ever, but an answer never comes: the hand-over waits for good.
#[tokio::test]
async fn stuck_in_the_middle_of_a_hand_over_it_is_not_called_alive() {
    let manager = Manager::start();
    let service = Service::unique();
    let trial = Trial::start(&SharedBroker::amqp_uri(), &service, Queues::durable()).await;
    let proxy = Proxy::start(&SharedBroker::transport_url()).await;
    let mut daemon = Daemon::start_in(
        &proxy.transport_url(),
        &service,
        "",
        // The patience is thrice this, and ten seconds at least.
        "[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 2",
        &manager.environment(WATCHDOG),
    );
    trial.recorder.wait_for_one_via(Via::Topic).await;
    manager
        .wait_for("signs of life", 0, 2, |text| text == ALIVE)
        .await;

    in_time("an answer is lost", proxy.lose_commit_ok(0))
        .await
        .unwrap();
    let told = daemon.wait_for_log("stuck").await;
    assert!(told.contains(&service.server_queue()), "{told}");
    let silent_from = tokio::time::Instant::now();
    until("the watchdog barks", async || {
        (silent_from.elapsed() > WATCHDOG).then_some(())
    })
    .await;
    let late: Vec<_> = manager
        .messages()
        .into_iter()
        .filter(|(at, text)| *at > silent_from && text == ALIVE)
        .collect();
    assert!(late.is_empty(), "{late:?}");

    // What systemd does then; what the daemon had in hand goes back to where it was.
    daemon.process.signal("ABRT").await;
    daemon.process.wait_for_exit().await;
    daemon.start_again();
    trial.recorder.wait_for_one_via(Via::Topic).await;
    trial.finish().await.assert_exact();
}
