//! Beside a cinder-volume the daemon answers the progress call; all else is as it was without the daemon.
//!
//! The first rule of the sidecar: whoever does not ask for progress must not be able to tell that it is there.

use serde_json::json;

use crate::support::broker::SharedBroker;
use crate::support::caller::{Call, Caller, Outcome};
use crate::support::cinder_volume::{CinderVolume, Executed};
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::releases::for_every_release;
use crate::support::service::Service;

for_every_release!(all_other_calls_and_casts_end_as_before);

async fn all_other_calls_and_casts_end_as_before(release: Release) {
    let url = SharedBroker::transport_url();
    let service = Service::unique();
    let (cinder_volume, caller) = tokio::join!(
        CinderVolume::start(release, &url, &service),
        Caller::start(release, &url),
    );
    let progress = Call::progress(&service, &json!({"id": "v", "size": 1}));
    let alone = everything_else(&service, &caller, &cinder_volume).await;
    let exception = caller.call(&progress).await.unwrap_err();
    assert_eq!(exception.remote_class.as_deref(), Some("NoSuchMethod"));

    let _daemon = Daemon::beside(&service).await;
    let beside = everything_else(&service, &caller, &cinder_volume).await;
    assert!(beside == alone, "{beside:#?}\n{alone:#?}");
    assert_eq!(caller.call(&progress).await.unwrap(), "0");
    let later_version = progress.version("3.12");
    let exception = caller.call(&later_version).await.unwrap_err();
    assert_eq!(exception.remote_class.as_deref(), Some("NoSuchMethod"));
}

/// How calls ended, and which methods were executed with which numbers.
///
/// Not by which of its two servers: they have the same endpoints, and both take from the topic queue.
type Ends = (Vec<Outcome>, Vec<(String, String)>);

async fn everything_else(service: &Service, caller: &Caller, cinder_volume: &CinderVolume) -> Ends {
    let before = cinder_volume.executed().len();
    let to = |method| Call::to(service, method);
    let mut outcomes = Vec::new();
    for call in [
        to("operation").arg("number", 1),
        to("operation").any_server().arg("number", 2),
        to("operation").arg("text", "get_migrate_volume_progress"),
        to("create_volume").arg("number", 3),
        to("failing_operation").arg("reason", "größer"),
        to("operation").version("9.0"),
        to("operation").namespace("other"),
        to("no_such_method"),
        to("operation").arg("padding", "x".repeat(2 << 20)),
    ] {
        outcomes.push(caller.call(&call).await);
    }
    caller.cast(&to("create_volume").arg("number", 4)).await;
    caller
        .fanout(&to("delete_volume").any_server().arg("number", 5))
        .await;
    // Six of the calls are executed, and both casts.
    let executed = cinder_volume.wait_for_executed(before + 8).await;
    let of = |executed: &Executed| (executed.method.clone(), executed.executed.to_string());
    let mut executed: Vec<_> = executed[before..].iter().map(of).collect();
    // Cast and fanout arrive on different queues.
    executed.sort();
    (outcomes, executed)
}
