//! Alone, the daemon declares exchanges, queues and bindings with exactly oslo.messaging's flags.
//!
//! Flags are those of the first who declares. With others than its own a cinder-volume that comes later does
//! not start: the broker answers 406 to each of its attempts.

use crate::support::broker::SharedBroker;
use crate::support::cinder_volume::CinderVolume;
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::listing::Listing;
use crate::support::releases::for_every_release;
use crate::support::service::Service;

for_every_release!(
    by_default,
    with_durable_queues,
    with_auto_delete,
    with_mirrored_queues,
    with_quorum_queues,
    with_transient_quorum_queues,
    with_a_fanout_stream,
);

async fn by_default(release: Release) {
    declares_the_same(release, &[]).await;
}

async fn with_durable_queues(release: Release) {
    declares_the_same(release, &["amqp_durable_queues=true"]).await;
}

async fn with_auto_delete(release: Release) {
    declares_the_same(release, &["amqp_auto_delete=true"]).await;
}

async fn with_mirrored_queues(release: Release) {
    if release == Release::Latest {
        let settings = ["rabbit_ha_queues=true", "rabbit_transient_queues_ttl=600"];
        declares_the_same(release, &settings).await;
    }
}

async fn with_quorum_queues(release: Release) {
    if release != Release::Ocata {
        let settings = ["rabbit_quorum_queue=true", "rabbit_quorum_delivery_limit=3"];
        declares_the_same(release, &settings).await;
    }
}

async fn with_transient_quorum_queues(release: Release) {
    if release == Release::Latest {
        let settings = [
            "rabbit_quorum_queue=true",
            "rabbit_transient_quorum_queue=true",
        ];
        declares_the_same(release, &settings).await;
    }
}

async fn with_a_fanout_stream(release: Release) {
    if release == Release::Latest {
        let settings = [
            "rabbit_quorum_queue=true",
            "rabbit_transient_quorum_queue=true",
            "rabbit_stream_fanout=true",
            "rabbit_qos_prefetch_count=8",
        ];
        declares_the_same(release, &settings).await;
    }
}

async fn declares_the_same(release: Release, settings: &[&str]) {
    let (ours, theirs) = (Service::unique(), Service::unique());
    let configuration = format!(
        "[DEFAULT]\ncontrol_exchange = {}\n[oslo_messaging_rabbit]\n{}",
        exchange(&ours),
        settings.join("\n"),
    );
    let (_daemon, _peer) = tokio::join!(
        Daemon::alone(&ours, &configuration),
        oslo_server(release, &theirs, settings),
    );
    let listing = Listing::now().await;
    let (declared, expected) = (listing.of(&ours), listing.of(&theirs));
    assert_eq!(expected.queues.len(), 3, "{expected:#?}");
    assert_eq!(expected.exchanges.len(), 2, "{expected:#?}");
    assert_eq!(declared, expected);
    // Ready means that the broker has accepted all its declarations.
    let _second = oslo_server(release, &ours, settings).await;
}

async fn oslo_server(release: Release, service: &Service, settings: &[&str]) -> CinderVolume {
    let exchange = exchange(service);
    let settings: Vec<String> = settings
        .iter()
        .map(|setting| format!("oslo_messaging_rabbit.{setting}"))
        .collect();
    // An exchange of its own, and not the queues of all services: other tests have other settings.
    let mut options = vec!["--exchange", &exchange, "--backend-only"];
    for setting in &settings {
        options.extend(["--conf", setting]);
    }
    CinderVolume::start_with(release, &SharedBroker::transport_url(), service, &options).await
}

fn exchange(service: &Service) -> String {
    format!("{}-exchange", service.host)
}
