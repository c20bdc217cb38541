//! A call from whose volume no percentage can be made fails as cinder itself would let it fail.
//!
//! cinder-api turns `cinder.exception.InvalidVolume` into HTTP 400 with its text; any other exception would
//! reach the user as an internal error.

use serde_json::{Value, json};

use crate::support::bench::Alone;
use crate::support::caller::Call;
use crate::support::environment::Release;
use crate::support::releases::for_every_release;

for_every_release!(a_bad_volume_is_an_invalid_volume);

async fn a_bad_volume_is_an_invalid_volume(release: Release) {
    let bench = Alone::start(release).await;
    let call = |volume: Value| Call::progress(&bench.service, &volume);
    for (call, reason) in [
        (call(json!({"id": "v"})), "is missing"),
        (call(json!({"id": "v", "size": -1})), "is -1"),
        (call(json!({"id": "v", "size": "1"})), "is a string"),
        (call(json!({"id": "v", "size": null})), "is null"),
        (call(json!({"id": "v", "size": 0})), "is 0"),
        (
            call(json!({"id": "v", "size": 1_u64 << 60})),
            "is 1152921504606846976",
        ),
        (call(json!({"size": 1})), "id is missing"),
        (call(json!("v")), "is a string"),
        (
            Call::to(&bench.service, "get_migrate_volume_progress").version("3.11"),
            "carries no volume",
        ),
    ] {
        let exception = bench.caller.call(&call).await.unwrap_err();
        assert_eq!(exception.class, "InvalidVolume_Remote", "{call:?}");
        assert_eq!(exception.module, "cinder.exception_Remote");
        assert_eq!(exception.code, Some(400));
        assert!(
            exception.message.starts_with("Invalid volume: the "),
            "{exception:?}"
        );
        assert!(exception.message.contains(reason), "{exception:?}");
    }
}
