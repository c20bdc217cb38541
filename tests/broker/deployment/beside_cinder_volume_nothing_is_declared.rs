//! Beside a cinder-volume the daemon declares, binds and deletes nothing, whoever of the two comes first.
//!
//! Flags are those of the first who declares: one wrong flag of ours would keep cinder-volume from starting.

use crate::support::broker::SharedBroker;
use crate::support::cinder_volume::CinderVolume;
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::listing::Listing;
use crate::support::service::Service;

#[tokio::test]
async fn queues_exchanges_and_bindings_are_cinder_volumes_own() {
    let service = Service::unique();
    let url = SharedBroker::transport_url();
    let daemon = Daemon::start(&url, &service, "mode = sidecar");
    daemon.wait_for_log("standing aside").await;
    let early = Listing::now().await.of(&service);
    assert!(early.is_empty(), "{early:#?}");

    let _cinder_volume = CinderVolume::start(Release::Latest, &url, &service).await;
    daemon.wait_for_log("serving beside cinder-volume").await;
    let with_daemon = Listing::now().await.of(&service);
    drop(daemon);
    let without = Listing::now().await.of(&service);
    assert!(!without.is_empty());
    assert_eq!(with_daemon, without);
}
