//! Tests of the whole room.

/// Against messages captured from real peers.
pub(super) mod captured;
/// Against readers that build all of a body.
mod reference;

use super::*;

#[test]
fn the_name_is_found_wherever_it_stands() {
    assert!(may_be_progress_call(METHOD.as_bytes()));
    assert!(may_be_progress_call(
        br#"{"a": "{\"method\": \"get_migrate_volume_progress\"}"}"#
    ));
    assert!(may_be_progress_call(DETAILS_METHOD.as_bytes()));
    assert!(!may_be_progress_call(b""));
    assert!(!may_be_progress_call(b"get_migrate_volume_progres"));
    assert!(!may_be_progress_call(b"GET_MIGRATE_VOLUME_PROGRESS"));
}
