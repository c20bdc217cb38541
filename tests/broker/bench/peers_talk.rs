//! Callers and servers of every release talk to each other through the broker.
//!
//! Proves the test bench itself: when this fails, no other failure here says anything of the daemon.

use crate::support::broker::SharedBroker;
use crate::support::caller::{Call, Caller};
use crate::support::cinder_volume::CinderVolume;
use crate::support::environment::Release;
use crate::support::releases::for_every_release;
use crate::support::service::Service;

struct Bench {
    service: Service,
    cinder_volume: CinderVolume,
    caller: Caller,
}

impl Bench {
    async fn start(release: Release) -> Self {
        let url = SharedBroker::transport_url();
        let service = Service::unique();
        let cinder_volume = CinderVolume::start(release, &url, &service).await;
        let caller = Caller::start(release, &url).await;
        Self {
            service,
            cinder_volume,
            caller,
        }
    }
}

for_every_release!(
    a_call_has_a_result,
    an_exception_of_cinder_is_rebuilt,
    an_unknown_version_is_refused,
    the_progress_call_is_unknown_to_cinder_volume,
    a_cast_is_executed,
    a_fanout_reaches_the_server,
    twenty_calls_at_once_are_all_answered,
);

async fn a_call_has_a_result(release: Release) {
    let bench = Bench::start(release).await;
    let call = Call::to(&bench.service, "operation").arg("number", 7);
    assert_eq!(bench.caller.call(&call).await.unwrap()["done"], 7);

    let executed = bench.cinder_volume.wait_for_executed(1).await;
    assert_eq!(
        (executed[0].method.as_str(), executed[0].server.as_str()),
        ("operation", "backend")
    );
}

async fn an_exception_of_cinder_is_rebuilt(release: Release) {
    let bench = Bench::start(release).await;
    let call = Call::to(&bench.service, "failing_operation").arg("reason", "no such size");
    let exception = bench.caller.call(&call).await.unwrap_err();
    assert_eq!(exception.class, "InvalidVolume_Remote");
    assert_eq!(exception.module, "cinder.exception_Remote");
    assert_eq!(exception.code, Some(400));
    assert!(
        exception
            .message
            .starts_with("Invalid volume: no such size"),
        "{}",
        exception.message
    );
}

async fn an_unknown_version_is_refused(release: Release) {
    let bench = Bench::start(release).await;
    let call = Call::to(&bench.service, "operation").version("9.0");
    let exception = bench.caller.call(&call).await.unwrap_err();
    assert_eq!(exception.class, "RemoteError");
    assert_eq!(
        exception.remote_class.as_deref(),
        Some("UnsupportedVersion")
    );
}

async fn the_progress_call_is_unknown_to_cinder_volume(release: Release) {
    let bench = Bench::start(release).await;
    let call = Call::progress(&bench.service, &serde_json::json!({"id": "1", "size": 1}));
    let exception = bench.caller.call(&call).await.unwrap_err();
    assert_eq!(exception.remote_class.as_deref(), Some("NoSuchMethod"));
}

async fn a_cast_is_executed(release: Release) {
    let bench = Bench::start(release).await;
    bench
        .caller
        .cast(&Call::to(&bench.service, "create_volume").arg("number", 3))
        .await;
    bench.cinder_volume.wait_for_executed(1).await;
    assert_eq!(bench.cinder_volume.numbers(), [3]);
}

async fn a_fanout_reaches_the_server(release: Release) {
    let bench = Bench::start(release).await;
    bench
        .caller
        .fanout(
            &Call::to(&bench.service, "delete_volume")
                .any_server()
                .arg("number", 4),
        )
        .await;
    bench.cinder_volume.wait_for_executed(1).await;
    assert_eq!(bench.cinder_volume.numbers(), [4]);
}

async fn twenty_calls_at_once_are_all_answered(release: Release) {
    let bench = Bench::start(release).await;
    let outcomes = bench
        .caller
        .burst(&Call::to(&bench.service, "operation"), 20, Some("number"))
        .await;
    for (number, outcome) in outcomes.into_iter().enumerate() {
        assert_eq!(outcome.unwrap()["done"], number);
    }
    let mut numbers = bench.cinder_volume.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
}
