//! A broker of a test's own can be killed and comes back on its port, and the peers find it again.
//!
//! Proves the test bench, like `peers_talk`.

use crate::support::broker::Broker;
use crate::support::caller::{Call, Caller};
use crate::support::cinder_volume::CinderVolume;
use crate::support::environment::Release;
use crate::support::service::Service;

#[tokio::test]
async fn peers_survive_its_death() {
    let broker = Broker::start_with("consumer_timeout = 777000").await;
    let setting = broker
        .ctl(&["eval", "application:get_env(rabbit, consumer_timeout)."])
        .await;
    assert_eq!(setting.trim(), "{ok,777000}");

    let service = Service::unique();
    let cinder_volume =
        CinderVolume::start(Release::Latest, &broker.transport_url(), &service).await;
    let before = cinder_volume.process.stdout.len();
    broker.kill().await;
    broker.start_again().await;
    cinder_volume
        .wait_for_consumer(&service.server_queue(), before)
        .await;

    let caller = Caller::start(Release::Latest, &broker.transport_url()).await;
    caller
        .call(&Call::to(&service, "operation").arg("number", 1))
        .await
        .unwrap();
    cinder_volume.stop().await;
}
