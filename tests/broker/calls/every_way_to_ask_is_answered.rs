//! However a caller sends the call, it is answered, and what asks for no answer does no harm.
//!
//! A backend's topic is shared: calls may name the server or not, be compressed, come in crowds; and casts
//! and fanouts are for whoever listens.

use serde_json::json;

use crate::support::bench::Alone;
use crate::support::caller::Call;
use crate::support::environment::Release;
use crate::support::releases::for_every_release;

for_every_release!(
    to_the_server_or_to_the_topic,
    a_hundred_at_once,
    casts_and_fanouts_do_no_harm,
    compressed_with_gzip,
    compressed_with_bzip2,
);

fn call(bench: &Alone) -> Call {
    Call::progress(&bench.service, &json!({"id": "v", "size": 1}))
}

async fn to_the_server_or_to_the_topic(release: Release) {
    let bench = Alone::start(release).await;
    assert_eq!(bench.caller.call(&call(&bench)).await.unwrap(), "0");
    let to_topic = call(&bench).any_server();
    assert_eq!(bench.caller.call(&to_topic).await.unwrap(), "0");
}

async fn a_hundred_at_once(release: Release) {
    let bench = Alone::start(release).await;
    // An argument that a later release may add.
    let outcomes = bench.caller.burst(&call(&bench), 100, Some("number")).await;
    assert_eq!(outcomes.len(), 100);
    for outcome in outcomes {
        assert_eq!(outcome.unwrap(), "0");
    }
}

async fn casts_and_fanouts_do_no_harm(release: Release) {
    let bench = Alone::start(release).await;
    bench.caller.cast(&call(&bench)).await;
    bench.caller.fanout(&call(&bench).any_server()).await;
    // It shows that the fanout queue is read.
    let publish = Call::to(&bench.service, "publish_service_capabilities").any_server();
    bench.caller.fanout(&publish).await;
    bench.daemon.wait_for_log("refused a call").await;
    assert_eq!(bench.caller.call(&call(&bench)).await.unwrap(), "0");
    let log = bench.daemon.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

async fn compressed_with_gzip(release: Release) {
    compressed(release, "gzip").await;
}

async fn compressed_with_bzip2(release: Release) {
    compressed(release, "bzip2").await;
}

async fn compressed(release: Release, method: &str) {
    let option = format!("oslo_messaging_rabbit.kombu_compression={method}");
    let bench = Alone::start_with(release, "", &["--conf", &option]).await;
    assert_eq!(bench.caller.call(&call(&bench)).await.unwrap(), "0");
}
