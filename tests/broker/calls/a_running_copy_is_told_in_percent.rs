//! The position of a running dd reaches callers of every release, exactly, as a string of a whole percent.
//!
//! This is what the daemon is for. cinder-api appends `%` to the answer, so a number would break it.

use serde_json::json;

use crate::support::bench::Alone;
use crate::support::caller::Call;
use crate::support::copy::{GIB, Volume};
use crate::support::environment::Release;
use crate::support::releases::for_every_release;

for_every_release!(a_copy_is_followed_to_its_end);

async fn a_copy_is_followed_to_its_end(release: Release) {
    let bench = Alone::start(release).await;
    let volume = Volume::unique();
    let call = Call::progress(&bench.service, &volume.argument());
    let ask = || bench.caller.call(&call);
    assert_eq!(ask().await.unwrap(), json!("0"), "no dd yet");

    let copy = volume.copy();
    for least in [1, GIB * 2 / 5] {
        let position = copy.hold_beyond(least).await;
        let percent = (position * 100 / GIB).min(100);
        assert_eq!(ask().await.unwrap(), json!(percent.to_string()));
        copy.go_on().await;
    }
    copy.hold_beyond(GIB).await;
    assert_eq!(ask().await.unwrap(), json!("100"));
    copy.finish().await;
    assert_eq!(ask().await.unwrap(), json!("100"), "dd has ended");
}
