//! A daemon that would share its queues with somebody it must not share them with ends at start
//! and says what to do.
//!
//! Two daemons would answer in turns, and a standalone one beside a cinder-volume would take half
//! of its operations: both are mistakes of a moment that would cost volumes.

use crate::support::broker::SharedBroker;
use crate::support::cinder_volume::CinderVolume;
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::service::Service;

async fn refused(mut daemon: Daemon, because: &str) {
    let status = daemon.process.wait_for_exit().await;
    assert_eq!(status.code(), Some(1));
    daemon.wait_for_log(because).await;
}

#[tokio::test]
async fn a_second_daemon() {
    let service = Service::unique();
    let url = SharedBroker::transport_url();
    let first = Daemon::start(&url, &service, "mode = standalone");
    first.wait_for_log("serving alone").await;
    for mode in ["mode = standalone", "mode = sidecar"] {
        let second = Daemon::start(&url, &service, mode);
        refused(second, "another cinder-progress serves").await;
    }
    assert!(!first.log().contains("WARN"), "{}", first.log());
}

#[tokio::test]
async fn a_standalone_daemon_beside_cinder_volume() {
    let service = Service::unique();
    let url = SharedBroker::transport_url();
    let cinder_volume = CinderVolume::start(Release::Latest, &url, &service).await;
    let daemon = Daemon::start(&url, &service, "mode = standalone");
    refused(daemon, "set mode = sidecar").await;
    drop(cinder_volume);
}

#[tokio::test]
async fn but_not_the_successor_of_one_that_was_killed() {
    let service = Service::unique();
    let url = SharedBroker::transport_url();
    let mut daemon = Daemon::start(&url, &service, "mode = standalone");
    daemon.wait_for_log("serving alone").await;
    daemon.process.kill().await;
    daemon.start_again();
    daemon.wait_for_log("serving alone").await;
}
