//! Alone, the daemon refuses what it does not serve in oslo.messaging's own words.
//!
//! A caller waits for its time-out if nobody refuses, and cinder-api pins its version by these refusals.

use crate::support::bench::Alone;
use crate::support::caller::Call;
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::releases::for_every_release;
use crate::support::service::Service;

const METHOD: &str = "get_migrate_volume_progress";

for_every_release!(
    other_versions_methods_and_namespaces_are_refused,
    pings_are_answered_where_enabled,
);

async fn other_versions_methods_and_namespaces_are_refused(release: Release) {
    let bench = Alone::start(release).await;
    let to = |method| Call::to(&bench.service, method).version("3.11");
    let version = |version| {
        format!("Endpoint does not support RPC version {version}. Attempted method: {METHOD}")
    };
    for (call, class, message) in [
        (
            to(METHOD).version("4.0"),
            "UnsupportedVersion",
            version("4.0"),
        ),
        (
            to(METHOD).version("3.12"),
            "UnsupportedVersion",
            version("3.12"),
        ),
        (
            to(METHOD).unversioned(),
            "UnsupportedVersion",
            version("1.0"),
        ),
        (
            to(METHOD).namespace("other"),
            "UnsupportedVersion",
            version("3.11"),
        ),
        (
            to("create_volume"),
            "NoSuchMethod",
            "Endpoint does not support RPC method create_volume".to_owned(),
        ),
    ] {
        let exception = bench.caller.call(&call).await.unwrap_err();
        assert_eq!(exception.class, "RemoteError", "{call:?}");
        assert_eq!(exception.remote_class.as_deref(), Some(class));
        assert_eq!(exception.remote_message, Some(message));
    }
}

async fn pings_are_answered_where_enabled(release: Release) {
    let enabled = "[DEFAULT]\nrpc_ping_enabled = true";
    let bench = Alone::start_with(release, enabled, &[]).await;
    let ping = Call::to(&bench.service, "oslo_rpc_server_ping").unversioned();
    assert_eq!(bench.caller.call(&ping).await.unwrap(), "pong");

    let service = Service::unique();
    let _without = Daemon::alone(&service, "").await;
    let ping = Call::to(&service, "oslo_rpc_server_ping").unversioned();
    let exception = bench.caller.call(&ping).await.unwrap_err();
    assert_eq!(exception.thrown(), "UnsupportedVersion");
}
